"""Amazon Bedrock as an upstream: signed requests with checked credentials, one Region at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_enclave.aws.bedrock import bedrock_scope, response_error, runtime_request
from latensgate_enclave.aws.eventstream import EventStreamDecoder
from latensgate_enclave.aws.sigv4 import sign
from latensgate_enclave.upstream import Prepared
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from latensgate_enclave.aws.bedrock import UpstreamError
    from latensgate_enclave.chat_answer import ChatDelta
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.egress import Reply
    from latensgate_enclave.http1 import HttpResponse
    from latensgate_enclave.identity import UpstreamIdentity
    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.operation import AnswerReader, Forwarding


class BedrockProvider:
    """Makes requests of one account.

    Args:
        identity: Whose credentials, checked lately.
        clock: Enclave time, for signatures.
    """

    def __init__(self, identity: UpstreamIdentity, clock: EnclaveClock) -> None:
        self._identity = identity
        self._clock = clock

    def places(self, route: ModelRoute) -> tuple[str, ...]:
        """Return the measured Regions of a route, in their order."""
        return route.tried_regions

    def prepare(self, forwarding: Forwarding, place: str, *, stream: bool) -> Prepared:
        """Sign a request for one Region.

        Raises:
            IdentityRefusedError: No credentials were checked lately, or the account logs there.
        """
        identity = self._identity.for_region(place)
        method = "converse-stream" if stream else forwarding.method
        model_id = forwarding.route.model_id
        request = runtime_request(place, model_id, forwarding.body, method)
        scope, at_s = bedrock_scope(place), self._clock.now_s()
        signed = sign(request, identity.credentials, scope, at_s=at_s)
        evidence = {
            "host": request.host,
            "account": identity.account,
            "region": place,
            "invocation_logging": "on" if identity.logging[place] else "off",
            "checked_at": identity.checked_at_s,
        }
        return Prepared(signed, evidence)

    def refused(self, response: HttpResponse) -> UpstreamError:
        """Return what an answer with another status than 200 means."""
        return response_error(response)

    async def deltas(self, reply: Reply, reader: AnswerReader) -> AsyncGenerator[list[ChatDelta]]:
        """Read a streamed answer.

        Raises:
            LatensgateError: It is not one, or ends before the answer does.
        """
        decoder, stream = EventStreamDecoder(), reader.stream()
        async for piece in reply:
            found: list[ChatDelta] = []
            try:
                for message in decoder.messages(piece):
                    found += stream.receive(message)
            except LatensgateError:
                if found:  # what was said before it
                    yield found
                raise
            if found:
                yield found
        decoder.close()
        stream.close()
