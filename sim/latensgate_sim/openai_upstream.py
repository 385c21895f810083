"""A simulated OpenAI-compatible upstream: bearer key, chat, SSE; or a way to a real one.

It answers from the same scripted model as the simulated Bedrock, which looks at the request alone.
With ``forward`` it is nothing but TLS in front of a plain server of the developer's own, such as a
local vLLM: the enclave reaches nobody without TLS.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import httpx

from latensgate_sim.converse import parse_converse
from latensgate_sim.errors import AWSError, CutConnectionError
from latensgate_sim.faults import Fault, FaultKind, FaultSwitch, strike
from latensgate_sim.http_server import Request, Response
from latensgate_sim.models import Model, ScriptedModel, Stop, TextPiece, ToolCall
from latensgate_sim.openai_beside import HEAD, beside_message, logprobs, moderation
from latensgate_sim.openai_to_converse import as_converse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from latensgate_sim.converse import ConverseRequest
    from latensgate_sim.models import Event

HOST: Final = "models.example.com"
"""Reserved by RFC 2606, so it can be nobody's."""
PATH: Final = "/v1/chat/completions"
_JSON: Final = {"Content-Type": "application/json"}
_SSE: Final = {"Content-Type": "text/event-stream"}
_FRAGMENT_CHARS: Final = 16
_REASONS: Final = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
_TYPES: Final = {401: "authentication_error", 429: "rate_limit_error", 400: "invalid_request_error"}
_SEEN_MAX_COUNT: Final = 10_000
_FORWARD_TIMEOUT_S: Final = 300.0


def _key() -> str:
    return f"sk-simulated-{secrets.token_urlsafe(24)}"


@dataclass(slots=True)
class OpenAIUpstream:
    """One server.

    Attributes:
        key: The bearer key that it takes.
        engine: What answers.
        forward: Address of a plain server that answers instead; None: the engine.
        faults: Switches for tests; operations are ``unary`` and ``stream``.
        forgets_done: Streams end without ``[DONE]``.
        tells_usage: Whether answers say what they cost.
        seen: Bodies of the latest requests.
        keys_seen: Values of their ``authorization``.
    """

    key: str = field(default_factory=_key, repr=False)
    engine: Model = field(default_factory=ScriptedModel)
    forward: str | None = None
    faults: FaultSwitch = field(default_factory=FaultSwitch)
    forgets_done: bool = False
    tells_usage: bool = True
    seen: deque[bytes] = field(default_factory=lambda: deque[bytes](maxlen=_SEEN_MAX_COUNT))
    keys_seen: deque[str] = field(default_factory=lambda: deque[str](maxlen=_SEEN_MAX_COUNT))

    async def handle(self, request: Request) -> Response:
        """Answer one HTTP request."""
        self.seen.append(request.body)
        self.keys_seen.append(request.headers.get("authorization", ""))
        try:
            self._check(request)
            body = _parse(request.body)
            stream = body.get("stream") is True
            fault = self.faults.take("stream" if stream else "unary")
            instead = await strike(fault)
            if instead is not None:
                return instead
            if self.forward is not None:
                return await _forwarded(self.forward, request)
            asked = parse_converse(str(body.get("model")), as_converse(body))
            if stream:
                return Response(200, _SSE, self._events(asked, body, fault))
            return Response(200, _JSON, json.dumps(await self._whole(asked, body)).encode())
        except AWSError as error:
            return _refusal(error)

    def _check(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.key}".encode()):
            raise AWSError(401, "invalid_api_key", "Incorrect API key provided.")
        if (request.method, request.path) != ("POST", PATH) and self.forward is None:
            raise AWSError(404, "not_found", "no such route")

    async def _run(self, asked: ConverseRequest) -> AsyncGenerator[Event, None]:
        cancelled = threading.Event()
        iterator = self.engine.run(asked, cancelled)
        try:
            while True:
                slow = self.engine.blocking
                event = (
                    await asyncio.to_thread(next, iterator, None) if slow else next(iterator, None)
                )
                if event is None:
                    return
                yield event
        finally:
            cancelled.set()

    async def _whole(self, asked: ConverseRequest, body: dict[str, object]) -> dict[str, object]:
        events = [event async for event in self._run(asked)]
        text = "".join(event.text for event in events if isinstance(event, TextPiece))
        calls = [event for event in events if isinstance(event, ToolCall)]
        (stop,) = [event for event in events if isinstance(event, Stop)]
        message: dict[str, object] = {"role": "assistant", "content": text or None, "refusal": None}
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        message |= beside_message(body, text)
        told_of_tokens = logprobs(body, text)
        choice = {
            "index": 0,
            "message": message,
            "logprobs": told_of_tokens,
            "finish_reason": _reason(stop),
        }
        told = {**_head("chat.completion", body), "choices": [choice], **moderation(body)}
        return {**told, "usage": _usage(stop)} if self.tells_usage else told

    async def _events(
        self, asked: ConverseRequest, body: dict[str, object], fault: Fault | None
    ) -> AsyncGenerator[bytes, None]:
        sent = 0
        async for chunk in self._chunks(asked, body):
            if fault is not None and fault.after_events == sent:
                yield await _broken(fault)
                if fault.kind in {FaultKind.ERROR, FaultKind.GARBAGE}:
                    return
            yield _event(json.dumps(chunk))
            sent += 1
        if not self.forgets_done:
            yield _event("[DONE]")

    async def _chunks(
        self, asked: ConverseRequest, body: dict[str, object]
    ) -> AsyncGenerator[dict[str, object], None]:
        head = _head("chat.completion.chunk", body)
        yield _chunk(head, {"role": "assistant", "content": ""})
        index = 0
        said: list[str] = []
        async for event in self._run(asked):
            if isinstance(event, TextPiece):
                said.append(event.text)
                yield _chunk(head, {"content": event.text}, told=logprobs(body, event.text))
            elif isinstance(event, ToolCall):
                for piece in _call_pieces(event, index):
                    yield _chunk(head, {"tool_calls": [piece]})
                index += 1
            elif isinstance(event, Stop):
                yield _chunk(head, beside_message(body, "".join(said)), _reason(event))
                if told := moderation(body):
                    yield {**head, "choices": [], **told}
                options = body.get("stream_options")
                if self.tells_usage and options == {"include_usage": True}:
                    yield {**head, "choices": [], "usage": _usage(event)}


