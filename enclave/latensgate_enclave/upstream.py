"""The model behind the enclave: Amazon Bedrock's Converse and ConverseStream.

Every call leaves evidence of who was asked: host, hash of the TLS certificate that answered,
account, Region, and whether that account logs invocations. Nothing is retried here.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from latensgate_enclave.aws.bedrock import bedrock_scope, runtime_request, verify_success
from latensgate_enclave.aws.eventstream import EventStreamDecoder
from latensgate_enclave.aws.sigv4 import sign
from latensgate_enclave.egress import Call
from latensgate_enclave.http1 import HttpResponse
from latensgate_shared.limits import BEDROCK_ANSWER_MAX_BYTES, BEDROCK_STREAM_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from latensgate_enclave.chat_answer import ChatDelta
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.egress import Egress, Reply
    from latensgate_enclave.identity import CheckedIdentity, UpstreamIdentity
    from latensgate_enclave.operation import AnswerReader, Forwarding, ModelAnswer
    from latensgate_shared.strict_json import JSONObject

_OK = 200
Witness: TypeAlias = "Callable[[JSONObject], None]"
"""Takes the evidence of one call, as receipts state it."""


class BedrockUpstream:
    """Calls models with checked credentials over pinned TLS.

    Args:
        egress: The way out.
        identity: Whose credentials, checked lately.
        clock: Enclave time, for signatures.
        deadline_ms: For a whole answer, milliseconds.
    """

    def __init__(
        self, egress: Egress, identity: UpstreamIdentity, clock: EnclaveClock, deadline_ms: int
    ) -> None:
        self._egress = egress
        self._identity = identity
        self._clock = clock
        self._deadline_ms = deadline_ms

    async def converse(self, forwarding: Forwarding, witness: Witness) -> ModelAnswer:
        """Return a whole answer.

        Args:
            forwarding: What is sent.
            witness: Told the evidence of the call before anything is sent.

        Raises:
            LatensgateError: No checked credentials, no connection, or Bedrock refused.
        """
        response = await self._egress.send(self._call(forwarding, witness, stream=False))
        return forwarding.reader.whole(verify_success(response).body)

    @asynccontextmanager
    async def converse_stream(
        self, forwarding: Forwarding, witness: Witness
    ) -> AsyncGenerator[AsyncIterator[list[ChatDelta]]]:
        """Hand out an answer while it comes; arguments as `converse`.

        Leaving the block early cuts the connection, which ends the model's work.

        Raises:
            LatensgateError: As `converse`; also while the answer comes.
        """
        async with self._egress.open(self._call(forwarding, witness, stream=True)) as reply:
            if reply.head.status != _OK:
                body = b"".join([piece async for piece in reply])
                verify_success(HttpResponse(reply.head.status, reply.head.headers, body))
            async with aclosing(_deltas(reply, forwarding.reader)) as deltas:
                yield deltas

    def _call(self, forwarding: Forwarding, witness: Witness, *, stream: bool) -> Call:
        route = forwarding.route
        identity = self._identity.for_region(route.region)
        method = "converse-stream" if stream else forwarding.method
        request = runtime_request(route.region, route.model_id, forwarding.body, method)
        scope, at_s = bedrock_scope(route.region), self._clock.now_s()
        signed = sign(request, identity.credentials, scope, at_s=at_s)
        limit = BEDROCK_STREAM_MAX_BYTES if stream else BEDROCK_ANSWER_MAX_BYTES

        def connected(leaf_sha256: str) -> None:
            witness(_evidence(request.host, identity, leaf_sha256, route.region))

        return Call(signed, limit, self._deadline_ms, connected)


async def _deltas(reply: Reply, reader: AnswerReader) -> AsyncGenerator[list[ChatDelta]]:
    decoder, stream = EventStreamDecoder(), reader.stream()
    async for piece in reply:
        for message in decoder.receive(piece):
            deltas = stream.receive(message)
            if deltas:
                yield deltas
    decoder.close()
    stream.close()


def _evidence(host: str, identity: CheckedIdentity, leaf_sha256: str, region: str) -> JSONObject:
    return {
        "host": host,
        "leaf_certificate_sha256": leaf_sha256,
        "account": identity.account,
        "region": region,
        "invocation_logging": "on" if identity.logging[region] else "off",
        "checked_at": identity.checked_at_s,
    }
