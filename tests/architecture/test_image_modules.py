"""The enclave process loads what the committed list names, and nothing else."""

from __future__ import annotations

import difflib

import pytest

from loaded_modules import LIST, STANDARD, committed, loaded, sections, written

FOREIGN = (
    "boto3",
    "botocore",
    "cbor2",
    "click",
    "fastapi",
    "httpx",
    "latensgate",
    "latensgate_parent",
    "latensgate_sim",
    "moto",
    "numpy",
    "pydantic",
    "regex",
    "requests",
    "rich",
    "spacy",
    "starlette",
    "tldextract",
    "uvicorn",
)
"""Top names. Of `presidio_analyzer` the list names what docs/adr/0011 allows."""
NEVER_STANDARD = ("http", "pdb", "pickle", "pydoc", "sqlite3", "unittest", "urllib.request")
"""What no code of the image needs: web clients, debuggers, loaders of code."""
NEVER_LOADED = {
    "latensgate_enclave.ner.worker",  # runs in a process of its own, in the ner flavour alone
    "latensgate_enclave.pii.scanner",  # a protocol: for type checkers
}
"""Modules that the enclave process itself has no use for."""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return sections(loaded(tmp_path_factory.mktemp("modules")))


def test_the_enclave_loads_exactly_the_committed_modules(modules: dict[str, list[str]]) -> None:
    expected = committed()
    if STANDARD not in expected:  # another Python: its library differs, the rest must not
        expected = {name: expected[name] for name in ("own", "third party")}
        modules = {name: modules[name] for name in expected}
    change = difflib.unified_diff(
        written(expected).splitlines(),
        written(modules).splitlines(),
        str(LIST.name),
        "what the enclave process has loaded",
        lineterm="",
        n=1,
    )
    assert expected == modules, "\n" + "\n".join(change)


def test_nothing_foreign_is_loaded(modules: dict[str, list[str]]) -> None:
    everything = [name for names in modules.values() for name in names]
    assert [name for name in everything if name.partition(".")[0] in FOREIGN] == []
    standard = modules[STANDARD]
    assert [
        n for n in standard if n in NEVER_STANDARD or n.partition(".")[0] in NEVER_STANDARD
    ] == []


def test_the_committed_list_has_every_module_file_of_the_enclave() -> None:
    """A file that nothing loads does not belong into the image, or says here why."""
    own = set(committed()["own"])
    folder = LIST.parent
    files = {
        ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        for file in (folder / "latensgate_enclave").rglob("*.py")
    }
    assert files - own == NEVER_LOADED


def test_modules_are_sorted_by_where_they_come_from() -> None:
    parts = sections(["latensgate_enclave.new", "boto3.session", "http.client", "gc"])
    assert parts["own"] == ["latensgate_enclave.new"]
    assert parts["third party"] == ["boto3.session"]
    assert parts[STANDARD] == ["gc", "http.client"]
