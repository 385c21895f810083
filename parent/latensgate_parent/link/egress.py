r"""The way out for enclaves: a tunnel of bytes to hosts of an allow-list.

An enclave has no network. It opens a stream to the parent, writes ``CONNECT host:port\n``, and gets
``OK\n`` and then the bytes of a TCP connection, or ``ERR reason\n`` and the end. What passes is TLS
between enclave and AWS: it is counted here and neither read nor logged.

Half-close passes in both directions, a reset too, and a slow reader holds back its writer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from latensgate_parent.limits import (
    EGRESS_BUFFER_BYTES,
    EGRESS_DIAL_TIMEOUT_MS,
    EGRESS_IDLE_TIMEOUT_MS,
    EGRESS_LINE_MAX_BYTES,
    EGRESS_LINE_TIMEOUT_MS,
    EGRESS_TUNNELS_MAX_OPEN,
)
from latensgate_parent.link.destinations import DestinationError, parse_destination
from latensgate_parent.link.events import LinkEvent, LinkEventKind
from latensgate_parent.link.sockets import attach, listen, unlisten
from latensgate_shared.errors import ErrorCode, MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.link.address import Address
    from latensgate_parent.link.destinations import Destinations, Endpoint
    from latensgate_parent.link.events import EventSink

_VERB: Final = "CONNECT "
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""socket(7): linger for no time, so that TCP tells the other side that bytes may be missing."""
_BACKLOG: Final = 128
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ACCEPT_PAUSE_S: Final = 0.1


