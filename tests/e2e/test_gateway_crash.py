"""Some rounds of `make crash`: every accepted answer has its receipt, nothing runs twice."""

from pathlib import Path

import pytest

from crash_driver import run_rounds
from gateway_stack import gateway_stack
from latensgate_sim.dev_stack import StackOptions

ROUNDS = 4


@pytest.mark.timeout(300)
def test_kill_nine_of_gateway_and_enclaves_loses_no_receipt(tmp_path: Path) -> None:
    options = StackOptions(model="scripted", port=0, requests_per_minute=1_000_000)
    victims: list[str] = []
    with gateway_stack(tmp_path, options) as stack:
        outcome = run_rounds(stack, ROUNDS, 7, lambda _number, who: victims.append(who))
    assert outcome.faults == []
    assert len(outcome.receipts) >= ROUNDS
    assert {"parent", "enclave"} <= set("+".join(victims).split("+"))
