from __future__ import annotations

import pytest

from latensgate_enclave.pii import matching
from latensgate_enclave.pii.errors import PIIEngineError
from latensgate_enclave.pii.matching import Gate, Regex


def test_spans_of_the_whole_and_of_a_group() -> None:
    assert Regex("a+").spans(b"baab a") == [(1, 3), (5, 6)]
    assert Regex("k=(a+)", group=1).spans(b"k=aa k=a") == [(2, 4), (7, 8)]
    assert Regex("ab").starts(b"abc")
    assert not Regex("ab").starts(b"cab")


@pytest.mark.parametrize("pattern", ["(", r"(?<!a)b", r"(a)\1"])
def test_what_re2_does_not_take_is_refused_at_the_start(pattern: str) -> None:
    with pytest.raises(PIIEngineError):
        Regex(pattern)
    with pytest.raises(PIIEngineError):
        Gate(["a", pattern])


def test_the_gate_names_the_patterns_that_match() -> None:
    gate = Gate(["a", "b+", "^c"])
    assert gate.matching(b"bca") == [0, 1]
    assert gate.matching(b"") == []


@pytest.mark.parametrize("answer", [None, [], [2]])
def test_a_gate_that_gives_up_is_an_error_and_not_an_empty_finding(
    answer: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted:
        def Match(self, text: bytes) -> list[int] | None:  # noqa: N802 - the library's name
            del text
            return answer

    gate = Gate(["a"])
    monkeypatch.setattr(gate, "_set", Exhausted())
    with pytest.raises(PIIEngineError):
        gate.matching(b"a")


def test_the_memory_of_a_set_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "PII_REGEX_MAX_BYTES", 1 << 12)
    with pytest.raises(PIIEngineError):
        Gate([rf"[a-z]{{{size}}}" for size in range(50, 90)])