def _parse(raw: bytes) -> dict[str, object]:
    try:
        body: object = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise AWSError(400, "invalid_json", "We could not parse the JSON body of your request.")
    return cast("dict[str, object]", body)


def _refusal(error: AWSError) -> Response:
    kind = _TYPES.get(error.status, "server_error")
    told = {"message": error.message, "type": kind, "param": None, "code": error.code}
    return Response(error.status, _JSON, json.dumps({"error": told}).encode())


def _head(kind: str, body: dict[str, object]) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(8)}",
        "object": kind,
        "created": int(time.time()),
        "model": body.get("model"),
        **HEAD,
    }


def _chunk(
    head: dict[str, object],
    delta: dict[str, object],
    reason: str | None = None,
    told: dict[str, object] | None = None,
) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "logprobs": told, "finish_reason": reason}
    return {**head, "choices": [choice]}


def _event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def _reason(stop: Stop) -> str:
    return "tool_calls" if stop.reason == "tool_use" else _REASONS.get(stop.reason, "stop")


def _usage(stop: Stop) -> dict[str, int]:
    return {
        "prompt_tokens": stop.input_tokens,
        "completion_tokens": stop.output_tokens,
        "total_tokens": stop.input_tokens + stop.output_tokens,
    }


def _call(call: ToolCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments)}
    return {"id": call.tool_use_id, "type": "function", "function": function}


def _call_pieces(call: ToolCall, index: int) -> list[dict[str, object]]:
    text = json.dumps(call.arguments)
    begun = {"index": index, "id": call.tool_use_id, "type": "function"}
    pieces: list[dict[str, object]] = [{**begun, "function": {"name": call.name, "arguments": ""}}]
    for place in range(0, len(text), _FRAGMENT_CHARS):
        piece = text[place : place + _FRAGMENT_CHARS]
        pieces.append({"index": index, "function": {"arguments": piece}})
    return pieces


async def _broken(fault: Fault) -> bytes:
    if fault.kind is FaultKind.CUT:
        raise CutConnectionError
    if fault.kind is FaultKind.SLOW:
        await asyncio.sleep(fault.seconds)
        return b": still there\n\n"
    if fault.kind is FaultKind.GARBAGE:
        return b"data: {not json\n\n"
    error = fault.error or AWSError(500, "server_error", "simulated")
    told = {"message": error.message, "type": _TYPES.get(error.status), "code": error.code}
    return _event(json.dumps({"error": told}))


async def _forwarded(to: str, request: Request) -> Response:
    """Ask a plain server; its answer comes as it comes."""
    kept = {name: request.headers[name] for name in ("content-type", "accept")}
    client = httpx.AsyncClient(timeout=_FORWARD_TIMEOUT_S)
    try:
        outgoing = client.build_request(
            request.method, to + request.target, headers=kept, content=request.body
        )
        answer = await client.send(outgoing, stream=True)
    except httpx.HTTPError:
        await client.aclose()
        raise AWSError(503, "unavailable", "the server behind does not answer") from None
    kind = {"Content-Type": answer.headers.get("content-type", "application/json")}
    return Response(answer.status_code, kind, _pieces(client, answer))


async def _pieces(client: httpx.AsyncClient, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in answer.aiter_raw():
            if piece:
                yield piece
    except httpx.HTTPError:
        raise CutConnectionError from None
    finally:
        await answer.aclose()
        await client.aclose()
