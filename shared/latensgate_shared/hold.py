"""Requests that wait for an approver: what is told of them, and what decides (docs/spec/holds.md).

What an approver signs is short and stands alone: which request, which plan, which decision, until
when. Nothing here says whose key may sign: the enclave asks the tenant's signed settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.ed25519 import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    SignatureError,
    verify_ed25519,
)
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import (
    HOLD_DECISION_MAX_BYTES,
    NAME_MAX_CHARS,
    SETTINGS_APPROVERS_MAX_COUNT,
)
from latensgate_shared.pii_names import Category, Direction
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from latensgate_shared.strict_json import JSONObject, JSONValue

DECISION_LABEL: Final = b"latensgate/1 hold decision\x00"
"""In front of the JCS of what an approver signs."""
PLAN_LABEL: Final = b"latensgate/1 hold plan\x00"
PLAN_SALT_BYTES: Final = 32
PENDING_ID_BYTES: Final = 16
_PENDING_ID: Final = re.compile(r"hld_[0-9a-f]{32}")
_LENGTH_BYTES: Final = 8


class ApprovalError(LatensgateError):
    """A decision that is none: another's, for something else, too late, or of no approver."""

    code = ErrorCode.ERR_APPROVAL_REFUSED


class HoldLostError(LatensgateError):
    """The enclave that held the request is gone, or what is presented is not what it sealed."""

    code = ErrorCode.ERR_HOLD_LOST


class Decision(StrEnum):
    """What an approver says."""

    APPROVE = "approve"
    DENY = "deny"


def pending_id(value: object, what: str = "pending_id") -> str:
    """``hld_`` and 32 lower hex digits."""
    return formats.matching(value, what, _PENDING_ID, "hld_ and 32 lower-case hex digits")


def plan_digest(salt: bytes, bodies: Sequence[bytes]) -> str:
    """Name a plan: every byte that the model is to be sent.

    The salt, which only the enclave knows, keeps whoever sees the digest from trying contents.

    Args:
        salt: ``PLAN_SALT_BYTES`` random bytes.
        bodies: Of the model calls, in their order.
    """
    hashed = sha384(PLAN_LABEL + salt)
    for body in bodies:
        hashed.update(len(body).to_bytes(_LENGTH_BYTES, "big"))
        hashed.update(body)
    return "sha384:" + hashed.hexdigest()


@dataclass(frozen=True, slots=True)
class HoldDecision:
    """What an approver signs.

    Attributes:
        pending_id: Of the request.
        plan_digest: Of what is to be forwarded.
        decision: Yes or no.
        expires_at: Seconds since 1970; from then on the decision counts for nothing.

    Raises:
        JSONError: A member that is not of this form.
    """

    pending_id: str
    plan_digest: str
    decision: Decision
    expires_at: int

    def __post_init__(self) -> None:
        pending_id(self.pending_id, "decision.pending_id")
        formats.sha384_digest(self.plan_digest, "decision.plan_digest")
        if type(self.decision) is not Decision:
            raise JSONError("decision.decision: approve or deny expected")
        formats.integer(self.expires_at, "decision.expires_at")

    def signing_input(self) -> bytes:
        """Return the bytes that the approver's key signs."""
        return DECISION_LABEL + canonicalize(
            {
                "decision": self.decision.value,
                "expires_at": self.expires_at,
                "pending_id": self.pending_id,
                "plan_digest": self.plan_digest,
            }
        )


@dataclass(frozen=True, slots=True)
class SignedDecision:
    """A decision, and who says to have made it. Nothing is verified yet.

    Attributes:
        decision: What is signed.
        approver: Ed25519 key, 32 bytes.
        signature: 64 bytes.
    """

    decision: HoldDecision
    approver: bytes
    signature: bytes = field(repr=False)

    @classmethod
    def sign(
        cls, decision: HoldDecision, approver: bytes, sign: Callable[[bytes], bytes]
    ) -> SignedDecision:
        """Sign a decision with the approver's key."""
        return cls(decision, approver, sign(decision.signing_input()))

    def verify(self) -> HoldDecision:
        """Return the decision if the key that it names has signed it.

        Raises:
            ApprovalError: It has not.
        """
        try:
            verify_ed25519(self.approver, self.decision.signing_input(), self.signature)
        except SignatureError:
            raise ApprovalError("approval: the signature is not that of this approver") from None
        return self.decision

    def to_json(self) -> JSONObject:
        """Return the body of ``POST /api/approvals/{pending_id}``."""
        return {
            "approver": self.approver.hex(),
            "decision": self.decision.decision.value,
            "expires_at": self.decision.expires_at,
            "pending_id": self.decision.pending_id,
            "plan_digest": self.decision.plan_digest,
            "signature": self.signature.hex(),
        }


