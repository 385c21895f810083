"""`make crash`: kill -9 of parent and enclaves at random points under load, very often."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console

from crash_driver import run_rounds
from gateway_stack import gateway_stack
from latensgate_sim.dev_stack import StackOptions


def main() -> int:
    """Run; 0 when everything held."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    chosen = parser.parse_args()
    console = Console()
    console.print(f"{chosen.rounds} rounds, seed {chosen.seed}")
    options = StackOptions(model="scripted", port=0, requests_per_minute=1_000_000)
    with tempfile.TemporaryDirectory() as folder, gateway_stack(Path(folder), options) as stack:
        outcome = run_rounds(
            stack, chosen.rounds, chosen.seed, lambda n, who: console.print(f"{n + 1:4} {who}")
        )
    console.print(f"{len(outcome.receipts)} answers accepted, each with its receipt in the store")
    console.print(f"errors: {dict(outcome.errors)}")
    console.print(f"slowest call: {outcome.slowest_s:.1f} s")
    for fault in outcome.faults:
        console.print(f"[red]{fault}[/red]")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
