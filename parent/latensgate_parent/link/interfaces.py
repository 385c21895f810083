"""What the HTTP surface needs of the enclaves, whatever carries the frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from latensgate_shared.calls import (
        AttestationAnswer,
        AttestationCall,
        HealthAnswer,
        InferenceCall,
        InferenceEnd,
    )
    from latensgate_shared.calls_hold import HoldDecideCall, HoldViewAnswer, HoldViewCall


class EnclaveError(LatensgateError):
    """An enclave ended a call with an error frame, or could not be asked at all.

    Nothing of the request ran, or the enclave says what became of it by the code.
    """


class EnclaveLostError(LatensgateError):
    """The connection ended after the call was dispatched: nobody here knows whether it ran."""

    code = ErrorCode.ERR_OUTCOME_UNKNOWN


@dataclass(frozen=True, slots=True)
class InferenceReply:
    """A whole answer.

    Attributes:
        receipt_id: Of the start record.
        content: ``response_nonce`` and the framed content chunks.
        end: Final chunk, receipt, hints. The sealed answer is ``content + end.final_chunk``.
    """

    receipt_id: str
    content: bytes = field(repr=False)
    end: InferenceEnd


class OpenInference(Protocol):
    """An answer that is coming in. Must be closed; closing before the end cancels the call."""

    @property
    def receipt_id(self) -> str:
        """Of the start record."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """Return the content as it comes, in pieces of at most ``CHUNK_FRAMED_MAX_BYTES``.

        Raises:
            EnclaveError: The enclave failed after its head; the answer is lost.
            EnclaveLostError: The connection ended.
        """
        ...

    def cancel(self) -> None:
        """Tell the enclave that nobody waits; ``pieces`` and ``end`` still come to their end."""
        ...

    async def end(self) -> InferenceEnd:
        """Return what ends the answer, after all pieces (what is left of them is dropped)."""
        ...

    async def aclose(self) -> None:
        """Cancel the call if it still runs, and forget it."""
        ...


class Enclave(Protocol):
    """One enclave that is connected."""

    @property
    def name(self) -> str:
        """Where it listens; for operators."""
        ...

    @property
    def links(self) -> int:
        """Connections so far: another one may lead to another process, with other keys."""
        ...

    async def infer(self, call: InferenceCall, sealed_request: bytes) -> InferenceReply:
        """Run a request and collect its answer. A cancelled task cancels the call.

        Raises:
            EnclaveError: The code says which; ``ERR_ENCLAVE_TIMEOUT`` if it was not accepted in
                5,000 ms, ``ERR_OVERLOADED`` if there is no place for the call here.
            EnclaveLostError: The connection ended after dispatch.
        """
        ...

    async def stream(self, call: InferenceCall, sealed_request: bytes) -> OpenInference:
        """Run a request; return when its answer's head is there. Raises as ``infer``."""
        ...

    async def attestation(self, call: AttestationCall) -> AttestationAnswer:
        """Return the attestation of a key. Raises as ``infer``."""
        ...


class HoldingEnclave(Protocol):
    """An enclave that holds requests until an approver decides."""

    async def decide(self, call: HoldDecideCall, body: bytes) -> OpenInference:
        """Present a decision; return when it is taken, before its answer. Raises as ``infer``."""
        ...

    async def view(self, call: HoldViewCall, body: bytes) -> tuple[HoldViewAnswer, bytes]:
        """Return what an approver may see. Raises as ``infer``."""
        ...


class HoldingFleet(Protocol):
    """The enclaves by their addresses: who holds a request holds it alone."""

    def named(self, name: str) -> HoldingEnclave:
        """Return the enclave of this address.

        Raises:
            EnclaveError: ``ERR_HOLD_LOST``: there is none any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class EnclaveStatus:
    """What is known of one enclave.

    Attributes:
        name: Where it listens.
        connected: Whether a connection stands.
        health: Its last own answer, None before the first.
        checked_at_ms: When that was, milliseconds since 1970; None before the first.
    """

    name: str
    connected: bool
    health: HealthAnswer | None
    checked_at_ms: int | None


class Fleet(Protocol):
    """All enclaves of this parent."""

    def holder_of(self, key_id: str) -> Enclave:
        """Return the enclave that holds an HPKE key (16 hex digits).

        Raises:
            EnclaveError: ``ERR_KEY_STALE``: none does; nothing was dispatched.
        """
        ...

    def ready(self) -> Enclave:
        """Return a ready enclave, in turn.

        Raises:
            EnclaveError: ``ERR_ENCLAVE_UNAVAILABLE``.
        """
        ...

    def statuses(self) -> Sequence[EnclaveStatus]:
        """Return what is known of each, without asking: the supervisor asks every few seconds."""
        ...
