"""TLS over a socket of the loop: who is believed is egress's; here is how its bytes flow."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from enclave_doubles import in_loop
from latensgate_enclave.egress import tls_context
from latensgate_enclave.tls_stream import TLSStream
from latensgate_shared.limits import EGRESS_READ_BYTES
from latensgate_sim.nitro_pki import Issued
from latensgate_sim.tls import EndpointCA

HOST = "model.example"
LONG = bytes(range(256)) * 40_000  # 10 MB: more than all buffers on the way
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@functools.cache
def ca() -> EndpointCA:
    return EndpointCA()


@functools.cache
def certificate() -> Issued:
    return ca().issue([HOST])


@dataclass
class Far:
    """A connection, and what lies under it."""

    stream: TLSStream
    socket: asyncio.StreamWriter
    leaf: bytes = b""
    writers: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])


@asynccontextmanager
async def far(talk: Talk, *, start: bool = True, tls: bool = True) -> AsyncGenerator[Far]:
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await talk(reader, writer)

    context = ca().context(certificate()) if tls else None
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    _, socket = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    stream = TLSStream(socket, tls_context(ca().pem), HOST)
    try:
        yield Far(stream, socket, await stream.start() if start else b"", writers)
    finally:
        stream.abort()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def whole(stream: TLSStream) -> bytes:
    pieces: list[bytes] = []
    while piece := await stream.read():
        pieces.append(piece)
    return b"".join(pieces)


@in_loop
async def test_bytes_go_and_come() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))

    async with far(echo) as there:
        assert there.leaf == certificate().der
        await there.stream.send(b"hello")
        assert await there.stream.read() == b"hello"
        assert there.stream.unread_bytes == 0
        assert not there.stream.has_ended


@in_loop
async def test_what_nobody_reads_holds_the_other_side_back() -> None:
    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(LONG)
        await writer.drain()
        writer.close()

    async with far(pour) as there:
        await asyncio.sleep(0.3)
        assert EGRESS_READ_BYTES < there.stream.unread_bytes <= 2 * EGRESS_READ_BYTES
        assert await whole(there.stream) == LONG
        assert there.stream.has_ended
        with pytest.raises(ConnectionResetError):
            await there.stream.send(b"x")


@in_loop
async def test_a_slow_reader_holds_send_back() -> None:
    goes_on = asyncio.Event()
    heard: list[bytes] = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await goes_on.wait()
        heard.append(await reader.readexactly(len(LONG)))
        writer.close()

    async with far(slow) as there:
        sending = asyncio.create_task(there.stream.send(LONG))
        await asyncio.sleep(0.3)
        assert not sending.done()
        goes_on.set()
        await asyncio.wait_for(sending, 10)
        await asyncio.wait_for(whole(there.stream), 10)
    assert heard == [LONG]


@in_loop
async def test_a_connection_that_breaks_ends_who_sends() -> None:
    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.transport.abort()

    async with far(leave) as there:
        with pytest.raises(OSError):  # noqa: PT011  # whichever the kernel says
            await asyncio.wait_for(there.stream.send(LONG), 10)
        with pytest.raises(OSError):  # noqa: PT011  # whichever the kernel says
            await asyncio.wait_for(there.stream.send(LONG), 10)


@pytest.mark.parametrize("says_so", [True, False])
def test_the_end_is_the_end_whether_it_was_said_or_not(says_so: bool) -> None:  # noqa: FBT001  # a case
    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        await writer.drain()
        if says_so:
            writer.close()
        else:
            writer.get_extra_info("socket").shutdown(1)

    @in_loop
    async def scenario() -> None:
        async with far(leave) as there:
            assert await asyncio.wait_for(whole(there.stream), 10) == b"bye"
            assert there.stream.has_ended

    scenario()


@in_loop
async def test_a_record_that_was_changed_breaks_the_connection() -> None:
    async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with far(wait) as there:
        record = b"\x17\x03\x03\x00\x20" + bytes(32)
        there.stream.get_buffer(-1)[: len(record)] = record
        there.stream.buffer_updated(len(record))
        with pytest.raises(ssl.SSLError):
            await there.stream.read()
        assert there.stream.has_ended
        with pytest.raises(ssl.SSLError):
            await there.stream.send(b"x")


@in_loop
async def test_what_is_no_tls_opens_nothing() -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()

    async with far(speak, start=False, tls=False) as there:
        with pytest.raises(ssl.SSLError):
            await there.stream.start()


@in_loop
async def test_a_server_that_leaves_during_the_handshake() -> None:
    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with far(leave, start=False, tls=False) as there:
        with pytest.raises(OSError):  # noqa: PT011  # whichever the kernel says
            await asyncio.wait_for(there.stream.start(), 10)
