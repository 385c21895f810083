"""Fuzz targets for the enclave's own readers: KMS blobs, event streams, HTTP answers, requests.

The enclave reads these from AWS through TLS that ends inside it, and chat requests from whoever may
seal one; none of them may take it down.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import cast
from zlib import crc32

from cms_blobs import OAEP_SHA1, PKCS1_V15, Blob, make_blob, recipient_key
from fuzz_examples import text_of
from fuzz_forms import Node, Script, edited
from latensgate_enclave.aws.cms import decrypt
from latensgate_enclave.aws.converse import build_converse_body
from latensgate_enclave.aws.converse_answer import ConverseStream, parse_converse_answer
from latensgate_enclave.aws.eventstream import EventMessage, EventStreamDecoder
from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_texts import request_parts, with_request_texts
from latensgate_enclave.http1 import ResponseEvent, ResponseReader
from latensgate_enclave.model_traits import CAPABILITIES, ModelTraits
from latensgate_shared.errors import LatensgateError
from latensgate_shared.strict_json import parse_json_object

JSON_MAX_BYTES = 1 << 20


@cache
def good_blob() -> Blob:
    return make_blob(b"a secret of 32 bytes, as it is. ")


def fuzz_cms(data: bytes) -> None:
    """CiphertextForRecipient: raw, and a good one with parts replaced or bytes changed."""
    script = Script(data)
    flags = script.byte()
    blob = _blob(script).encode() if flags & 1 else good_blob().encode()
    if flags & 2:
        at = script.number() % len(blob)
        blob = blob[:at] + script.take(script.byte() % 8) + blob[at + script.byte() % 8 :]
    for candidate in (data, blob):
        try:
            decrypt(candidate, recipient_key())
        except LatensgateError:
            continue


def _blob(script: Script) -> Blob:
    blob, value = good_blob(), script.byte()
    changes: tuple[Callable[[], Blob], ...] = (
        lambda: blob,
        lambda: replace(blob, chunk_bytes=None if value & 1 else 1 + value),
        lambda: replace(blob, is_definite=True, chunk_bytes=None if value & 1 else 1 + value),
        lambda: replace(blob, oaep=OAEP_SHA1 if value & 1 else PKCS1_V15),
        lambda: replace(blob, recipients=value % 4),
        lambda: replace(blob, ciphertext=blob.ciphertext[: value % 64] + script.sized()),
        lambda: replace(blob, encrypted_key=script.sized() + blob.encrypted_key[value:]),
        lambda: replace(blob, iv=script.sized()),
        lambda: replace(blob, key_id=script.sized(), key_id_tag=0x80 | value % 4),
        lambda: replace(blob, after_content=script.sized()),
        lambda: replace(blob, version=script.sized()),
    )
    return changes[script.byte() % len(changes)]()


def cms_seeds() -> tuple[bytes, ...]:
    """Every part once, and a few cuts."""
    parts = [
        bytes((1, value, part)) + b"\x10" + bytes(16) for part in range(11) for value in (0, 3)
    ]
    cuts = [bytes((2, 0, at, 0, 1)) for at in range(0, 200, 16)]
    return (b"\x00", b"0\x80\x06\x09", *parts, *cuts)


def fuzz_eventstream(data: bytes) -> None:
    """Event streams: raw, and messages with right checksums; then what Bedrock says in them."""
    _read_stream(data, 3)
    script = Script(data)
    flags, wire = script.byte(), b""
    while script.left and len(wire) < JSON_MAX_BYTES:
        wire += _message(script)
    if flags & 1 and wire:
        wire = wire[: script.number() % len(wire)]
    if _read_stream(wire, 1 + flags) != _read_stream(wire, len(wire) or 1):
        raise AssertionError("what is read depends on how the bytes were cut")


EVENTS: tuple[tuple[str, Node], ...] = (
    ("messageStart", {"role": "assistant"}),
    (
        "contentBlockStart",
        {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "n"}}},
    ),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a"}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}),
)


def _message(script: Script) -> bytes:
    """One message: an event of Bedrock, edited, or headers and payload of the script's making."""
    kind = script.byte()
    if kind < 0xE0:
        name, example = EVENTS[kind % len(EVENTS)]
        return framed(_text_header(":event-type", name), text_of(edited(example, script)))
    if kind < 0xF0:
        return framed(_text_header(":message-type", "exception") + script.sized(), script.sized())
    return framed(script.sized(), script.sized())


def _text_header(name: str, value: str) -> bytes:
    raw = value.encode()
    return bytes((len(name),)) + name.encode() + b"\x07" + struct.pack(">H", len(raw)) + raw