_DECISION: Final = frozenset(
    {"approver", "decision", "expires_at", "pending_id", "plan_digest", "signature"}
)


def parse_signed_decision(value: JSONValue) -> SignedDecision:
    """Read a decision; its signature is not looked at.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "decision", _DECISION)
    decision = members["decision"]
    if decision not in (Decision.APPROVE.value, Decision.DENY.value):
        raise JSONError("decision.decision: approve or deny expected")
    return SignedDecision(
        HoldDecision(
            pending_id(members["pending_id"], "decision.pending_id"),
            formats.sha384_digest(members["plan_digest"], "decision.plan_digest"),
            Decision(decision),
            formats.integer(members["expires_at"], "decision.expires_at"),
        ),
        formats.hex_bytes(members["approver"], "decision.approver", PUBLIC_KEY_BYTES),
        formats.hex_bytes(members["signature"], "decision.signature", SIGNATURE_BYTES),
    )


def decode_signed_decision(data: bytes) -> SignedDecision:
    """Read the bytes of a decision.

    Raises:
        JSONError, TooLargeError: Another form.
    """
    return parse_signed_decision(parse_json_object(data, max_bytes=HOLD_DECISION_MAX_BYTES))


@dataclass(frozen=True, slots=True)
class HoldNotice:
    """What a caller is told, inside the seal, of a request that is held.

    Attributes:
        pending_id: To ask for it.
        plan_digest: Of what would be forwarded.
        expires_at: Seconds since 1970; then it is forgotten.
        counts: What asks for an approver, by category and direction.
        approvers: Names of those who may decide, as the tenant's settings name them.

    Raises:
        JSONError: A member that is not of this form.
    """

    pending_id: str
    plan_digest: str
    expires_at: int
    counts: JSONObject
    approvers: tuple[str, ...]

    def __post_init__(self) -> None:
        pending_id(self.pending_id, "hold.pending_id")
        formats.sha384_digest(self.plan_digest, "hold.plan_digest")
        formats.integer(self.expires_at, "hold.expires_at")
        check_counts(self.counts, "hold.counts")
        if len(self.approvers) > SETTINGS_APPROVERS_MAX_COUNT:
            raise JSONError(f"hold.approvers: at most {SETTINGS_APPROVERS_MAX_COUNT} expected")
        for name in self.approvers:
            formats.text(name, "hold.approvers", NAME_MAX_CHARS)

    def to_json(self) -> JSONObject:
        """Return it as it stands in a sealed error."""
        return {
            "approvers": [*self.approvers],
            "counts": self.counts,
            "expires_at": self.expires_at,
            "pending_id": self.pending_id,
            "plan_digest": self.plan_digest,
        }


_NOTICE: Final = frozenset(HoldNotice.__dataclass_fields__)


def parse_notice(value: JSONValue) -> HoldNotice:
    """Read what a sealed error tells of a hold.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "hold", _NOTICE)
    approvers = members["approvers"]
    if type(approvers) is not list:
        raise JSONError("hold.approvers: a list expected")
    return HoldNotice(
        pending_id(members["pending_id"], "hold.pending_id"),
        formats.sha384_digest(members["plan_digest"], "hold.plan_digest"),
        formats.integer(members["expires_at"], "hold.expires_at"),
        check_counts(members["counts"], "hold.counts"),
        tuple([formats.text(name, "hold.approvers", NAME_MAX_CHARS) for name in approvers]),
    )


_CATEGORIES: Final = frozenset(each.value for each in Category)
_DIRECTIONS: Final = frozenset(each.value for each in Direction)


def check_counts(value: JSONValue, what: str) -> JSONObject:
    """Return counts by category and direction: at least one finding.

    Raises:
        JSONError: Another form, or nothing is counted.
    """
    if type(value) is not dict or not value or value.keys() - _CATEGORIES:
        raise JSONError(f"{what}: counts by category expected")
    for by_direction in value.values():
        if type(by_direction) is not dict or not by_direction or by_direction.keys() - _DIRECTIONS:
            raise JSONError(f"{what}: counts by direction expected")
        for count in by_direction.values():
            formats.integer(count, what, 1)
    return value


def copied(counts: Mapping[str, Mapping[str, int]]) -> JSONObject:
    """Return counts as a JSON object of its own."""
    return {category: dict(by_direction) for category, by_direction in counts.items()}
