"""Addresses, sockets, destinations, credentials."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import errno
import json
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import uvloop
from botocore.exceptions import ClientError, CredentialRetrievalError

from latensgate_parent.link import sockets
from latensgate_parent.link.address import (
    AddressError,
    UnixAddress,
    VsockAddress,
    parse_enclave_address,
    parse_listen_address,
)
from latensgate_parent.link.credentials import (
    AWSCredentials,
    BotoCredentialsProvider,
    CredentialsError,
    FileCredentials,
)
from latensgate_parent.link.destinations import (
    DestinationError,
    Destinations,
    Endpoint,
    is_public,
    parse_destination,
    parse_route,
    system_resolver,
)
from latensgate_parent.link.sockets import SocketError
from latensgate_shared.errors import MalformedError

Run = Callable[[Callable[[], Coroutine[None, None, None]]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(main: Callable[[], Coroutine[None, None, None]]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(asyncio.wait_for(main(), 20))

    return runner


# --- addresses ---


def test_addresses_are_read_and_written() -> None:
    assert parse_enclave_address("unix:/run/e.sock") == UnixAddress("/run/e.sock")
    assert parse_enclave_address("vsock:16:5005") == VsockAddress(16, 5005)
    assert parse_listen_address("unix:/run/e.sock") == UnixAddress("/run/e.sock")
    assert parse_listen_address("vsock:5005") == VsockAddress(None, 5005)
    for text in ("unix:/run/e.sock", "vsock:4294967294:1"):
        assert str(parse_enclave_address(text)) == text
    assert str(parse_listen_address("vsock:5005")) == "vsock:5005"


BAD = [
    "",
    "unix:",
    "unix:relative",
    "unix:/with space",
    "unix:/nul\x00",
    "unix:/line\n",
    "unix:/" + "x" * 107,
    "unix:/ü",
    "vsock:",
    "vsock:0",
    "vsock:007",
    "vsock:-1",
    "vsock:+1",
    "vsock:1_0",
    "vsock:\u0663",
    "vsock:4294967295",
    "vsock:99999999999",
    "tcp:127.0.0.1:80",
    "VSOCK:1:1",
    "vsock:1:2:3",
    " vsock:1:2",
    "vsock:1:2\n",
]


@pytest.mark.parametrize("text", [*BAD, "vsock:5", "vsock:any:5", "vsock:0:5", "vsock:5:0"])
def test_what_is_no_enclaves_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_enclave_address(text)


@pytest.mark.parametrize("text", [*BAD, "vsock:3:5"])
def test_what_is_no_listeners_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_listen_address(text)


# --- sockets ---


class Echo(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport
        self.received = bytearray()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # as asyncio calls
        self.lost.set_result(None)


def test_a_loop_carries_a_socket_of_any_family(run: Run) -> None:
    """AF_VSOCK is not to be had on every machine; for the loop TCP in its place is as foreign."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        _, one = await sockets.attach(near, Echo)
        _, other = await sockets.attach(far, Echo)
        one.transport.write(b"x" * 1_000_000)
        other.transport.write(b"y")
        while len(other.received) < 1_000_000 or not one.received:  # noqa: ASYNC110  # from outside
            await asyncio.sleep(0.001)
        one.transport.write_eof()
        one.transport.close()
        await one.lost
        await other.lost

    run(main)


