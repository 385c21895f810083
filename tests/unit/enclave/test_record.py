"""The private part of a receipt: hashes, counts and times, never content."""

from __future__ import annotations

import json

from enclave_doubles import Monotonic
from latensgate_enclave.chat_answer import Usage
from latensgate_enclave.record import Record
from latensgate_shared.receipts import salted_hash


def entropy(length: int, /) -> bytes:
    return bytes(range(length))


def new(monotonic: Monotonic) -> Record:
    return Record("aud_0011223344556677", "tnt_00112233", "request", "alias", entropy, monotonic)


def test_what_was_not_reached_stays_empty() -> None:
    record = new(Monotonic())
    assert record.private_part() == {
        "request_id": "request",
        "opened": None,
        "forwarded": None,
        "returned": None,
        "model_asked": "alias",
        "model_served": None,
        "upstream": None,
        "fields_dropped": [],
        "pii": {
            "policy_digest": None,
            "engine_digest": None,
            "settings": "none",
            "detected": False,
            "counts": {},
            "actions": {},
            "surrogates": {"made": 0, "restored": 0, "unknown": 0},
        },
        "usage": {},
        "timings_ms": {},
    }
    assert not record.pii_detected
    assert record.usage_object() is None


def test_steps_are_hashed_with_a_salt_and_the_content_is_not_kept() -> None:
    record = new(Monotonic())
    record.hash_content("opened", b"secret prompt")
    streamed = record.begin_hash()
    for piece in (b"secret ", b"answer"):
        streamed.update(piece)
    record.hash_streamed("returned", streamed)
    part = record.private_part()
    assert part["opened"] == salted_hash(entropy(32), b"secret prompt")
    assert part["returned"] == salted_hash(entropy(32), b"secret answer")
    assert "secret" not in json.dumps(part)


def test_counts_of_several_scans_are_added() -> None:
    record = new(Monotonic())
    record.add_counts({"EMAIL_ADDRESS": {"prompt": 1}})
    record.add_counts({"EMAIL_ADDRESS": {"prompt": 2, "answer": 1}, "IBAN_CODE": {"prompt": 1}})
    assert record.pii_detected
    part = record.private_part()
    assert part["pii"] == {
        "policy_digest": None,
        "engine_digest": None,
        "settings": "none",
        "detected": True,
        "surrogates": {"made": 0, "restored": 0, "unknown": 0},
        "actions": {},
        "counts": {"EMAIL_ADDRESS": {"prompt": 3, "answer": 1}, "IBAN_CODE": {"prompt": 1}},
    }


def test_times_are_rounded_milliseconds_of_the_stage() -> None:
    monotonic = Monotonic()
    record = new(monotonic)
    monotonic.advance(0.0104)
    record.lap("first")
    monotonic.advance(0.0016)
    record.lap("second")
    assert record.timings_ms == {"first": 10, "second": 2}
    assert record.latency_ms() == 12


def test_usage_is_told_as_openai_tells_it() -> None:
    record = new(Monotonic())
    record.usage = Usage(3, 4)
    usage = record.usage_object()
    assert usage is not None
    assert usage["total_tokens"] == 7
    assert record.private_part()["usage"] == usage
