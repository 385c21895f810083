"""Find cases below folders: our own files by their form, published ones by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate.conformance import published
from latensgate.conformance.case import CASE_MAX_BYTES, Case, CaseError, Expectation
from latensgate_shared.errors import LatensgateError
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from latensgate_shared.strict_json import JSONObject

_OWN_MARK: Final = b'"operation"'
_OWN_HEAD_BYTES: Final = 512
"""Ours have id and operation first, so that a stranger's file is not read to its end."""


def load_cases(folders: Iterable[Path]) -> list[Case]:
    """Collect the cases of every folder, in the order of file names.

    Raises:
        CaseError: A folder that is none or holds no case, or a file that is not what it seems.
    """
    cases: list[Case] = []
    for folder in folders:
        if not folder.is_dir():
            raise CaseError(f"{folder}: not a folder")
        found = _below(folder.resolve())
        if not found:
            raise CaseError(f"{folder}: no test vector in it that is known here")
        cases.extend(found)
    return cases


def _below(folder: Path) -> list[Case]:
    cases: list[Case] = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        loader = _loader(path)
        if loader is not None:
            try:
                cases.extend(loader(path))
            except (LatensgateError, KeyError, TypeError, ValueError, OSError) as error:
                raise CaseError(f"{path}: not as expected: {error}") from error
    return cases


def _loader(path: Path) -> Callable[[Path], list[Case]] | None:
    for name, loader in published.LOADERS.items():
        if path.as_posix().endswith("/" + name):
            return loader
    for part, loader in published.FOLDER_LOADERS.items():
        if path.parent.as_posix().endswith("/" + part) and path.suffix == ".json":
            return loader
    if path.suffix != ".json":
        return None
    with path.open("rb") as file:
        return load_own if _OWN_MARK in file.read(_OWN_HEAD_BYTES) else None


def load_own(path: Path) -> list[Case]:
    """Read one file of docs/spec/conformance.md."""
    members = parse_json_object(path.read_bytes(), max_bytes=CASE_MAX_BYTES)
    case_id, operation, given = (members[name] for name in ("id", "operation", "input"))
    if (
        not isinstance(case_id, str)
        or not isinstance(operation, str)
        or not isinstance(given, dict)
    ):
        raise CaseError(f"{path}: id, operation or input is of another kind")
    expect = members["expect"]
    if not isinstance(expect, dict):
        raise CaseError(f"{path}: 'expect' is not an object")
    folder = case_id.partition("/")[0]
    why = str(members.get("why", ""))
    return [Case(folder, case_id, operation, given, _expectation(path, expect), why, path)]


def _expectation(path: Path, expect: JSONObject) -> Expectation:
    output, error = expect.get("output"), expect.get("error")
    if expect.get("ok") is True and isinstance(output, dict):
        return Expectation(output=output)
    if expect.get("ok") is False and isinstance(error, str):
        return Expectation(error=error)
    raise CaseError(f"{path}: 'expect' has neither an output nor an error")
