"""Fuzz targets for what OpenAI-compatible upstreams answer: event streams, answers, embeddings.

Whoever answers may return any bytes. Nothing but a typed error may come of it, what is read must
not depend on how the bytes came, and what is told of usage must fit into a receipt.
"""

from __future__ import annotations

from typing import cast

import msgspec

from fuzz_examples import text_of
from fuzz_forms import Node, Script, edited
from latensgate_enclave.aws.eventstream import EventMessage
from latensgate_enclave.aws.invoke import FAMILIES, CallReader, OpenAIFamily
from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_answer import ChatAnswer, ChatDelta, CompletionHead, NativeDelta, Usage
from latensgate_enclave.chat_deltas import Collector
from latensgate_enclave.chat_render import ChunkRenderer, render_completion
from latensgate_enclave.http1 import HttpResponse
from latensgate_enclave.openai_upstream_answer import OpenAIReader, openai_error
from latensgate_enclave.responses import Asked
from latensgate_enclave.responses_stream import EventRenderer
from latensgate_enclave.sse import SSEReader
from latensgate_shared.errors import LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import parse_json_object

OFFERED = frozenset({"f", "g"})
ASKED = frozenset({"logprobs", "modalities", "moderation", "web_search_options"})
HEAD = CompletionHead("chatcmpl-1", 1, "m")
REQUEST = parse_chat_request(
    {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
)
USAGE: Node = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
CALL: Node = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
BESIDE: Node = {
    "annotations": [
        {
            "type": "url_citation",
            "url_citation": {"start_index": 0, "end_index": 1, "title": "t", "url": "u"},
        }
    ],
    "audio": {"id": "a", "data": "AAAA", "expires_at": 1, "transcript": "t"},
}
ANSWER: Node = {
    "choices": [
        {
            "message": {
                "content": "a",
                "refusal": "no",
                "reasoning_content": "r",
                "tool_calls": [CALL],
                **cast("dict[object, Node]", BESIDE),
            },
            "logprobs": {"content": [{"token": "a", "logprob": -1.5, "bytes": [97]}]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_1",
    "moderation": {"input": {"type": "error", "code": "x"}, "output": {"type": "error"}},
}


def _chunk(delta: Node, reason: Node = None) -> Node:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


CHUNKS: tuple[Node, ...] = (
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"content": "a"}),
    _chunk({"reasoning_content": "r"}),
    _chunk({"refusal": "no"}),
    _chunk({"tool_calls": [CALL]}),
    _chunk({"tool_calls": [{"index": 1, "id": "d", "function": {"name": "g"}}]}),
    _chunk({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
    _chunk(BESIDE),
    _chunk({}, "stop"),
    _chunk({}, "tool_calls"),
    {"choices": [], "usage": USAGE},
    {"choices": [], "service_tier": "flex", "system_fingerprint": "fp"},
    {"error": {"type": "rate_limit_error", "code": None}},
)
DONE = len(CHUNKS)


def fuzz_sse(data: bytes) -> None:
    """Event streams: the first byte says the pieces; however cut, they say the same."""
    if not data:
        return
    if _events(data[1:], 1 + data[0]) != _events(data[1:], len(data)):
        raise AssertionError("what is read depends on how the bytes were cut")


def _events(data: bytes, step: int) -> list[bytes] | None:
    reader, found = SSEReader(), list[bytes]()
    try:
        for start in range(0, len(data), step):
            found += reader.receive(data[start : start + step])
        reader.close()
    except LatensgateError:
        return None
    return found


def sse_seeds() -> tuple[bytes, ...]:
    """Good ones, and what must not be."""
    return (
        b"\x00data: a\n\ndata: b\r\n\r\n",
        b"\x02data: a\ndata:b\ndata\n\n: comment\nid: 1\nevent: e\nretry: 5\n\n",
        b"\x01\xef\xbb\xbfdata: a\n\n",
        b"\x03data: a\rdata: b\n\n",
        b"\x04data: a\n",
        b"\x05: only a comment",
    )


def fuzz_upstream(data: bytes) -> None:
    """Whole answers and errors, and streams; then what callers are told of them."""
    script = Script(data)
    asked = ASKED if script.byte() & 1 else frozenset[str]()
    reader = OpenAIReader(OFFERED, 9, asked)
    for text in (data[1:], text_of(edited(ANSWER, script))):
        openai_error(HttpResponse(429, {}, text))
        try:
            _told(reader.whole(HttpResponse(200, {}, text)))
        except LatensgateError:
            continue
    stream, deltas = reader.stream(), list[ChatDelta]()
    try:
        while script.left:
            deltas += stream.receive(EventMessage({}, _event(script)))
        stream.close()
    except LatensgateError:
        pass
    _passed_on(deltas)


def _event(script: Script) -> bytes:
    kind = script.byte() % (DONE + 2)
    if kind < DONE:
        return text_of(edited(CHUNKS[kind], script))
    return b"[DONE]" if kind == DONE else script.sized()


def _told(answer: ChatAnswer) -> None:
    canonicalize(answer.usage.to_openai())
    again = answer.with_texts([part.text for part in answer.parts()])
    rendered = msgspec.json.encode(render_completion([again], HEAD, REQUEST))
    parse_json_object(rendered, max_bytes=len(rendered))


def _passed_on(deltas: list[ChatDelta]) -> None:
    """Write the pieces as both kinds of streams do, as far as they may come in that order."""
    collected = Collector()
    collected.add(deltas)
    chunks, open_call = ChunkRenderer(HEAD, REQUEST), None
    events = EventRenderer(HEAD, Asked({}, summary=False))
    told = [*chunks.begin(0), *events.begin(0)]
    for delta in deltas:
        if isinstance(delta, Usage):
            canonicalize(delta.to_openai())
            continue
        told += chunks.render(delta)
        index = getattr(delta, "index", None)
        begins = hasattr(delta, "name")
        if index is not None and not begins and index != open_call:
            return  # two calls at once, which the guard of streams refuses
        open_call = index
        if not isinstance(delta, NativeDelta):
            told += events.render(delta)
    for event in [*told, *chunks.end(Usage(1, 1)), *events.end(Usage(1, 1))]:
        parse_json_object(event, max_bytes=len(event))
    try:
        _told(collected.answer())
    except LatensgateError:
        return


def upstream_seeds() -> tuple[bytes, ...]:
    """Whole streams, one of each chunk, and answers that are edited."""
    plain = bytes((0, 0, 0, 0, 1, 0, 8, 0, 10, 0, DONE))
    calls = bytes((0, 0, 4, 0, 5, 0, 6, 0, 9, 0, 10, 0, DONE))
    beside = bytes((1, 0, 7, 0, 11, 0, 8, 0, DONE))
    alone = [bytes((1, 0, kind, 0)) for kind in range(DONE)]
    return (plain, calls, beside, *alone, b"\x01" + text_of(ANSWER), b"\x00" + text_of(ANSWER))


VECTORS: tuple[Node, ...] = (
    {"embedding": [0.5, 1], "inputTextTokenCount": 3},
    {"embeddings": [[0.5, 1], [0, 1]]},
    {"embeddings": {"float": [[0.5, 1]]}},
    {"embeddings": [{"embeddingType": "TEXT", "embedding": [0.5, 1]}]},
    {"data": [{"index": 0, "embedding": [0.5, 1]}], "usage": {"prompt_tokens": 3}},
)


def fuzz_embeddings(data: bytes) -> None:
    """What embedding models answer, of every family."""
    script = Script(data)
    counted = {"x-amzn-bedrock-input-token-count": script.sized().decode("latin-1")}
    example = VECTORS[script.byte() % len(VECTORS)]
    for text in (data, text_of(edited(example, script))):
        for family in (*FAMILIES.values(), OpenAIFamily("m")):
            try:
                found = CallReader(family).whole(HttpResponse(200, counted, text))
            except LatensgateError:
                continue
            canonicalize(found.usage.to_openai())


def embeddings_seeds() -> tuple[bytes, ...]:
    """Each form, plain and through the script."""
    forms = [bytes((1, 0x37, kind)) for kind in range(len(VECTORS))]
    return (*forms, *(text_of(each) for each in VECTORS))
