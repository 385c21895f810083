"""A parent that abuses HTTP itself: redirects, bombs, endless and dripping answers, cookies."""

# pyright: reportPrivateUsage=false
# The jar of the client that carries is nobody else's business.

from __future__ import annotations

import gzip
import json
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import openai
import pytest

from hostile_fixtures import ANSWER, MODEL, STREAMS, UNARY, WAYS, Victims, in_turn, said, words
from latensgate import errors
from latensgate.gateway import GatewayClient
from latensgate.gateway.errors import GatewayClientError
from latensgate_shared.errors import ErrorCode
from malicious_gateway import Asked, Honest, Raw, Reply, Told, answers, instead, malicious

MIB = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def peak_mib() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- elsewhere ---


@pytest.mark.parametrize("way", WAYS)
def test_redirect_is_not_followed(victims: Victims, way: str) -> None:
    """Neither to another host nor to a plaintext route; the key goes nowhere."""
    with malicious(victims.stack.url) as elsewhere:
        places = [
            elsewhere.url + "/api/inference",
            "/v1/chat/completions",
            "//" + elsewhere.url.removeprefix("http://"),
        ]
        for status in (301, 302, 303, 307, 308):
            for place in places:
                away = {"location": place}
                got = victims.suffer(instead(partial(Told, status, b"", away)), way)
                assert isinstance(got.error, errors.LatensgateClientError), got
                assert got.error.error_code is ErrorCode.ERR_MALFORMED
                assert [each.target for each in victims.gateway.asked if each.inference] == [
                    "/api/inference"
                ]
                assert all("/v1/" not in each.target for each in victims.gateway.asked)
        assert elsewhere.asked == []


def test_every_question_stays_at_its_gateway(victims: Victims) -> None:
    """Lists of models and attestations are not redirected either."""
    with malicious(victims.stack.url) as elsewhere:
        away = Told(307, b"", {"location": elsewhere.url, "refresh": f"0; url={elsewhere.url}"})
        victims.gateway.attack = lambda _asked, _honest: away
        client = victims.client({})
        with pytest.raises(errors.LatensgateClientError):
            client.models.list()
        with GatewayClient(victims.gateway.url, api_key=victims.stack.api_key) as typed:
            for ask in (typed.health, typed.keys, typed.usage):
                with pytest.raises(GatewayClientError):
                    ask()
        assert elsewhere.asked == []


@pytest.mark.parametrize("way", UNARY)
def test_cookies_are_not_kept(victims: Victims, way: str) -> None:
    """Attesting is anonymous: a cookie would say who asks, and documents could be made to fit."""

    def attack(asked: Asked, honest: Honest) -> Reply:
        told = honest(asked)
        return Told(told.status, told.body, {**told.headers, "set-cookie": "who=victim; Path=/"})

    for _ in range(2):
        got = victims.suffer(attack, way)
        assert got.text == ANSWER
        assert all("cookie" not in asked.headers for asked in victims.gateway.asked)


@pytest.mark.parametrize("way", WAYS)
def test_hints_that_no_header_can_hold_spoil_no_answer(victims: Victims, way: str) -> None:
    """An answer that was paid for must not be lost in an untyped error over a hint."""
    odd = {"x-request-id": "caf\xe9", "x-ratelimit-limit-requests": "\xb2", "retry-after": "\xb2"}
    got = victims.suffer(answers(lambda told: replace(told, headers={**told.headers, **odd})), way)
    assert (got.error, got.text) == (None, ANSWER)


def test_cookies_are_not_kept_by_one_client(victims: Victims) -> None:
    def attack(asked: Asked, honest: Honest) -> Reply:
        told = honest(asked)
        return Told(told.status, told.body, {**told.headers, "set-cookie": "who=victim; Path=/"})

    victims.suffer(attack, "unary")
    victims.suffer(attack, "unary")
    client = victims.client({})
    assert list(client._shared.trust.client.cookies.jar) == []
    assert all("cookie" not in asked.headers for asked in victims.gateway.asked)
    with GatewayClient(victims.gateway.url, api_key=victims.stack.api_key) as typed:
        typed.health()
        typed.health()
    assert all("cookie" not in asked.headers for asked in victims.gateway.asked)


# --- sizes ---


def bomb(layers: int = 1) -> bytes:
    data = zlib.compressobj(9, zlib.DEFLATED, 31)
    made = b"".join(data.compress(bytes(MIB)) for _ in range(256)) + data.flush()
    for _ in range(layers - 1):
        made = gzip.compress(made)
    return made


BOMBS = {
    "gzip": bomb(),
    "gzip, gzip": bomb(2),
    "gzip, gzip, gzip": bomb(3),
    "deflate": zlib.compress(bytes(64 * MIB)),
    "x-unknown": b"x",
}


