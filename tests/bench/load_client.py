"""A light client in a process of its own: sends ready-made requests and times their answers.

It reads its plan from standard input and writes what it saw to standard output, both JSON. Nothing
is sealed, signed or opened here, so that it leaves the cores to what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import uvloop

_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"


@dataclass(frozen=True)
class Plan:
    """What to send, and where.

    Attributes:
        requests: Whole HTTP/1.1 requests in base64; each is sent once.
        concurrency: Connections; each has one request under way.
        ca_path: Root for TLS; None: no TLS.
        first_marker: What stands in the first token of a streamed answer.
        first_bytes: Or: more bytes of body than come before the first token.
        pids: Processes whose CPU is read before and after each burst.
        burst: Requests of one burst.
    """

    requests: list[str]
    port: int
    concurrency: int = 1
    host: str = "127.0.0.1"
    ca_path: str | None = None
    first_marker: str | None = None
    first_bytes: int | None = None
    pids: list[int] = field(default_factory=list[int])
    burst: int = 1_000_000


@dataclass
class Seen:
    """What came of it.

    Attributes:
        whole_s: Seconds until each answer was whole.
        first_s: Seconds until each answer's first token.
        elapsed_s: From first requests to last answers, all bursts together.
        cpu_s: Of each burst, for a request: CPU seconds of each process.
        refused: First answer that was no 200, in base64; empty: none.
        sample: The last answer, in base64.
    """

    whole_s: list[float] = field(default_factory=list[float])
    first_s: list[float] = field(default_factory=list[float])
    elapsed_s: float = 0.0
    cpu_s: list[list[float]] = field(default_factory=list[list[float]])
    refused: str = ""
    sample: str = ""


class Client(asyncio.Protocol):
    """One connection that is kept."""

    def __init__(self, plan: Plan, seen: Seen) -> None:
        self._seen = seen
        self._marker = (plan.first_marker or "").encode()
        self._first_bytes = plan.first_bytes
        self._transport: Any = None
        self._buffer = bytearray()
        self._began = 0.0
        self._has_first = False
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionError("closed before the answer's end"))

    def send(self, request: bytes) -> asyncio.Future[None]:
        self._buffer.clear()
        self._has_first = False
        self._done = asyncio.get_running_loop().create_future()
        self._began = time.perf_counter()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        took_s = time.perf_counter() - self._began
        head_bytes = self._buffer.find(_HEAD_END) + len(_HEAD_END)
        if head_bytes < len(_HEAD_END) or self._done is None:
            return
        if not self._has_first and self._is_first(head_bytes):
            self._has_first = True
            self._seen.first_s.append(took_s)
        if self._is_whole(head_bytes):
            self._end(took_s)

    def _is_first(self, head_bytes: int) -> bool:
        if self._marker:
            return self._marker in self._buffer
        return self._first_bytes is not None and len(self._buffer) - head_bytes > self._first_bytes

    def _is_whole(self, head_bytes: int) -> bool:
        head = bytes(self._buffer[:head_bytes]).lower()
        _, name, rest = head.partition(b"content-length: ")
        if name:
            return len(self._buffer) - head_bytes >= int(rest.partition(b"\r\n")[0])
        return self._buffer.endswith(_LAST_CHUNK)

    def _end(self, took_s: float) -> None:
        assert self._done is not None
        self._seen.whole_s.append(took_s)
        self._seen.sample = base64.b64encode(self._buffer).decode()
        if not self._buffer.startswith(b"HTTP/1.1 200 "):
            self._seen.refused = self._seen.refused or self._seen.sample
        self._done.set_result(None)


def cpu_s(pid: int) -> float:
    """Return CPU seconds of a process since its start, all threads, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) * 1e-9


async def _lane(client: Client, requests: list[bytes]) -> None:
    while requests:
        await client.send(requests.pop())


async def run(plan: Plan) -> Seen:
    """Send everything."""
    seen = Seen()
    requests = [base64.b64decode(each) for each in plan.requests]
    context = ssl.create_default_context(cafile=plan.ca_path) if plan.ca_path else None
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for _ in range(plan.concurrency):
        _, client = await loop.create_connection(
            lambda: Client(plan, seen),
            "127.0.0.1",
            plan.port,
            ssl=context,
            server_hostname=plan.host if context else None,
        )
        clients.append(client)
    while requests:
        burst, requests = requests[: plan.burst], requests[plan.burst :]
        count, before = len(burst), [cpu_s(pid) for pid in plan.pids]
        began = time.perf_counter()
        await asyncio.gather(*(_lane(client, burst) for client in clients))
        seen.elapsed_s += time.perf_counter() - began
        spent = [cpu_s(pid) - had for pid, had in zip(plan.pids, before, strict=True)]
        seen.cpu_s.append([each / count for each in spent])
    return seen


def main() -> None:
    """Run the plan on standard input."""
    plan = Plan(**cast("dict[str, Any]", json.load(sys.stdin)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(asdict(runner.run(run(plan))), sys.stdout)


if __name__ == "__main__":
    main()
