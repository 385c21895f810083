"""The model behind the enclave: Amazon Bedrock's Converse and ConverseStream.

Every call leaves evidence of who was asked: host, hash of the TLS certificate that answered,
account, Region, and whether that account logs invocations. Nothing is retried here.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate_enclave.aws.bedrock import bedrock_scope, converse_request, verify_success
from latensgate_enclave.aws.converse_answer import ConverseStream, parse_converse_answer
from latensgate_enclave.aws.eventstream import EventStreamDecoder
from latensgate_enclave.aws.sigv4 import sign
from latensgate_enclave.egress import Call
from latensgate_enclave.http1 import HttpResponse
from latensgate_shared.limits import BEDROCK_ANSWER_MAX_BYTES, BEDROCK_STREAM_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from latensgate_enclave.chat_answer import ChatAnswer, ChatDelta
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.egress import Egress, Reply
    from latensgate_enclave.identity import CheckedIdentity, UpstreamIdentity
    from latensgate_enclave.measured import ModelRoute
    from latensgate_shared.strict_json import JSONObject

_OK = 200


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What is sent to a model.

    Attributes:
        route: Where to.
        body: Converse JSON; exactly these bytes are hashed into the receipt.
        offered: Names of the tools that the answer may call.
    """

    route: ModelRoute
    body: bytes
    offered: frozenset[str]


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

    async def converse(self, forwarding: Forwarding) -> tuple[ChatAnswer, JSONObject]:
        """Return a whole answer and the evidence of the call.

        Raises:
            LatensgateError: No checked credentials, no connection, or Bedrock refused.
        """
        identity = self._identity.for_region(forwarding.route.region)
        call = self._call(identity, forwarding, stream=False)
        response, leaf_sha256 = await self._egress.send(call)
        body = verify_success(response).body
        answer = parse_converse_answer(body, offered=forwarding.offered)
        return answer, _evidence(call, identity, leaf_sha256, forwarding.route.region)

    @asynccontextmanager
    async def converse_stream(
        self, forwarding: Forwarding
    ) -> AsyncGenerator[tuple[AsyncIterator[list[ChatDelta]], JSONObject]]:
        """Hand out an answer while it comes, and the evidence of the call.

        Leaving the block early cuts the connection, which ends the model's work.

        Raises:
            LatensgateError: As `converse`; also while the answer comes.
        """
        identity = self._identity.for_region(forwarding.route.region)
        call = self._call(identity, forwarding, stream=True)
        async with self._egress.open(call) as reply:
            if reply.head.status != _OK:
                body = b"".join([piece async for piece in reply])
                verify_success(HttpResponse(reply.head.status, reply.head.headers, body))
            evidence = _evidence(call, identity, reply.leaf_sha256, forwarding.route.region)
            async with aclosing(_deltas(reply, offered=forwarding.offered)) as deltas:
                yield deltas, evidence

    def _call(self, identity: CheckedIdentity, forwarding: Forwarding, *, stream: bool) -> Call:
        route = forwarding.route
        request = converse_request(route.region, route.model_id, forwarding.body, stream=stream)
        scope, at_s = bedrock_scope(route.region), self._clock.now_s()
        signed = sign(request, identity.credentials, scope, at_s=at_s)
        limit = BEDROCK_STREAM_MAX_BYTES if stream else BEDROCK_ANSWER_MAX_BYTES
        return Call(signed, limit, self._deadline_ms)


async def _deltas(reply: Reply, *, offered: frozenset[str]) -> AsyncGenerator[list[ChatDelta]]:
    decoder, stream = EventStreamDecoder(), ConverseStream(offered=offered)
    async for piece in reply:
        for message in decoder.receive(piece):
            deltas = stream.receive(message)
            if deltas:
                yield deltas
    decoder.close()
    stream.close()


def _evidence(call: Call, identity: CheckedIdentity, leaf_sha256: str, region: str) -> JSONObject:
    return {
        "host": call.request.host,
        "leaf_certificate_sha256": leaf_sha256,
        "account": identity.account,
        "region": region,
        "invocation_logging": "on" if identity.logging[region] else "off",
        "checked_at": identity.checked_at_s,
    }
