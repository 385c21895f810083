"""The sealed route behind the real server: what only a socket shows."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from inference_doubles import PATH, Rig, make_rig, read_events, request, run
from latensgate_parent import server as server_module
from latensgate_parent.http.asgi_types import ASGIScope, Receive, Send
from latensgate_parent.http.errors import Header
from latensgate_parent.limits import HTTP_FIELDS_MAX_COUNT
from latensgate_parent.server import QuietServer, bind, make_server, port_of
from latensgate_parent.settings_forms import HostPort
from latensgate_parent.store.open import open_store
from latensgate_shared.error_answers import parse_error_answer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import SEALED_BODY_MAX_BYTES


@asynccontextmanager
async def serving(rig: Rig) -> AsyncGenerator[int]:
    listener = bind(HostPort("127.0.0.1", 0))
    server = make_server(rig.gateway)
    task = asyncio.create_task(server.serve([listener]))
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        yield port_of(listener)
    finally:
        server.should_exit = True
        await task
        listener.close()


def fields(headers: Sequence[Header]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers if name != b"host"}


def test_an_answer_and_a_stream_and_their_replays(tmp_path: object) -> None:
    async def test() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/latensgate.db")
        rig = await make_rig(store)
        rig.enclave.pieces = [b"one", b"two" * 10_000]
        async with (
            serving(rig) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        ):
            first = httpx.Response(500)
            for stream in (False, True):
                headers, body = request(key=f"k{stream}", stream=stream)
                first = await client.post(PATH, headers=fields(headers), content=body)
                again = await client.post(PATH, headers=fields(headers), content=body)
                assert first.status_code == again.status_code == 200
                assert first.content == again.content
                assert "server" not in first.headers
            assert b"".join(read_events(first.content)) == (
                b"".join(rig.enclave.pieces) + rig.enclave.final
            )
            assert len(rig.enclave.ran) == len(await rig.receipts()) == 2
        assert await rig.route.finish(1)
        await store.aclose()

    run(test())


def test_events_leave_as_they_come() -> None:
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        headers, body = request(stream=True)
        async with (
            serving(rig) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        ):
            sent = client.stream("POST", PATH, headers=fields(headers), content=body)
            async with sent as answer:
                pieces = answer.aiter_raw()
                assert read_events(await anext(pieces)) == [rig.enclave.content]
                rig.enclave.release.set()
                rest = b"".join([each async for each in pieces])
                assert read_events(rest) == [rig.enclave.final]

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_that_ends_cancels(stream: bool) -> None:  # noqa: FBT001 - a case
    async def test() -> None:
        rig = await make_rig()
        rig.enclave.release = asyncio.Event()
        headers, body = request(stream=stream)
        async with serving(rig) as port:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw(headers) + body)
            await rig.enclave.arrived.wait()
            writer.close()
            while not rig.observed.done:  # noqa: ASYNC110 - told by no event
                await asyncio.sleep(0.005)
        assert rig.enclave.cancelled == 1
        assert rig.observed.done[0].code is ErrorCode.ERR_CANCELLED
        assert not rig.observed.unexpected

    run(test())


def raw(headers: Sequence[Header], method: bytes = b"POST") -> bytes:
    lines = [b"%s: %s\r\n" % each for each in headers]
    return method + b" " + PATH.encode() + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head.split(b" ")[1]), await reader.readexactly(length)


def test_what_is_refused_unread_leaves_the_connection_usable() -> None:
    """A refusal does not wait for the body; what still comes of it is dropped."""

    async def test() -> None:
        rig = await make_rig()
        headers, body = request()
        unknown, _ = request(api_key="lg_test_" + "Q" * 43)
        async with serving(rig) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for refused, size, status in (
                (headers, SEALED_BODY_MAX_BYTES + 1, 413),
                (unknown, 5_000_000, 401),
            ):
                changed = [each for each in refused if each[0] != b"content-length"]
                length = (b"content-length", str(size).encode())
                writer.write(raw([*changed, length]))
                found, told = await answered(reader)
                assert found == status
                assert parse_error_answer(told).error.code.http_status == status
                writer.write(bytes(size))
                await writer.drain()
            writer.write(raw(headers) + body)
            found, told = await answered(reader)
            assert found == 200
            assert json.loads(told)["latency_ms"] == 23
            writer.close()
        assert len(rig.enclave.calls) == 1

    run(test())


def test_two_lengths_and_two_hosts() -> None:
    async def test() -> None:
        rig = await make_rig()
        headers, body = request()
        async with serving(rig) as port:
            for twice in ((b"content-length", b"1"), (b"host", b"other")):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(raw([*headers, twice]) + body)
                status, told = await answered(reader)
                assert status == 400
                assert parse_error_answer(told).error.code is ErrorCode.ERR_REQUEST_INVALID
                writer.close()
        assert not rig.enclave.calls

    run(test())


# --- clients that do not read ---


def silent_reader(port: int) -> socket.socket:
    """Connect with the smallest window, so that what is not read waits at the server."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    peer.connect(("127.0.0.1", port))
    return peer


@asynccontextmanager
async def long_answers(
    size_bytes: int, *, ended: bool = True
) -> AsyncGenerator[tuple[int, QuietServer]]:
    async def app(scope: ASGIScope, _receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size_bytes), "more_body": True})
        if ended:
            await send({"type": "http.response.body", "body": b""})

    listener = bind(HostPort("127.0.0.1", 0))
    server = make_server(app)
    task = asyncio.create_task(server.serve([listener]))
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        yield port_of(listener), server
    finally:
        server.should_exit = True
        await task
        listener.close()


@pytest.mark.parametrize("ended", [True, False])
def test_a_client_that_does_not_read_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, *, ended: bool
) -> None:
    """It would hold memory and a connection for ever: closing waits until all is written."""
    monkeypatch.setattr(server_module, "STREAM_SEND_TIMEOUT_S", 0.2)

    async def test() -> None:
        async with long_answers(16 << 20, ended=ended) as (port, server):
            peer = silent_reader(port)
            peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                while not server.server_state.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                while server.server_state.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            peer.close()

    run(test())


def test_a_slow_reader_that_goes_on_reading_gets_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "STREAM_SEND_TIMEOUT_S", 0.2)
    size_bytes = 8 << 20

    async def test() -> None:
        async with long_answers(size_bytes) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65_536)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = 0
            while piece := await reader.read(65_536):
                got += len(piece)
                await asyncio.sleep(0.005)  # more than the deadline, in all
            assert got > size_bytes
            writer.close()

    run(test())


def test_a_head_of_many_fields_is_refused() -> None:
    async def test() -> None:
        rig = await make_rig()
        async with serving(rig) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            fields = b"a: b\r\n" * (HTTP_FIELDS_MAX_COUNT + 1)
            writer.write(b"POST /api/inference HTTP/1.1\r\n" + fields + b"\r\nbody")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 400 ")
            code = parse_error_answer(answer.partition(b"\r\n\r\n")[2]).error.code
            assert code is ErrorCode.ERR_REQUEST_INVALID
            writer.close()

    run(test())
