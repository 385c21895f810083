"""One connection of the parent: frames in, calls run, frames out.

The parent is not trusted. It may send anything at any speed; what that costs is bounded here:
calls at once, bytes held, time to upload. A call's failure leaves as the name of its code. An
unexpected exception before the seal has opened ends here, and its text with it; after that it ends
in `pipeline.Pipeline.told`, and becomes a sealed error with a receipt.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from latensgate_enclave.events import Event as LogEvent
from latensgate_enclave.events import EventLog
from latensgate_enclave.frame_reply import FrameReply
from latensgate_shared.call_forms import Operation
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.frames import (
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    FrameError,
    Head,
    Ping,
    Pong,
    Request,
    Role,
)
from latensgate_shared.limits import (
    ACCEPT_WAIT_MS,
    CALL_UPLOAD_TIMEOUT_MS,
    CONTROL_CALLS_MAX_OPEN,
    ENCLAVE_HELD_BODIES_MAX_BYTES,
    SEALED_REQUEST_MAX_BYTES,
    SESSION_CLOSE_TIMEOUT_MS,
    SOCKET_READ_BYTES,
)

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from latensgate_shared.frames import HeadMap


class Reply(Protocol):
    """Where a handler puts its answer: one head, any number of pieces, one end.

    Writing waits for nobody, so that no cancel comes between two writes; `drained` waits.
    """

    def head(self, fields: HeadMap) -> None:
        """Begin the answer."""
        ...

    def body(self, data: bytes) -> None:
        """Send a piece of the body."""
        ...

    def end(self, fields: HeadMap, body: bytes = b"") -> None:
        """Send the last piece of the body and finish the answer."""
        ...

    async def drained(self) -> None:
        """Wait while the parent is slow."""
        ...


class Handler(Protocol):
    """Answers one call."""

    async def __call__(self, request: Request, body: bytes, reply: Reply, /) -> None:
        """Answer, or raise a `LatensgateError` whose code the parent is told."""
        ...


class Room:
    """What all connections of the enclave may use together.

    Args:
        max_calls: Calls worked on at once.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = self._calls_left = max_calls
        self._control_left = CONTROL_CALLS_MAX_OPEN
        self._bytes_left = ENCLAVE_HELD_BODIES_MAX_BYTES
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def take_call(self, *, control: bool = False) -> None:
        """Take a place for a call; calls that control the enclave have places of their own.

        Raises:
            LatensgateError: `ERR_OVERLOADED`: there is none left.
        """
        if not (self._control_left if control else self._calls_left):
            raise LatensgateError("every place is taken", code=ErrorCode.ERR_OVERLOADED)
        self._count(-1, control=control)
        self._empty.clear()

    def _count(self, places: int, *, control: bool) -> None:
        if control:
            self._control_left += places
        else:
            self._calls_left += places

    async def wait_empty(self) -> None:
        """Wait until no call is open."""
        await self._empty.wait()

    def take_bytes(self, count: int) -> None:
        """Take room for body bytes that are held.

        Raises:
            LatensgateError: `ERR_OVERLOADED`: too much is held already.
        """
        if count > self._bytes_left:
            raise LatensgateError("too many body bytes are held", code=ErrorCode.ERR_OVERLOADED)
        self._bytes_left -= count

    def give_back(self, held_bytes: int, *, control: bool = False) -> None:
        """Return the place and the bytes of one call."""
        self._count(1, control=control)
        self._bytes_left += held_bytes
        if not self._open_calls():
            self._empty.set()

    def _open_calls(self) -> int:
        control = CONTROL_CALLS_MAX_OPEN - self._control_left
        return control + self._max_calls - self._calls_left

    @property
    def draining(self) -> bool:
        """Whether no further request is run."""
        return self._draining

    def require_serving(self) -> None:
        """Pass until `drain`; calls that ask about the enclave itself are answered after it, too.

        Raises:
            LatensgateError: `ERR_ENCLAVE_UNAVAILABLE`.
        """
        if self._draining:
            raise LatensgateError("draining", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE)

    def drain(self) -> int:
        """Run no further requests; return how many calls are open."""
        self._draining = True
        return self._open_calls()


