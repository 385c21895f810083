"""Web pages, other users and other machines against the local proxy, which sees plaintext."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest
import uvicorn

from latensgate.proxy.guard import checked_token, names_this_machine
from latensgate.proxy.server import Listen, ListenError, bound, server_config
from proxy_examples import example

TOKEN = "t0ken-of-this-machine"  # noqa: S105 -- an example
ORIGIN = "http://127.0.0.1:8788"


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:8788",
        "127.0.0.1.attacker.example",
        "localhost.attacker.example:8788",
        "0.0.0.0:8788",
        "10.0.0.7",
        "[fe80::1]:8788",
        "127.0.0.1:8788@attacker.example",
        "localhost ",
        "",
    ],
)
def test_a_name_that_was_rebound_is_refused(host: str) -> None:
    ex = example()
    for path in ("/v1/models", "/status", "/"):
        answer = ex.ask("GET", path, headers={"host": host})
        assert answer.status_code == 403, path
        assert answer.json()["error"]["param"] == "host"
    assert ex.behind.asked == []


def test_two_hosts_are_none() -> None:
    headers = [("host", "localhost"), ("host", "attacker.example")]
    assert example().ask("GET", "/status", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8788", "127.1.2.3", "[::1]:8788", "[::1]"]
)
def test_names_of_this_machine(host: str) -> None:
    assert names_this_machine(host)
    assert example().ask("GET", "/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://attacker.example", "null", "http://localhost:8788", "http://127.0.0.1:9", "file://"],
)
def test_foreign_pages_are_refused(origin: str) -> None:
    ex = example()
    for method, path in (
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/status"),
    ):
        headers = {"origin": origin, "content-type": "application/json"}
        answer = ex.ask(method, path, headers=headers, content=b"{}")
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert ex.behind.asked == []


def test_preflights_are_not_answered() -> None:
    headers = {"origin": "https://attacker.example", "access-control-request-method": "POST"}
    answer = example().ask("OPTIONS", "/v1/chat/completions", headers=headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "strange"])
def test_requests_of_other_sites_are_refused(site: str) -> None:
    answer = example().ask("GET", "/v1/models", headers={"sec-fetch-site": site})
    assert answer.status_code == 403


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_the_own_page_is_not_refused(site: str) -> None:
    headers = {"sec-fetch-site": site, "origin": ORIGIN}
    assert example().ask("GET", "/status", headers=headers).status_code == 200


@pytest.mark.parametrize("said", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
def test_what_a_form_can_send_is_refused(said: str) -> None:
    ex = example()
    answer = ex.ask("POST", "/v1/chat/completions", headers={"content-type": said}, content=b"{}")
    assert answer.status_code == 415
    assert ex.behind.asked == []


@pytest.mark.parametrize(
    "said",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Basic eDp5",
     "Bearer t\xf6ken"],
)  # fmt: skip
def test_a_token_is_demanded_everywhere(said: str | None) -> None:
    ex = example(token=checked_token(TOKEN))
    headers = [] if said is None else [("authorization", said.encode("latin-1"))]
    for path in ("/v1/models", "/status", "/"):
        answer = ex.ask("GET", path, headers=headers)
        assert answer.status_code == 401
        assert TOKEN not in answer.text
    assert ex.behind.asked == []


def test_the_token_opens_and_goes_no_further() -> None:
    ex = example(token=checked_token(TOKEN))
    assert ex.post(headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert TOKEN not in str(ex.behind.asked[0].headers.raw)


@pytest.mark.parametrize("token", ["short", "x" * 15, "with blanks in the midst", "ümläut" * 4])
def test_tokens_that_can_be_guessed_are_refused(token: str) -> None:
    with pytest.raises(ValueError, match="16 visible ASCII"):
        checked_token(token)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.com", "localhost.evil"])  # noqa: S104 -- refused
def test_it_listens_to_this_machine_alone(host: str) -> None:
    with pytest.raises(ListenError, match="loopback"), bound(Listen(host, 0)):
        pass


def test_the_socket_is_the_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with bound(Listen(unix=path)) as listening:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        listening.listen(1)
        with pytest.raises(ListenError, match="in use"), bound(Listen(unix=path)):
            pass
    assert not path.exists()


def test_a_socket_left_behind_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with bound(Listen(unix=path)):
        pass
    path.write_text("a file")
    with pytest.raises(ListenError), bound(Listen(unix=path)):
        pass
    assert path.read_text() == "a file"


def test_another_proxys_socket_stays(tmp_path: Path) -> None:
    """Two that start at once: the second finds nobody listening yet, and takes the place."""
    path = tmp_path / "proxy.sock"
    with bound(Listen(unix=path)):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen(1)
    assert path.is_socket()


def test_faults_while_it_serves_are_none_of_the_address(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), bound(Listen(unix=tmp_path / "proxy.sock")):
        raise BrokenPipeError


def test_a_head_without_end_is_not_kept() -> None:
    """Anybody on this machine may connect; who may ask is judged when the head is whole."""

    async def pour() -> int:
        server, listening = uvicorn.Server(server_config(example().app)), socket.socket()
        with listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(1)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            _, writer = await asyncio.open_connection(*listening.getsockname())
            sent = await _poured(writer)
            writer.close()
            server.should_exit = True
            await serving
            return sent

    assert asyncio.run(pour()) < HEAD_BYTES


HEAD_BYTES = 32 << 20


async def _poured(writer: asyncio.StreamWriter) -> int:
    piece, sent = b"x: " + b"y" * 65_536 + b"\r\n", 0
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
    while sent < HEAD_BYTES:
        try:
            writer.write(piece)
            await writer.drain()
        except ConnectionError:
            break
        sent += len(piece)
    return sent


def test_a_unix_socket_has_no_name_to_check() -> None:
    ex = example(names_host=False)
    assert ex.ask("GET", "/v1/models", headers={"host": "anything"}).status_code == 200
