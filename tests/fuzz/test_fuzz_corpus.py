"""The committed corpus stays free of findings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from targets import TARGETS  # noqa: E402  # the folder is not a package


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_corpus_raises_only_typed_errors(name: str) -> None:
    files = sorted((HERE / "corpus" / name).iterdir())
    assert files, f"the corpus of {name} is empty: run `make fuzz`"
    for file in files:
        TARGETS[name](file.read_bytes())
