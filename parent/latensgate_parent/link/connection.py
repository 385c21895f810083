"""One connection to an enclave: many calls at once over one stream.

Frames and their rules are ``latensgate_shared.frames``; what becomes of a call is ``open_calls``.
Here are the socket, the deadlines and the loss. The parent never stops reading: what a call's
reader does not fetch is bounded there, and a call above its bound is cancelled. It does stop
writing while the enclave does not read. Whatever an enclave sends, the worst is that its connection
ends and every call on it with a typed error.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from latensgate_parent.limits import (
    LINK_ANSWERS_MAX_BYTES,
    LINK_CALL_MAX_MS,
    LINK_PING_INTERVAL_MS,
    LINK_PING_TIMEOUT_MS,
    LINK_WAITING_CALLS_MAX_COUNT,
    LINK_WRITE_BUFFER_BYTES,
)
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError
from latensgate_parent.link.open_calls import Budget, OpenCall, UnaryCall
from latensgate_shared.calls import request_frame
from latensgate_shared.errors import ErrorCode
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
    Role,
    State,
    split_body,
)
from latensgate_shared.limits import CALL_ID_MAX, ENCLAVE_ACCEPT_MS, SEALED_REQUEST_MAX_BYTES

if TYPE_CHECKING:
    from latensgate_shared.calls import Call
    from latensgate_shared.errors import LatensgateError

_ACCEPT_S: Final = ENCLAVE_ACCEPT_MS / 1_000
_CALL_MAX_S: Final = LINK_CALL_MAX_MS / 1_000
_ENDING_MAX_S: Final = 60.0
_PING_INTERVAL_S: Final = LINK_PING_INTERVAL_MS / 1_000
_PING_TIMEOUT_S: Final = LINK_PING_TIMEOUT_MS / 1_000
_WRITTEN_AT_ONCE_BYTES: Final = 64 * 1024
"""Requests up to here are one write: most are, and its copy costs less than more calls of send."""


class Connection(asyncio.Protocol):
    """One connection. Made by ``sockets.attach``; usable from ``connection_made`` on.

    Attributes:
        closed: Done when the connection has ended, with why.
        budget: What unary answers may hold.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.budget = Budget(LINK_ANSWERS_MAX_BYTES)
        self._frames = FrameConnection(Role.PARENT)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, OpenCall] = {}  # by age
        self._unaccepted: dict[int, OpenCall] = {}  # by age, so the first one is due first
        self._accept_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._waiting: dict[asyncio.Future[None], None] = {}  # for the enclave to read, by age
        self._ping_token = 0
        self._ping_at: float | None = None
        self._heard_at = 0.0

    # --- life ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(high=LINK_WRITE_BUFFER_BYTES)
        self._heard_at = self._loop.time()
        self._tick_timer = self._loop.call_later(_PING_INTERVAL_S, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended, whoever ended it."""
        self._lose("the connection broke" if exc else "the enclave closed the connection")

    @property
    def is_open(self) -> bool:
        """Whether calls can be written."""
        return self._transport is not None and not self.closed.done()

    @property
    def open_calls(self) -> int:
        """Calls that have not ended on the wire."""
        return len(self._calls)

    def close(self, why: str) -> None:
        """Cut the connection; every call on it is lost."""
        self._lose(why)

    def _lose(self, why: str) -> None:
        if self.closed.done():
            return
        self.closed.set_result(why)
        for timer in (self._accept_timer, self._tick_timer):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        calls, self._calls = self._calls, {}
        self._unaccepted.clear()
        for call in calls.values():
            self._fail(call, _lost(call, why))
        self._wake_writers()

    # --- calls ---

    async def call(self, open_call: UnaryCall, call: Call, body: bytes = b"") -> None:
        """Make a call and wait for the end of its answer; a cancelled task cancels the call.

        Raises:
            EnclaveError: Not written, not accepted in time, or refused by the enclave.
            EnclaveLostError: Lost after dispatch.
        """
        try:
            await self.dispatch(open_call, call, body)
            await open_call.ended
        except asyncio.CancelledError:
            self.abandon(open_call)
            raise

    async def dispatch(self, open_call: OpenCall, call: Call, body: bytes) -> None:
        """Write a call. Its failures after that come by ``open_call``.

        Raises:
            EnclaveError: It was not written: nothing runs.
        """
        if self._paused:
            await self._wait_turn()
        transport = self._admit(body)
        send, call_id = self._frames.send, self._frames.next_call_id
        first = send(request_frame(call_id, call))
        open_call.call_id = call_id
        open_call.started_at = self._loop.time()
        self._calls[call_id] = self._unaccepted[call_id] = open_call
        if self._accept_timer is None:
            self._accept_timer = self._loop.call_later(_ACCEPT_S, self._expire_unaccepted)
        if len(body) <= _WRITTEN_AT_ONCE_BYTES:
            chunks = [send(chunk) for chunk in split_body(call_id, body)]
            open_call.dispatched = True
            transport.write(b"".join([first, *chunks, send(End(call_id))]))
        else:
            transport.write(first)
            await self._upload(open_call, body)

    def _admit(self, body: bytes) -> asyncio.Transport:
        transport = self._transport
        if transport is None or self.closed.done():
            raise EnclaveError("not connected", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE)
        if len(body) > SEALED_REQUEST_MAX_BYTES:
            raise EnclaveError("a body that no enclave takes", code=ErrorCode.ERR_TOO_LARGE)
        if not self._frames.can_request:
            raise EnclaveError("every place for a call is taken", code=ErrorCode.ERR_OVERLOADED)
        return transport

    async def _upload(self, call: OpenCall, body: bytes) -> None:
        """Write a large body as fast as the enclave reads, until the call has failed."""
        for chunk in split_body(call.call_id, body):
            if not self._may_write(call):
                return
            self._write(chunk)
            if self._paused:
                await self._wait_writable(call)
        if self._may_write(call):
            call.dispatched = True
            self._write(End(call.call_id))

    def _may_write(self, call: OpenCall) -> bool:
        return call.call_id in self._calls and not call.cancelled

    async def _wait_turn(self) -> None:
        """Wait until the enclave reads again, as long as it may take to accept a call."""
        if len(self._waiting) >= LINK_WAITING_CALLS_MAX_COUNT:
            raise EnclaveError("too many calls wait", code=ErrorCode.ERR_OVERLOADED)
        try:
            async with asyncio.timeout(_ACCEPT_S):
                while self._paused and not self.closed.done():
                    await self._wait_writable()
        except TimeoutError:
            raise _not_accepted() from None

    async def _wait_writable(self, call: OpenCall | None = None) -> None:
        """Wait until the enclave reads again, or this call has failed."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting[waiter] = None
        if call is not None:
            call.upload = waiter
        try:
            await waiter
        finally:
            del self._waiting[waiter]

    def cancel(self, call: OpenCall) -> None:
        """Send a cancel if the call still runs."""
        if call.cancelled or call.call_id not in self._calls:
            return
        if self._frames.state_of(call.call_id) is not State.CLOSED:  # its end may have just come
            call.cancelled = True
            self._write(Cancel(call.call_id))

    def abandon(self, call: OpenCall) -> None:
        """Cancel a call that nobody waits for; what still comes of it is nobody's."""
        call.abandon()
        self.cancel(call)

    def _fail(self, call: OpenCall, error: LatensgateError) -> None:
        call.fail(error)
        if call.upload is not None:
            _wake(call.upload)

    # --- writing ---

    def pause_writing(self) -> None:
        """The enclave does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._wake_writers()

    def _wake_writers(self) -> None:
        for waiter in self._waiting:
            _wake(waiter)

    def _write(self, event: Event) -> None:
        if self._transport is not None and not self.closed.done():
            self._transport.write(self._frames.send(event))

    # --- reading ---

    def data_received(self, data: bytes) -> None:
        """Give what came to its calls."""
        if self.closed.done():
            return
        self._heard_at = self._loop.time()
        try:
            events = self._frames.receive(data)
        except FrameError as error:
            self._lose(f"the enclave broke a rule: {error.detail}")
            return
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Chunk():
                call = self._calls[event.call_id]
                if not call.take_chunk(event.data):
                    self.cancel(call)
            case Accepted():
                self._unaccepted.pop(event.call_id, None)
            case Head():
                self._calls[event.call_id].take_head(event.head)
            case End():
                self._calls.pop(event.call_id).take_end(event.head)
            case Error():
                self._take_error(event)
            case Ping():
                self._write(Pong(event.token))
            case Pong():
                self._ping_at = None
            case _:
                pass  # the parent's own kinds: the frame rules have refused them

    def _take_error(self, event: Error) -> None:
        call_id = event.call_id
        call = self._calls[call_id]
        if self._frames.state_of(call_id) is State.REFUSED:
            self.cancel(call)  # ends the upload, and the call with it
        del self._calls[call_id]
        self._unaccepted.pop(call_id, None)
        self._fail(call, EnclaveError("the enclave ended the call", code=event.code))

    # --- deadlines ---

    def _expire_unaccepted(self) -> None:
        """Give up calls that were not accepted in time; come again when the next one is due."""
        self._accept_timer = None
        due_before = self._loop.time() - _ACCEPT_S
        while self._unaccepted:
            call = next(iter(self._unaccepted.values()))
            if call.started_at > due_before:
                at = call.started_at + _ACCEPT_S
                self._accept_timer = self._loop.call_at(at, self._expire_unaccepted)
                return
            del self._unaccepted[call.call_id]
            self._give_up(call, _not_accepted())

    def _give_up(self, call: OpenCall, error: LatensgateError) -> None:
        if not call.over:
            self._fail(call, error)
        self.abandon(call)

    def _tick(self) -> None:
        """Look whether the enclave lives and its calls end."""
        now = self._loop.time()
        if self._ping_at is not None and now - max(self._ping_at, self._heard_at) > _PING_TIMEOUT_S:
            self._lose("the enclave does not answer pings")
            return
        self._expire_running(now)
        if self.closed.done():
            return
        if self._ping_at is None:
            self._ping_token = self._ping_token % CALL_ID_MAX + 1
            self._ping_at = now
            self._write(Ping(self._ping_token))
        self._tick_timer = self._loop.call_later(_PING_INTERVAL_S, self._tick)

    def _expire_running(self, now: float) -> None:
        for call in list(self._calls.values()):
            age_s = now - call.started_at
            if age_s <= _CALL_MAX_S:
                return
            if age_s > _CALL_MAX_S + _ENDING_MAX_S:
                self._lose("the enclave does not end a call that was cancelled")
                return
            self._give_up(call, EnclaveLostError(f"no answer within {LINK_CALL_MAX_MS} ms"))


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _lost(call: OpenCall, why: str) -> LatensgateError:
    if call.dispatched:
        return EnclaveLostError(f"{why}; whether the call ran is not known")
    return EnclaveError(f"{why}; the call was not written", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE)


def _not_accepted() -> EnclaveError:
    return EnclaveError(
        f"the enclave did not accept the call within {ENCLAVE_ACCEPT_MS} ms",
        code=ErrorCode.ERR_ENCLAVE_TIMEOUT,
    )
