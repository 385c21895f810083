"""The HTTP/1.1 client rules: one framing, nothing ambiguous, every cut of the bytes alike."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latensgate_enclave.http1 import (
    HTTPError,
    HttpRequest,
    HttpResponse,
    ResponseEnd,
    ResponseEvent,
    ResponseHead,
    ResponseReader,
)
from latensgate_shared.limits import HTTP_FIELDS_MAX_COUNT, HTTP_HEAD_MAX_BYTES

SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n00000002\r\nlo\r\n0\r\n\r\n"
)


def read(data: bytes, *, limit: int = 100, step: int | None = None) -> list[ResponseEvent]:
    reader = ResponseReader(max_body_bytes=limit)
    step = step or len(data) or 1
    events: list[ResponseEvent] = []
    for start in range(0, len(data), step):
        events += reader.receive(data[start : start + step])
    reader.close()
    return events


def join_response(events: list[ResponseEvent]) -> HttpResponse:
    head = events[0]
    assert isinstance(head, ResponseHead)
    body = b"".join(each for each in events if isinstance(each, bytes))
    return HttpResponse(head.status, head.headers, body)


def request(**changes: object) -> HttpRequest:
    parts: dict[str, object] = {
        "method": "POST",
        "host": "kms.eu-central-1.amazonaws.com",
        "path": "/",
        "headers": (("content-type", "application/json"),),
        "body": b"{}",
    }
    return HttpRequest(**{**parts, **changes})  # type: ignore[arg-type] # tests pass wrong parts


def test_request_bytes() -> None:
    assert request().to_bytes() == (
        b"POST / HTTP/1.1\r\nhost: kms.eu-central-1.amazonaws.com\r\n"
        b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )


def test_request_hides_what_is_secret() -> None:
    shown = repr(request(headers=(("authorization", "S3CRET"),), body=b"PR0MPT"))
    assert "S3CRET" not in shown
    assert "PR0MPT" not in shown


def test_fields_that_are_added_are_judged_like_the_first() -> None:
    request = HttpRequest("POST", "example.com", "/", (("a", "1"),), b"body")
    assert request.with_fields(("b", "2")) == HttpRequest(
        "POST", "example.com", "/", (("a", "1"), ("b", "2")), b"body"
    )
    with pytest.raises(HTTPError, match="character set"):
        request.with_fields(("b", "2\r\nc: 3"))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "post"},
        {"method": "POST / HTTP/1.1\r\n"},
        {"host": "a\r\nb"},
        {"host": ""},
        {"host": "user@host"},
        {"path": "no-slash"},
        {"path": "/a b"},
        {"path": "/a?query=1"},
        {"path": "/\r\nx"},
        {"headers": (("na me", "v"),)},
        {"headers": (("", "v"),)},
        {"headers": (("name", ""),)},
        {"headers": (("name", " v"),)},
        {"headers": (("name", "v\r\nx: y"),)},
        {"headers": (("name", "\u00e9"),)},
        {"headers": (("name", "v\n"),)},
    ],
)
def test_request_refuses_injection(changes: dict[str, object]) -> None:
    with pytest.raises(HTTPError):
        request(**changes)


@pytest.mark.parametrize("data", [SIZED, CHUNKED])
def test_every_cut_gives_the_same_answer(data: bytes) -> None:
    for step in range(1, len(data) + 1):
        events = read(data, step=step)
        answer = join_response(events)
        assert (answer.status, answer.body) == (200, b"hello")
        assert events[-1] == ResponseEnd(reusable=True)
        assert b"" not in events


def test_body_streams_before_the_end() -> None:
    reader = ResponseReader(max_body_bytes=100)
    head, piece = reader.receive(SIZED[:-2])
    assert isinstance(head, ResponseHead)
    assert head.headers == {"content-type": "application/json", "content-length": "5"}
    assert piece == b"hel"
    assert not reader.ended
    assert reader.receive(b"lo") == [b"lo", ResponseEnd(reusable=True)]
    assert reader.ended


def test_repeated_fields_are_joined_and_space_is_cut() -> None:
    data = (
        b"HTTP/1.1 503\r\nA: \t1 \r\na:2  3\r\nB:\r\nConnection: Close\r\ncontent-length:0\r\n\r\n"
    )
    head, end = read(data)
    assert head == ResponseHead(
        503, {"a": "1, 2  3", "b": "", "connection": "Close", "content-length": "0"}
    )
    assert end == ResponseEnd(reusable=False)


HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 5\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        SIZED[:-1],
        CHUNKED[:-1],
        SIZED + b"x",
        CHUNKED + SIZED,
        SIZED.replace(b"HTTP/1.1", b"HTTP/1.0"),
        SIZED.replace(b"HTTP/1.1", b"HTTP/2"),
        SIZED.replace(b"200", b"100"),
        SIZED.replace(b"200", b"204"),
        SIZED.replace(b"200", b"304"),
        SIZED.replace(b"200", b"2000"),
        SIZED.replace(b"200 OK", b"200OK"),
        SIZED.replace(b"\r\n", b"\n"),
        HEAD + b"\r\nhello",
        HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\nhello",
        HEAD + LENGTH + LENGTH + b"\r\nhello",
        HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
        HEAD + b"Content-Length: +5\r\n\r\nhello",
        HEAD + b"Content-Length: 0x5\r\n\r\nhello",
        HEAD + b"Content-Length: \xb2\r\n\r\nhello",
        HEAD + b"Content-Length:\r\n\r\nhello",
        HEAD + b"Content-Length : 5\r\n\r\nhello",
        HEAD + b" Content-Length: 5\r\n\r\nhello",
        HEAD + b"A: b\r\n c\r\n" + LENGTH + b"\r\nhello",
        HEAD + b"A: b\rc\r\n" + LENGTH + b"\r\nhello",
        HEAD + b"A: b\nc\r\n" + LENGTH + b"\r\nhello",
        HEAD + b"A: \0\r\n" + LENGTH + b"\r\nhello",
        HEAD + b"no colon\r\n" + LENGTH + b"\r\nhello",
        CHUNKED.replace(b"chunked", b"gzip, chunked"),
        CHUNKED.replace(b"chunked", b"identity"),
        CHUNKED.replace(b"chunked", b"Chunked\x0b"),
        CHUNKED.replace(b"3\r\nhel", b"3;x=y\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"0x3\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"-3\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b" 3\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"3\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"2\r\nhel"),
        CHUNKED.replace(b"3\r\nhel", b"4\r\nhel"),
        CHUNKED.replace(b"00000002", b"000000002"),
        CHUNKED.replace(b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n"),
    ],
)
def test_refused_whatever_the_cut(data: bytes) -> None:
    for step in (1, 7, None):
        with pytest.raises(HTTPError):
            read(data, step=step)


def test_limits() -> None:
    assert join_response(read(SIZED, limit=5)).body == b"hello"
    assert join_response(read(CHUNKED, limit=5)).body == b"hello"
    for data in (SIZED, CHUNKED):
        with pytest.raises(HTTPError, match="longer"):
            read(data, limit=4)
    field = b"a: b\r\n"
    sized = b"content-length: 0\r\n\r\n"
    assert read(HEAD + field * (HTTP_FIELDS_MAX_COUNT - 1) + sized)
    with pytest.raises(HTTPError, match="fields"):
        read(HEAD + field * HTTP_FIELDS_MAX_COUNT + sized)
    with pytest.raises(HTTPError, match="head"):
        read(HEAD + b"a: " + b"b" * HTTP_HEAD_MAX_BYTES)


@pytest.mark.timeout(5)
def test_a_field_of_spaces_costs_linear_time() -> None:
    with pytest.raises(HTTPError, match="malformed"):
        read(HEAD + b"a:" + b" " * 16_000 + b"\0\r\n" + LENGTH + b"\r\nhello")


def test_an_answer_hides_what_is_secret() -> None:
    assert "PR0MPT" not in repr(HttpResponse(200, {}, b"PR0MPT"))


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: HEAD + tail))
def test_only_typed_errors(data: bytes) -> None:
    with contextlib.suppress(HTTPError):
        read(data)


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def makefile(self, _mode: str) -> io.BytesIO:
        return self._file


@given(
    st.integers(200, 599).filter(lambda status: status not in {204, 304}),
    st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    st.integers(1, 40),
)
def test_agrees_with_http_client(status: int, pieces: list[bytes], step: int) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    data = b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n%s0\r\n\r\n" % (status, chunks)
    oracle = http.client.HTTPResponse(cast("socket.socket", _Socket(data)))
    oracle.begin()
    ours = join_response(read(data, step=step))
    assert ours == HttpResponse(oracle.status, dict(oracle.headers), oracle.read())
