from __future__ import annotations

import ctypes
import resource
import subprocess
import sys

import pytest

from latensgate_enclave import hardening

SCRIPT = """
import ctypes, os, resource
from latensgate_enclave.hardening import forbid_core_dumps
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_core_dumps_are_off_in_a_process_that_forbids_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(0, 0) 0"


def test_a_willing_kernel_is_asked_for_no_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    class Willing:
        def prctl(self, *arguments: int) -> int:
            asked.append(arguments)
            return 0

    def load(_name: None, *, use_errno: bool) -> Willing:
        assert use_errno
        return Willing()

    def limit(resource_number: int, limits: tuple[int, int]) -> None:
        asked.append((resource_number, *limits))

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(resource, "setrlimit", limit)
    hardening.forbid_core_dumps()
    assert asked == [(resource.RLIMIT_CORE, 0, 0), (4, 0, 0, 0, 0)]


def test_a_refusing_kernel_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def prctl(self, *_arguments: int) -> int:
            return -1

    def refuse(_name: None, *, use_errno: bool) -> Refusing:
        assert use_errno
        return Refusing()

    monkeypatch.setattr(ctypes, "CDLL", refuse)

    def accept(_resource: int, _limits: tuple[int, int]) -> None:
        return

    monkeypatch.setattr(resource, "setrlimit", accept)
    with pytest.raises(OSError, match="PR_SET_DUMPABLE"):
        hardening.forbid_core_dumps()


def test_wipe_overwrites_in_place() -> None:
    secret = bytearray(b"secret")
    hardening.wipe(secret)
    assert secret == bytes(6)
