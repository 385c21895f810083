"""Rules about the shape of the source that linters do not know."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import pytest

from paths import REPOSITORY

PACKAGES = {
    "shared": REPOSITORY / "shared/latensgate_shared",
    "enclave": REPOSITORY / "enclave/latensgate_enclave",
    "verify": REPOSITORY / "sdk/python/latensgate/verify",
    "sdk": REPOSITORY / "sdk/python/latensgate",
    "parent": REPOSITORY / "parent/latensgate_parent",
    "sim": REPOSITORY / "sim/latensgate_sim",
    "eif": REPOSITORY / "eif/latensgate_eif",
}
TRUSTED = ("shared", "enclave", "verify")
FILE_MAX_LINES = 400
SEAM_MAX_LINES = 100
FUNCTION_MAX_LINES = 40  # without its docstring; h11's longest is 58, python-tuf's 64


def sources(*names: str) -> list[Path]:
    files = [file for name in names for file in sorted(PACKAGES[name].rglob("*.py"))]
    assert files
    return files


def imported_modules(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    assert function.end_lineno is not None
    if is_docstring:
        assert first.end_lineno is not None
        return function.end_lineno - first.end_lineno
    return function.end_lineno - first.lineno + 1


def test_files_stay_small() -> None:
    too_long = {
        str(file.relative_to(REPOSITORY)): count
        for file in sources(*PACKAGES)
        if (count := len(file.read_text().splitlines())) > FILE_MAX_LINES
    }
    assert not too_long


def test_the_seam_stays_one_short_file() -> None:
    """Everything that the enclave is given from outside stands in it: it is read as a whole."""
    assert len((PACKAGES["enclave"] / "environment.py").read_text().splitlines()) < SEAM_MAX_LINES


def test_functions_stay_small() -> None:
    too_long = [
        f"{file.relative_to(REPOSITORY)}:{node.lineno} {node.name} {body_lines(node)}"
        for file in sources(*TRUSTED)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and body_lines(node) > FUNCTION_MAX_LINES
    ]
    assert not too_long


@pytest.mark.parametrize("name", ["shared", "verify"])
def test_rules_have_no_io(name: str) -> None:
    forbidden = {
        "socket",
        "ssl",
        "asyncio",
        "subprocess",
        "os",
        "threading",
        "http",
        "urllib",
        "time",
    }
    offenders = {
        str(file.relative_to(REPOSITORY)): sorted(used)
        for file in sources(name)
        if (used := {module.split(".")[0] for module in imported_modules(file)} & forbidden)
    }
    assert not offenders


def test_trusted_code_never_asks_whether_it_is_under_test() -> None:
    words = ("is_test", "under_test", "PYTEST", "unittest", "mock", "fake")
    offenders = [
        f"{file.relative_to(REPOSITORY)}: {word}"
        for file in sources(*TRUSTED)
        for word in words
        if word in file.read_text()
    ]
    assert not offenders


def test_repository_names_no_machine_and_no_registry() -> None:
    hosts = ("pypi" + ".org", "pythonhosted" + ".", "registry" + ".npmjs", "crates" + ".io")
    places = ("/root" + "/.", "/work" + "/main", "/work" + "/shared")
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # git from PATH, as every developer has it
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout.decode()
    offenders = [
        f"{name}: {needle}"
        for name in listed.split("\0")
        if name and (REPOSITORY / name).is_file()
        for needle in (*hosts, *places)
        if needle.encode() in (REPOSITORY / name).read_bytes()
    ]
    assert not offenders