def framed(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", len(headers) + len(payload) + 16, len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return message + struct.pack(">I", crc32(message))


def _read_stream(data: bytes, step: int) -> list[EventMessage] | None:
    decoder, stream = EventStreamDecoder(), ConverseStream(offered=frozenset({"f"}))
    messages: list[EventMessage] = []
    try:
        for start in range(0, len(data), step):
            messages += decoder.receive(data[start : start + step])
        decoder.close()
    except LatensgateError:
        return None
    try:
        for message in messages:
            stream.receive(message)
        stream.close()
    except LatensgateError:
        pass
    return messages


def eventstream_seeds() -> tuple[bytes, ...]:
    """A whole answer with a tool call, every header type, exceptions, a cut."""
    whole = b"".join(bytes((kind, 0)) for kind in (0, 1, 2, 3, 4, 6, 7))
    headers = b"\x01a\x00\x01b\x01\x01c\x02\x7f\x01d\x03\x00\x01\x01e\x04\x00\x00\x00\x01"
    headers += b"\x01f\x05" + bytes(8) + b"\x01g\x06\x00\x01z\x01h\x07\x00\x01z"
    headers += b"\x01i\x08" + bytes(8) + b"\x01j\x09" + bytes(16)
    own = bytes((0xFF, len(headers))) + headers + b"\x02{}"
    named = _text_header(":exception-type", "throttlingException")
    exception = bytes((0xE0, len(named))) + named + b"\x02{}"
    twice = bytes((0xFF, 8)) + b"\x01a\x00\x01a\x00\x01b\x00"
    return (
        b"\x00" + whole,
        b"\x00" + own,
        b"\x00" + exception,
        b"\x00" + twice,
        b"\x01" + whole + b"\x00\x40",
        framed(headers, b"{}"),
    )


def fuzz_http1(data: bytes) -> None:
    """HTTP answers: the first byte says the pieces; however cut, they say the same."""
    if not data:
        return
    if _read_http(data[1:], 1 + data[0]) != _read_http(data[1:], len(data)):
        raise AssertionError("what is read depends on how the bytes were cut")


def _read_http(data: bytes, step: int) -> tuple[list[ResponseEvent], bytes] | None:
    reader = ResponseReader(max_body_bytes=1024)
    others: list[ResponseEvent] = []
    body = b""
    try:
        for start in range(0, len(data), step):
            for event in reader.receive(data[start : start + step]):
                if isinstance(event, bytes):
                    body += event
                else:
                    others.append(event)
        reader.close()
    except LatensgateError:
        return None
    return others, body


def http1_seeds() -> tuple[bytes, ...]:
    """Sized, chunked, and what must not be."""
    ok = b"\x05HTTP/1.1 200 OK\r\nx-amzn-requestid: a b\r\n"
    return (
        ok + b"content-length: 3\r\n\r\nabc",
        ok + b"content-length: 0\r\nconnection: close\r\n\r\n",
        ok + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ok + b"transfer-encoding: gzip\r\n\r\n",
        ok + b"content-length: 3\r\ncontent-length: 4\r\n\r\n",
        ok + b"x: a\r\nx: b\r\ncontent-length: 1\r\n\r\nz",
        ok + b"\r\n",
        ok + b"content-length: 4097\r\n\r\n",
        ok + b"content-length: x\r\n\r\n",
        ok + b"transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        ok + b"transfer-encoding: chunked\r\n\r\n123456789",
        b"\x00HTTP/1.1 204 No Content\r\n\r\n",
        ok + b"a: b\r\n" * 65 + b"\r\n",
        b"\xff" + b"x" * 4000,
    )


CHAT: Node = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s", "name": "n"},
        {"role": "user", "content": [{"type": "text", "text": "t"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "r"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "x"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object", "properties": {"a": {"enum": ["x", 1]}}},
                "strict": True,
            },
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "max_completion_tokens": 5,
    "temperature": 1,
    "top_p": 0.5,
    "stop": ["a"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "user": "u",
    "n": 1,
    "response_format": {"type": "text"},
    "logit_bias": None,
}
ANSWER: Node = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"text": "a"},
                {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": [1, None]}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
}


def fuzz_chat(data: bytes) -> None:
    """Chat requests from JSON to what is forwarded, and the model's whole answers."""
    script = Script(data)
    flags = script.byte()
    texts = (data[1:], text_of(edited(CHAT, script)), text_of(edited(ANSWER, script)))
    for text in texts:
        for read in (_read_chat, _read_answer):
            try:
                read(text, flags)
            except LatensgateError:
                continue


def _read_chat(text: bytes, flags: int) -> None:
    request = parse_chat_request(parse_json_object(text, max_bytes=JSON_MAX_BYTES))
    parts = request_parts(request)
    rewritten = with_request_texts(request, [part.text for part in parts])
    missing = {"sampling": flags & 1, "tools": flags & 2, "forced_tools": flags & 4}
    traits = ModelTraits(
        CAPABILITIES - {word for word, is_missing in missing.items() if is_missing}
    )
    json.loads(build_converse_body(rewritten, traits))


def _read_answer(text: bytes, flags: int) -> None:
    parse_converse_answer(text, offered=frozenset() if flags & 8 else frozenset({"f"}))


def chat_seeds() -> tuple[bytes, ...]:
    """Good ones under several flags, plain, and one of each role."""
    plain = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    texts = [cast("Node", plain), CHAT, ANSWER]
    return (
        *(bytes((flags, 0)) for flags in range(9)),
        *(b"\x00" + text_of(text) for text in texts),
    )
