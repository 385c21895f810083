"""Any server that speaks OpenAI's interface, as an upstream: one place, one bearer key.

The bearer key comes sealed from the operator (`upstream_credentials`) and goes into one header of a
request under TLS that ends in here. TLS is believed under the upstream's own measured roots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.eventstream import EventMessage
from latensgate_enclave.http1 import HttpRequest
from latensgate_enclave.openai_upstream_answer import openai_error
from latensgate_enclave.sse import SSEReader
from latensgate_enclave.upstream import Prepared

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from latensgate_enclave.chat_answer import ChatDelta
    from latensgate_enclave.egress import Reply
    from latensgate_enclave.http1 import HttpResponse
    from latensgate_enclave.measured import ModelRoute, OpenAIUpstream
    from latensgate_enclave.operation import AnswerReader, Forwarding
    from latensgate_enclave.upstream_credentials import UpstreamCredentials
    from latensgate_shared.strict_json import JSONValue

_PATHS: Final = {"converse": "/chat/completions", "invoke": "/embeddings"}
_EVENT_STREAM: Final = "text/event-stream"


class OpenAIProvider:
    """Makes requests to one upstream.

    Args:
        name: Of its table.
        table: Where it is.
        credentials: Hold its key.
    """

    def __init__(self, name: str, table: OpenAIUpstream, credentials: UpstreamCredentials) -> None:
        self._name = name
        self._table = table
        self._credentials = credentials

    def places(self, route: ModelRoute) -> tuple[str, ...]:
        """Return the one place."""
        del route
        return (self._table.authority,)

    def prepare(self, forwarding: Forwarding, place: str, *, stream: bool) -> Prepared:
        """Write a request.

        Raises:
            LatensgateError: ``ERR_UPSTREAM_CREDENTIAL``: no key was delivered.
        """
        accept = _EVENT_STREAM if stream else "application/json"
        headers = [("content-type", "application/json"), ("accept", accept)]
        if self._table.credential == "bearer":
            headers.append(("authorization", f"Bearer {self._credentials.bearer(self._name)}"))
        path = self._table.path + _PATHS[forwarding.method]
        request = HttpRequest("POST", place, path, tuple(headers), forwarding.body)
        evidence: dict[str, JSONValue] = {"host": place, "location": self._table.location}
        return Prepared(request, evidence)

    def refused(self, response: HttpResponse) -> UpstreamError:
        """Return what an answer with another status than 200 means."""
        return openai_error(response)

    async def deltas(self, reply: Reply, reader: AnswerReader) -> AsyncGenerator[list[ChatDelta]]:
        """Read a streamed answer.

        Raises:
            LatensgateError: It is not one, or ends before the answer does.
        """
        kind = reply.head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _EVENT_STREAM:
            raise UpstreamError("the upstream was asked for a stream and answers with none")
        events, stream = SSEReader(), reader.stream()
        async for piece in reply:
            for data in events.receive(piece):
                deltas = stream.receive(EventMessage({}, data))
                if deltas:
                    yield deltas
        events.close()
        stream.close()
