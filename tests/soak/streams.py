"""`make soak-streams`: 500 streams at once, paced as a model paces them, many left half-way.

The same load runs twice: what the first one leaves behind is the allocator's, what the second one
adds would be a leak.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console

from gateway_stack import gateway_stack
from latensgate_sim.dev_stack import StackOptions
from stream_load import load_twice

MOST_OPEN_SHARE: Final = 0.98
"""Of the wanted streams, at once: some are between their end and the next beginning."""


def main() -> int:
    """Run; 0 when everything held."""
    parser = argparse.ArgumentParser(prog="make soak-streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=500, help="at once")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--warm-s", type=float, default=45.0, help="of the load before, seconds")
    parser.add_argument("--pace-ms", type=float, default=200.0, help="between two tokens")
    chosen = parser.parse_args()
    console = Console()
    options = StackOptions(model="scripted", port=0)
    with tempfile.TemporaryDirectory() as folder, gateway_stack(Path(folder), options) as stack:
        stack.dev.world.home.bedrock.pace_s = chosen.pace_ms / 1000
        seen = load_twice(
            stack,
            streams=chosen.streams,
            seconds=chosen.seconds,
            warm_s=chosen.warm_s,
            console=console,
        )
    if seen.most_open < chosen.streams * MOST_OPEN_SHARE:
        seen.faults.append(f"{seen.most_open} streams open at most, {chosen.streams} expected")
    console.print(
        f"{len(seen.receipts)} streams seen complete, each with its receipt in the store; "
        f"{seen.left} left half-way, {seen.most_open} open at most, {seen.tokens} tokens"
    )
    console.print(f"errors: {dict(seen.errors)}")
    for fault in seen.faults:
        console.print(f"[red]{fault}[/red]")
    return 1 if seen.faults or not seen.receipts else 0


if __name__ == "__main__":
    sys.exit(main())
