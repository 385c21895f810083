"""The table of ``mutants.py`` fits the code; the long run, which proves more, starts by hand."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import cast

import pytest

FOLDER = Path(__file__).parent
TABLE = tomllib.loads((FOLDER / "mutants.toml").read_text())["mutant"]


def source(file: str) -> Path:
    """Find a file as in ``package/folder/name`` where its package is installed."""
    package, _, rest = file.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / rest


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry["name"])
def test_defence_stands_where_the_table_says(entry: dict[str, object]) -> None:
    """A failure here means that the code moved: point the entry at the defence's new place."""
    for edit in cast("list[dict[str, str]]", entry["edit"]):
        assert edit["old"] in source(edit["file"]).read_text(), edit["file"]
        assert edit["old"] != edit["new"]
    file, _, test = str(entry["test"]).partition("::")
    assert f"def {test}(" in (FOLDER / file).read_text()


def test_names_are_unique() -> None:
    names = [entry["name"] for entry in TABLE]
    assert len(set(names)) == len(names) > 80
