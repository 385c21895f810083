"""TLS that ends inside: who is dialled, who is believed, and how calls fail."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import hashlib
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

import pytest
from msgspec.structs import replace

from enclave_doubles import in_loop
from latensgate_enclave import egress as egress_module
from latensgate_enclave.clock import EnclaveClock
from latensgate_enclave.egress import Call, Egress, EgressError, check_window, tls_context
from latensgate_enclave.http1 import HTTPError, HttpRequest
from latensgate_enclave.tls_stream import TLSStream
from latensgate_shared.errors import ErrorCode
from latensgate_sim.nitro_pki import Issued
from latensgate_sim.tls import EndpointCA

HOST = "kms.us-east-1.amazonaws.com"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
NOW_S = int(dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp())

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@functools.cache
def ca() -> EndpointCA:
    return EndpointCA()


@functools.cache
def certificate(name: str = HOST) -> Issued:
    return ca().issue([name])


@dataclass
class Time:
    at_s: int = NOW_S

    def now_s(self) -> int:
        return self.at_s


@dataclass
class Far:
    """A server that talks as a test says."""

    egress: Egress
    time: Time
    dialled: list[tuple[str, int]]
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def far(  # noqa: PLR0913  # each is one thing that may be wrong over there
    talk: Talk,
    *,
    issued: Issued | None = None,
    roots: EndpointCA | None = None,
    tls: bool = True,
    before_tls: bytes = b"",
    own: Mapping[str, EndpointCA] = MappingProxyType({}),
) -> AsyncGenerator[Far]:
    writers: list[asyncio.StreamWriter] = []
    ended = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            ended.set()
            writer.transport.abort()

    context = ca().context(issued or certificate()) if tls else None
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    bound = server.sockets[0].getsockname()[1]
    dialled: list[tuple[str, int]] = []

    async def dial(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        dialled.append((host, port))
        reader, writer = await asyncio.open_connection("127.0.0.1", bound)
        reader.feed_data(before_tls)
        return reader, writer

    time = Time()
    pinned = tls_context((roots or ca()).pem)
    contexts = {host: tls_context(authority.pem) for host, authority in own.items()}
    hosts = frozenset({HOST, *own})
    egress = Egress(dial, pinned, hosts, cast("EnclaveClock", time), contexts)
    try:
        yield Far(egress, time, dialled, ended)
    finally:
        egress.close()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


def call(body: bytes = b"", *, host: str = HOST, deadline_ms: int = 5_000) -> Call:
    request = HttpRequest("POST", host, "/", (), body)
    return Call(request, max_body_bytes=100, deadline_ms=deadline_ms)


def answering(*answers: bytes) -> Talk:
    """Answer each request of a connection with the next bytes, then read on."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        await reader.read()

    return talk


async def reset(writer: asyncio.StreamWriter) -> None:
    opened = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await asyncio.sleep(0)


@in_loop
async def test_an_answer_comes_with_the_hash_of_the_certificate() -> None:
    async with far(answering(OK)) as there:
        told: list[str] = []
        response = await there.egress.send(replace(call(b"question"), connected=told.append))
    assert (response.status, response.body) == (200, b"ok")
    assert told == [hashlib.sha256(certificate().der).hexdigest()]
    assert there.dialled == [(HOST, 443)]


@in_loop
async def test_only_hosts_of_the_list_are_dialled() -> None:
    async with far(answering(OK)) as there:
        with pytest.raises(EgressError, match="not on the measured list") as caught:
            await there.egress.send(call(host="evil.example.com"))
    assert caught.value.nothing_sent
    assert there.dialled == []


@pytest.mark.parametrize("fault", ["another root", "another host name"])
def test_a_server_that_is_not_it_gets_no_byte(fault: str) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))

    @in_loop
    async def scenario() -> None:
        roots = EndpointCA() if fault == "another root" else None
        issued = certificate("sts.us-east-1.amazonaws.com") if roots is None else None
        async with far(listen, issued=issued, roots=roots) as there:
            with pytest.raises(EgressError, match="TLS failed under the pinned roots") as caught:
                await there.egress.send(call(b"secret"))
            assert caught.value.nothing_sent
            assert caught.value.code is ErrorCode.ERR_UPSTREAM
        assert not any(heard)

    scenario()


@pytest.mark.parametrize("year", [2018, 2050])
def test_a_certificate_outside_enclave_time_is_refused(year: int) -> None:
    @in_loop
    async def scenario() -> None:
        async with far(answering(OK)) as there:
            there.time.at_s = int(dt.datetime(year, 6, 1, tzinfo=dt.UTC).timestamp())
            with pytest.raises(EgressError, match="not valid on enclave time") as caught:
                await there.egress.send(call())
            assert caught.value.nothing_sent

    scenario()


def test_a_certificate_that_cannot_be_read_is_a_typed_error() -> None:
    with pytest.raises(EgressError, match="malformed"):
        check_window(HOST, b"no DER", NOW_S)


@in_loop
async def test_an_idle_connection_is_used_again() -> None:
    async with far(answering(OK, OK)) as there:
        await there.egress.send(call())
        await there.egress.send(call())
    assert len(there.dialled) == 1