@dataclass(slots=True)
class EgressCounters:
    """What has passed since the start; bytes are those of open tunnels, too.

    Attributes:
        opened: Tunnels that led somewhere.
        refused: Not allowed, malformed, or too many at once.
        failed: Allowed, and could not be connected.
        bytes_up: From enclaves.
        bytes_down: To enclaves.
    """

    opened: int = 0
    refused: int = 0
    failed: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class _End(asyncio.Protocol):
    """One end of a tunnel: what it receives goes to the other.

    Attributes:
        other: The other end, once the tunnel leads somewhere.
        early: What came before that.
        eof: Whether it will send no more.
    """

    def __init__(self, tunnel: _Tunnel, counters: EgressCounters, *, is_near: bool) -> None:
        self._tunnel = tunnel
        self._counters = counters
        self._is_near = is_near
        self._now = asyncio.get_running_loop().time
        self._sink: asyncio.Transport | None = None
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self.early = bytearray()
        self.eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a socket over."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.transport.set_write_buffer_limits(high=EGRESS_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, and count them: here and in no other function, once for each token."""
        sink = self._sink
        if sink is None:
            self.early += data
            self._tunnel.early_bytes(self)
            return
        self._tunnel.active_at = self._now()
        if self._is_near:
            self._counters.bytes_up += len(data)
        else:
            self._counters.bytes_down += len(data)
        if not sink.is_closing():
            sink.write(data)

    def join(self, other: _End) -> None:
        """Lead to another end, which is open."""
        self.other = other
        self._sink = other.transport_

    def pause_writing(self) -> None:
        """Too much waits to be taken here: hold the other end back."""
        if self.other is not None and self.other.is_open:
            self.other.transport_.pause_reading()

    def resume_writing(self) -> None:
        """It was taken."""
        if self.other is not None and self.other.is_open:
            self.other.transport_.resume_reading()

    def eof_received(self) -> bool:
        """Pass the end on; this end stays open for what still comes the other way."""
        self.eof = True
        self._tunnel.pass_eof(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other end in the same way."""
        self._tunnel.lost(self, reset=exc is not None)

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    @property
    def transport_(self) -> asyncio.Transport:
        """The transport of an end that is open."""
        assert self.transport is not None  # noqa: S101  # asked after `is_open`
        return self.transport

    def end(self, *, reset: bool) -> None:
        """Close after what was written, or at once."""
        if self.transport is None:
            return
        if reset:
            with suppress(OSError, AttributeError):  # the socket may be gone already
                held = self.transport.get_extra_info("socket")
                held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            self.transport.abort()
        else:
            self.transport.close()


class _Tunnel:
    """One tunnel: first a line, then bytes both ways."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._loop = asyncio.get_running_loop()
        self._line_came: asyncio.Future[None] = self._loop.create_future()
        self._idle_timer: asyncio.TimerHandle | None = None
        self.active_at = 0.0
        self.near = _End(self, egress.counters, is_near=True)
        self.far = _End(self, egress.counters, is_near=False)

    async def open(self) -> None:
        """Read the line, connect, answer; then return, and bytes flow by themselves."""
        try:
            async with asyncio.timeout(EGRESS_LINE_TIMEOUT_MS / 1_000):
                await self._line_came
            host, port = self._destination()
        except (TimeoutError, MalformedError):
            self._refuse("malformed")
            return
        if not self._egress.destinations.allows(host, port):
            self._refuse("not allowed", f"{host}:{port}")
            return
        try:
            async with asyncio.timeout(EGRESS_DIAL_TIMEOUT_MS / 1_000):
                await self._dial(await self._egress.destinations.endpoints(host, port))
        except OSError as error:  # a TimeoutError is one, too
            self._fail(f"{host}:{port}", f"{type(error).__name__}, errno {error.errno}")
            return
        except DestinationError as error:
            self._fail(f"{host}:{port}", error.detail)
            return
        self._join()

    def _destination(self) -> tuple[str, int]:
        line, end, rest = bytes(self.near.early).partition(b"\n")
        self.near.early = bytearray(rest)
        text = line.decode("ascii", "replace")
        if not end or len(line) >= EGRESS_LINE_MAX_BYTES or not text.startswith(_VERB):
            raise MalformedError("egress: CONNECT expected")
        return parse_destination(text.removeprefix(_VERB))

    async def _dial(self, endpoints: Sequence[Endpoint]) -> None:
        failure = OSError(errno.EHOSTUNREACH, "no address")
        for endpoint in endpoints:
            try:
                await self._loop.create_connection(
                    lambda: self.far, endpoint.address, endpoint.port
                )
            except OSError as error:
                failure = error
            else:
                return
        raise failure

    def _refuse(self, reason: str, destination: str = "") -> None:
        self._egress.counters.refused += 1
        self._egress.tell(LinkEventKind.TUNNEL_REFUSED, destination, reason)
        self._say_no(reason)

    def _fail(self, destination: str, detail: str) -> None:
        self._egress.counters.failed += 1
        self._egress.tell(LinkEventKind.TUNNEL_FAILED, destination, detail)
        self._say_no("unreachable")

    def _say_no(self, reason: str) -> None:
        if self.near.is_open:
            self.near.transport_.write(f"ERR {reason}\n".encode())
        self.abort(reset=False)

    def _join(self) -> None:
        near, far = self.near, self.far
        if not (near.is_open and far.is_open):
            self.abort(reset=True)
            return
        self._egress.counters.opened += 1
        near.join(far)
        far.join(near)
        near.transport_.write(b"OK\n")
        self._watch()
        for end in (near, far):
            if end.early:
                end.data_received(bytes(end.early))
                end.early.clear()
            if end.eof:
                self.pass_eof(end)
            end.transport_.resume_reading()

    # --- what its ends call ---

    def early_bytes(self, end: _End) -> None:
        """Read no more before the tunnel leads somewhere than what its line needs."""
        if end is self.near and not (b"\n" in end.early or len(end.early) > EGRESS_LINE_MAX_BYTES):
            return
        end.transport_.pause_reading()
        self._line_is_there()

    def _line_is_there(self) -> None:
        if not self._line_came.done():
            self._line_came.set_result(None)

    def pass_eof(self, end: _End) -> None:
        """Tell the other end that no more comes; both told: close."""
        if end.other is None:
            self._line_is_there()
        elif end.other.eof:
            self.abort(reset=False)
        elif end.other.is_open:
            end.other.transport_.write_eof()

    def lost(self, end: _End, *, reset: bool) -> None:
        """End the rest of the tunnel."""
        self._line_is_there()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        (self.far if end is self.near else self.near).end(reset=reset)
        self._egress.forget(self)

    def _watch(self) -> None:
        """Cut the tunnel once nothing has passed for too long."""
        now = self._loop.time()
        idle_s = EGRESS_IDLE_TIMEOUT_MS / 1_000
        if self._idle_timer is None:
            self.active_at = now
        elif now - self.active_at >= idle_s:
            self.abort(reset=True)
            return
        self._idle_timer = self._loop.call_at(self.active_at + idle_s, self._watch)

    def abort(self, *, reset: bool) -> None:
        """End both ends."""
        self.near.end(reset=reset)
        self.far.end(reset=reset)


class Egress:
    """The listener.

    Args:
        address: Where enclaves ask.
        destinations: Where tunnels may lead.
        events: The log.

    Attributes:
        counters: For metrics.
    """

    def __init__(self, address: Address, destinations: Destinations, events: EventSink) -> None:
        self._address = address
        self._events = events
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._tunnels: set[_Tunnel] = set()
        self.destinations = destinations
        self.counters = EgressCounters()

    @property
    def open_tunnels(self) -> int:
        """Tunnels at this moment, those that are being opened included."""
        return len(self._tunnels)

    def start(self) -> None:
        """Listen.

        Raises:
            SocketError: The address cannot be listened on.
        """
        self._listener = listen(self._address, backlog=_BACKLOG)
        self._accepting = asyncio.create_task(self._accept(self._listener))

    async def aclose(self) -> None:
        """Stop listening and cut every tunnel."""
        tasks = [*self._opening] + ([self._accepting] if self._accepting else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for tunnel in list(self._tunnels):
            tunnel.abort(reset=True)
        if self._listener is not None:
            unlisten(self._listener, self._address)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:  # also of a client that has gone again
                if error.errno in _NO_DESCRIPTORS:
                    await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            # A client that hangs up leaves its dial behind, for as long as that may take.
            if max(len(self._tunnels), len(self._opening)) >= EGRESS_TUNNELS_MAX_OPEN:
                self._turn_away(accepted)
                continue
            task = asyncio.create_task(self._serve(accepted))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _turn_away(self, accepted: socket.socket) -> None:
        self.counters.refused += 1
        self.tell(LinkEventKind.TUNNEL_REFUSED, "", "busy")
        with accepted, suppress(OSError):
            accepted.settimeout(0)  # non-blocking
            accepted.send(b"ERR busy\n")

    async def _serve(self, accepted: socket.socket) -> None:
        tunnel = _Tunnel(self)
        self._tunnels.add(tunnel)
        try:
            await attach(accepted, lambda: tunnel.near)
            await tunnel.open()
        except BaseException:  # cancelled at the end, or no transport could be made
            tunnel.abort(reset=True)
            self.forget(tunnel)
            raise

    def forget(self, tunnel: _Tunnel) -> None:
        """One of its ends is gone."""
        self._tunnels.discard(tunnel)

    def tell(self, kind: LinkEventKind, destination: str, detail: str) -> None:
        """Log why a tunnel leads nowhere."""
        self._events(LinkEvent(kind, destination, ErrorCode.ERR_UPSTREAM, detail))
