"""SIGTERM while people wait: what runs ends, what comes is refused, and every receipt is kept."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from gateway_stack import GatewayStack, gateway_stack
from latensgate import Latensgate
from latensgate_sim.dev_stack import StackOptions
from latensgate_sim.faults import Fault, FaultKind

MODEL_S = 6.0


class Impatient(httpx.HTTPTransport):
    """Sends what is sealed without its idempotency key, and leaves before the answer."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/api/inference"):
            del request.headers["Idempotency-Key"]
            request.extensions["timeout"] = {"read": MODEL_S / 2}
        return super().handle_request(request)


@contextmanager
def client_of(
    stack: GatewayStack, transport: httpx.HTTPTransport | None = None
) -> Generator[Latensgate]:
    with (
        httpx.Client(transport=transport or httpx.HTTPTransport(), trust_env=False) as carrier,
        Latensgate(
            base_url=stack.url, simulated=True, max_retries=0, timeout=30.0, http_client=carrier
        ) as client,
    ):
        yield client


def ask(stack: GatewayStack, text: str) -> str:
    with client_of(stack) as client:
        answer = client.chat.completions.create(
            model="claude-3.5-sonnet", messages=[{"role": "user", "content": text}]
        )
        return str(answer.choices[0].message.content)


def ask_in_pieces(stack: GatewayStack, text: str) -> str:
    with client_of(stack) as client:
        pieces = client.chat.completions.create(
            model="claude-3.5-sonnet", messages=[{"role": "user", "content": text}], stream=True
        )
        return "".join(each.choices[0].delta.content or "" for each in pieces if each.choices)


def leave_early(stack: GatewayStack) -> None:
    with client_of(stack, Impatient()) as client, pytest.raises(openai.APIError):
        client.chat.completions.create(
            model="claude-3.5-sonnet", messages=[{"role": "user", "content": "left"}]
        )


def wait_under_way(stack: GatewayStack, count: int) -> None:
    deadline = time.monotonic() + 30
    wanted = f"latensgate_requests_in_flight {count}.0"
    while wanted not in httpx.get(f"{stack.dev.plan.operator_url}/metrics", trust_env=False).text:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def outcomes(stack: GatewayStack) -> list[str]:
    return sorted(str(row[0]) for row in stack.rows("select outcome from receipts"))


def events(stack: GatewayStack) -> list[dict[str, object]]:
    assert stack.dev.gateway is not None
    log = stack.dev.gateway.log
    assert log is not None
    lines = log.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.timeout(180)
def test_sigterm_lets_what_runs_end(tmp_path: Path) -> None:
    options = StackOptions(model="scripted", port=0, requests_per_minute=1_000)
    with gateway_stack(tmp_path, options) as stack, ThreadPoolExecutor(8) as threads:
        assert ask(stack, "first") == "You said: first"
        before = outcomes(stack)
        stack.dev.world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=MODEL_S, times=None))
        waiting: list[Future[str]] = [
            *(threads.submit(ask, stack, f"unary {number}") for number in range(3)),
            *(threads.submit(ask_in_pieces, stack, f"stream {number}") for number in range(3)),
        ]
        left = threads.submit(leave_early, stack)
        wait_under_way(stack, len(waiting) + 1)
        assert stack.dev.gateway is not None
        process = stack.dev.gateway.process
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.2)
        refused = httpx.post(f"{stack.url}/api/inference", content=b"{}", trust_env=False)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert httpx.get(f"{stack.url}/api/health", trust_env=False).status_code == 503
        said = sorted(each.result(30) for each in waiting)
        assert said == sorted(
            f"You said: {kind} {number}" for kind in ("unary", "stream") for number in range(3)
        )
        left.result(30)
        assert process.wait(30) == 0
        # the one that was left has its receipt too, though nobody waited for it any more
        assert outcomes(stack) == sorted([*before, *["answered"] * 6, "cancelled"])
        assert stack.rows("select count(*) from idempotency_records where state = 'running'") == [
            (0,)
        ]
        drained = next(each for each in events(stack) if each["event"] == "drained")
        assert (drained["under_way"], drained["written"]) == (0, 1)
