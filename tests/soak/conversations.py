"""Hold generated conversations through a whole stack under a policy that pseudonymises.

    PYTHONPATH=tests python tests/soak/conversations.py --count 1000

Exits with 1 if the upstream heard a value of a caller, in any form that is searched for, or if a
caller did not read back its own words. Values are not printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.progress import Progress

from gateway_stack import gateway_stack
from latensgate import Latensgate
from latensgate_sim.dev_stack import StackOptions
from pii_conversations import POLICY, hold


def run(count: int, first: int, folder: Path) -> tuple[int, Counter[str]]:
    """Hold conversations; returns how many calls they made, and what went wrong."""
    options = StackOptions(model="scripted", port=0, enclaves=1, requests_per_minute=1_000_000)
    os.environ["LATENSGATE_STATE_DIR"] = str(folder / "state")
    calls, faults = 0, Counter[str]()
    with (
        gateway_stack(folder / "client", options) as stack,
        Latensgate(
            simulated=True, base_url=stack.url, api_key=stack.api_key, policy=POLICY
        ) as client,
        Progress() as progress,
    ):
        model = client.models.list().data[0].id
        seen = stack.dev.world.home.bedrock.seen
        for seed in progress.track(range(first, first + count), description="Conversations"):
            outcome = hold(seed, client, model, seen)
            calls += outcome.calls
            faults.update(outcome.faults)
    return calls, faults


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        calls, faults = run(given.count, given.first, Path(folder))
    taken = time.monotonic() - started
    lines = [f"{given.count:,} conversations, {calls:,} calls, {taken:.0f} s"]
    lines += [f"{times:,} x {fault}" for fault, times in faults.most_common()]
    lines.append("FAULTS" if faults else "nothing leaked, all came back")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
