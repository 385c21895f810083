"""`make soak`: very many calls against one enclave process; its memory must stay flat.

What is allowed to grow is said, and everything else must not. Request ids are remembered for ten
minutes (twice `REQUEST_WINDOW_S`), so memory grows by them first and is flat after that.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from latensgate_shared.limits import REQUEST_WINDOW_S
from soak_report import Progress, Report, run_soak


def main() -> int:
    """Run; 0 when nothing leaked."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="calls, all kinds together")
    parser.add_argument("--lanes", type=int, default=6, help="connections that call at once")
    parser.add_argument("--key-life-s", type=int, default=600, help="rotate keys so often")
    parser.add_argument(
        "--window-s", type=int, default=REQUEST_WINDOW_S, help="request ids are kept twice so long"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Progress(chosen.count) as progress:
        report: Report = asyncio.run(
            run_soak(
                Path(folder),
                count=chosen.count,
                lanes=chosen.lanes,
                limits={
                    "REQUEST_WINDOW_S": chosen.window_s,
                    "KEY_ROTATION_S": chosen.key_life_s,
                    "CLOCK_REFRESH_S": min(60, max(1, chosen.key_life_s // 10)),  # rotates, too
                    "MANIFEST_LIFETIME_S": chosen.key_life_s * 5 // 4,
                },
                progress=progress,
            )
        )
    print(report.text())  # noqa: T201  # a command
    return 1 if report.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
