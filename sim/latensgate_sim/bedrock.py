"""Bedrock's runtime: Converse, ConverseStream and InvokeModel (REST JSON, binary event stream).

Judge: boto3 parses every answer, stream and error (tests/conformance).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import string
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from latensgate_sim import embeddings, eventstream
from latensgate_sim.converse import ConverseRequest, invalid, parse_converse
from latensgate_sim.errors import AWSError, CutConnectionError
from latensgate_sim.faults import Fault, FaultKind, FaultSwitch, strike
from latensgate_sim.http_server import Request, Response
from latensgate_sim.models import (
    Event,
    Model,
    ModelCard,
    Stop,
    TextPiece,
    Thought,
    ToolCall,
    joined,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from latensgate_sim.real_bedrock import BedrockForwarder
    from latensgate_sim.sigv4 import SigV4Checker

_TOOL_FRAGMENT_CHARS: Final = 16
"""Tool arguments stream in pieces of this size, cut anywhere, as Bedrock cuts them."""
_PADDING_MAX_CHARS: Final = 62
SEEN_MAX_COUNT: Final = 10_000


@dataclass(slots=True)
class BedrockRuntime:
    """Bedrock runtime of one Region.

    Attributes:
        checker: Who signed.
        models: Model ids and what each can do.
        engines: ``scripted``, ``local`` and ``default``.
        faults: Switches for tests.
        seen: Bodies of the latest requests, for tests that look for leaks.
        forward: Sends requests on to the real Bedrock instead of answering them here.
        pace_s: Seconds between two events of a stream, as a model that thinks needs them.
    """

    checker: SigV4Checker
    models: Mapping[str, ModelCard]
    engines: Mapping[str, Model]
    faults: FaultSwitch = field(default_factory=FaultSwitch)
    seen: deque[bytes] = field(default_factory=lambda: deque[bytes](maxlen=SEEN_MAX_COUNT))
    forward: BedrockForwarder | None = None
    pace_s: float = 0.0

    async def handle(self, request: Request) -> Response:
        """Answer one HTTP request."""
        try:
            self.checker.verify(request)
            model_id, operation = _route(request)
            stream = operation == "ConverseStream"
            self.seen.append(request.body)
            fault = self.faults.take(operation)
            instead = await strike(fault)
            if instead is not None:
                return instead
            if self.forward is not None:
                return await self.forward.send(self.checker.region, request)
            if operation == "InvokeModel":
                return _embedded(embeddings.invoke(model_id, request.body))
            embeddings.refuse_converse(model_id)
            model = self._model(model_id, request.body, stream=stream)
            if stream:
                return _stream_response(_stream(model, fault, self.pace_s))
            return await _unary(model)
        except AWSError as error:
            return error_response(error)

    def _model(self, model_id: str, body: bytes, *, stream: bool) -> _Call:
        card = self.models.get(model_id)
        if card is None:
            raise invalid("The provided model identifier is invalid.")
        request = parse_converse(model_id, body)
        card.check(request, stream=stream)
        engine = self.engines.get(card.engine)
        if engine is None:
            raise AWSError(429, "ModelNotReadyException", f"The {card.engine} model is not loaded.")
        return _Call(engine, request)


@dataclass(frozen=True, slots=True)
class _Call:
    engine: Model
    request: ConverseRequest

    async def events(self) -> AsyncGenerator[Event, None]:
        cancelled = threading.Event()
        iterator = self.engine.run(self.request, cancelled)
        try:
            while True:
                blocking = self.engine.blocking
                event = await asyncio.to_thread(_next, iterator) if blocking else _next(iterator)
                if event is None:
                    return
                yield event
        finally:
            cancelled.set()


def _next(iterator: Iterator[Event]) -> Event | None:
    return next(iterator, None)


_OPERATIONS: Final = {
    "converse": "Converse",
    "converse-stream": "ConverseStream",
    "invoke": "InvokeModel",
}


def _route(request: Request) -> tuple[str, str]:
    expected = 4
    parts = request.path.split("/")
    known = len(parts) == expected and parts[1] == "model"
    if not known or parts[3] not in _OPERATIONS:
        raise AWSError(404, "UnknownOperationException", "no such operation")
    if request.method != "POST":
        raise AWSError(405, "UnknownOperationException", "POST is needed")
    return unquote(parts[2]), _OPERATIONS[parts[3]]


async def _unary(call: _Call) -> Response:
    started = time.monotonic()
    events = [event async for event in call.events()]
    content: list[object] = [
        {"reasoningContent": {"reasoningText": {"text": each.text, "signature": each.signature}}}
        for each in events
        if isinstance(each, Thought)
    ]
    text = joined(events)
    if text:
        content.append({"text": text})
    content += [{"toolUse": _tool_use(event)} for event in events if isinstance(event, ToolCall)]
    stop = _stop(events)
    answer = {
        "metrics": {"latencyMs": int((time.monotonic() - started) * 1000)},
        "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": stop.reason,
        "usage": _usage(stop),
    }
    return _response(200, json.dumps(answer).encode())


def _stop(events: list[Event]) -> Stop:
    for event in events:
        if isinstance(event, Stop):
            return event
    raise AWSError(424, "ModelErrorException", "The model ended without an answer.")


def _tool_use(call: ToolCall) -> dict[str, object]:
    return {"input": call.arguments, "name": call.name, "toolUseId": call.tool_use_id}


def _usage(stop: Stop) -> dict[str, int]:
    return {
        "inputTokens": stop.input_tokens,
        "outputTokens": stop.output_tokens,
        "totalTokens": stop.input_tokens + stop.output_tokens,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 0,
    }


async def _stream(call: _Call, fault: Fault | None, pace_s: float) -> AsyncGenerator[bytes, None]:
    """Write the stream; a fault strikes after its number of events."""
    sent = 0
    messages = _messages(call)
    try:
        async for message in messages:
            if fault is not None and fault.after_events == sent:
                async for broken in _break(fault, message):
                    yield broken
                if fault.kind in {FaultKind.ERROR, FaultKind.GARBAGE, FaultKind.END}:
                    return
            yield message
            sent += 1
            if pace_s:
                await asyncio.sleep(pace_s)
    except AWSError as error:
        yield _exception(error)
    finally:
        await messages.aclose()


async def _break(fault: Fault, message: bytes) -> AsyncGenerator[bytes, None]:
    if fault.kind is FaultKind.CUT:
        yield message[: len(message) // 2]
        raise CutConnectionError
    if fault.kind is FaultKind.END:
        return
    if fault.kind is FaultKind.SLOW:
        await asyncio.sleep(fault.seconds)
    elif fault.kind is FaultKind.GARBAGE:
        yield message[:-1] + bytes((message[-1] ^ 1,))
    else:
        error = fault.error or AWSError(500, "InternalServerException", "simulated")
        yield _exception(error)


def _exception(error: AWSError) -> bytes:
    name = error.code[0].lower() + error.code[1:]
    return eventstream.exception(name, json.dumps({"message": error.message or ""}).encode())


async def _messages(call: _Call) -> AsyncGenerator[bytes, None]:
    started = time.monotonic()
    yield _event("messageStart", {"role": "assistant"})
    index, text_open = 0, False
    async for event in call.events():
        if isinstance(event, TextPiece):
            text_open = True
            delta = {"contentBlockIndex": index, "delta": {"text": event.text}}
            yield _event("contentBlockDelta", delta)
            continue
        if text_open:
            yield _event("contentBlockStop", {"contentBlockIndex": index})
            index, text_open = index + 1, False
        if isinstance(event, Thought):
            for message in _thought_messages(event, index):
                yield message
            index += 1
        elif isinstance(event, ToolCall):
            for message in _tool_messages(event, index):
                yield message
            index += 1
        else:
            yield _event("messageStop", {"stopReason": event.reason})
            latency_ms = int((time.monotonic() - started) * 1000)
            metrics = {"latencyMs": latency_ms}
            yield _event("metadata", {"usage": _usage(event), "metrics": metrics})


def _thought_messages(thought: Thought, index: int) -> list[bytes]:
    place = {"contentBlockIndex": index}
    half = len(thought.text) // 2
    pieces: list[Mapping[str, str]] = [
        {"text": thought.text[:half]},
        {"text": thought.text[half:]},
        {"signature": thought.signature},
    ]
    return [
        *(
            _event("contentBlockDelta", {**place, "delta": {"reasoningContent": piece}})
            for piece in pieces
        ),
        _event("contentBlockStop", place),
    ]


def _tool_messages(call: ToolCall, index: int) -> list[bytes]:
    start = {"toolUse": {"toolUseId": call.tool_use_id, "name": call.name}}
    text = json.dumps(call.arguments)
    pieces = [
        text[place : place + _TOOL_FRAGMENT_CHARS]
        for place in range(0, len(text), _TOOL_FRAGMENT_CHARS)
    ]
    place = {"contentBlockIndex": index}
    return [
        _event("contentBlockStart", {**place, "start": start}),
        *(
            _event("contentBlockDelta", {**place, "delta": {"toolUse": {"input": piece}}})
            for piece in pieces
        ),
        _event("contentBlockStop", place),
    ]


def _event(event_type: str, payload: Mapping[str, object]) -> bytes:
    letters = string.ascii_letters + string.digits
    # Bedrock pads every event with "p" so that lengths on the wire say less
    padding = letters[: 1 + secrets.randbelow(_PADDING_MAX_CHARS)]
    return eventstream.event(event_type, json.dumps({**payload, "p": padding}).encode())


def _embedded(answer: embeddings.Embedded) -> Response:
    made = _response(200, answer.body)
    counted = {"X-Amzn-Bedrock-Input-Token-Count": str(answer.input_tokens)}
    return replace(made, headers={**made.headers, **counted})


def _response(status: int, body: bytes) -> Response:
    headers = {"Content-Type": "application/json", "x-amzn-RequestId": str(uuid.uuid4())}
    return Response(status, headers, body)


def _stream_response(body: AsyncGenerator[bytes, None]) -> Response:
    headers = {
        "Content-Type": "application/vnd.amazon.eventstream",
        "x-amzn-RequestId": str(uuid.uuid4()),
    }
    return Response(200, headers, body)


def error_response(error: AWSError) -> Response:
    """Write an error as REST JSON services do: the code in a header."""
    headers = {
        "Content-Type": "application/json",
        "x-amzn-RequestId": str(uuid.uuid4()),
        "x-amzn-ErrorType": error.code,
    }
    return Response(error.status, headers, json.dumps({"message": error.message or ""}).encode())
