"""Calls that are under way on one connection: where their frames go, and how they end.

Every call ends once, in one of three ways: with the end of its answer, with an error, or lost. A
caller that no longer waits abandons its call; the frames still come, and if the end of an inference
is among them, its receipt is given to the orphan hook, since it must be stored all the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from latensgate_parent.limits import LINK_STREAM_QUEUE_MAX_BYTES
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError
from latensgate_shared.calls import InferenceEnd, InferenceHead
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.limits import CHUNK_FRAMED_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.errors import LatensgateError
    from latensgate_shared.frames import HeadMap

OnOrphan: TypeAlias = "Callable[[InferenceEnd, str], None]"
"""Called with the end of an answer that nobody waits for, and its receipt id. Must not block."""

_NO_HEAD: Final[HeadMap] = {}


class Budget:
    """Bytes that the unary answers of one connection may hold together."""

    __slots__ = ("left_bytes",)

    def __init__(self, left_bytes: int) -> None:
        self.left_bytes = left_bytes


class OpenCall:
    """What the connection knows of a call.

    Attributes:
        call_id: 0 until its request is written.
        started_at: Seconds of the loop's clock.
        dispatched: Whether all of its request is written, so that the enclave may run it.
        cancelled: Whether a cancel was sent.
        over: Whether it has ended for its caller: what comes now is nobody's.
        upload: Wakes the writer of its body.
    """

    __slots__ = ("call_id", "cancelled", "dispatched", "over", "started_at", "upload")

    def __init__(self) -> None:
        self.call_id = 0
        self.started_at = 0.0
        self.dispatched = False
        self.cancelled = False
        self.over = False
        self.upload: asyncio.Future[None] | None = None

    def take_head(self, head: HeadMap) -> None:
        """The answer begins."""
        raise NotImplementedError

    def take_chunk(self, data: bytes) -> bool:
        """Take a piece of its body; False: there is no room, cancel the call."""
        raise NotImplementedError

    def take_end(self, head: HeadMap) -> None:
        """The answer is complete."""
        raise NotImplementedError

    def fail(self, error: LatensgateError) -> None:
        """It ended without an answer, at least for its caller."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Nobody waits any more."""
        raise NotImplementedError


class UnaryCall(OpenCall):
    """A call whose answer is wanted as a whole: one future, no queue.

    Attributes:
        ended: Done when the call is; then ``head``, ``chunks`` and ``end_head`` hold the answer.
    """

    __slots__ = (
        "_budget",
        "_held_bytes",
        "_max_bytes",
        "_on_orphan",
        "chunks",
        "end_head",
        "ended",
        "head",
    )

    def __init__(
        self,
        ended: asyncio.Future[None],
        budget: Budget,
        max_bytes: int,
        on_orphan: OnOrphan | None = None,
    ) -> None:
        super().__init__()
        self.ended = ended
        self.head = _NO_HEAD
        self.chunks: list[bytes] = []
        self.end_head: HeadMap | None = None
        self._budget = budget
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._on_orphan = on_orphan

    def take_head(self, head: HeadMap) -> None:
        """Keep the head until the answer is whole."""
        self.head = head

    def take_chunk(self, data: bytes) -> bool:
        """Keep a piece of the body."""
        if self.over:
            return True
        self._held_bytes += len(data)
        self._budget.left_bytes -= len(data)
        self.chunks.append(data)
        if self._held_bytes <= self._max_bytes and self._budget.left_bytes >= 0:
            return True
        self.fail(EnclaveLostError("the answer is larger than what is held here; it was dropped"))
        return False

    def take_end(self, head: HeadMap) -> None:
        """Hand the whole answer over."""
        self.end_head = head
        self._give_back()
        if self.over or self.ended.done():  # cancelled just now: its task has not run yet
            self._orphan()
            return
        self.over = True
        self.ended.set_result(None)

    def fail(self, error: LatensgateError) -> None:
        """Hand the error over."""
        self.over = True
        self._drop()
        if not self.ended.done():
            self.ended.set_exception(error)

    def abandon(self) -> None:
        """Keep nothing more but what the orphan hook needs."""
        done_by_us = self.over and self.ended.done()
        self.over = True
        self._drop()
        if done_by_us and not self.ended.cancelled():
            self.ended.exception()  # seen: nobody else will look
        if self.end_head is not None:
            self._orphan()

    def _drop(self) -> None:
        self._give_back()
        self.chunks.clear()

    def _give_back(self) -> None:
        self._budget.left_bytes += self._held_bytes
        self._held_bytes = 0

    def _orphan(self) -> None:
        if self._on_orphan is not None and self.end_head is not None:
            give_orphan(self._on_orphan, self.head, self.end_head)
            self._on_orphan = None


def give_orphan(on_orphan: OnOrphan, head: HeadMap, end_head: HeadMap) -> None:
    """Give the end of an abandoned inference to the hook; one that is malformed is nothing."""
    try:
        receipt_id = InferenceHead.from_head(head).receipt_id
        end = InferenceEnd.from_head(end_head)
    except MalformedError:
        return
    # By the loop: what the hook raises must not end the connection.
    asyncio.get_running_loop().call_soon(on_orphan, end, receipt_id)


