"""Replay the committed corpus of one target: `replay.py NAME`. Used for the coverage figures."""

from __future__ import annotations

import sys
from pathlib import Path

from targets import TARGETS

if __name__ == "__main__":
    name = sys.argv[1]
    for file in sorted((Path(__file__).parent / "corpus" / name).iterdir()):
        TARGETS[name](file.read_bytes())
