"""The accept loop: sessions of the parent, bounded, until the enclave drains."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from latensgate_enclave.events import Event
from latensgate_enclave.session import Session
from latensgate_shared.errors import LatensgateError
from latensgate_shared.limits import DRAIN_TIMEOUT_MS, SESSIONS_MAX_OPEN, SOCKET_READ_BYTES

if TYPE_CHECKING:
    import socket

    from latensgate_enclave.events import EventLog
    from latensgate_enclave.service import Service
    from latensgate_enclave.session import Room
    from latensgate_enclave.supervisor import Supervisor


class Server:
    """Accepts connections of the parent and serves each in a session."""

    def __init__(
        self, service: Service, supervisor: Supervisor, room: Room, events: EventLog
    ) -> None:
        self._service = service
        self._supervisor = supervisor
        self._room = room
        self._events = events
        self._sessions: set[asyncio.Task[None]] = set()

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; then finish open calls, at most `DRAIN_TIMEOUT_MS`.

        Raises:
            LatensgateError: The supervisor ended by itself; nothing is served unsupervised.
        """
        timers = asyncio.create_task(self._supervisor.run())
        server = await asyncio.start_server(
            self._accept, sock=listener, limit=SOCKET_READ_BYTES, backlog=SESSIONS_MAX_OPEN
        )
        self._events.emit(Event.LISTENING)
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopped, timers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._events.emit(Event.DRAINING, calls=self._room.drain())
            server.close()
            await self._finish()
            failed = timers.done()
            for task in (stopped, timers):
                task.cancel()
            await asyncio.gather(stopped, timers, return_exceptions=True)
            self._supervisor.stop()
            self._events.emit(Event.STOPPED)
        if failed:
            raise LatensgateError("the checks of the enclave ended unexpectedly")

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_MS / 1000):
                await self._room.wait_empty()
        except TimeoutError:
            pass  # what still runs is cut below
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio runs this in a task of its own
        if len(self._sessions) >= SESSIONS_MAX_OPEN:
            self._events.emit(Event.OVERLOADED, sessions=len(self._sessions))
            writer.transport.abort()
            return
        self._sessions.add(task)
        try:
            await Session(self._service, self._room, self._events, writer).run(reader)
        except asyncio.CancelledError:
            pass  # the drain has ended; the session has cancelled its calls
        except Exception:  # noqa: BLE001  # Python 3.11.2 would keep its text, and the connection
            self._events.emit(Event.INTERNAL)
            writer.transport.abort()
        finally:
            self._sessions.discard(task)
