"""A gateway that does not start says why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from latensgate_sim.gateway import GatewayNotStartedError, GatewayPlan, GatewayProcess


def test_its_own_events_are_shown_and_not_those_of_waiting_clients(tmp_path: Path) -> None:
    log = tmp_path / "parent.log"
    request = '{"time":"2026-01-01T00:00:00Z","event":"request","status":429}\n'
    log.write_text('{"event":"gate_failed","code":"ERR_KMS_DENIED"}\n' + request * 100)
    plan = cast("GatewayPlan", SimpleNamespace(url="http://127.0.0.1:9"))
    process = GatewayProcess(plan, SimpleNamespace(poll=lambda: None), log)  # type: ignore[arg-type]  # of a process that lives
    with pytest.raises(GatewayNotStartedError, match="ERR_KMS_DENIED") as told:
        process.wait_ready(0.0)
    assert "429" not in str(told.value)
