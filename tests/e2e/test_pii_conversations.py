"""Under `pseudonymise` the upstream hears no value, and the caller reads back every one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway_stack import gateway_stack
from latensgate import Latensgate
from latensgate_sim.dev_stack import StackOptions
from pii_conversations import POLICY, hold, leaked

COUNT = 30


@pytest.mark.timeout(300)
def test_thirty_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make soak-pii` holds a thousand."""
    options = StackOptions(model="scripted", port=0, enclaves=1, requests_per_minute=100_000)
    with gateway_stack(tmp_path / "client", options) as stack:
        monkeypatch.setenv("LATENSGATE_CONFIG_DIR", str(stack.folder))
        monkeypatch.setenv("LATENSGATE_STATE_DIR", str(tmp_path / "state"))
        with Latensgate(
            simulated=True, base_url=stack.url, api_key=stack.api_key, policy=POLICY
        ) as client:
            model = client.models.list().data[0].id
            seen = stack.dev.world.home.bedrock.seen
            outcomes = [hold(seed, client, model, seen) for seed in range(COUNT)]
        with Latensgate(simulated=True, base_url=stack.url, api_key=stack.api_key) as client:
            assert hold(0, client, model, seen).faults  # without the policy it is seen
    assert [fault for outcome in outcomes for fault in outcome.faults] == []
    assert sum(outcome.calls for outcome in outcomes) > 3 * COUNT


@pytest.mark.parametrize(
    "body",
    [
        {"text": "ann.smith@example.com"},
        {"ann.smith@example.com": 1},
        {"text": "YW5uLnNtaXRoQGV4YW1wbGUuY29t"},
        {"text": "ANN SMITH @ example com"},
    ],
)
def test_the_search_finds_what_it_should(body: object) -> None:
    assert leaked([b"{}", json.dumps(body).encode()], ["ann.smith@example.com"])
    assert not leaked([b"{}", b'{"text": "[EMAIL_k7q2]"}'], ["ann.smith@example.com"])
