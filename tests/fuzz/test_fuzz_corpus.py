"""The committed corpus stays free of findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz_targets import TARGETS

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_corpus_raises_only_typed_errors(name: str) -> None:
    files = sorted((HERE / "corpus" / name).iterdir())
    assert files, f"the corpus of {name} is empty: run `make fuzz`"
    for file in files:
        TARGETS[name].run(file.read_bytes())