@pytest.mark.parametrize(("name", "way"), [*in_turn(BOMBS, UNARY), *in_turn(BOMBS, STREAMS)])
def test_compressed_answers_are_not_unpacked(victims: Victims, name: str, way: str) -> None:
    """Defence: answer_bounds.is_encoded: nobody asked for a compressed answer."""
    packed = Told(
        200,
        BOMBS[name],
        {
            "content-type": "text/event-stream" if way in STREAMS else "application/json",
            "content-encoding": name,
        },
    )
    before = peak_mib()
    got = victims.suffer(instead(lambda: packed), way)
    assert isinstance(got.error, errors.GatewayFailure), got
    assert got.took_s < 5
    assert peak_mib() - before < 48


def test_other_questions_are_bounded_alike(
    victims: Victims, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the gateway's own routes, which the command line asks."""
    packed = Told(200, BOMBS["gzip, gzip"], {"content-encoding": "gzip, gzip"})
    victims.gateway.attack = lambda _asked, _honest: packed
    before = peak_mib()
    with GatewayClient(victims.gateway.url, api_key=victims.stack.api_key) as typed:
        for ask in (typed.health, typed.keys, typed.usage):
            with pytest.raises(GatewayClientError):
                ask()
    with pytest.raises(errors.LatensgateClientError):
        victims.client({}).models.list()
    monkeypatch.setattr("latensgate.answer_bounds.QUESTION_WAIT_MAX_S", 0.3)
    victims.gateway.attack = lambda _asked, _honest: Raw(dripping(HEAD + b"\r\n", b" "))
    with (
        GatewayClient(victims.gateway.url, api_key=victims.stack.api_key) as typed,
        pytest.raises(GatewayClientError, match="in time"),
    ):
        typed.keys()
    with pytest.raises(errors.AnswerTruncated):
        victims.client({}).with_options(max_retries=0).models.list()
    assert peak_mib() - before < 48


def endless(piece: bytes, head: bytes) -> Iterator[bytes]:
    yield head
    while True:
        yield piece


ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a body without a length": lambda: endless(b" " * MIB, HEAD + b"\r\n"),
    "a body of 10^12 bytes": lambda: endless(
        b" " * MIB, HEAD + b"content-length: 1000000000000\r\n\r\n"
    ),
    "chunks": lambda: endless(
        b"%x\r\n" % MIB + bytes(MIB) + b"\r\n", HEAD + b"transfer-encoding: chunked\r\n\r\n"
    ),
    "fields of a head": lambda: endless(b"x-field: " + b"x" * 4000 + b"\r\n", HEAD),
    "one field": lambda: endless(b"x" * 4096, HEAD + b"x-field: "),
    "a status line": lambda: endless(b"x" * 4096, b"HTTP/1.1 200 "),
    "an error's body": lambda: endless(b" " * MIB, b"HTTP/1.1 502 Bad\r\n\r\n"),
}
ENDLESS_STREAMS: dict[str, Callable[[], Iterator[bytes]]] = {
    "one line": lambda: endless(b"A" * MIB, EVENTS + b"data: "),
    "a comment": lambda: endless(b"A" * MIB, EVENTS + b": "),
    "NUL": lambda: endless(bytes(MIB), EVENTS),
}


@pytest.mark.parametrize(
    ("name", "way"), [*in_turn(ENDLESS, UNARY), *in_turn(ENDLESS_STREAMS, STREAMS)]
)
def test_endless_answers_are_left(victims: Victims, name: str, way: str) -> None:
    """Defence: BodyReader, EventReader, and httpx's own bound for heads."""
    before = peak_mib()
    make = {**ENDLESS, **ENDLESS_STREAMS}[name]
    got = victims.suffer(instead(lambda: Raw(make())), way, max_retries=0)
    assert isinstance(got.error, errors.GatewayFailure | openai.APIConnectionError), got
    assert got.took_s < 10
    assert victims.gateway.written < 64 * MIB
    assert peak_mib() - before < 192


# --- time ---


def dripping(head: bytes, drop: bytes, pause_s: float = 0.02) -> Iterator[bytes]:
    yield head
    while True:
        time.sleep(pause_s)
        yield drop


DRIPS: dict[str, tuple[str, bytes, bytes]] = {
    "a body": ("unary", HEAD + b"content-length: 100000\r\n\r\n", b" "),
    "a body, asynchronously": ("async unary", HEAD + b"content-length: 100000\r\n\r\n", b" "),
    "comments": ("stream", EVENTS, b": still there\n\n"),
    "comments, asynchronously": ("async stream", EVENTS, b": still there\n\n"),
    "empty lines": ("stream", EVENTS, b"\n"),
    "a line": ("async stream", EVENTS + b"data: ", b"A"),
}


