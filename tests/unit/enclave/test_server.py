"""The accept loop: bounded, drained, never without its supervisor."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from enclave_doubles import in_loop
from latensgate_enclave import server as server_module
from latensgate_enclave.events import EventLog
from latensgate_enclave.server import Server
from latensgate_enclave.service import Service
from latensgate_enclave.session import Handler, Reply, Room
from latensgate_enclave.supervisor import Supervisor
from latensgate_shared.errors import LatensgateError
from latensgate_shared.frames import Accepted, End, Event, FrameConnection, Head, Request, Role


class Checks:
    """Stands for the supervisor."""

    def __init__(self, checks: Callable[[], Awaitable[object]] | None = None) -> None:
        self.stopped = False
        self._checks = checks

    async def run(self) -> None:
        await (self._checks or asyncio.Event().wait)()

    def stop(self) -> None:
        self.stopped = True


@dataclass
class Running:
    path: Path
    stop: asyncio.Event
    log: io.StringIO
    checks: Checks
    task: asyncio.Task[None]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def ask(self) -> list[Event]:
        """Send one call and return the frames of its answer."""
        reader, writer = await self.connect()
        frames = FrameConnection(Role.PARENT)
        writer.write(frames.send(Request(1, "op", {})) + frames.send(End(1)))
        events: list[Event] = []
        try:
            while not events or isinstance(events[-1], Accepted | Head):
                data = await reader.read(1 << 16)
                if not data:
                    break
                events += frames.receive(data)
        finally:
            writer.transport.abort()
        return events


async def answer(_request: Request, _body: bytes, reply: Reply) -> None:
    reply.head({})
    reply.end({})


@asynccontextmanager
async def running(
    folder: Path, handler: Handler = answer, checks: Checks | None = None
) -> AsyncGenerator[Running]:
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(0)
    listener.bind(str(folder / "s"))
    listener.listen()
    log, stop, checks = io.StringIO(), asyncio.Event(), checks or Checks()
    server = Server(cast("Service", handler), cast("Supervisor", checks), Room(4), EventLog(log))
    task = asyncio.create_task(server.run(listener, stop))
    try:
        yield Running(folder / "s", stop, log, checks, task)
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


def test_it_serves_until_it_is_stopped(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        async with running(tmp_path) as server:
            assert await server.ask() == [Accepted(1), Head(1, {}), End(1, {})]
            server.stop.set()
            await server.task
            assert server.checks.stopped
            with pytest.raises(OSError, match="refused"):
                await server.connect()
        names = [line.split()[0] for line in server.log.getvalue().splitlines()]
        assert names[0] == "event=LISTENING"
        assert "event=DRAINING" in names
        assert names[-1] == "event=STOPPED"

    scenario()


def test_connections_above_the_limit_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SESSIONS_MAX_OPEN", 1)

    @in_loop
    async def scenario() -> None:
        async with running(tmp_path) as server:
            _, first = await server.connect()
            await asyncio.sleep(0.01)
            reader, second = await server.connect()
            assert await reader.read() == b""
            second.transport.abort()
            first.transport.abort()
            await asyncio.sleep(0.01)
            assert len(await server.ask()) == 3  # the place is free again
        assert "event=OVERLOADED sessions=1" in server.log.getvalue()

    scenario()


def test_a_drain_lets_open_calls_finish(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        began, go = asyncio.Event(), asyncio.Event()

        async def waiting(request: Request, body: bytes, reply: Reply) -> None:
            began.set()
            await go.wait()
            await answer(request, body, reply)

        async with running(tmp_path, waiting) as server:
            asking = asyncio.create_task(server.ask())
            await began.wait()
            server.stop.set()
            await asyncio.sleep(0.01)
            assert not server.task.done()
            go.set()
            assert (await asking)[-1] == End(1, {})
            await server.task
        assert "event=DRAINING calls=1" in server.log.getvalue()

    scenario()


def test_a_drain_cuts_what_does_not_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "DRAIN_TIMEOUT_MS", 10)

    @in_loop
    async def scenario() -> None:
        began = asyncio.Event()

        async def stuck(_request: Request, _body: bytes, _reply: Reply) -> None:
            began.set()
            await asyncio.Event().wait()

        async with running(tmp_path, stuck) as server:
            asking = asyncio.create_task(server.ask())
            await began.wait()
            server.stop.set()
            await server.task
            assert await asking == [Accepted(1)]
            assert server.checks.stopped

    scenario()


def test_it_does_not_serve_without_its_checks(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        async def fail() -> None:
            await asyncio.sleep(0.01)
            raise KeyError("a bug")

        async with running(tmp_path, checks=Checks(fail)) as server:
            with pytest.raises(LatensgateError, match="ended unexpectedly"):
                await server.task
            assert server.checks.stopped
        assert "bug" not in server.log.getvalue()

    scenario()


def test_a_cancelled_server_drops_its_keys_too(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        async with running(tmp_path) as server:
            await server.ask()
            server.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await server.task
            assert server.checks.stopped

    scenario()
