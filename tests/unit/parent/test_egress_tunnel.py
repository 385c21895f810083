# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from latensgate_parent.link import egress as egress_module
from latensgate_parent.link.address import UnixAddress
from latensgate_parent.link.destinations import Destinations, Endpoint
from latensgate_parent.link.egress import Egress
from latensgate_parent.link.events import LinkEvent, LinkEventKind
from latensgate_parent.link.sockets import SocketError, listen

Run = Callable[[Callable[[], Coroutine[None, None, None]]], None]
HOST = "kms.us-east-1.amazonaws.com"
NAME = f"{HOST}:443"
SECRET = b"bytes that no log may show"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(main: Callable[[], Coroutine[None, None, None]]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(asyncio.wait_for(main(), 20))

    return runner


class Way:
    """A running egress in front of one server of the test's own."""

    def __init__(self, egress: Egress, path: Path, events: list[LinkEvent]) -> None:
        self.egress = egress
        self.path = path
        self.events = events

    async def dial(
        self, line: bytes = b"CONNECT " + NAME.encode() + b"\n"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(line)
        return reader, writer

    async def granted(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.dial()
        assert await reader.readexactly(3) == b"OK\n"
        return reader, writer

    async def none_open(self, but: int = 0) -> None:
        async with asyncio.timeout(5):
            while self.egress.open_tunnels > but:  # noqa: ASYNC110  # looked at from outside
                await asyncio.sleep(0.01)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write(b"end")
    await closed(writer)


@asynccontextmanager
async def way(tmp_path: Path, handler: Handler = echo) -> AsyncGenerator[Way]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    events: list[LinkEvent] = []
    path = tmp_path / "egress.sock"
    places = Destinations(frozenset({NAME}), {NAME: Endpoint("127.0.0.1", port)})
    egress = Egress(UnixAddress(str(path)), places, events.append)
    egress.start()
    try:
        yield Way(egress, path, events)
    finally:
        await egress.aclose()
        server.close()
        await asyncio.sleep(0.02)
    assert not path.exists()
    assert SECRET.decode() not in repr(events)


def test_bytes_pass_both_ways_and_so_do_both_ends(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with way(tmp_path) as made:
            reader, writer = await made.granted()
            writer.write(SECRET)
            assert await reader.readexactly(len(SECRET)) == SECRET
            writer.write_eof()  # the server still answers after it
            assert await reader.read() == b"end"
            await closed(writer)
            await made.none_open()
            counters = made.egress.counters
            assert (counters.opened, counters.refused, counters.failed) == (1, 0, 0)
            assert counters.bytes_up == len(SECRET)
            assert counters.bytes_down == len(SECRET) + 3
            assert made.events == []

    run(main)


def test_the_server_may_end_first(run: Run, tmp_path: Path) -> None:
    received = bytearray()

    async def ends_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.write_eof()
        received.extend(await reader.read())
        await closed(writer)

    async def main() -> None:
        async with way(tmp_path, ends_first) as made:
            reader, writer = await made.granted()
            assert await reader.read() == b"hello"
            writer.write(SECRET)
            await writer.drain()
            writer.write_eof()
            await made.none_open()
            assert received == SECRET
            await closed(writer)

    run(main)


def test_what_comes_with_the_line_is_passed_on_and_an_early_end_too(
    run: Run, tmp_path: Path
) -> None:
    async def main() -> None:
        async with way(tmp_path) as made:
            reader, writer = await made.dial(b"CONNECT " + NAME.encode() + b"\n" + SECRET)
            writer.write_eof()
            assert await reader.read() == b"OK\n" + SECRET + b"end"
            await closed(writer)

    run(main)


def test_a_line_may_come_in_pieces(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with way(tmp_path) as made:
            reader, writer = await made.dial(b"CONN")
            await asyncio.sleep(0.02)
            writer.write(b"ECT " + NAME.encode())
            await asyncio.sleep(0.02)
            writer.write(b"\n")
            assert await reader.readexactly(3) == b"OK\n"
            await closed(writer)

    run(main)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"CONNECT sts.us-east-1.amazonaws.com:443\n", b"not allowed"),
        (b"CONNECT kms.us-east-1.amazonaws.com:80\n", b"not allowed"),
        (b"CONNECT kms.us-east-1.amazonaws.com.evil.example:443\n", b"not allowed"),
        (b"CONNECT kms.us-east-1.amazonaws.com.:443\n", b"malformed"),
        (b"CONNECT KMS.us-east-1.amazonaws.com:443\n", b"malformed"),
        (b"CONNECT 169.254.169.254:80\n", b"malformed"),
        (b"CONNECT [::1]:443\n", b"malformed"),
        (b"CONNECT kms.us-east-1.amazonaws.com:0443\n", b"malformed"),
        (b"CONNECT kms.us-east-1.amazonaws.com:65536\n", b"malformed"),
        (b"CONNECT kms.us-east-1.amazonaws.com\n", b"malformed"),
        (b"CONNECT kms.us-east-1.amazonaws.com:443\r\n", b"malformed"),
        (b"CONNECT kms.us-east-1.amazonaws.com:443 HTTP/1.1\n", b"malformed"),
        (b"connect kms.us-east-1.amazonaws.com:443\n", b"malformed"),
        (b"CONNECT \xff\xfe:443\n", b"malformed"),
        (b"\n", b"malformed"),
        (b"CONNECT " + b"a" * 400 + b":443\n", b"malformed"),
        (b"x" * 100_000, b"malformed"),
    ],
)
def test_other_lines_are_refused(run: Run, tmp_path: Path, line: bytes, reason: bytes) -> None:
    async def main() -> None:
        async with way(tmp_path) as made:
            reader, writer = await made.dial(line)
            answer = bytearray()
            with suppress(ConnectionResetError):  # of what it did not read
                while data := await reader.read(100):
                    answer += data
            assert answer in (b"ERR " + reason + b"\n", b"")
            await closed(writer)
            await made.none_open()
            assert made.egress.counters.refused == 1
            (event,) = made.events
            assert event.kind is LinkEventKind.TUNNEL_REFUSED
            assert event.detail == reason.decode()

    run(main)


def test_a_line_without_an_end_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_module, "EGRESS_LINE_TIMEOUT_MS", 50)

    async def main() -> None:
        async with way(tmp_path) as made:
            reader, writer = await made.dial(b"CONNECT " + NAME.encode())
            assert await reader.read() == b"ERR malformed\n"
            await closed(writer)
            reader, writer = await made.dial(b"CONNECT " + NAME.encode())
            writer.write_eof()
            assert await reader.read() == b"ERR malformed\n"
            await closed(writer)
            _, writer = await made.dial(b"CONN")
            await closed(writer)
            await made.none_open()

    run(main)


def test_a_slow_reader_holds_its_writer_back(run: Run, tmp_path: Path) -> None:
    written = 0

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        with suppress(OSError):
            while written < 64 << 20:
                writer.write(bytes(1 << 16))
                written += 1 << 16
                await writer.drain()
            writer.write_eof()
            await reader.read()
        await closed(writer)

    async def main() -> None:
        async with way(tmp_path, floods) as made:
            reader, writer = await made.granted()
            before = -1
            while written != before:
                before = written
                await asyncio.sleep(0.3)
            assert written < 32 << 20, "only what sockets and buffers hold was taken"
            held = made.egress.counters.bytes_down
            total = 0
            while data := await reader.read(1 << 20):
                total += len(data)
            assert total == 64 << 20
            assert held < total
            await closed(writer)

    run(main)


def test_a_slow_server_holds_the_enclave_back(run: Run, tmp_path: Path) -> None:
    go_on = asyncio.Event()
    received = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await go_on.wait()
        while data := await reader.read(1 << 20):
            received += len(data)
        await closed(writer)

    async def main() -> None:
        async with way(tmp_path, slow) as made:
            _, writer = await made.granted()
            writer.write(bytes(32 << 20))
            await asyncio.sleep(0.3)
            assert made.egress.counters.bytes_up < 16 << 20
            go_on.set()
            await writer.drain()
            writer.write_eof()
            await made.none_open()
            assert received == 32 << 20
            await closed(writer)

    run(main)


def test_a_reset_is_passed_on(run: Run, tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def notes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(bytes(8 << 20))
            await writer.drain()
            await reader.read()
        ended.set()
        writer.transport.abort()

    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        held = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, egress_module._RESET_AT_CLOSE)
        writer.transport.abort()

    async def main() -> None:
        async with way(tmp_path, notes) as made:
            _, writer = await made.granted()
            await asyncio.sleep(0.05)
            writer.transport.abort()  # with bytes unread: a reset
            await ended.wait()
            await made.none_open()
        async with way(tmp_path, resets) as made:
            reader, writer = await made.granted()
            writer.write(b"x")
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            await closed(writer)
            await made.none_open()

    run(main)


def test_an_idle_tunnel_is_cut_and_one_in_use_is_not(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_module, "EGRESS_IDLE_TIMEOUT_MS", 200)

    async def main() -> None:
        async with way(tmp_path) as made:
            reader, writer = await made.granted()
            for _ in range(10):
                await asyncio.sleep(0.05)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            await closed(writer)
            await made.none_open()

    run(main)


def test_too_many_tunnels_are_turned_away(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_module, "EGRESS_TUNNELS_MAX_OPEN", 2)

    async def main() -> None:
        async with way(tmp_path) as made:
            held = [await made.granted() for _ in range(2)]
            reader, writer = await asyncio.open_unix_connection(made.path)
            assert await reader.read() == b"ERR busy\n"
            await closed(writer)
            await closed(held.pop()[1])
            await made.none_open(but=1)
            held.append(await made.granted())
            for _, each in held:
                await closed(each)

    run(main)


def resolving(*addresses: str, delay_s: float = 0.0) -> Destinations:
    async def resolve(host: str, port: int) -> Sequence[str]:
        assert (host, port) == (HOST, 443)
        await asyncio.sleep(delay_s)
        if not addresses:
            raise OSError
        return addresses

    return Destinations(frozenset({NAME}), {}, resolve)


@pytest.mark.parametrize(
    "places",
    [
        resolving("127.0.0.1"),
        resolving("10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "64:ff9b::a00:1"),
        resolving(),
        resolving("203.0.113.1", delay_s=1.0),
    ],
    ids=["loopback", "private", "not found", "slow"],
)
def test_a_host_that_cannot_be_reached_is_told_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: Destinations
) -> None:
    monkeypatch.setattr(egress_module, "EGRESS_DIAL_TIMEOUT_MS", 100)

    async def main() -> None:
        async with way(tmp_path) as made:
            made.egress.destinations = places
            reader, writer = await made.dial()
            assert await reader.read() == b"ERR unreachable\n"
            await closed(writer)
            await made.none_open()
            assert made.egress.counters.failed == 1
            (event,) = made.events
            assert (event.kind, event.enclave) == (LinkEventKind.TUNNEL_FAILED, NAME)

    run(main)


def test_the_next_address_is_tried_when_one_refuses(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with way(tmp_path) as made:
            (endpoint,) = await made.egress.destinations.endpoints(HOST, 443)
            unused = Endpoint("127.0.0.1", 1)

            async def endpoints(_host: str, _port: int) -> Sequence[Endpoint]:
                return [unused, endpoint]

            monkeypatch.setattr(made.egress.destinations, "endpoints", endpoints)
            _, writer = await made.granted()
            await closed(writer)
            endpoint = unused
            reader, writer = await made.dial()
            assert await reader.read() == b"ERR unreachable\n"
            await closed(writer)

    run(main)


def test_a_client_that_goes_away_while_its_tunnel_is_dialled_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with way(tmp_path) as made:
            (endpoint,) = await made.egress.destinations.endpoints(HOST, 443)

            async def endpoints(_host: str, _port: int) -> Sequence[Endpoint]:
                await asyncio.sleep(0.1)
                return [endpoint]

            monkeypatch.setattr(made.egress.destinations, "endpoints", endpoints)
            _, writer = await made.dial()
            await asyncio.sleep(0.02)
            writer.transport.abort()
            await asyncio.sleep(0.2)
            await made.none_open()
            assert not made.egress._opening
            _, late = await made.dial()  # and one that is being dialled at the end
            await asyncio.sleep(0.02)
            await made.egress.aclose()
            await closed(late)

    run(main)


def test_the_socket_is_for_its_user_and_for_one_listener(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with way(tmp_path) as made:
            assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
            second = Egress(UnixAddress(str(made.path)), made.egress.destinations, print)
            with pytest.raises(SocketError, match="another process"):
                second.start()
            await second.aclose()

    run(main)


def test_accepting_goes_on_when_descriptors_run_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accept, failures = type(loop).sock_accept, [24, 103]

        class Listening:
            async def sock_accept(self, listener: socket.socket) -> tuple[socket.socket, object]:
                if failures:
                    raise OSError(failures.pop(0), "as the kernel says")
                return await accept(loop, listener)

        monkeypatch.setattr("asyncio.get_running_loop", Listening)
        path = tmp_path / "egress.sock"
        egress = Egress(UnixAddress(str(path)), resolving(), print)
        listener = listen(UnixAddress(str(path)), backlog=1)
        accepting = asyncio.ensure_future(egress._accept(listener))
        await asyncio.sleep(0.01)
        monkeypatch.undo()
        await asyncio.sleep(0.2)
        assert not failures
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        listener.close()

    run(main)
