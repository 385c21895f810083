from __future__ import annotations

import gc
import traceback

import pytest

from latensgate_enclave.pii import (
    Category,
    EngineSettings,
    PIIEngineError,
    PIITooLargeError,
    Tier1Engine,
)
from latensgate_enclave.pii import (
    engine as engine_module,
)
from latensgate_shared.errors import ErrorCode

SECRET = "ann.unlikely@example.com"  # noqa: S105 - not a password


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


def test_offsets_are_those_of_the_original_text(engine: Tier1Engine) -> None:
    text = "\U0001f600\u200b 中文 \uff14\uff11\uff11\uff11\u200b111111111111 é"
    (finding,) = engine.scan(text, categories=frozenset({Category.CREDIT_CARD}))
    assert text[finding.start : finding.end] == "\uff14\uff11\uff11\uff11\u200b111111111111"
    assert finding.score == 1.0
    assert finding.recognizer == "own.card"


def test_only_what_is_asked_for_is_reported(engine: Tier1Engine) -> None:
    text = f"{SECRET} 10.1.2.3"
    assert [f.category for f in engine.scan(text)] == [Category.EMAIL_ADDRESS, Category.IP_ADDRESS]
    only = engine.scan(text, categories=frozenset({Category.IP_ADDRESS}))
    assert [f.category for f in only] == [Category.IP_ADDRESS]
    built = Tier1Engine(EngineSettings(categories=frozenset({Category.IP_ADDRESS})))
    assert built.scan(text) == only
    assert built.digest != engine.digest


def test_the_digest_is_stable(engine: Tier1Engine) -> None:
    assert engine.digest == Tier1Engine().digest
    assert len(engine.digest) == len("sha384:") + 96


def test_a_long_text_is_refused_and_not_cut(
    engine: Tier1Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PII_TEXT_MAX_CHARS", 10)
    assert engine.scan("x" * 10) == ()
    with pytest.raises(PIITooLargeError) as caught:
        engine.scan("x" * 11)
    assert caught.value.code is ErrorCode.ERR_TOO_LARGE


def test_too_many_findings_are_refused(
    engine: Tier1Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PII_FINDINGS_MAX_COUNT", 2)
    with pytest.raises(PIITooLargeError):
        engine.scan("10.1.2.3 10.1.2.4 10.1.2.5")


def test_any_fault_denies_and_carries_no_content(
    engine: Tier1Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(text: str) -> None:
        raise ValueError(text)

    monkeypatch.setattr(engine_module, "view_of", fault)
    with pytest.raises(PIIEngineError) as caught:
        engine.scan(SECRET)
    error = caught.value
    assert error.code is ErrorCode.ERR_PII_ENGINE
    assert error.__cause__ is None
    assert error.__context__ is None
    assert SECRET not in "".join(traceback.format_exception(error))
    assert not any(isinstance(o, ValueError) and o.args == (SECRET,) for o in gc.get_objects())


def test_context_lifts_but_makes_nothing_certain(engine: Tier1Engine) -> None:
    (finding,) = engine.scan("phone +1 212 555 0134")
    assert finding.score == 0.99
    (weak,) = engine.scan("ssn 219099998", categories=frozenset({Category.US_SSN}))
    assert weak.score == 0.4
