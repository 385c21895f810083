"""A process like that of the model, whose finder does what the text tells it: for failure tests.

python tests/ner_fake.py SLOTS
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time

from latensgate_enclave.ner.wire import Entity
from latensgate_enclave.ner.worker import parse_slots, run

_NAME = re.compile(r"\b(?:Ann|Bob|Ada) [A-Z][a-z]+")
_MIB = 1024 * 1024
_kept: list[bytearray] = []


def find(text: str) -> list[Entity]:
    """Find three people; fail as told."""
    if "HANG" in text:
        time.sleep(600)
    if "SLOW" in text:
        time.sleep(0.05)
    if "DIE" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if "BOOM" in text:
        raise ValueError(text)
    if "EXHAUST" in text:
        while True:
            _kept.append(bytearray(16 * _MIB))
    if "GROW" in text:
        _kept.append(bytearray(100 * _MIB))
        _kept[-1][::4_096] = b"x" * (100 * _MIB // 4_096)  # touched, and so resident
    if "STRAY" in text:
        return [Entity(0, len(text) + 1, "PERSON")]
    return [Entity(m.start(), m.end(), "PERSON") for m in _NAME.finditer(text)]


def command() -> tuple[str, ...]:
    """Return the command that starts it."""
    return sys.executable, __file__


if __name__ == "__main__":
    sys.exit(run(lambda: find, parse_slots(sys.argv[1]), 96 * _MIB))
