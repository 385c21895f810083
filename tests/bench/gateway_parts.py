"""The processes of the gateway's benchmark, and how their CPU is read."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from load_client import Plan, Seen
from upstream_probe import Target

from gateway_stack import GatewayStack
from latensgate_shared.manifest import parse_manifest
from latensgate_shared.messages import ATTESTATION_HEADER, Outer, parse_stream_chunk
from latensgate_shared.sealed import AnswerOpener, AnswerSecret, SealingKey, seal_request
from latensgate_shared.sealed_plaintext import RequestFields, build_plaintext
from soak_driver import uuid7
from stack import MODEL

HERE: Final = Path(__file__).resolve().parent
BEDROCK_HOST: Final = "bedrock-runtime.us-east-1.amazonaws.com"
MODEL_ID: Final = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PROBE_BURST: Final = 10
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ticks:
    """CPU seconds of one process since its start as the kernel tells them apart, to 10 ms."""

    user: float
    system: float

    @classmethod
    def of(cls, pid: int) -> Ticks:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return cls(int(fields[11]) / _TICKS, int(fields[12]) / _TICKS)

    def __sub__(self, other: Ticks) -> Ticks:
        return Ticks(self.user - other.user, self.system - other.system)

    def __add__(self, other: Ticks) -> Ticks:
        return Ticks(self.user + other.user, self.system + other.system)


def run_load(plan: Plan) -> Seen:
    """Run a client in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "load_client.py")],
        input=json.dumps(asdict(plan)).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    seen = Seen(**json.loads(done.stdout))
    assert not seen.refused, base64.b64decode(seen.refused)
    assert len(seen.whole_s) == len(plan.requests)
    return seen


def encoded(requests: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(each).decode() for each in requests]


class SealingClient:
    """Makes requests as an SDK does, and learns what their answers look like.

    The attestation is not verified: other benchmarks measure that, and it is not paid per request.
    """

    def __init__(self, stack: GatewayStack, model: str = MODEL) -> None:
        self._stack = stack
        self._model = model
        told = httpx.get(f"{stack.url}/api/attestation", trust_env=False).json()
        key = parse_manifest(base64.b64decode(told["manifest"])).hpke_keys[0]
        self._key = SealingKey(key.suite, key.public_key)
        self._attestation_hash = str(told["attestation_hash"])

    def requests(self, count: int, text: str, *, keyed: bool = True, **more: object) -> list[bytes]:
        """Return whole HTTP requests; keyed as those of the SDK are."""
        return [self._request(text, more, keyed=keyed)[0] for _ in range(count)]

    def _request(
        self, text: str, more: dict[str, object], *, keyed: bool
    ) -> tuple[bytes, AnswerSecret]:
        asked = {"model": self._model, "messages": [{"role": "user", "content": text}], **more}
        outer = Outer(
            self._attestation_hash,
            self._model,
            self._stack.tenant_id,
            stream=bool(more.get("stream")),
        )
        fields = RequestFields(uuid7(), int(time.time() * 1000))
        plaintext = build_plaintext(fields, json.dumps(asked).encode())
        sealed = seal_request(self._key, outer.canonical(), plaintext)
        body = {
            "model": outer.model,
            "prompt_ciphertext": base64.b64encode(sealed.wire).decode(),
            "stream": outer.stream,
            "tenant_id": outer.tenant_id,
        }
        data = json.dumps(body, separators=(",", ":")).encode()
        lines = [
            "POST /api/inference HTTP/1.1",
            f"Host: 127.0.0.1:{self._stack.dev.plan.port}",
            "Accept: application/json",
            "User-Agent: bench",
            f"Authorization: Bearer {self._stack.api_key}",
            "Content-Type: application/json",
            f"{ATTESTATION_HEADER}: {self._attestation_hash}",
            *([f"Idempotency-Key: lg-{os.urandom(16).hex()}"] if keyed else []),
            f"Content-Length: {len(data)}\r\n\r\n",
        ]
        return "\r\n".join(lines).encode() + data, sealed.answer_secret

    def bytes_before_first_token(self, text: str) -> int:
        """Return how much body of a streamed answer may come before its first token.

        The enclave's first chunk names the role and leaves before the model is asked.
        """
        request, secret = self._request(text, {"stream": True}, keyed=True)
        plan = Plan(encoded([request]), self._stack.dev.plan.port)
        answer = base64.b64decode(run_load(plan).sample)
        opener = AnswerOpener(secret)
        size = 0
        for event in answer.split(b"data: ")[1:]:
            for byte in parse_stream_chunk(event.partition(b"\n")[0]):
                size += 1
                if opener.feed(bytes((byte,))):
                    return size * 4 // 3 + _EVENT_BYTES
        raise AssertionError("a streamed answer without content")


_EVENT_BYTES: Final = 64
"""More than an event has besides its base64; less than a chunk with a token."""


def target(stack: GatewayStack, body: dict[str, object], *, stream: bool = False) -> Target:
    """Return what an enclave asks Bedrock."""
    held = stack.dev.world.service
    credentials = (held.access_key_id, held.secret_access_key, held.session_token or "")
    return Target("us-east-1", MODEL_ID, credentials, json.dumps(body), stream)


@dataclass(frozen=True)
class Exchange:
    """CPU seconds of one exchange with the model alone.

    Attributes:
        client: In the process that stands where the enclave is.
        tunnel: In the parent.
    """

    client: float
    tunnel: float


def probe_upstream(stack: GatewayStack, asked: Target, *, bare: bool, bursts: int) -> Exchange:
    """Return the best of many short bursts, of client and tunnel each, as for requests."""
    assert stack.dev.gateway is not None
    plan: dict[str, Any] = {
        "target": asdict(asked),
        "tunnel": f"unix:{stack.dev.plan.egress}",
        "ca_path": str(stack.dev.world.ca_path),
        "parent": stack.dev.gateway.process.pid,
        "bare": bare,
        "burst": PROBE_BURST,
        "bursts": bursts,
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "upstream_probe.py")],
        input=json.dumps(plan).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    client, tunnel = zip(*json.loads(done.stdout), strict=True)
    return Exchange(min(client), min(tunnel))


@dataclass(frozen=True)
class BytePath:
    """The comparison: a forwarder and an echo, running."""

    port: int
    pids: tuple[int, int]


@contextmanager
def byte_path(folder: Path, request_bytes: int, answer: bytes) -> Generator[BytePath]:
    """Run two processes that move bytes as parent and enclave do."""
    socket, file = folder / "echo.sock", folder / "answer"
    file.write_bytes(answer)
    echo = ["echo", str(socket), str(request_bytes), str(file)]
    with _started(echo) as (echo_pid, _), _started(["forward", str(socket)]) as (pid, port):
        yield BytePath(int(port), (pid, echo_pid))


@contextmanager
def _started(arguments: list[str]) -> Generator[tuple[int, str]]:
    command = [sys.executable, str(HERE / "byte_paths.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.terminate()
