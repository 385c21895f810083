"""A short run of `make soak-streams`: the same load and the same questions, much less of it."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from gateway_stack import gateway_stack
from latensgate_sim.dev_stack import StackOptions
from stream_load import load_twice


def test_streams_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    quiet = Console(file=io.StringIO())
    with gateway_stack(tmp_path, StackOptions(model="scripted", port=0, enclaves=1)) as stack:
        stack.dev.world.home.bedrock.pace_s = 0.005
        seen = load_twice(stack, streams=20, seconds=4, warm_s=2, console=quiet)
    assert seen.faults == []
    assert not seen.errors
    assert seen.receipts
    assert seen.left
