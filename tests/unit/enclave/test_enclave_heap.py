"""What was made at the start is left out of later collections."""

import gc
import subprocess
import sys
from functools import partial

import pytest

from latensgate_enclave.heap import settle_heap

PROGRAM = """
import gc
from latensgate_enclave.heap import settle_heap
before = gc.get_freeze_count()
settle_heap()
assert gc.get_freeze_count() > before + 1000
assert gc.get_threshold()[0] == 10_000
print("settled")
"""


def test_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-c", PROGRAM]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "settled\n"


def noted(done: list[str], name: str, *_numbers: int) -> None:
    done.append(name)


def test_collects_before_it_freezes(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("collect", "freeze", "set_threshold"):
        monkeypatch.setattr(gc, name, partial(noted, done, name))
    settle_heap()
    assert done == ["collect", "freeze", "set_threshold"]
