"""Tier 2 with the real model. Needs requirements/ner.lock: LATENSGATE_NER=1 pytest tests/ner."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from latensgate_enclave.ner.model import MODEL_DIGEST, ModelError, load_finder
from latensgate_enclave.ner.nest import worker_command
from latensgate_enclave.ner.pool import NamesPool
from latensgate_enclave.pii import Category, Tier1Engine
from latensgate_enclave.pii.findings import ALL_CATEGORIES
from latensgate_enclave.pii.two_tier import TwoTierEngine

COMMAND: Sequence[str] = worker_command() or ()
if os.environ.get("LATENSGATE_NER") != "1":
    pytest.skip("set LATENSGATE_NER=1 for tests with the model", allow_module_level=True)
if not COMMAND:
    pytest.fail("LATENSGATE_NER=1, and requirements/ner.lock is not installed")

TEXT = "Angela Merkel met Barack Obama in Berlin on Monday; her ssn is 219099998."


@pytest.fixture(scope="module")
def engine() -> Iterator[TwoTierEngine]:
    names = NamesPool(COMMAND, 1, time.monotonic_ns, piece_deadline_ms=30_000)
    yield TwoTierEngine(Tier1Engine(), names, MODEL_DIGEST)
    names.close()


def test_the_pinned_model_finds_names_and_context_still_boosts(engine: TwoTierEngine) -> None:
    found = {
        (each.category, TEXT[each.start : each.end])
        for each in engine.scan(TEXT, categories=ALL_CATEGORIES)
    }
    assert {
        (Category.PERSON, "Angela Merkel"),
        (Category.PERSON, "Barack Obama"),
        (Category.LOCATION, "Berlin"),
        (Category.US_SSN, "219099998"),  # its word before it alone makes it one
    } <= found


def test_names_behind_invisible_characters(engine: TwoTierEngine) -> None:
    hidden = TEXT.replace("Merkel", "Mer\u200bkel")
    found = engine.scan(hidden, categories=frozenset({Category.PERSON}))
    assert hidden[found[0].start : found[0].end] == "Angela Mer\u200bkel"


def test_a_changed_model_is_not_loaded(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(COMMAND[-2], copy)
    weights = copy / "ner" / "model"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError):
        load_finder(copy, MODEL_DIGEST)


_ASK = """
import sys, time
from latensgate_enclave.ner.nest import worker_command
from latensgate_enclave.ner.pool import NamesPool
names = NamesPool(worker_command(), 1, time.monotonic_ns, piece_deadline_ms=60_000)
assert names.find("Angela Merkel was in Berlin.")
names.close()
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_process_opens_a_socket_or_writes_a_file(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=socket,connect,openat", "-o", str(trace)]
    python = [COMMAND[0], "-I", "-B", "-c", _ASK]
    subprocess.run([*command, *python], check=True, capture_output=True)
    lines = trace.read_text().splitlines()
    assert lines
    assert not [line for line in lines if "socket(" in line or "connect(" in line]
    written = [line for line in lines if "O_WRONLY" in line or "O_RDWR" in line]
    assert all('"/dev/null"' in line for line in written), written
