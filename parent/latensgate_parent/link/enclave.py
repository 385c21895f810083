"""What an enclave can be asked, over one connection: typed calls out, typed answers back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from latensgate_parent.limits import (
    ATTESTATION_TIMEOUT_MS,
    CONTROL_TIMEOUT_MS,
    HEALTH_TIMEOUT_MS,
    HOLD_VIEW_TIMEOUT_MS,
    LINK_CONNECT_TIMEOUT_MS,
)
from latensgate_parent.link.connection import Connection
from latensgate_parent.link.interfaces import EnclaveError, InferenceReply
from latensgate_parent.link.open_calls import StreamCall, UnaryCall, malformed
from latensgate_parent.link.sockets import attach, connect
from latensgate_shared.calls import (
    AttestationAnswer,
    ConfigureKMSAnswer,
    Done,
    DrainAnswer,
    DrainCall,
    HealthAnswer,
    HealthCall,
    InferenceEnd,
    InferenceHead,
    UsageAnswer,
    UsageCall,
)
from latensgate_shared.calls_hold import HoldViewAnswer
from latensgate_shared.calls_upstream import UpstreamCredentialAnswer
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.limits import SEALED_ANSWER_MAX_BYTES, USAGE_TOTALS_MAX_BYTES

if TYPE_CHECKING:
    from latensgate_parent.link.address import Address
    from latensgate_parent.link.interfaces import OpenInference
    from latensgate_parent.link.open_calls import OnOrphan
    from latensgate_shared.call_forms import Message
    from latensgate_shared.calls import (
        AttestationCall,
        Call,
        ConfigureKMSCall,
        CredentialsCall,
        InferenceCall,
    )
    from latensgate_shared.calls_hold import HoldDecideCall, HoldViewCall
    from latensgate_shared.calls_upstream import UpstreamCredentialCall

_AnswerT = TypeVar("_AnswerT", bound="Message")


@dataclass(frozen=True, slots=True)
class SignedTotals:
    """Usage totals as the enclave gave them.

    Attributes:
        totals: Exact bytes that are signed.
        signature: 64 bytes, by the receipt key; not verified yet.
    """

    totals: bytes
    signature: bytes


class ConnectedEnclave:
    """One enclave over one connection; an ``Enclave``, and what the supervisor asks besides.

    Args:
        name: Where it listens.
        connection: Open.
        on_orphan: Gets receipts of answers that nobody waits for.
    """

    def __init__(self, name: str, connection: Connection, on_orphan: OnOrphan) -> None:
        self._name = name
        self._connection = connection
        self._on_orphan = on_orphan
        self._loop = asyncio.get_running_loop()

    @property
    def name(self) -> str:
        """Where it listens; for operators."""
        return self._name

    @property
    def is_open(self) -> bool:
        """Whether the connection stands."""
        return self._connection.is_open

    @property
    def open_calls(self) -> int:
        """Calls under way."""
        return self._connection.open_calls

    async def wait_closed(self) -> str:
        """Return when the connection has ended, with why."""
        return await asyncio.shield(self._connection.closed)

    def close(self, why: str = "the parent closed the connection") -> None:
        """Cut the connection; every call on it is lost."""
        self._connection.close(why)

    async def infer(self, call: InferenceCall, sealed_request: bytes) -> InferenceReply:
        """Run a request and collect its answer. A cancelled task cancels the call.

        Raises:
            EnclaveError: The code says which.
            EnclaveLostError: Lost after dispatch, or an answer that is malformed or too large.
        """
        connection = self._connection
        unary = UnaryCall(
            self._loop.create_future(), connection.budget, SEALED_ANSWER_MAX_BYTES, self._on_orphan
        )
        await connection.call(unary, call, sealed_request)
        try:
            receipt_id = InferenceHead.from_head(unary.head).receipt_id
            end = InferenceEnd.from_head(unary.end_head or {})
        except MalformedError as error:
            raise malformed(error) from None
        return InferenceReply(receipt_id, b"".join(unary.chunks), end)

    async def stream(self, call: InferenceCall, sealed_request: bytes) -> OpenInference:
        """Run a request; return when its answer's head is there. Raises as ``infer``."""
        return await self._streamed(call, sealed_request)

    async def decide(self, call: HoldDecideCall, body: bytes) -> OpenInference:
        """Present a decision; return when the enclave has taken it. Raises as ``infer``."""
        return await self._streamed(call, body)

    async def view(self, call: HoldViewCall, body: bytes) -> tuple[HoldViewAnswer, bytes]:
        """Return what an approver may see of a held request. Raises as ``infer``."""
        unary = self._control(SEALED_ANSWER_MAX_BYTES)
        answer = await self._finish(unary, call, HoldViewAnswer, HOLD_VIEW_TIMEOUT_MS, body)
        return answer, b"".join(unary.chunks)

    async def _streamed(self, call: InferenceCall | HoldDecideCall, body: bytes) -> OpenInference:
        stream = StreamCall(self._connection, self._on_orphan)
        try:
            await self._connection.dispatch(stream, call, body)
            await stream.wait_head()
        except BaseException:  # also when the caller is cancelled
            await stream.aclose()
            raise
        return stream

    async def attestation(self, call: AttestationCall) -> AttestationAnswer:
        """Return the attestation of a key. Raises as ``infer``."""
        return await self._ask(call, AttestationAnswer, ATTESTATION_TIMEOUT_MS)

    async def health(self) -> HealthAnswer:
        """Return how it is. Raises as ``infer``."""
        return await self._ask(HealthCall(), HealthAnswer, HEALTH_TIMEOUT_MS)

    async def deliver_credentials(self, call: CredentialsCall) -> None:
        """Return when the enclave has checked and taken them. Raises as ``infer``."""
        await self._ask(call, Done, CONTROL_TIMEOUT_MS)

    async def configure_kms(self, call: ConfigureKMSCall) -> ConfigureKMSAnswer:
        """Return when the KMS gate is open. Raises as ``infer``."""
        return await self._ask(call, ConfigureKMSAnswer, CONTROL_TIMEOUT_MS)

    async def upstream_credential(self, call: UpstreamCredentialCall) -> UpstreamCredentialAnswer:
        """Hand over a sealed credential, or ask which are missing. Raises as ``infer``."""
        return await self._ask(call, UpstreamCredentialAnswer, CONTROL_TIMEOUT_MS)

    async def drain(self) -> DrainAnswer:
        """Have it take no further requests. Raises as ``infer``."""
        return await self._ask(DrainCall(), DrainAnswer, HEALTH_TIMEOUT_MS)

    async def usage(self) -> SignedTotals:
        """Return its totals as they stand. Raises as ``infer``."""
        unary = self._control(USAGE_TOTALS_MAX_BYTES)
        answer = await self._finish(unary, UsageCall(), UsageAnswer, CONTROL_TIMEOUT_MS)
        return SignedTotals(b"".join(unary.chunks), answer.signature)

    async def _ask(self, call: Call, answer: type[_AnswerT], timeout_ms: int) -> _AnswerT:
        return await self._finish(self._control(0), call, answer, timeout_ms)

    def _control(self, max_bytes: int) -> UnaryCall:
        return UnaryCall(self._loop.create_future(), self._connection.budget, max_bytes)

    async def _finish(
        self,
        unary: UnaryCall,
        call: Call,
        answer: type[_AnswerT],
        timeout_ms: int,
        body: bytes = b"",
    ) -> _AnswerT:
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await self._connection.call(unary, call, body)
        except TimeoutError:
            raise EnclaveError(
                f"{call.call.value}: no answer within {timeout_ms} ms",
                code=ErrorCode.ERR_ENCLAVE_TIMEOUT,
            ) from None
        try:
            Done.from_head(unary.end_head or {})
            return answer.from_head(unary.head)
        except MalformedError as error:
            raise malformed(error) from None


async def connect_enclave(address: Address, on_orphan: OnOrphan) -> ConnectedEnclave:
    """Connect to an enclave.

    Args:
        address: Where it listens.
        on_orphan: Gets the end and the receipt id of inferences that nobody waits for.

    Raises:
        SocketError: Nobody listens there, or not in time.
    """
    connected = await connect(address, timeout_ms=LINK_CONNECT_TIMEOUT_MS)
    _, connection = await attach(connected, Connection)
    return ConnectedEnclave(str(address), connection, on_orphan)