class Canceller(Protocol):
    """What a stream needs of its connection."""

    def cancel(self, call: OpenCall) -> None:
        """Send a cancel if the call still runs."""
        ...


class StreamCall(OpenCall):
    """An inference whose content is handed out as it comes; an ``OpenInference``.

    Content waits in one buffer: borders of chunks have no meaning (docs/spec/frames.md section 1),
    so a reader that lags behind gets fewer and larger pieces.
    """

    __slots__ = (
        "_buffer",
        "_changed",
        "_connection",
        "_dropping",
        "_end_head",
        "_failure",
        "_head",
        "_on_orphan",
        "_overflowed",
        "_receipt_id",
    )

    def __init__(self, connection: Canceller, on_orphan: OnOrphan) -> None:
        super().__init__()
        self._connection = connection
        self._on_orphan: OnOrphan | None = on_orphan
        self._changed = asyncio.Event()
        self._buffer = bytearray()
        self._head: HeadMap | None = None
        self._end_head: HeadMap | None = None
        self._failure: LatensgateError | None = None
        self._overflowed = False
        self._dropping = False
        self._receipt_id = ""

    # --- what the connection calls ---

    def take_head(self, head: HeadMap) -> None:
        """The answer begins."""
        self._head = head
        self._changed.set()

    def take_chunk(self, data: bytes) -> bool:
        """Add to what waits for the reader."""
        if self._dropping:
            return True
        if len(self._buffer) + len(data) > LINK_STREAM_QUEUE_MAX_BYTES:
            self._overflowed = self._dropping = True
        else:
            self._buffer += data
        self._changed.set()
        return not self._overflowed

    def take_end(self, head: HeadMap) -> None:
        """The answer is complete."""
        self._end_head = head
        if self.over:
            self._orphan()
        self._changed.set()

    def fail(self, error: LatensgateError) -> None:
        """Tell the reader, after what waits."""
        self._failure = error
        self._changed.set()

    def abandon(self) -> None:
        """Keep nothing more but what the orphan hook needs."""
        self.over = self._dropping = True
        self._buffer.clear()
        self._orphan()

    def _orphan(self) -> None:
        if self._on_orphan is not None and self._end_head is not None:
            give_orphan(self._on_orphan, self._head or _NO_HEAD, self._end_head)
            self._on_orphan = None

    # --- what its reader calls ---

    async def wait_head(self) -> None:
        """Return when the answer's head is there.

        Raises:
            EnclaveError: The enclave refused, or did not accept in time.
            EnclaveLostError: The connection ended, or the head is malformed.
        """
        while self._head is None:
            self._raise_failure()
            await self._change()
        try:
            self._receipt_id = InferenceHead.from_head(self._head).receipt_id
        except MalformedError as error:
            raise malformed(error) from None

    @property
    def receipt_id(self) -> str:
        """Of the start record."""
        return self._receipt_id

    def pieces(self) -> StreamCall:
        """Return the content as it comes; see ``__anext__``."""
        return self

    def __aiter__(self) -> StreamCall:
        return self

    async def __anext__(self) -> bytes:
        """Return what has come, at most ``CHUNK_FRAMED_MAX_BYTES``.

        Raises:
            EnclaveError: The enclave failed; or this reader was too slow (``ERR_OVERLOADED``): the
                call was cancelled, its end still comes.
            EnclaveLostError: The connection ended.
        """
        while not self._buffer:
            self._raise_failure()
            if self._overflowed:
                raise EnclaveError(
                    f"the answer was not fetched: more than {LINK_STREAM_QUEUE_MAX_BYTES} bytes",
                    code=ErrorCode.ERR_OVERLOADED,
                )
            if self._end_head is not None:
                raise StopAsyncIteration
            await self._change()
        piece = bytes(self._buffer[:CHUNK_FRAMED_MAX_BYTES])
        del self._buffer[: len(piece)]
        return piece

    def cancel(self) -> None:
        """Tell the enclave that nobody waits; ``pieces`` and ``end`` still come to their end."""
        self._connection.cancel(self)

    async def end(self) -> InferenceEnd:
        """Return what ends the answer; what is left of its content is dropped.

        Raises:
            EnclaveError: The enclave failed.
            EnclaveLostError: The connection ended, or the end is malformed.
        """
        self._dropping = True
        self._buffer.clear()
        self._raise_failure()
        while self._end_head is None:
            await self._change()
            self._raise_failure()
        try:
            end = InferenceEnd.from_head(self._end_head)
        except MalformedError as error:
            raise malformed(error) from None
        self._on_orphan = None
        return end

    async def aclose(self) -> None:
        """Cancel the call if it still runs, and forget it."""
        self._connection.cancel(self)
        self.abandon()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(self._failure.detail, code=self._failure.code)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def malformed(error: MalformedError) -> EnclaveLostError:
    """Return the error for an answer of another form: it ran, and nobody knows what it gave."""
    return EnclaveLostError(f"the enclave's answer is malformed: {error.detail}")
