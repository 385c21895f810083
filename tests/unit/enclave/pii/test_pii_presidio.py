from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import pytest

from latensgate_enclave.pii import presidio
from latensgate_enclave.pii.errors import PIIEngineError
from latensgate_enclave.pii.presidio import load_recognizers

TRACED = """
import sys
sockets, files, writes = [], [], []
watching = [False]

def watch(event, args):
    if event.startswith("socket."):
        sockets.append(event)
    if event == "open":
        if watching[0]:
            files.append(args[0])
        if isinstance(args[1], str) and set(args[1]) & set("wax+"):
            writes.append(args[0])
    if watching[0] and event in ("import", "subprocess.Popen", "os.listdir", "compile", "exec"):
        files.append(event)

sys.addaudithook(watch)
sys.dont_write_bytecode = True
from latensgate_enclave.pii import Tier1Engine
engine = Tier1Engine()
watching[0] = True
found = set()
for text in (
    "bob@corp.internal joe@example.co.uk j\\u00f6e@ex\\u00e4mple.com",
    "call +44 20 7946 0958 or (212) 555-0134, cell 06 12 34 56 78",
    "GB82 WEST 1234 5698 7654 32, 4111 1111 1111 1111, ssn 219-09-9998",
    "fe80::1 10.1.2.3 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa https://x.example/a",
    "password=hunter22 AKIA" + "Z9" * 8 + " 01:02:03:04:05:06 2026-01-02",
):
    found |= {finding.category.name for finding in engine.scan(text)}
watching[0] = False
assert len(found) >= 11, found
assert not sockets, sockets
assert not files, files
assert not writes, writes
heavy = {"spacy", "numpy", "regex", "tldextract", "requests", "pydantic"} & set(sys.modules)
assert not heavy, heavy
"""


def test_no_socket_and_no_file_while_scanning_and_nothing_heavy_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRACED], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_presidios_tables_and_validators_are_there() -> None:
    loaded = load_recognizers()
    assert loaded["CreditCardRecognizer"].validate_result("4111111111111111") is True
    assert loaded["CreditCardRecognizer"].validate_result("4111111111111112") is False
    assert loaded["IbanRecognizer"].validate_result("GB82WEST12345698765432") is True
    assert loaded["IbanRecognizer"].validate_result("GB82WEST12345698765433") is False
    assert loaded["IbanRecognizer"].validate_result("GB82123412345698765432") is False
    assert loaded["UsSsnRecognizer"].invalidate_result("000-12-3456") is True
    assert all(row.regex and row.score for row in loaded["UsSsnRecognizer"].patterns)


def test_modules_that_were_loaded_before_stand_in_their_place_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, expressions = ModuleType("presidio_analyzer"), ModuleType("regex")
    monkeypatch.setitem(sys.modules, "presidio_analyzer", real)
    monkeypatch.setitem(sys.modules, "regex", expressions)
    load_recognizers()
    assert sys.modules["presidio_analyzer"] is real
    assert sys.modules["regex"] is expressions


def test_nothing_is_left_under_the_name_of_the_real_regex(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "presidio_analyzer"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "regex", raising=False)
    monkeypatch.delitem(sys.modules, "tldextract", raising=False)
    load_recognizers()
    assert "regex" not in sys.modules
    assert "presidio_analyzer.pattern" in sys.modules  # so that a list of loaded modules is true


@pytest.mark.parametrize("spec", [None, ModuleSpec("presidio_analyzer", None)])
def test_an_absent_presidio_is_a_typed_error(
    spec: ModuleSpec | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(_name: str) -> ModuleSpec | None:
        return spec

    monkeypatch.setattr(PathFinder, "find_spec", find)
    with pytest.raises(PIIEngineError, match="ModuleNotFoundError"):
        load_recognizers()


def test_another_layout_of_presidio_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presidio, "_RECOGNIZERS", {"Absent": "generic.credit_card_recognizer"})
    with pytest.raises(PIIEngineError, match="AttributeError"):
        load_recognizers()
