"""pii-leak-benchmark (PyPI): what reaches the upstream, what comes back, whatever the pieces.

Its own upstream stands behind an upstream of kind ``openai``; it asks through the local proxy. Two
programs of it: ``ci`` looks at what the upstream got and what was restored, version 2 puts
values into streamed answers in pieces: cut in the middle, or, with
``LATENSGATE_LEAK_ORACLE=exhaustive-2-part``, at every place (`make leak-benchmark`).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from gateway_stack import gateway_stack
from latensgate_sim.dev_stack import StackOptions
from outside_stack import OPENAI_ROW, VENV, needed
from proxy_process import proxy_process

SUITE = VENV / "leak_suite"
HOW = "make outside"
MODEL = "leak-probe"
TO_MODEL = {"action": "pseudonymise"}
POLICY = {
    "rules": {
        "*": {
            "prompt": TO_MODEL,
            "tool_arguments": TO_MODEL,
            "tool_results": TO_MODEL,
            "answer": {"action": "mask"},
        }
    }
}
ORACLE = os.environ.get("LATENSGATE_LEAK_ORACLE", "midpoint")
SEED = os.environ.get("LATENSGATE_LEAK_SEED")
"""Of a corpus that was judged before; without it every run has one of its own."""
REFUSED = "unrecognised-key"
"""Cases with a member that OpenAI's requests do not have: refused by name, never dropped."""
TIMEOUT_S = 1_500


@dataclass(frozen=True)
class Judged:
    """The local proxy, and where its model has to be.

    Attributes:
        base_url: Of the proxy.
        upstream_port: Where the gateway looks for its upstream.
    """

    base_url: str
    upstream_port: int


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Generator[Judged]:
    needed(SUITE / "pii_leak_benchmark", HOW)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = StackOptions(
        model="scripted",
        port=0,
        enclaves=1,
        openai_aliases={MODEL: "upstream-model"},
        openai_capabilities=OPENAI_ROW,
        openai_forward=f"http://127.0.0.1:{port}",
        requests_per_minute=100_000,
    )
    folder = tmp_path_factory.mktemp("leaks")
    policy = folder / "policy.json"
    policy.write_text(json.dumps(POLICY))
    with (
        gateway_stack(folder, options) as stack,
        proxy_process(stack.environment, "--policy", policy) as running,
    ):
        yield Judged(running.base_url, port)


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one of its programs."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COV_")},
        "PYTHONPATH": str(SUITE),
        "CONFORMANCE_TARGET_API_KEY": "any",
        "V2_CLIENT_READ_TIMEOUT": "60",
    }
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def read(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(path.read_text()))


@pytest.mark.timeout(TIMEOUT_S)
def test_ci_is_clean(judged: Judged, tmp_path: Path) -> None:
    done = run(
        "pii_leak_benchmark.cli",
        "ci",
        f"--target-base-url={judged.base_url}",
        f"--capture-port={judged.upstream_port}",
        f"--target-model={MODEL}",
        f"--out={tmp_path / 'ci'}",
        f"--seed={secrets.token_hex(8)}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = read(tmp_path / "ci" / "current.json")
    assert told["verdict"] == "CLEAN"
    assert set(told["entities"].values()) == {"contained"}
    assert len(told["entities"]) == 6
    assert set(told["required_checks"].values()) == {True}


def ask_version_2(judged: Judged, folder: Path, label: str, url: str, seed: str) -> None:
    run(
        "pii_leak_benchmark.v2_cli",
        f"--out={folder}",
        f"--only={label}",
        f"--gateway-url={url}",
        f"--upstream-port={judged.upstream_port}",
        f"--model={MODEL}",
        f"--seed={seed}",
        f"--oracle={ORACLE}",
        "--partial-emission",
    )


@pytest.mark.timeout(TIMEOUT_S)
def test_version_2_passes(judged: Judged, tmp_path: Path) -> None:
    url, seed = f"{judged.base_url}/chat/completions", SEED or secrets.token_hex(8)
    ask_version_2(judged, tmp_path, "ours", url, seed)
    told = read(tmp_path / "ours.json")
    checks, metrics = told["checks"], told["metrics"]
    assert (told["outcome"], told["passed"]) == ("pass", True), checks
    assert metrics["leak_rate"] == {"single_chunk": 0.0, "adversarial": 0.0, "overall": 0.0}
    assert metrics["fidelity_rate"] == 1.0
    assert checks["configured_upstream_boundary"]["leaked_entity_types"] == []

    # What it could not judge are the refused cases, all of them and no others.
    cases = checks["fragmentation_safety"]["coalescing_per_case"]
    assert [case["stream_failure"] for case in cases] == [
        case["case"]["request_site"] == REFUSED for case in cases
    ]
    assert metrics["cases_applicable"] == sum(not case["stream_failure"] for case in cases) == 24

    partial = read(tmp_path / "ours.partial-emission.json")["metrics"]
    found = (partial["cases_applicable"], partial["cases_partial_emission"])
    assert found == (24, 0), f"LATENSGATE_LEAK_SEED={seed}"
    assert partial["partitions_partial"] == 0, f"LATENSGATE_LEAK_SEED={seed}"


def test_a_member_that_is_not_openais_is_refused_by_name(judged: Judged) -> None:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hello"}],
        "session_note": "Please review: ann.smith@example.com",
    }
    refused = httpx.post(f"{judged.base_url}/chat/completions", json=body, trust_env=False)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "session_note")


def test_a_way_without_a_gateway_leaks(judged: Judged, tmp_path: Path) -> None:
    """The judge can say no: without us its own upstream hears every value."""
    done = run(
        "pii_leak_benchmark.cli",
        "ci",
        "--target-base-url=capture://self",
        f"--capture-port={judged.upstream_port}",
        f"--out={tmp_path / 'ci'}",
    )
    assert done.returncode == 1
    assert read(tmp_path / "ci" / "current.json")["verdict"] == "LEAK"
