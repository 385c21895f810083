"""Everything that passes a stream on, judged by outsiders' ``chunk-invariance``.

What comes out must not depend on where the input was cut: every cut in two, and cuts in three of
what is short. Bytes go through as text of one character a byte, since that is what the judge takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache, partial

import pytest
from chunk_invariance import ChunkInvarianceError, assert_chunk_invariant

from latensgate.exchange_stream import EventReader
from latensgate_enclave.aws.eventstream import EventStreamDecoder
from latensgate_enclave.chat_answer import ChatDelta, TextDelta, ToolCallBegun, ToolCallDelta
from latensgate_enclave.http1 import ResponseReader
from latensgate_enclave.pii import (
    Budget,
    Direction,
    Policy,
    TextPart,
    Tier1Engine,
    parse_policy,
    scan_texts,
)
from latensgate_enclave.pii.protection import Protection
from latensgate_enclave.pii.restore import Restorer
from latensgate_enclave.pii.surrogates import Surrogates
from latensgate_enclave.pii.tally import Tally
from latensgate_enclave.pii.windowed import WindowedScan
from latensgate_enclave.sse import SSEReader
from latensgate_enclave.stream_guard import StreamGuard
from latensgate_shared.answer_records import encode_content_record
from latensgate_shared.chunks import FINAL_MARK
from latensgate_shared.pii_names import Category
from latensgate_shared.sealed import AnswerOpener, AnswerSealer, AnswerSecret
from latensgate_shared.stream_records import StreamRecords, encode_stream_records
from latensgate_shared.strict_json import JSONObject
from latensgate_sim.eventstream import encode_message

MAIL, OTHER = "ann@example.com", "bob.smith@example.org"
TENANT = "tnt_00000001"
SECRET = AnswerSecret(bytes(32), bytes(32))
MASK: JSONObject = {"rules": {"*": {"*": {"action": "mask"}}}}
PSEUDONYMISE: JSONObject = {
    "rules": {
        "EMAIL_ADDRESS": {
            "prompt": {"action": "pseudonymise"},
            "answer": {"action": "mask"},
            "tool_arguments": {"action": "flag"},
        }
    }
}
TEXTS = (
    f"Write to {OTHER}, or call +49 30 901820; card 4111 1111 1111 1111. Bye!",
    "IBAN DE89 3704 0044 0532 0130 00 and 10.11.12.13, caf\u00e9 \U0001f600 na\u00efve. " * 3,
    f"{OTHER}\n{OTHER}",
)


@cache
def engine() -> Tier1Engine:
    return Tier1Engine()


def bytes_of(text: str) -> bytes:
    return text.encode("latin-1")


def text_of(data: bytes) -> str:
    return data.decode("latin-1")


# --- texts ---


def windowed(policy: Policy, chunks: Iterable[str]) -> Iterator[str]:
    scan = WindowedScan(engine(), policy, Direction.ANSWER, tally=Tally(), budget=Budget())
    for chunk in chunks:
        yield scan.push(chunk)
    yield scan.end()


@pytest.mark.parametrize("text", TEXTS)
def test_windowed_scan(text: str) -> None:
    policy = parse_policy(MASK)

    def whole(given: str) -> str:
        part = TextPart(given, Direction.ANSWER)
        return scan_texts(engine(), policy, [part]).texts[0]

    assert whole(text) != text
    assert assert_chunk_invariant(partial(windowed, policy), whole, text) == len(text)


def test_a_scan_of_each_piece_alone_would_not_do() -> None:
    """The judge can say no."""
    policy = parse_policy(MASK)

    def alone(chunks: Iterable[str]) -> Iterator[str]:
        for chunk in chunks:
            yield from windowed(policy, [chunk])

    with pytest.raises(ChunkInvarianceError):
        assert_chunk_invariant(alone, lambda text: "".join(alone([text])), TEXTS[0])


def protected() -> tuple[Protection, str]:
    made = Protection.under(parse_policy(PSEUDONYMISE), engine(), TENANT, b"s" * 32)
    part = TextPart(f"I am {MAIL}", Direction.PROMPT)
    return made, made.scan_request([part], budget=Budget()).texts[0].removeprefix("I am ")


@pytest.mark.parametrize("json_text", [False, True])
def test_restorer(json_text: bool) -> None:  # noqa: FBT001 -- drawn
    surrogates = Surrogates(b"s" * 32)
    mark = surrogates.of(Category.EMAIL_ADDRESS, MAIL)
    ways = (mark, mark.lower(), mark[1:-1], mark.replace("_", "\\_"), "[EMAIL_zzzz]", "[EMAIL")
    text = json.dumps({"to": " and ".join(ways)}) if json_text else " and ".join(ways)

    def streamed(chunks: Iterable[str]) -> Iterator[str]:
        restorer = Restorer(surrogates, json_text=json_text)
        for chunk in chunks:
            yield restorer.push(chunk)
        yield restorer.end()

    def whole(given: str) -> str:
        return "".join(streamed([given]))

    assert whole(text).count(MAIL) >= 3
    assert_chunk_invariant(streamed, whole, text)
    assert_chunk_invariant(streamed, whole, text[:40], splits=3)


def guarded(chunks: Iterable[str], *, call: bool) -> Iterator[str]:
    made, _ = protected()
    guard = StreamGuard(made, Budget())
    told: list[ChatDelta] = guard.push([ToolCallBegun(0, "call_1", "f")]) if call else []
    for chunk in chunks:
        told += guard.push([ToolCallDelta(0, chunk) if call else TextDelta(chunk)])
    for delta in [*told, *guard.end()]:
        if isinstance(delta, ToolCallDelta):
            yield delta.arguments
        elif isinstance(delta, TextDelta):
            yield delta.text


@pytest.mark.parametrize("call", [False, True])
def test_stream_guard(call: bool) -> None:  # noqa: FBT001 -- drawn
    _, mark = protected()
    said = f"to {mark}, cc {OTHER}, and {mark.lower()} once more."
    text = json.dumps({"to": said}) if call else said
    expected = text.replace(mark, MAIL).replace(mark.lower(), MAIL)
    if not call:
        expected = expected.replace(OTHER, "<EMAIL_ADDRESS>")
    tried = assert_chunk_invariant(partial(guarded, call=call), lambda _: expected, text)
    assert tried == len(text)


# --- bytes ---


def test_sse_reader_of_the_openai_upstream() -> None:
    body = b': ping\r\ndata: {"a": 1}\r\n\r\nevent: x\ndata: one\ndata: two\n\ndata: [DONE]\n\n'

    def streamed(chunks: Iterable[str]) -> Iterator[str]:
        reader = SSEReader()
        for chunk in chunks:
            for event in reader.receive(bytes_of(chunk)):
                yield f"<{text_of(event)}>"
        reader.close()

    expected = '<{"a": 1}><one\ntwo><[DONE]>'
    assert_chunk_invariant(streamed, lambda _: expected, text_of(body))


def test_event_stream_decoder() -> None:
    names = {":message-type": "event", ":event-type": "contentBlockDelta"}
    body = b"".join(encode_message(names, payload) for payload in (b'{"a":1}', b"", b"\xff\x00"))

    def streamed(chunks: Iterable[str]) -> Iterator[str]:
        decoder = EventStreamDecoder()
        for chunk in chunks:
            for message in decoder.receive(bytes_of(chunk)):
                yield f"<{message.headers[':event-type']!s} {text_of(message.payload)}>"
        decoder.close()

    expected = "".join(f"<contentBlockDelta {each}>" for each in ('{"a":1}', "", "\xff\x00"))
    assert_chunk_invariant(streamed, lambda _: expected, text_of(body))


def test_chunked_reader_of_http() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    body = b"5\r\nhello\r\n1\r\n \r\n6\r\nworld!\r\n0\r\n\r\n"

    def streamed(chunks: Iterable[str]) -> Iterator[str]:
        reader = ResponseReader(max_body_bytes=1_000)
        for chunk in chunks:
            for event in reader.receive(bytes_of(chunk)):
                yield text_of(event) if isinstance(event, bytes) else f"<{type(event).__name__}>"
        reader.close()
        assert reader.ended

    expected = "<ResponseHead>hello world!<ResponseEnd>"
    assert_chunk_invariant(streamed, lambda _: expected, text_of(head + body))


def test_event_reader_of_the_sdk() -> None:
    body = b": ping\n\ndata: QUJD\r\n\r\ndata:QUI=\n\n: ping\n\ndata: Qg==\n\n"

    def streamed(chunks: Iterable[str]) -> Iterator[str]:
        reader = EventReader()
        for chunk in chunks:
            for value in reader.feed(bytes_of(chunk)):
                yield f"<{text_of(value)}>"
        reader.finish()

    assert_chunk_invariant(streamed, lambda _: "<QUJD><QUI=><Qg==>", text_of(body))


def test_opener_and_records_of_the_sdk() -> None:
    sealer = AnswerSealer(SECRET)
    bodies = [b'{"a":1}', b'{"b":"' + b"x" * 300 + b'"}', b"{}"]
    records = [each for body in bodies for each in encode_stream_records(body, pad=True)]
    assert records[0] == encode_content_record(bodies[0], pad=True)
    sealed = b"".join([*map(sealer.content, records), sealer.final(b"the end")])
    assert FINAL_MARK in sealed

    def streamed(chunks: Iterable[str]) -> Iterator[str]:
        opener, reader = AnswerOpener(SECRET), StreamRecords()
        for chunk in chunks:
            for content in opener.feed(bytes_of(chunk)):
                record = reader.read(content)
                assert record is not None
                yield text_of(record.body)
        reader.finish()
        yield text_of(opener.finish())

    expected = text_of(b"".join(bodies)) + "the end"
    assert_chunk_invariant(streamed, lambda _: expected, text_of(sealed))
    assert re.fullmatch(r'\{"a":1\}.*the end', expected)
