"""Show what pip is doing in one line that moves on: ``pip install … | pip_progress.py TITLE``.

pip's own choice is either a screenful or silence. Only the standard library is there yet.
"""

from __future__ import annotations

import re
import sys
import time

_STEP = re.compile(r"^\s*(Collecting|Downloading|Using cached|Building|Installing)\s+(\S+)(.*)$")
_WIDTH_CHARS = 78
_QUIET_S = 15.0
"""Without a terminal one line in so many seconds says that it still goes on."""


def main(title: str) -> None:
    """Read pip's lines from standard input until they end."""
    began_s = said_s = time.monotonic()
    count = 0
    for line in sys.stdin:
        step = _STEP.match(line)
        if step is None:
            if line.startswith(("ERROR", "WARNING")):
                print(f"\n{line.rstrip()}", flush=True)
            continue
        count += step[1] == "Collecting"
        name = step[2].rsplit("/", 1)[-1]
        text = f"  {title}: {step[1].lower()} {name}"[:_WIDTH_CHARS]
        if sys.stdout.isatty():
            print(f"\r{text:<{_WIDTH_CHARS}}", end="", flush=True)
        elif time.monotonic() - said_s > _QUIET_S:
            said_s = time.monotonic()
            print(text, flush=True)
    done = f"  {title}: {count} packages in {time.monotonic() - began_s:.0f} s"
    end = "\r" if sys.stdout.isatty() else ""
    print(f"{end}{done:<{_WIDTH_CHARS}}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "packages")