@pytest.mark.parametrize("name", DRIPS)
def test_dripping_answers_end(victims: Victims, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """No read takes long, and the answer never ends. Defence: answer_bounds.patient."""
    monkeypatch.setattr("latensgate.answer_bounds.ANSWER_WAIT_MAX_S", 0.4)
    way, head, drop = DRIPS[name]
    got = victims.suffer(instead(lambda: Raw(dripping(head, drop))), way, max_retries=0)
    assert isinstance(got.error, errors.AnswerTruncated), got
    assert 0.3 < got.took_s < 5


def test_time_of_a_slow_reader_is_not_the_gateways(
    victims: Victims, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application may take as long as it likes over each piece."""
    monkeypatch.setattr("latensgate.answer_bounds.ANSWER_WAIT_MAX_S", 1.0)
    filling = b": " + b"x" * 60_000 + b"\n"  # so that no event comes in one read with the next
    victims.gateway.attack = answers(
        lambda told: Raw([EVENTS, told.body.replace(b"\n\n", b"\n\n" + 2 * filling)])
    )
    client, text = victims.client({}), ""
    answer = client.chat.completions.create(model=MODEL, messages=said("of the sea"), stream=True)
    for chunk in answer:
        time.sleep(0.25)
        text += words(chunk)
    assert text == "You said: of the sea"


@pytest.mark.parametrize("way", WAYS)
def test_silent_answers_end_by_the_applications_timeout(victims: Victims, way: str) -> None:
    def silent() -> Iterator[bytes]:
        yield EVENTS
        time.sleep(3)

    got = victims.suffer(instead(lambda: Raw(silent())), way, max_retries=0, timeout=0.3)
    assert isinstance(got.error, openai.APITimeoutError), got
    assert got.took_s < 3


# --- other HTTP ---

ODD: dict[str, Callable[[], Reply]] = {
    "switching protocols": lambda: Raw(
        [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n{}"]
    ),
    "no content": lambda: Told(204, b""),
    "partial content": lambda: Told(206, b"{}", {"content-range": "bytes 0-1/2"}),
    "not modified": lambda: Told(304, b""),
    "HTTP/0.9": lambda: Raw([b"{}"]),
    "no HTTP": lambda: Raw([b"\x16\x03\x01\x00\xa5"]),
    "nothing": lambda: Raw([]),
    "half a head": lambda: Raw([HEAD[:30]]),
    "two lengths": lambda: Raw([HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"]),
    "less than announced": lambda: Raw([HEAD + b"content-length: 200\r\n\r\n{}"]),
    "a field within a field": lambda: Raw([HEAD + b"x: a\rset-cookie: b\r\n\r\n{}"]),
    "a bad chunk": lambda: Raw([HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n"]),
}


@pytest.mark.parametrize(("name", "way"), in_turn(ODD, UNARY))
def test_odd_http_is_no_answer(victims: Victims, name: str, way: str) -> None:
    got = victims.suffer(instead(ODD[name]), way)
    assert isinstance(got.error, errors.GatewayFailure | openai.APIConnectionError), got
    assert len({asked.body for asked in victims.gateway.inferences}) == 1


@pytest.mark.parametrize("way", UNARY)
def test_early_hints_are_ignored(victims: Victims, way: str) -> None:
    """Interim answers mean nothing; the true one after them counts."""
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: <http://evil.example>; rel=preload\r\n\r\n" * 3

    def attack(told: Told) -> Reply:
        head = HEAD + b"content-length: %d\r\n\r\n" % len(told.body)
        return Raw([b"HTTP/1.1 100 Continue\r\n\r\n", hints, head, told.body])

    got = victims.suffer(answers(attack), way)
    assert got.text == ANSWER


@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/event-stream-x", ""])
@pytest.mark.parametrize("way", STREAMS)
def test_stream_of_another_content_type(victims: Victims, way: str, kind: str) -> None:
    def retyped(told: Told) -> Told:
        return Told(told.status, told.body, {"content-type": kind} if kind else {})

    got = victims.suffer(answers(retyped), way)
    assert isinstance(got.error, errors.GatewayFailure), got
    assert got.text == ""


def _typed(kind: str, told: Told) -> Told:
    return Told(told.status, told.body, {"content-type": kind})


def test_content_type_of_a_whole_answer_decides_nothing(victims: Victims) -> None:
    """Also as an event stream it is read whole, and opened or refused as what it is."""
    for kind in ("text/event-stream", "text/html", "image/png"):
        got = victims.suffer(
            answers(partial(_typed, kind)),
            "unary",
        )
        assert got.text == ANSWER
    got = victims.suffer(
        answers(
            lambda told: Told(
                told.status,
                b"data: " + json.dumps({"chunk": told.json["response_ciphertext"]}).encode(),
                {"content-type": "text/event-stream"},
            )
        ),
        "unary",
    )
    assert isinstance(got.error, errors.AnswerInvalid)
