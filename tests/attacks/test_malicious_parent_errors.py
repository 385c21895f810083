"""A parent that answers errors, to make the client weaken something, hang, or tell more."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import openai
import pytest

from hostile_fixtures import ANSWER, UNARY, WAYS, Victims, in_turn
from latensgate import errors
from latensgate_shared.errors import ErrorCode
from malicious_gateway import Asked, Told, instead, refusal

SUITE = slice(9, 15)
XWING = bytes.fromhex("647a00010002")
"""KEM, KDF and AEAD of the header: X-Wing first, whatever was answered before."""


def assert_sealed_alike(asked: list[Asked]) -> None:
    """Every request is sealed to the same strong suite, and says nothing more than the first."""
    assert asked
    assert {each.sealed[SUITE] for each in asked} == {XWING}
    assert {frozenset(each.json) for each in asked} == {frozenset(asked[0].json)}
    outside = {name: value for name, value in asked[0].json.items() if name != "prompt_ciphertext"}
    for each in asked:
        assert {**each.json, **outside} == each.json


OUTER = [code for code in ErrorCode if code.http_status >= 400]


@pytest.mark.parametrize("way", WAYS)
def test_every_outer_error_is_typed_and_weakens_nothing(victims: Victims, way: str) -> None:
    """All codes, one after the other, at the same client."""
    victims.ask(way)  # attests
    codes = OUTER if way == "unary" else OUTER[:: len(OUTER) // 4]
    for code in codes:
        got = victims.suffer(instead(partial(refusal, code, "ask in plain")), way)
        assert isinstance(got.error, errors.LatensgateClientError), code
        assert got.error.error_code is code
        assert got.error.receipt is None, "nothing proves an outer error"
        asked = victims.gateway.inferences
        assert len(asked) <= 2
        assert len(victims.gateway.attestations) <= (code is ErrorCode.ERR_KEY_STALE)
        assert_sealed_alike(asked)
    victims.gateway.attack = None
    assert victims.ask(way).text == ANSWER


@pytest.mark.parametrize("way", WAYS)
def test_stale_key_for_ever(victims: Victims, way: str) -> None:
    """One new attestation and one new seal, however many retries the application wants."""
    stale = instead(lambda: refusal(ErrorCode.ERR_KEY_STALE))
    got = victims.suffer(stale, way, max_retries=9)
    assert isinstance(got.error, errors.KeyStale)
    assert not got.error.retryable
    assert len(victims.gateway.inferences) == 2
    assert len(victims.gateway.attestations) == 1
    assert_sealed_alike(victims.gateway.inferences)


def test_errors_in_turn(victims: Victims) -> None:
    """Each answer another one that asks for a retry, with a stale key between them."""
    codes = [
        ErrorCode.ERR_OVERLOADED,
        ErrorCode.ERR_KEY_STALE,
        ErrorCode.ERR_ENCLAVE_UNAVAILABLE,
        ErrorCode.ERR_KEY_STALE,
        ErrorCode.ERR_KEY_STALE,
        ErrorCode.ERR_KEY_STALE,
    ]
    left = iter(codes)
    got = victims.suffer(instead(lambda: refusal(next(left))), "unary", max_retries=9)
    assert isinstance(got.error, errors.KeyStale)
    assert len(victims.gateway.inferences) == 5
    assert_sealed_alike(victims.gateway.inferences)


def _envelope(**changes: object) -> Callable[[], Told]:
    told = refusal(ErrorCode.ERR_PII_HARD_FAIL)
    return lambda: told.changed(**changes)


OTHERS: dict[str, Callable[[], Told]] = {
    "HTML": lambda: Told(502, b"<html>Bad Gateway</html>", {"content-type": "text/html"}),
    "HTML, not found": lambda: Told(404, b"<html>404</html>", {"content-type": "text/html"}),
    "OpenAI's own form": lambda: Told(
        401, b'{"error": {"message": "use http://evil.example", "code": "invalid_api_key"}}'
    ),
    "an unknown code": _envelope(code="ERR_USE_PLAINTEXT"),
    "an unknown code, twice": _envelope(
        code="ERR_USE_PLAINTEXT",
        error={
            "message": "x",
            "type": ErrorCode.ERR_INTERNAL.openai_type,
            "param": None,
            "code": "ERR_USE_PLAINTEXT",
        },
    ),
    "two codes": _envelope(code="ERR_OVERLOADED"),
    "a member more": _envelope(fallback_url="http://evil.example"),
    "a message that is too long": _envelope(correlation_id="x" * 10_000),
    "not JSON": lambda: Told(400, b"{"),
    "nested JSON": lambda: Told(400, b"[" * 100_000),
    "bytes that are no text": lambda: Told(503, b"\xff\xfe\x00" * 100),
    "nothing": lambda: Told(500, b""),
    "a number of 10^5 digits": lambda: Told(422, b'{"error": ' + b"9" * 100_000 + b"}"),
    "an upgrade": lambda: Told(426, b"", {"upgrade": "h2c", "connection": "upgrade"}),
    "a proxy's question": lambda: Told(407, b"", {"proxy-authenticate": "Basic"}),
    "a question for a password": lambda: Told(401, b"", {"www-authenticate": 'Basic realm="x"'}),
    "status 999": lambda: Told(999, b"{}"),
    "status 200, an envelope": lambda: Told(200, refusal(ErrorCode.ERR_KEY_STALE).body),
}


@pytest.mark.parametrize(("name", "way"), in_turn(OTHERS, UNARY))
def test_errors_that_are_not_the_gateways(victims: Victims, name: str, way: str) -> None:
    """Defence: parse_error_answer, a closed form; all else is somebody on the way."""
    got = victims.suffer(instead(OTHERS[name]), way)
    assert isinstance(got.error, errors.LatensgateClientError), got
    assert got.error.error_code in {ErrorCode.ERR_MALFORMED, ErrorCode.ERR_ANSWER_INVALID}
    assert got.error.receipt is None
    assert "evil" not in str(got.error)
    assert len({asked.body for asked in victims.gateway.inferences}) == 1
    assert_sealed_alike(victims.gateway.inferences)


@pytest.mark.parametrize("way", UNARY)
def test_texts_of_an_outer_error_are_texts(victims: Victims, way: str) -> None:
    """They may be shown to people; they cannot steer a terminal, nor add header fields."""
    told = refusal(ErrorCode.ERR_OVERLOADED, "\x1b[2J\x1b]0;owned\x07 \u202e hi\r\nx: y").changed(
        correlation_id="a\r\nset-cookie: b"
    )
    got = victims.suffer(instead(lambda: told), way, max_retries=0)
    assert isinstance(got.error, errors.LatensgateClientError)
    assert not any(mark in str(got.error) for mark in "\x1b\x07\r\u202e")
    assert "set-cookie" not in got.error.response.headers


@pytest.mark.parametrize("wait", ["86400", "-1", "NaN", "1e9", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_error_makes_a_client_sleep_for_long(victims: Victims, wait: str) -> None:
    """Defence: exchange_failure.retry_after and the OpenAI client's own bound of 60 s."""
    told = refusal(ErrorCode.ERR_OVERLOADED, retry_after=wait)
    got = victims.suffer(instead(lambda: told), "unary")
    assert isinstance(got.error, errors.Unavailable)
    assert got.took_s < 10


@pytest.mark.parametrize("way", UNARY)
def test_errors_hold_no_plaintext(victims: Victims, way: str) -> None:
    """Error reporters print the request of an error: it says nothing but the address."""
    got = victims.suffer(instead(lambda: refusal(ErrorCode.ERR_FORBIDDEN)), way)
    assert isinstance(got.error, openai.APIStatusError)
    request = got.error.request
    assert request.content == b""
    assert json.loads(json.dumps(dict(request.headers))).keys() <= {"host", "content-length"}
