"""The gateways that are compared, each running, before one fake upstream.

Every one runs as its own documentation starts it: one worker, no database, no plug-ins, and reaches
the upstream over TLS that it verifies against the simulator's root.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from gateway_parts import SealingClient, encoded, run_load
from load_client import Plan
from rivals_stack import Upstream
from rivals_upstream import FIRST_TOKEN, PACED, TOKENS, token

from gateway_stack import GatewayStack
from latensgate_enclave import VERSION
from latensgate_shared.messages import parse_stream_chunk
from latensgate_shared.sealed import AnswerOpener
from paths import REPOSITORY

FAST: Final = "fast"
VENV: Final = REPOSITORY / ".venv"
NODE: Final = VENV / "rivals_node" / "node_modules" / "@portkey-ai" / "gateway"
PROMPT: Final = (
    "The short answer is seldom right, and the long one is seldom read to its end. " * 14
)[:1024]
"""1 KB of prose without personal data."""
_START_TIMEOUT_S: Final = 120.0
_KEY: Final = f"sk-{secrets.token_hex(32)}"
"""LiteLLM refuses to start without one, and checks it, as Latensgate checks its own."""


@dataclass(frozen=True)
class Load:
    """What a client sends.

    Attributes:
        model: As the fake upstream knows it.
        more: Parameters besides model and messages.
    """

    model: str
    count: int
    at_once: int = 1
    more: Mapping[str, object] | None = None

    @property
    def parameters(self) -> dict[str, object]:
        return dict(self.more or {})


@dataclass(frozen=True)
class Gateway:
    """One that is measured, or the way without any.

    Attributes:
        pids: All its processes.
        plan: Makes the plan of a client.
        sealed: Whether its answers cannot be read on the way.
    """

    name: str
    version: str
    pids: list[int]
    plan: Callable[[Load], Plan]
    sealed: bool = False

    def rss_mib(self) -> float:
        """Return resident memory of all its processes now."""
        lines = [
            line
            for pid in self.pids
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmRSS:")
        ]
        return sum(int(line.split()[1]) for line in lines) / 1024


class OpeningClient(SealingClient):
    """A client of ours that can also read what it gets; not used while anything is timed."""

    def opened(self) -> bytes:
        """Ask for one stream, and return the plaintexts of all of it."""
        request, secret = self._request(PROMPT, {"stream": True}, keyed=True)
        plan = Plan(encoded([request]), self._stack.dev.plan.port)
        answer = base64.b64decode(run_load(plan).sample)
        opener = AnswerOpener(secret)
        lines = [event.partition(b"\n")[0] for event in answer.split(b"data: ")[1:]]
        chunks = [line for line in lines if line.startswith(b'{"chunk"')]
        return b"".join(b"".join(opener.feed(parse_stream_chunk(line))) for line in chunks)


def demand_all_tokens(name: str, answer: bytes, tokens: int = TOKENS) -> None:
    """Nobody may win by leaving something out.

    Raises:
        SystemExit: A token is missing.
    """
    missing = [number for number in range(tokens) if token(number).encode() not in answer]
    if missing:
        raise SystemExit(f"{name} left out {len(missing)} of {tokens} tokens")


def direct(upstream: Upstream) -> Gateway:
    """Return the way without a gateway."""
    make = _plain(upstream.port, "/v1/chat/completions", (), str(upstream.ca_path))
    return Gateway("directly", "", [], make)


def latensgate(stack: GatewayStack) -> Gateway:
    """Return the whole product: parent and enclave.

    Its requests are sealed before anything is timed: that is the client's work, as opening is.
    """
    clients = {model: OpeningClient(stack, model) for model in (FAST, PACED)}
    demand_all_tokens("Latensgate", clients[FAST].opened())
    first_bytes = {
        model: client.bytes_before_first_token(PROMPT) for model, client in clients.items()
    }
    assert stack.dev.gateway is not None

    def plan(load: Load) -> Plan:
        requests = clients[load.model].requests(load.count, PROMPT, keyed=True, **load.parameters)
        marked = first_bytes[load.model] if load.parameters.get("stream") else None
        return Plan(encoded(requests), stack.dev.plan.port, load.at_once, first_bytes=marked)

    pids = [stack.dev.gateway.process.pid, stack.dev.enclaves[0].process.pid]
    return Gateway("Latensgate", VERSION, _with_children(pids), plan, sealed=True)


@contextmanager
def litellm(folder: Path, upstream: Upstream) -> Generator[Gateway]:
    """Start LiteLLM's proxy."""
    port = _free_port()
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": upstream.url,
                "api_key": _KEY,
            },
        }
        for name in (FAST, PACED)
    ]
    config = folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models}), encoding="utf-8")  # JSON is YAML
    binary = VENV / "rivals" / "bin"
    command = [str(binary / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    own = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # its price list would come from outside
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": _KEY,
        "LITELLM_MODE": "PRODUCTION",
        "SSL_CERT_FILE": str(upstream.ca_path),
    }
    asked = "import importlib.metadata as m; print(m.version('litellm'))"
    version = subprocess.check_output([str(binary / "python"), "-c", asked], text=True).strip()
    wanted = [*command, "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    with _started(wanted, own, folder / "litellm.log", f"{port}/health/liveliness") as pids:
        make = _plain(port, "/v1/chat/completions", (f"Authorization: Bearer {_KEY}",))
        yield Gateway("LiteLLM", version, pids, make)


@contextmanager
def portkey(folder: Path, upstream: Upstream) -> Generator[Gateway]:
    """Start Portkey's gateway."""
    port = _free_port()
    command = ["node", str(NODE / "build" / "start-server.js"), f"--port={port}", "--headless"]
    own = {"NODE_EXTRA_CA_CERTS": str(upstream.ca_path), "NODE_ENV": "production"}
    version = str(json.loads((NODE / "package.json").read_text(encoding="utf-8"))["version"])
    headers = (
        f"Authorization: Bearer {_KEY}",
        "x-portkey-provider: openai",
        f"x-portkey-custom-host: {upstream.url}",
    )
    with _started(command, own, folder / "portkey.log", f"{port}/") as pids:
        yield Gateway("Portkey", version, pids, _plain(port, "/v1/chat/completions", headers))


def _plain(
    port: int, path: str, headers: Sequence[str], ca_path: str | None = None
) -> Callable[[Load], Plan]:
    """Return what makes plans for a server that takes plain requests."""

    def plan(load: Load) -> Plan:
        message = {"role": "user", "content": PROMPT}
        asked = {"model": load.model, "messages": [message], **load.parameters}
        data = json.dumps(asked, separators=(",", ":")).encode()
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Accept: application/json",
            "User-Agent: bench",
            "Content-Type: application/json",
            *headers,
            f"Content-Length: {len(data)}\r\n\r\n",
        ]
        request = "\r\n".join(lines).encode() + data
        marker = FIRST_TOKEN if load.parameters.get("stream") else None
        requests = encoded([request]) * load.count
        return Plan(requests, port, load.at_once, ca_path=ca_path, first_marker=marker)

    return plan


@contextmanager
def _started(
    command: Sequence[str], own: Mapping[str, str], log: Path, health: str
) -> Generator[list[int]]:
    """Start a server, wait until it answers, and yield all its processes."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **own}
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            command, cwd=log.parent, env=environment, stdout=sink, stderr=sink
        ) as process,
    ):
        try:
            _wait_healthy(process, f"http://127.0.0.1:{health}", log)
            yield _with_children([process.pid])
        finally:
            process.terminate()


def _wait_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            if httpx.get(url, trust_env=False, timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{log.stem} did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _with_children(pids: Sequence[int]) -> list[int]:
    """Return these processes and all that they have started."""
    found = list(pids)
    for pid in found:  # grows while it is walked
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
