"""What one turn of the loop writes to a client leaves as one write.

uvicorn writes the head of an answer and its body apart, and each event of a stream: every one a
system call and, with ``TCP_NODELAY``, a packet that wakes the client up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from latensgate_parent.limits import HTTP_HELD_WRITE_MAX_BYTES

if TYPE_CHECKING:
    import asyncio


class GatheringTransport:
    """A transport whose writes are joined until the loop's next turn.

    Args:
        transport: The connection; everything but writing is its own.
        loop: Its loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    @classmethod
    def over(
        cls, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Transport:
        """Return it as what a protocol takes."""
        return cast("asyncio.Transport", cls(transport, loop))

    def write(self, data: bytes) -> None:
        """Write soon."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HTTP_HELD_WRITE_MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._held and not self._transport.is_closing():
            self._transport.write(b"".join(self._held))
        self._held.clear()
        self._held_bytes = 0

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the client has not taken."""
        return self._transport.get_write_buffer_size() + self._held_bytes

    def close(self) -> None:
        """Write what is held, and close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
