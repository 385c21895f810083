"""Addresses, and sockets over UNIX paths; over AF_VSOCK where the kernel has its loopback."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from latensgate_enclave.nitro.vsock import (
    CID_ANY,
    PARENT_CID,
    Address,
    AddressError,
    SocketError,
    UnixAddress,
    VsockAddress,
    connect,
    listen,
    parse_address,
)

LOOPBACK_CID = 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("vsock:3:9000", VsockAddress(PARENT_CID, 9000)),
        ("vsock:0:0", VsockAddress(0, 0)),
        ("vsock:any:5000", VsockAddress(CID_ANY, 5000)),
        ("vsock:4294967295:4294967295", VsockAddress(CID_ANY, 0xFFFF_FFFF)),
        ("unix:/run/enclave.sock", UnixAddress("/run/enclave.sock")),
        ("unix:/" + "x" * 106, UnixAddress("/" + "x" * 106)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vsock",
        "vsock:3",
        "vsock:3:",
        "vsock:-1:9000",
        "vsock:03:9000",
        "vsock:3:4294967296",
        "vsock:4294967296:1",
        "vsock:3:any",
        "vsock:3:9000\n",
        "vsock:٣:9000",
        "unix:relative",
        "unix:/a b",
        "unix:/a\0b",
        "unix:/" + "x" * 107,
        "tcp:127.0.0.1:80",
    ],
)
def test_addresses_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


async def echo_once(address: Address, dial: Address) -> bytes:
    listener = listen(address, backlog=1)
    loop = asyncio.get_running_loop()
    with listener:
        dialled, (accepted, _) = await asyncio.gather(
            connect(dial, timeout_ms=2_000), loop.sock_accept(listener)
        )
        with dialled, accepted:
            assert not dialled.getblocking()
            await loop.sock_sendall(dialled, b"hello")
            return await loop.sock_recv(accepted, 5)


def test_unix(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "socket"))
    for _ in range(2):  # the second time over the file that the first one left
        assert asyncio.run(echo_once(address, address)) == b"hello"


def test_vsock_loopback() -> None:
    address = VsockAddress(LOOPBACK_CID, 50_123)
    try:
        listen(address, backlog=1).close()
    except SocketError as error:
        pytest.skip(f"this kernel has no AF_VSOCK loopback: {error}")
    assert asyncio.run(echo_once(address, address)) == b"hello"


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match=str(errno.ENOENT)):
        asyncio.run(connect(UnixAddress(str(tmp_path / "absent")), timeout_ms=1_000))


def test_cannot_listen(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match="listen"):
        listen(UnixAddress(str(tmp_path / "absent" / "socket")), backlog=1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(SocketError, match="listen"):
        listen(UnixAddress(str(tmp_path / "folder")), backlog=1)


def test_no_such_family(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "no")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(SocketError, match=str(errno.EAFNOSUPPORT)):
        listen(VsockAddress(PARENT_CID, 1), backlog=1)


@pytest.mark.parametrize("cancel", [False, True])
def test_waits_no_longer_than_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cancel: bool
) -> None:
    closed: list[bool] = []

    class Watched(socket.socket):
        def close(self) -> None:
            closed.append(True)
            super().close()

    async def never(*_: object) -> None:
        await asyncio.sleep(60)

    async def scenario() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
        task = asyncio.ensure_future(
            connect(UnixAddress(str(tmp_path / "x")), timeout_ms=5_000 if cancel else 10)
        )
        await asyncio.sleep(0.01)
        if cancel:
            task.cancel()
        await task

    monkeypatch.setattr(socket, "socket", Watched)
    expected = asyncio.CancelledError if cancel else SocketError
    with pytest.raises(expected):
        asyncio.run(scenario())
    assert closed
