"""tests/vectors: made by the independent generator, agreed with by the code under test."""

from __future__ import annotations

import ast
import filecmp
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from latensgate.conformance.case import Case
from latensgate.conformance.load import load_cases
from latensgate.conformance.operations import OPERATIONS, perform
from latensgate.conformance.runner import in_process, run
from latensgate.verify.errors import KINDS
from latensgate_shared.errors import ErrorCode
from paths import OWN_VECTORS, REPOSITORY

GENERATOR = REPOSITORY / "scripts" / "gen_vectors.py"
CODE_UNDER_TEST = {"latensgate", "latensgate_shared", "latensgate_enclave", "latensgate_parent"}
CASES = load_cases([OWN_VECTORS])
FOLDERS = sorted({case.folder for case in CASES})


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_case_of_the_folder_agrees(folder: str) -> None:
    outcomes = run([case for case in CASES if case.folder == folder], in_process)
    problems = [f"{o.case.case_id}: {o.problem} ({o.case.why})" for o in outcomes if o.problem]
    assert problems == []


def test_the_folders_are_those_that_the_readme_lists() -> None:
    readme = (OWN_VECTORS / "README.md").read_text()
    assert [folder for folder in FOLDERS if f"| `{folder}/`" not in readme] == []


def test_the_generator_gives_the_committed_bytes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(GENERATOR), "--out", str(tmp_path)],
        capture_output=True,
        check=True,
        text=True,
    )
    assert "all" in done.stdout
    made, committed = files_below(tmp_path), files_below(OWN_VECTORS)
    assert made == committed
    _, different, missing = filecmp.cmpfiles(tmp_path, OWN_VECTORS, made, shallow=False)
    assert (different, missing) == ([], [])


def imported_names(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_the_generator_imports_no_code_under_test() -> None:
    sources = [GENERATOR, *(GENERATOR.parent / "vectors").glob("*.py")]
    assert len(sources) > 10
    for source in sources:
        assert not imported_names(source.read_text()) & CODE_UNDER_TEST, source


def test_the_generator_loads_no_code_under_test() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gen_vectors; gen_vectors.folders();"
        "print(sorted(name for name in sys.modules if name.startswith('latensgate')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(GENERATOR.parent)],
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"


def test_all_vectors_together_are_small() -> None:
    sizes = [path.stat().st_size for path in OWN_VECTORS.rglob("*.json")]
    assert sum(sizes) < 1_200_000  # whole exchanges and documents judged by release lists are long


def test_each_case_says_why_and_where() -> None:
    for case in CASES:
        assert case.why.endswith("."), case.case_id
        assert case.source is not None
        assert case.case_id == f"{case.source.parent.name}/{case.source.stem}"


def test_expected_errors_are_of_the_closed_sets() -> None:
    known = {*KINDS, *(code.name for code in ErrorCode)}
    assert {case.expect.error for case in CASES} - {None} <= known


def test_almost_every_operation_has_a_case_of_ours() -> None:
    elsewhere = {"aci_report_data", "cose_sign1", "hpke_open", "xwing_decapsulate"}
    assert {case.operation for case in CASES} == set(OPERATIONS) - elsewhere


def test_every_row_of_the_refusal_table_of_requests_has_cases() -> None:
    kinds = Counter(case.expect.error for case in CASES if case.folder == "request")
    for kind in (
        "ERR_MALFORMED",
        "ERR_TOO_LARGE",
        "ERR_VERSION",
        "ERR_KEY_STALE",
        "ERR_OPEN_FAILED",
    ):
        assert kinds[kind] >= 3, kind


REFUSED = [case for case in CASES if case.expect.output is None]


@pytest.mark.parametrize("case", REFUSED[::7], ids=lambda case: case.case_id)
def test_a_refusal_has_the_same_kind_each_time(case: Case) -> None:
    first = perform(case.operation, case.input)
    assert first == perform(case.operation, case.input)
