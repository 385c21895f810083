"""A parent that gives other answers than the enclave's; over real sockets, to the real SDK.

Whatever it does, the caller gets a typed error and nothing forged, and no plaintext goes out.
`mutants.py` takes each defence out once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hostile_chunks import CHUNKS, MORE_CHUNKS, SPLICES, flipped
from hostile_fixtures import ANSWER, HARD_FAIL, MAIL, STREAMS, UNARY, WAYS, Victims, in_turn
from latensgate import errors
from latensgate_shared.errors import ErrorCode
from malicious_gateway import NONCE_BYTES, Told, answers, cut, event, instead, refusal


@pytest.mark.parametrize("way", WAYS)
def test_an_honest_gateway_is_no_attack(victims: Victims, way: str) -> None:
    """Everything below differs from this in one thing."""
    got = victims.ask(way)
    assert (got.text, got.error) == (ANSWER, None)
    assert got.receipt is not None
    assert victims.gateway.inferences
    victims.assert_nothing_seen()


# --- answers that are true, and somebody else's ---


@pytest.mark.parametrize("way", WAYS)
def test_answer_of_another_request(victims: Victims, way: str) -> None:
    """Of the same client, to the same words. Defence: the secret of each request."""
    other = victims.overheard(way)
    got = victims.suffer(instead(lambda: other), way)
    assert isinstance(got.error, errors.AnswerInvalid)
    assert got.text == ""


@pytest.mark.parametrize("way", WAYS)
def test_answer_of_another_tenant(victims: Victims, way: str) -> None:
    theirs = {"tenant": victims.other.tenant_id, "api_key": victims.other.api_key}
    other = victims.overheard(way, **theirs)
    got = victims.suffer(instead(lambda: other), way)
    assert isinstance(got.error, errors.AnswerInvalid)
    assert got.text == ""


@pytest.mark.parametrize("way", WAYS)
def test_answer_of_another_enclave(victims: Victims, tmp_path: Path, way: str) -> None:
    """Another client, who attested the other enclave of the same image."""
    mine = victims.ask(way)
    assert mine.receipt is not None
    for number in range(6):  # the parent chooses the enclave
        elsewhere = replace(victims, state=tmp_path / str(number))
        other = elsewhere.ask(way)
        assert other.receipt is not None
        if other.receipt.attestation_hash != mine.receipt.attestation_hash:
            break
    else:
        pytest.fail("no second enclave was ever chosen")
    theirs = elsewhere.overheard(way)
    got = victims.suffer(instead(lambda: theirs), way)
    assert isinstance(got.error, errors.AnswerInvalid)
    assert got.text == ""


# --- chunks ---


@pytest.mark.parametrize(("name", "way"), [*in_turn(CHUNKS, UNARY), *in_turn(CHUNKS, STREAMS)])
def test_chunks_changed(victims: Victims, name: str, way: str) -> None:
    """Defence: counters in every nonce, the AAD of the final chunk, AnswerOpener.finish."""
    got = victims.suffer(answers(lambda told: told.with_chunks(CHUNKS[name])), way)
    assert isinstance(got.error, errors.AnswerInvalid), got
    assert way in STREAMS or got.text == ""
    assert len({asked.body for asked in victims.gateway.inferences}) == 1


@pytest.mark.parametrize(("name", "way"), in_turn(MORE_CHUNKS, STREAMS))
def test_chunks_of_a_stream_changed(victims: Victims, name: str, way: str) -> None:
    got = victims.suffer(answers(lambda told: told.with_chunks(MORE_CHUNKS[name])), way)
    assert isinstance(got.error, errors.AnswerInvalid), got


@pytest.mark.parametrize(("name", "way"), [*in_turn(SPLICES, UNARY), *in_turn(SPLICES, STREAMS)])
def test_chunks_spliced_from_another_answer(victims: Victims, name: str, way: str) -> None:
    other = victims.overheard(way)
    theirs = cut(other.sealed)[1]
    got = victims.suffer(
        answers(lambda told: told.with_chunks(lambda mine: SPLICES[name](mine, theirs))), way
    )
    assert isinstance(got.error, errors.AnswerInvalid), got
    assert way in STREAMS or got.text == ""


@pytest.mark.parametrize("way", WAYS)
def test_answer_under_another_nonce(victims: Victims, way: str) -> None:
    got = victims.suffer(
        answers(lambda told: told.with_sealed(bytes(NONCE_BYTES) + told.sealed[NONCE_BYTES:])), way
    )
    assert isinstance(got.error, errors.AnswerInvalid)
    assert got.text == ""


# --- hints ---

HINTS: dict[str, dict[str, object]] = {
    "receipt id": {"audit_receipt_id": "aud_" + "0" * 16},
    "attestation hash": {"attestation_hash": "sha384:" + "0" * 96},
    "latency": {"latency_ms": 86_400_000},
    "verdict": {"pii_detected": True},
}


@pytest.mark.parametrize(("name", "way"), in_turn(HINTS, UNARY))
def test_forged_hint(victims: Victims, name: str, way: str) -> None:
    """Defence: messages.check_hints."""
    got = victims.suffer(answers(lambda told: told.changed(**HINTS[name])), way)
    assert isinstance(got.error, errors.AnswerInvalid)
    assert got.text == ""


@pytest.mark.parametrize("way", UNARY)
def test_forged_verdict_of_an_answer_with_personal_data(victims: Victims, way: str) -> None:
    """The dangerous direction: it was found, and the parent says that it was not."""
    got = victims.suffer(answers(lambda told: told.changed(pii_detected=False)), way, MAIL)
    assert isinstance(got.error, errors.AnswerInvalid)


def _without(name: str, told: Told) -> Told:
    return told.without(name)


@pytest.mark.parametrize("way", UNARY)
def test_hint_left_out_or_added(victims: Victims, way: str) -> None:
    for name in ("audit_receipt_id", "attestation_hash", "latency_ms", "pii_detected"):
        got = victims.suffer(answers(partial(_without, name)), way)
        assert isinstance(got.error, errors.AnswerInvalid)
    message = {"role": "assistant", "content": "forged"}
    choices = [{"index": 0, "message": message}]
    got = victims.suffer(answers(lambda told: told.changed(choices=choices)), way)
    assert isinstance(got.error, errors.AnswerInvalid)


# --- a parent that answers instead of the enclave ---

FORGED = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "claude-3.5-sonnet",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "forged"},
        }
    ],
}
FORGED_CHUNK = {
    **FORGED,
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "forged"}}],
}


def _in_place(told: Told, body: object) -> Told:
    """What an OpenAI server would say."""
    text = json.dumps(body).encode()
    return replace(told, body=b"data: " + text + b"\n\ndata: [DONE]\n\n" if told.streamed else text)


FORGERIES: dict[str, Callable[[Told], Told]] = {
    "an answer in plain": lambda told: _in_place(told, FORGED_CHUNK if told.streamed else FORGED),
    "an answer in plain, with names": lambda told: _in_place(
        told, {**FORGED, "attestation_hash": "sha384:" + "0" * 96, "audit_receipt_id": "aud_1"}
    ),
    "an error in plain with status 200": lambda told: _in_place(told, {"error": {"message": "x"}}),
    "random bytes for a seal": lambda told: told.with_sealed(os.urandom(len(told.sealed))),
    "the request sent back": lambda told: told.with_sealed(bytes(15) + told.sealed[15:]),
    "an empty seal": lambda told: told.with_sealed(b""),
    "an empty body": lambda told: replace(told, body=b""),
    "null": lambda told: replace(told, body=b"null"),
}


@pytest.mark.parametrize(
    ("name", "way"), [*in_turn(FORGERIES, UNARY), *in_turn(FORGERIES, STREAMS)]
)
def test_parent_that_answers_instead_of_the_enclave(victims: Victims, name: str, way: str) -> None:
    got = victims.suffer(answers(FORGERIES[name]), way)
    assert isinstance(got.error, errors.AnswerInvalid), got
    assert got.text == ""
    assert got.receipt is None


@pytest.mark.parametrize("way", STREAMS)
def test_forged_events_among_true_ones(victims: Victims, way: str) -> None:
    plain = b"data: " + json.dumps(FORGED_CHUNK).encode() + b"\n\n"
    for forged in (plain, b"data: [DONE]\n\n", b"id: 7\n\n", event(b"\x05forge")):
        for place in (0, 1, 2):
            got = victims.suffer(answers(partial(_among, forged, place)), way)
            assert isinstance(got.error, errors.AnswerInvalid), (forged, place, got)


def _among(forged: bytes, place: int, told: Told) -> Told:
    events = told.with_sealed(told.sealed).body.split(b"\n\n")[:-1]
    at = {0: 0, 1: len(events) // 2, 2: len(events)}[place]
    joined = [each + b"\n\n" for each in events]
    return replace(told, body=b"".join([*joined[:at], forged, *joined[at:]]))


# --- refusals ---


@pytest.mark.parametrize("way", WAYS)
def test_sealed_refusal_is_signed(victims: Victims, way: str) -> None:
    """What the next tests change."""
    got = victims.suffer(lambda asked, honest: honest(asked), way, MAIL, policy=HARD_FAIL)
    assert isinstance(got.error, errors.PIIHardFailError)
    assert got.error.receipt is not None


def _swapped_code(told: Told) -> Told:
    return told.changed(
        code="ERR_POLICY_INVALID",
        error={
            "message": "x",
            "type": ErrorCode.ERR_POLICY_INVALID.openai_type,
            "param": None,
            "code": "ERR_POLICY_INVALID",
        },
    )


def _as_answer(told: Told) -> Told:
    said = told.json
    names = {name: said[name] for name in ("response_ciphertext", "audit_receipt_id")}
    hints = {"attestation_hash": "sha384:" + "0" * 96, "latency_ms": 1, "pii_detected": True}
    return replace(told, status=200, body=json.dumps({**names, **hints}).encode())


REFUSALS: dict[str, Callable[[Told], Told]] = {
    "status 429": lambda told: replace(told, status=429),
    "status 500": lambda told: replace(told, status=500),
    "another code": _swapped_code,
    "another receipt": lambda told: told.changed(audit_receipt_id="aud_" + "0" * 16),
    "told as an answer": _as_answer,
    "seal changed": lambda told: told.with_sealed(flipped(told.sealed, 50)),
    "seal cut": lambda told: told.with_sealed(told.sealed[:45]),
}


@pytest.mark.parametrize(("name", "way"), in_turn(REFUSALS, UNARY))
def test_sealed_refusal_changed(victims: Victims, name: str, way: str) -> None:
    """Defence: exchange_answer, which compares what stands outside with what is inside."""
    got = victims.suffer(answers(REFUSALS[name]), way, MAIL, policy=HARD_FAIL)
    assert isinstance(got.error, errors.AnswerInvalid), got
    # A parent that guesses every hint right must not get through either.
    assert name != "told as an answer" or "refusal stands inside" in str(got.error)
    assert got.error.receipt is None


@pytest.mark.parametrize("way", UNARY)
def test_sealed_refusal_turned_into_an_outer_error(victims: Victims, way: str) -> None:
    """Nothing proves it, so nothing says that it is proven; and the client weakens nothing."""
    strip = answers(lambda told: told.without("response_ciphertext", "audit_receipt_id"))
    got = victims.suffer(strip, way, MAIL, policy=HARD_FAIL)
    assert isinstance(got.error, errors.PIIHardFailError)
    assert got.error.receipt is None
    assert len(victims.gateway.inferences) == 1
    half = answers(lambda told: told.without("audit_receipt_id"))
    got = victims.suffer(half, way, MAIL, policy=HARD_FAIL)
    assert isinstance(got.error, errors.LatensgateClientError)
    assert got.error.error_code is ErrorCode.ERR_MALFORMED


@pytest.mark.parametrize("way", WAYS)
def test_answer_turned_into_a_refusal(victims: Victims, way: str) -> None:
    """An outer error with the sealed answer in it, so that the client would ask, and pay, again."""
    for code in (ErrorCode.ERR_PII_HARD_FAIL, ErrorCode.ERR_UPSTREAM_THROTTLED):

        def turn(told: Told, code: ErrorCode = code) -> Told:
            made = refusal(code).changed(audit_receipt_id="aud_" + "0" * 16, response_ciphertext="")
            return made.with_sealed(told.sealed)

        got = victims.suffer(answers(turn), way)
        assert isinstance(got.error, errors.AnswerInvalid), got
        assert len(victims.gateway.inferences) == 1


@pytest.mark.parametrize("way", UNARY)
def test_refusal_of_another_request(victims: Victims, way: str) -> None:
    theirs = victims.overheard(way, MAIL, policy=HARD_FAIL)
    got = victims.suffer(instead(lambda: theirs), way)
    assert isinstance(got.error, errors.AnswerInvalid)
    assert got.error.receipt is None