class _Call:
    """One call of this connection: its upload, then its handler's task."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.is_control = _is_control(request)
        self.upload_timer: asyncio.TimerHandle | None = None
        self.pieces: list[bytes] = []
        self.held_bytes = 0
        self.task: asyncio.Task[ErrorCode | None] | None = None

    def stop_timer(self) -> None:
        """Bound the upload no more."""
        if self.upload_timer is not None:
            self.upload_timer.cancel()


class Session:
    """One connection.

    Args:
        handler: Answers calls.
        room: Shared by all connections.
        log: The enclave's event log.
    """

    def __init__(self, handler: Handler, room: Room, log: EventLog, writer: StreamWriter) -> None:
        self._handler = handler
        self._room = room
        self._log = log
        self._writer = writer
        self._transport = writer.transport
        self._loop = asyncio.get_running_loop()
        self._frames = FrameConnection(Role.ENCLAVE)
        self._calls: dict[int, _Call] = {}
        self._opened: list[_Call] = []
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._will_flush = False
        self._late_flush: asyncio.TimerHandle | None = None

    async def run(self, reader: StreamReader) -> None:
        """Serve until the parent closes or breaks a rule; then every open call is cancelled."""
        self._log.emit(LogEvent.CONNECTION_OPENED)
        try:
            while data := await reader.read(SOCKET_READ_BYTES):
                for event in self._frames.receive(data):
                    self._take(event)
                self._time_uploads()
                await self._writer.drain()
        except FrameError as error:
            self._log.emit(LogEvent.FRAME_ERROR, code=error.code.number)
        except OSError:
            pass  # the parent is gone; what follows is the same as after its end of stream
        finally:
            await self._close()
            self._log.emit(LogEvent.CONNECTION_CLOSED)

    async def _close(self) -> None:
        """Cancel every call and flush what was sent, unless the parent does not take it."""
        self._flush()
        self._writer.close()
        calls = list(self._calls.values())
        for call in calls:
            self._stop(call)
        try:
            async with asyncio.timeout(SESSION_CLOSE_TIMEOUT_MS / 1000):
                tasks = (call.task for call in calls if call.task)
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._writer.wait_closed()
        except OSError:
            pass  # also in time: nobody takes what is left
        finally:
            self._transport.abort()

    def _take(self, event: Event) -> None:
        match event:
            case Request():
                self._open(event)
            case Chunk() if call := self._calls.get(event.call_id):
                self._hold(call, event.data)
            case End() if call := self._calls.get(event.call_id):
                self._start(call)
            case Cancel() if call := self._calls.get(event.call_id):
                self._cancel(call)
            case Ping():
                self._send(Pong(event.token))
            case _:
                pass  # pongs, and what was in flight when this side ended the call

    def _open(self, request: Request) -> None:
        try:
            call = _Call(request)
            self._room.take_call(control=call.is_control)
        except LatensgateError as error:
            self._log.emit(LogEvent.OVERLOADED, code=error.code.number)
            self._send(Error(request.call_id, error.code))
            return
        self._calls[request.call_id] = call
        self._opened.append(call)
        self._send(Accepted(request.call_id))

    def _time_uploads(self) -> None:
        """Bound the time of uploads that have only begun: most calls come whole in one read."""
        for call in self._opened:
            if call.task is None and call.request.call_id in self._calls:
                call.upload_timer = self._loop.call_later(
                    CALL_UPLOAD_TIMEOUT_MS / 1000, self._expire, call.request.call_id
                )
        self._opened.clear()

    def _hold(self, call: _Call, data: bytes) -> None:
        if call.held_bytes + len(data) > SEALED_REQUEST_MAX_BYTES:
            self._refuse(call, ErrorCode.ERR_TOO_LARGE)
            return
        try:
            self._room.take_bytes(len(data))
        except LatensgateError as error:
            self._refuse(call, error.code)
            return
        call.held_bytes += len(data)
        call.pieces.append(data)

    def _expire(self, call_id: int) -> None:
        self._refuse(self._calls[call_id], ErrorCode.ERR_ENCLAVE_TIMEOUT)

    def _start(self, call: _Call) -> None:
        call.stop_timer()
        body = b"".join(call.pieces)
        call.pieces.clear()
        call.task = asyncio.create_task(self._run_call(call.request, body))
        # By callback: of a task that is cancelled before its first step nothing ever runs.
        call.task.add_done_callback(partial(self._finish, call))

    async def _run_call(self, request: Request, body: bytes) -> ErrorCode | None:
        try:
            await self._handler(request, body, FrameReply(self, request.call_id))
        except LatensgateError as error:
            self._log.emit(LogEvent.CALL_REFUSED, code=error.code.number)
            return error.code
        except Exception:  # noqa: BLE001  # no text may leave, and the call must end
            self._log.emit(LogEvent.INTERNAL)
            return ErrorCode.ERR_INTERNAL
        return None

    def _finish(self, call: _Call, task: asyncio.Task[ErrorCode | None]) -> None:
        code = ErrorCode.ERR_CANCELLED if task.cancelled() else task.result()
        self._release(call)
        if code is not None:
            self._send(Error(call.request.call_id, code))

    def _refuse(self, call: _Call, code: ErrorCode) -> None:
        self._release(call)
        self._send(Error(call.request.call_id, code))

    def _cancel(self, call: _Call) -> None:
        if call.task:
            call.task.cancel()
        else:
            self._refuse(call, ErrorCode.ERR_CANCELLED)

    def _stop(self, call: _Call) -> None:
        if call.task:
            call.task.cancel()
        else:
            self._release(call)

    def _release(self, call: _Call) -> None:
        call.stop_timer()
        del self._calls[call.request.call_id]
        self._room.give_back(call.held_bytes, control=call.is_control)

    def _send(self, event: Event) -> None:
        """Send unless the connection is gone, which makes every answer pointless."""
        if self._transport.is_closing():
            return
        try:
            self._put(event)
        except FrameError as error:
            self._log.emit(LogEvent.FRAME_ERROR, code=error.code.number)

    def write(self, *events: Event, last: bool = False) -> None:
        """Send events of an answer; the last ones at once.

        Raises:
            LatensgateError: `ERR_CANCELLED`: the connection is gone.
        """
        if self._transport.is_closing():
            raise LatensgateError("the parent is gone", code=ErrorCode.ERR_CANCELLED)
        for event in events:
            self._put(event)
        if last:
            self._flush()

    def _put(self, event: Event) -> None:
        """Write what this turn of the loop has to send as one: each write wakes the parent up.

        Acceptance and head wait for what follows them.
        """
        data = self._frames.send(event)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > SOCKET_READ_BYTES:
            self._flush()  # so that `drained` holds a long answer back
        elif type(event) in _WAITING:
            if self._late_flush is None:
                self._late_flush = self._loop.call_later(ACCEPT_WAIT_MS / 1000, self._flush_late)
        elif not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)

    def _flush_late(self) -> None:
        self._late_flush = None
        self._flush()

    def _flush(self) -> None:
        self._will_flush = False
        if self._unsent and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
        self._unsent_bytes = 0

    async def drained(self) -> None:
        """Wait while the parent is slow.

        Raises:
            LatensgateError: `ERR_CANCELLED`: the connection is gone.
        """
        if not self._transport.get_write_buffer_size():
            return  # what stands in `_unsent` is written soon, and bounded
        try:
            await self._writer.drain()
        except OSError:
            raise LatensgateError("the parent is gone", code=ErrorCode.ERR_CANCELLED) from None


_WAITING: Final = frozenset({Accepted, Head})
_ASK_MODELS: Final = frozenset({Operation.INFERENCE, Operation.HOLD_DECIDE})


def _is_control(request: Request) -> bool:
    return request.operation not in _ASK_MODELS