def test_connecting_waits_for_the_kernel(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            dialler = socket.socket()
            dialler.settimeout(0)
            await sockets._connect(dialler, server.getsockname())
            server.accept()[0].close()
            dialler.close()
            where = server.getsockname()
        dialler = socket.socket()
        dialler.settimeout(0)
        with pytest.raises(OSError, match="refused"):
            await sockets._connect(dialler, where)
        dialler.close()
        assert loop.is_running()

    run(main)


def test_nobody_listens(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with pytest.raises(SocketError, match="cannot connect"):
            await sockets.connect(UnixAddress(str(tmp_path / "none")), timeout_ms=100)
        with pytest.raises(SocketError):
            await sockets.connect(VsockAddress(77, 5005), timeout_ms=100)

        async def never(*_: object) -> None:
            await asyncio.sleep(10)

        monkeypatch.setattr(sockets, "_connect", never)
        with pytest.raises(SocketError, match="within 10 ms"):
            await sockets.connect(UnixAddress(str(tmp_path / "none")), timeout_ms=10)

    run(main)


def test_a_family_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "none here")

    monkeypatch.setattr("latensgate_parent.link.sockets.socket.socket", refuse)
    with pytest.raises(SocketError, match="no such socket"):
        sockets.listen(VsockAddress(None, 5005), backlog=1)


def test_listening_replaces_a_dead_socket_only(tmp_path: Path) -> None:
    address = UnixAddress(str(tmp_path / "a.sock"))
    first = sockets.listen(address, backlog=1)
    with pytest.raises(SocketError, match="another process"):
        sockets.listen(address, backlog=1)
    first.close()  # its file stays, as after a crash
    second = sockets.listen(address, backlog=1)
    sockets.unlisten(second, address)
    sockets.unlisten(second, address)
    (tmp_path / "a.sock").write_text("precious")
    with pytest.raises(SocketError, match="no socket"):
        sockets.listen(address, backlog=1)
    assert (tmp_path / "a.sock").read_text() == "precious"
    with pytest.raises(SocketError, match="cannot listen"):
        sockets.listen(UnixAddress(str(tmp_path / "no" / "folder")), backlog=1)


# --- destinations ---


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("3.5.140.2", True),
        ("2600:1f18::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104  # refused, not bound
        ("224.0.0.1", False),
        ("239.1.1.1", False),
        ("255.255.255.255", False),
        ("198.18.0.1", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("2600::1%eth0", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff0e::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::305:8c02", True),
        ("2002:a9fe:a9fe::1", False),
        ("not an address", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:  # noqa: FBT001  # of the table
    assert is_public(address) is public


def test_destinations_are_names_with_ports() -> None:
    assert parse_destination("kms.eu-west-1.amazonaws.com:443") == (
        "kms.eu-west-1.amazonaws.com",
        443,
    )
    assert parse_destination("localhost:1") == ("localhost", 1)
    for bad in ("", ":443", "a:0", "a:65536", "a:x", "10.0.0.1:80", "a..b:1", "-a:1", "a-:1"):
        with pytest.raises(MalformedError):
            parse_destination(bad)
    with pytest.raises(MalformedError):
        parse_destination(".".join(["a" * 60] * 5) + ":443")
    with pytest.raises(MalformedError):
        parse_destination("a" * 64 + ":443")


def test_routes_are_addresses_with_ports() -> None:
    assert parse_route("127.0.0.1:8443") == Endpoint("127.0.0.1", 8443)
    assert parse_route("[::1]:8443") == Endpoint("::1", 8443)
    for bad in ("", "localhost:1", "::1:1", "127.0.0.1", "127.0.0.1:0", "1.2.3.4:65536", "1.2:3"):
        with pytest.raises(MalformedError):
            parse_route(bad)
    with pytest.raises(MalformedError, match="allow-list"):
        Destinations(frozenset({"a.example:1"}), {"b.example:1": Endpoint("127.0.0.1", 1)})


def test_where_a_destination_is(run: Run) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert port == 443
        if host == "broken.example":
            raise UnicodeError
        return ["10.0.0.1", *(f"3.5.140.{number}" for number in range(9))]

    async def main() -> None:
        names = frozenset({"a.example:443", "b.example:443", "broken.example:443"})
        places = Destinations(names, {"b.example:443": Endpoint("10.0.0.9", 8443)}, resolve)
        assert places.allows("a.example", 443)
        assert not places.allows("a.example", 80)
        assert await places.endpoints("b.example", 443) == [Endpoint("10.0.0.9", 8443)]
        found = await places.endpoints("a.example", 443)
        assert found == [Endpoint(f"3.5.140.{number}", 443) for number in range(4)]
        with pytest.raises(DestinationError):
            await places.endpoints("broken.example", 443)
        assert "127.0.0.1" in await system_resolver("localhost", 443)

    run(main)


# --- credentials ---

HELD = {"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret-value", "Token": "token-value"}


def read(path: Path) -> AWSCredentials:
    return asyncio.run(FileCredentials(path).credentials())


def test_credentials_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(HELD | {"Expiration": "2030-01-02T03:04:05Z"}))
    held = read(path)
    assert held.expires_at_s == 1893553445
    call = held.to_call()
    assert (call.access_key_id, call.secret_access_key) == ("ASIAEXAMPLE", "secret-value")
    assert "secret-value" not in repr(held)
    assert "token-value" not in repr(held)
    path.write_text(json.dumps(HELD))
    assert read(path) == held, "when they end does not make them others"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps(HELD | {"Token": 5}),
        json.dumps(HELD | {"Expiration": "soon"}),
        json.dumps(HELD | {"Expiration": 5}),
        json.dumps(HELD | {"Expiration": "2030-01-02T03:04:05"}),
        json.dumps(HELD | {"More": "x"}),
        json.dumps(HELD | {"Token": "x" * 70_000}),
    ],
)
def test_other_files_are_refused_and_not_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(content)
    with pytest.raises(CredentialsError) as caught:
        read(path)
    assert "secret-value" not in caught.value.detail


def test_a_file_that_is_not_there_and_values_that_no_enclave_takes(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="errno 2"):
        read(tmp_path / "none")
    with pytest.raises(CredentialsError):
        AWSCredentials("", "b", "c", 1).to_call()


class Chain:
    """What boto3 gives: credentials that renew themselves."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def get_frozen_credentials(self) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def frozen(token: str | None) -> SimpleNamespace:
    values = {"access_key": "a", "secret_key": "secret-value", "token": token}
    return SimpleNamespace(**values)


def use_chain(monkeypatch: pytest.MonkeyPatch, chain: Chain | None) -> None:
    module = ModuleType("boto3")
    session = SimpleNamespace(get_credentials=lambda: chain)
    monkeypatch.setattr(module, "Session", lambda: session, raising=False)
    monkeypatch.setitem(sys.modules, "boto3", module)


def test_credentials_come_from_the_chain_of_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole")
    retrieval = CredentialRetrievalError(provider="iam-role", error_msg="secret-value")
    use_chain(monkeypatch, Chain(frozen("one"), frozen("two"), frozen(None), failure, retrieval))

    async def main() -> None:
        provider = BotoCredentialsProvider()
        found = [(await provider.credentials()).session_token for _ in range(2)]
        assert found == ["one", "two"]
        for why in ("session token", "ClientError", "CredentialRetrievalError"):
            with pytest.raises(CredentialsError, match=why) as caught:
                await provider.credentials()
            assert "secret-value" not in caught.value.detail

    asyncio.run(main())


def test_a_chain_that_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    use_chain(monkeypatch, None)
    with pytest.raises(CredentialsError, match="finds no"):
        asyncio.run(BotoCredentialsProvider().credentials())