@pytest.mark.parametrize(
    "answers",
    [
        [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"],
        [OK, b""],  # nothing more: `answering` then waits, the server below closes
    ],
)
def test_a_connection_that_ends_is_not_used_again(answers: list[bytes]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers[0])
        await writer.drain()
        if len(answers) == 1:
            await reader.read()

    @in_loop
    async def scenario() -> None:
        async with far(talk) as there:
            await there.egress.send(call())
            await asyncio.wait_for(there.ended.wait(), 1)
            await asyncio.sleep(0.01)
            await there.egress.send(call())
            assert len(there.dialled) == 2

    scenario()


def test_few_idle_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_module, "EGRESS_IDLE_MAX_COUNT", 1)

    @in_loop
    async def scenario() -> None:
        async with far(answering(OK, OK)) as there:
            await asyncio.gather(there.egress.send(call()), there.egress.send(call()))
            await asyncio.gather(there.egress.send(call()), there.egress.send(call()))
            assert len(there.dialled) == 3

    scenario()


@in_loop
async def test_close_cuts_idle_connections() -> None:
    async with far(answering(OK)) as there:
        await there.egress.send(call())
        there.egress.close()
        await asyncio.wait_for(there.ended.wait(), 1)


@in_loop
async def test_a_cut_answer_is_an_error() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
        await writer.drain()
        writer.close()

    async with far(cut) as there:
        with pytest.raises(HTTPError, match="ended before the answer did"):
            await there.egress.send(call())


@in_loop
async def test_an_answer_above_its_limit_is_an_error() -> None:
    async with far(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n")) as there:
        with pytest.raises(HTTPError, match="longer than this call admits"):
            await there.egress.send(call())


@in_loop
async def test_a_reset_while_the_answer_comes() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reset(writer)

    async with far(talk) as there:
        with pytest.raises(EgressError, match="connection broke") as caught:
            await there.egress.send(call())
    assert not caught.value.nothing_sent


def test_a_reset_while_the_request_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_stream: TLSStream, _data: bytes) -> None:
        raise ConnectionResetError

    @in_loop
    async def scenario() -> None:
        async with far(answering(OK)) as there:
            await there.egress.send(call())
            monkeypatch.setattr(TLSStream, "send", broken)
            with pytest.raises(EgressError, match=f"{HOST}: the connection broke") as caught:
                await there.egress.send(call())
            assert not caught.value.nothing_sent

    scenario()


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"])
def test_a_deadline_holds_for_the_whole_answer(begun: bytes) -> None:
    @in_loop
    async def scenario() -> None:
        async with far(answering(begun)) as there:
            with pytest.raises(EgressError, match="within 50 ms") as caught:
                await there.egress.send(call(deadline_ms=50))
            assert caught.value.code is ErrorCode.ERR_UPSTREAM_TIMEOUT
            assert not caught.value.nothing_sent
            await asyncio.wait_for(there.ended.wait(), 1)  # the connection is cut

    scenario()


def test_a_handshake_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_module, "EGRESS_CONNECT_TIMEOUT_MS", 30)

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    @in_loop
    async def scenario() -> None:
        async with far(mute, tls=False) as there:
            with pytest.raises(EgressError, match="no TLS connection within 30 ms") as caught:
                await there.egress.send(call())
            assert caught.value.nothing_sent
            await asyncio.wait_for(there.ended.wait(), 1)  # and not leaked

    scenario()


@in_loop
async def test_an_answer_is_handed_out_while_it_comes_and_leaving_cuts_it() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        await reader.read()

    async with far(talk) as there:
        async with there.egress.open(call()) as reply:
            assert reply.head.status == 200
            assert await anext(reply) == b"ab"
        await asyncio.wait_for(there.ended.wait(), 1)


@in_loop
async def test_a_caller_that_is_cancelled_stays_cancelled() -> None:
    async with far(answering(b"")) as there:
        sending = asyncio.create_task(there.egress.send(call()))
        await asyncio.sleep(0.05)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.wait_for(there.ended.wait(), 1)


@in_loop
async def test_what_the_parent_sends_before_tls_is_never_an_answer() -> None:
    forged = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
    async with far(answering(OK), before_tls=forged) as there:
        response = await there.egress.send(call())
    assert response.body == b"ok"


@in_loop
async def test_what_comes_unasked_does_not_answer_the_next_request() -> None:
    late = asyncio.Event()

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        if late.is_set():
            return  # the second connection
        await late.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    async with far(twice) as there:
        await there.egress.send(call())
        late.set()
        await asyncio.sleep(0.05)
        response = await there.egress.send(call())
    assert response.status == 200
    assert len(there.dialled) == 2


UPSTREAM = "llm.example.com:8443"


@in_loop
async def test_an_upstream_has_its_own_port_and_roots() -> None:
    issued = certificate("llm.example.com")
    async with far(answering(OK), issued=issued, roots=EndpointCA(), own={UPSTREAM: ca()}) as there:
        response = await there.egress.send(call(host=UPSTREAM))
    assert response.status == 200
    assert there.dialled == [("llm.example.com", 8443)]


@in_loop
async def test_roots_of_an_upstream_are_good_for_nobody_else() -> None:
    own = {UPSTREAM: ca()}
    async with far(answering(OK), issued=certificate(), roots=EndpointCA(), own=own) as there:
        with pytest.raises(EgressError, match="TLS failed under the pinned roots"):
            await there.egress.send(call())
