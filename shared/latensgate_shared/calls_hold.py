"""The calls about requests that are held: a decision, and what an approver is shown.

Body of both requests: the settings that were in force when the request was held, if there were any,
then the sealed request, exactly as it came. The parent keeps all of it and can read none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from latensgate_shared import formats, limits
from latensgate_shared.call_forms import CallError, Message, Operation, binary, exactly
from latensgate_shared.hold import pending_id


def check_pending(pending: object, state: object, until: object) -> None:
    """Check what an answer hands to the parent of a request that is held: all of it, or nothing.

    Raises:
        MalformedError: Another form.
    """
    given = [pending, state, until]
    if given.count(None) not in (0, len(given)):
        raise CallError("pending: id, state and end expected, or none of them")
    if pending is not None:
        pending_id(pending)
        binary(state, "pending_state", limits.HOLD_STATE_MAX_BYTES)
        formats.integer(until, "pending_until")


@dataclass(frozen=True, slots=True)
class _HoldCall(Message):
    """What both have in common.

    Attributes:
        state: ``pending_state``, as the enclave gave it.
        tenant_settings: The newest that the parent stores.
        held_settings_bytes: How much of the body is the settings of that time.
    """

    state: bytes = field(repr=False)
    tenant_settings: bytes = field(repr=False)
    held_settings_bytes: int

    def __post_init__(self) -> None:
        binary(self.state, "state", limits.HOLD_STATE_MAX_BYTES)
        binary(self.tenant_settings, "tenant_settings", limits.TENANT_SETTINGS_MAX_BYTES)
        formats.integer(
            self.held_settings_bytes, "held_settings_bytes", 0, limits.TENANT_SETTINGS_MAX_BYTES
        )

    def cut(self, body: bytes) -> tuple[bytes, bytes]:
        """Return the settings of that time and the sealed request."""
        return body[: self.held_settings_bytes], body[self.held_settings_bytes :]


@dataclass(frozen=True, slots=True)
class HoldDecideCall(_HoldCall):
    """Judge a decision; if it is an approver's, do as it says. Answered as an inference.

    Attributes:
        decision: JSON of the signed decision.
    """

    call: ClassVar[Operation] = Operation.HOLD_DECIDE
    decision: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _HoldCall.__post_init__(self)
        binary(self.decision, "decision", limits.HOLD_DECISION_MAX_BYTES)


@dataclass(frozen=True, slots=True)
class HoldViewCall(_HoldCall):
    """Show a held request to an approver.

    Attributes:
        approver: Ed25519 key, 32 bytes.
    """

    call: ClassVar[Operation] = Operation.HOLD_VIEW
    approver: bytes

    def __post_init__(self) -> None:
        _HoldCall.__post_init__(self)
        exactly(self.approver, "approver", limits.ED25519_PUBLIC_KEY_BYTES)


@dataclass(frozen=True, slots=True)
class HoldViewAnswer(Message):
    """Head of the answer. Body: the view.

    Attributes:
        sealed: Whether the view is sealed to the approver's X-Wing key.
    """

    sealed: bool

    def __post_init__(self) -> None:
        formats.boolean(self.sealed, "sealed")
