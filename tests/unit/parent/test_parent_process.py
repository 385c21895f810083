"""The parent as a process: starts, answers without an enclave, drains; says why it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from unittest import mock

import httpx
import pytest
from click.testing import CliRunner

from latensgate_parent.__main__ import ExitCode, main
from latensgate_parent.admin.__main__ import cli
from latensgate_parent.admin.exit_codes import ExitCode as AdminExitCode
from latensgate_parent.app import Parent, compose
from latensgate_parent.limits import HTTP_HEAD_MAX_BYTES
from latensgate_parent.logs import JSONLog
from latensgate_parent.settings import load_settings
from latensgate_shared.error_answers import parse_error_answer


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def write_settings(folder: Path, **changes: object) -> tuple[Path, int, int]:
    (folder / "deployment.toml").write_text(
        'regions = ["us-east-1"]\ninvocation_logging = "flag"\n[models.a]\n'
    )
    (folder / "credentials.json").write_text("{}")
    port, operator = free_port(), free_port()
    values: dict[str, object] = {
        "listen": f"127.0.0.1:{port}",
        "operator_listen": f"127.0.0.1:{operator}",
        "database": f"sqlite:///{folder}/parent.db",
        "enclaves": [f"unix:{folder}/enclave.sock"],
        "egress_listen": f"unix:{folder}/egress.sock",
        "kms_key_arn": "arn:aws:kms:us-east-1:111122223333:key/1234abcd",
        "credentials": f"file:{folder}/credentials.json",
        "deployment": f"{folder}/deployment.toml",
        **changes,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    lines += ["[[verifier.measurements]]", *(f'PCR{n} = "{f"a{n}" * 48}"' for n in range(3))]
    file = folder / "parent.toml"
    file.write_text("\n".join(lines))
    return file, port, operator


@contextmanager
def parent(file: Path) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "latensgate_parent", "--config", str(file)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def exchange(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(data)
        received = b""
        try:
            while piece := peer.recv(65_536):
                received += piece
        except ConnectionResetError:  # what we still sent was not read
            pass
        return received


def test_a_parent_without_enclaves_answers_and_drains(tmp_path: Path) -> None:
    file, port, operator = write_settings(tmp_path)
    with parent(file) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == f"listening on http://127.0.0.1:{port}\n"
        answer = httpx.get(f"http://127.0.0.1:{port}/api/health")
        assert (answer.status_code, answer.json()["enclave"]["total"]) == (503, 1)
        assert "server" not in answer.headers
        garbage = exchange(port, b"GARBAGE\r\n\r\n")
        assert garbage.startswith(b"HTTP/1.1 400 ")
        assert parse_error_answer(garbage.partition(b"\r\n\r\n")[2]).error.code.http_status == 400
        endless = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (HTTP_HEAD_MAX_BYTES // 2)
        assert exchange(port, endless)[:13] in {b"HTTP/1.1 413 ", b""}
        metrics = httpx.get(f"http://127.0.0.1:{operator}/metrics").text
        assert 'latensgate_enclave_states{state="unknown"} 1.0' in metrics
        assert httpx.get(f"http://127.0.0.1:{operator}/ready").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 404
        drain = httpx.post(
            f"http://127.0.0.1:{operator}/drain", headers={"latensgate-operator": "drain"}
        )
        assert list(drain.json()["enclaves"].values()) == [None]
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == ExitCode.DRAINED
        assert time.monotonic() - began < 10
        events = [json.loads(line)["event"] for line in running.stderr]
        assert events[-1] == "stopped"
        assert {"started", "request", "draining", "drained"} <= set(events)


def admin(file: Path, *words: str) -> dict[str, str]:
    done = CliRunner().invoke(cli, ["--config", str(file), "--json", *words])
    assert done.exit_code == 0, done.output
    told: dict[str, str] = json.loads(done.stdout)
    return told


def test_a_second_sigterm_ends_the_draining(tmp_path: Path) -> None:
    file, port, _ = write_settings(tmp_path)
    tenant = admin(file, "tenant", "create", "--name", "a")["tenant_id"]
    key = admin(file, "key", "create", "--tenant", tenant, "--name", "a", "--scope", "admin")["key"]
    head = (
        f"POST /api/keys HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with parent(file) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("listening on ")
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(head.encode())
            time.sleep(0.3)
            running.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(1.5)
            running.send_signal(signal.SIGTERM)
            assert running.wait(5) == ExitCode.DRAINED
        assert running.stderr is not None
        events = {line["event"]: line for line in map(json.loads, running.stderr)}
        assert events["drained"]["under_way"] == 1
        assert "stopped" in events


def test_a_fault_at_the_start_is_told_without_its_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _, _ = write_settings(tmp_path)
    with mock.patch("latensgate_parent.__main__.compose", side_effect=ValueError("lg_live_x")):
        assert main(["--config", str(file)]) == ExitCode.INTERNAL
    said = capsys.readouterr().err
    assert json.loads(said)["type"] == "ValueError"
    assert "lg_live_x" not in said
    assert "/" not in said


class OwnParent:
    """A parent in this process, in a thread of its own."""

    def __init__(self, file: Path) -> None:
        self.log = io.StringIO()
        self.address = ""
        self._file = file
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        settings = load_settings(self._file, {})
        parts = await compose(settings, JSONLog(self.log, time.time))
        await Parent(parts).serve(self._stop, self._announce)

    def _announce(self, address: str) -> None:
        self.address = address
        self._ready.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_connections_are_bounded(tmp_path: Path) -> None:
    file, port, _ = write_settings(tmp_path, credentials="boto3")
    with (
        mock.patch("latensgate_parent.server.HTTP_HEAD_TIMEOUT_S", 0.2),
        mock.patch("latensgate_parent.server.MAX_CONNECTIONS", 3),
        OwnParent(file) as running,
    ):
        began = time.monotonic()
        assert exchange(port, b"GET / HTTP/1.1\r\n") == b""  # slow-loris
        assert time.monotonic() - began < 5
        with contextlib.ExitStack() as open_ones:
            client = open_ones.enter_context(httpx.Client(base_url=running.address))
            assert client.get("/").status_code == 200
            time.sleep(0.4)  # an idle connection is kept
            assert client.get("/api/models").status_code == 401
            assert exchange(port, b"\x00\x01").startswith(b"HTTP/1.1 400 ")
            endless = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (HTTP_HEAD_MAX_BYTES // 2)
            assert exchange(port, endless)[:13] in {b"HTTP/1.1 413 ", b""}
            for _ in range(4):
                open_ones.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert exchange(port, b"")[:13] == b"HTTP/1.1 503 "


def test_the_operators_command_drains_a_running_parent(tmp_path: Path) -> None:
    file, _, _ = write_settings(tmp_path)
    with OwnParent(file) as running:
        done = CliRunner().invoke(cli, ["--config", str(file), "--json", "drain"])
        assert done.exit_code == AdminExitCode.PARENT  # no enclave is there
        assert json.loads(done.stdout) == {"enclaves": {f"unix:{tmp_path}/enclave.sock": None}}
    assert '"event": "drain_failed"' in running.log.getvalue()


def test_what_keeps_it_from_serving_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        file, _, _ = write_settings(tmp_path, listen=place)
        assert main(["--config", str(file)]) == ExitCode.CANNOT_SERVE
        assert place in capsys.readouterr().err
    file, _, _ = write_settings(tmp_path, listen="nonsense", enclaves=[])
    assert main(["--config", str(file)]) == ExitCode.SETTINGS
    said = capsys.readouterr().err
    assert "settings: listen:" in said
    assert "settings: enclaves:" in said
    file, _, _ = write_settings(tmp_path)
    (tmp_path / "deployment.toml").unlink()
    assert main(["--config", str(file)]) == ExitCode.CANNOT_SERVE
    file, _, _ = write_settings(tmp_path, database=f"sqlite:///{file}/x.db")
    assert main(["--config", str(file)]) == ExitCode.CANNOT_SERVE
