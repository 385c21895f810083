"""The composed world: tunnel, servers spoken to badly, launcher, command line, clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from rich.console import Console

from latensgate_sim import __main__ as command_line
from latensgate_sim import dev_stack, gateway, local_model, show
from latensgate_sim.dev_stack import DevStack
from latensgate_sim.errors import AWSError, CutConnectionError
from latensgate_sim.faults import Fault, FaultKind, FaultSwitch, strike, throttled
from latensgate_sim.launcher import (
    EnclaveLaunch,
    code_folders,
    start_process,
)
from latensgate_sim.measure import EnclaveFiles, Measurements, measure_enclave_files
from latensgate_sim.models import LOCAL_ID, SCRIPTED_ID, ScriptedModel
from latensgate_sim.named_faults import NAMED_FAULTS
from latensgate_sim.world import ACCOUNT, World, WorldConfig
from sim_clients import Clients, tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGE = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
KMS_HOST = "kms.us-east-1.amazonaws.com"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as made:
        yield made


def dial(world: World, line: bytes) -> tuple[socket.socket, bytes]:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(world.tunnel.path))
    client.sendall(line)
    answer = b""
    while not answer.endswith(b"\n"):
        piece = client.recv(1)
        if not piece:
            break
        answer += piece
    return client, answer


def test_tls_through_the_tunnel_under_the_real_name(world: World) -> None:
    seen: list[tuple[str, bytes]] = []
    world.tunnel.tap = lambda direction, data: seen.append((direction, data))
    client, answer = dial(world, f"CONNECT {KMS_HOST}:443\n".encode())
    assert answer == b"OK\n"
    with tls_context(world).wrap_socket(client, server_hostname=KMS_HOST) as secure:
        secure.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert secure.recv(4096).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    world.tunnel.tap = None
    assert {direction for direction, _ in seen} == {"up", "down"}
    # nothing but TLS records passes
    assert not any(b"HTTP/1.1" in data for _, data in seen)


def test_certificate_of_another_host_does_not_pass(world: World) -> None:
    client, _ = dial(world, f"CONNECT {KMS_HOST}:443\n".encode())
    with client, pytest.raises(ssl.SSLCertVerificationError):
        tls_context(world).wrap_socket(client, server_hostname="sts.us-east-1.amazonaws.com")


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT example.com:443\n",
        b"CONNECT kms.us-east-1.amazonaws.com:80\n",
        b"GET kms.us-east-1.amazonaws.com:443\n",
        b"\xff\n",
    ],
)
def test_tunnel_allows_listed_names_only(world: World, line: bytes) -> None:
    client, answer = dial(world, line)
    with client:
        assert answer == b"ERR not allowed\n"
        assert client.recv(1) == b""


def test_tunnel_cuts_what_is_no_line(world: World) -> None:
    client, answer = dial(world, b"x" * 1000)
    client.close()
    assert answer == b""


def test_tunnel_refuses_on_demand(world: World) -> None:
    world.tunnel.refuse = True
    client, answer = dial(world, f"CONNECT {KMS_HOST}:443\n".encode())
    world.tunnel.refuse = False
    client.close()
    assert answer.startswith(b"ERR")
    assert world.tunnel.dialled[-1] == f"{KMS_HOST}:443"


def test_cut_tunnel_ends_connections(world: World) -> None:
    client, answer = dial(world, f"CONNECT {KMS_HOST}:443\n".encode())
    assert answer == b"OK\n"
    world.run(world.tunnel.cut())
    with client:
        assert client.recv(1) == b""


class Echo(threading.Thread):
    """Reads to the end of the stream, slowly at first, then sends everything back."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, self.listener:
            time.sleep(0.2)
            data = bytearray()
            while piece := connection.recv(65_536):
                data += piece
            connection.sendall(data)


def send_and_end(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)


def test_tunnel_half_close_and_back_pressure(world: World) -> None:
    echo = Echo()
    echo.start()
    dict_routes = world.tunnel.routes
    world.tunnel.routes = {"echo:443": echo.port}
    try:
        client, answer = dial(world, b"CONNECT echo:443\n")
    finally:
        world.tunnel.routes = dict_routes
    assert answer == b"OK\n"
    sent = bytes(range(256)) * 16_384
    with client:
        sender = threading.Thread(target=send_and_end, args=(client, sent))
        sender.start()
        got = bytearray()
        while piece := client.recv(65_536):
            got += piece
        sender.join()
    echo.join()
    assert bytes(got) == sent


def test_tunnel_to_a_dead_server(world: World) -> None:
    routes = world.tunnel.routes
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = int(unused.getsockname()[1])
    world.tunnel.routes = {"dead:443": port}
    try:
        client, answer = dial(world, b"CONNECT dead:443\n")
    finally:
        world.tunnel.routes = routes
    client.close()
    assert answer == b""


def https(world: World) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", world.ports[KMS_HOST]), timeout=10)
    return tls_context(world).wrap_socket(raw, server_hostname=KMS_HOST)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + b"a" * 70_000,
    ],
)
def test_requests_that_are_none_end_the_connection(world: World, data: bytes) -> None:
    with https(world) as client:
        client.sendall(data)
        try:
            assert client.recv(1) == b""
        except (ConnectionResetError, ssl.SSLEOFError):
            return


def test_half_a_request_and_connection_close(world: World) -> None:
    with https(world) as client:
        client.sendall(b"POST / HTTP/1.1\r\n")
    with https(world) as client:
        head = b"POST / HTTP/1.1\r\nA: 1\r\nA: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        client.sendall(head)
        data = b""
        while piece := client.recv(4096):
            data += piece
    assert b"MissingAuthenticationTokenException" in data


def connection(world: World, host: str) -> HTTPSConnection:
    return HTTPSConnection("127.0.0.1", world.ports[host], context=tls_context(world), timeout=10)


@pytest.mark.parametrize("service", ["kms", "sts", "bedrock", "bedrock-runtime"])
def test_unsigned_requests_are_refused_everywhere(world: World, service: str) -> None:
    client = connection(world, f"{service}.us-east-1.amazonaws.com")
    client.request("POST", "/", b"")
    answer = client.getresponse()
    body = answer.read()
    client.close()
    assert answer.status == (400 if service == "kms" else 403)
    text = body.decode() + str(answer.headers)
    assert "MissingAuthenticationToken" in text


def test_faults_are_counted_and_chosen() -> None:
    switch = FaultSwitch()
    switch.on(Fault(FaultKind.SLOW, operation="Decrypt", times=2))
    switch.on(Fault(FaultKind.CUT, times=None))
    kinds = [
        fault.kind if (fault := switch.take(name)) else None
        for name in ("Encrypt", "Decrypt", "Decrypt", "Decrypt")
    ]
    assert kinds == [FaultKind.CUT, FaultKind.SLOW, FaultKind.SLOW, FaultKind.CUT]
    switch.clear()
    assert switch.take("Decrypt") is None


def test_every_fault_before_an_answer(world: World) -> None:
    assert world.run(strike(None)) is None
    assert world.run(strike(throttled(after_events=1))) is None
    assert world.run(strike(Fault(FaultKind.SLOW, seconds=0.001))) is None
    with pytest.raises(AWSError, match="InternalServerException"):
        world.run(strike(Fault(FaultKind.ERROR)))
    with pytest.raises(CutConnectionError):
        world.run(strike(Fault(FaultKind.CUT)))
    garbage = world.run(strike(Fault(FaultKind.GARBAGE)))
    assert garbage is not None
    assert garbage.status == 200


def test_garbage_at_every_service(world: World) -> None:
    clients = Clients(world)
    home = world.home
    garbage = Fault(FaultKind.GARBAGE)
    for switch in (home.kms.faults, home.sts.faults, home.control.faults, home.bedrock.faults):
        switch.on(garbage)
    with pytest.raises(Exception, match=r"."):
        clients.kms(world.admin).describe_key(KeyId="x")
    with pytest.raises(Exception, match=r"."):
        clients.sts(world.admin).get_caller_identity()
    with pytest.raises(Exception, match=r"."):
        clients.bedrock(world.admin).get_model_invocation_logging_configuration()
    ask = {"modelId": SCRIPTED_ID, "messages": [{"role": "user", "content": [{"text": "x"}]}]}
    with pytest.raises(Exception, match=r"."):
        clients.runtime(world.admin).converse(**ask)  # type: ignore[arg-type]  # one literal, four services
    home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=0.01, after_events=1))
    stream = clients.runtime(world.admin).converse_stream(**ask)  # type: ignore[arg-type]  # the same
    with closing(stream["stream"]) as events:
        assert len(list(events)) > 3
    home.bedrock.faults.on(Fault(FaultKind.ERROR, after_events=1))
    broken = clients.runtime(world.admin).converse_stream(**ask)  # type: ignore[arg-type]  # the same
    with pytest.raises(Exception, match="internalServerException"), closing(broken["stream"]):
        list(broken["stream"])
    ask["modelId"] = LOCAL_ID
    with pytest.raises(Exception, match="not loaded"):
        clients.runtime(world.admin).converse(**ask)  # type: ignore[arg-type]  # the same
    clients.close()


def test_dump_says_what_runs_without_secrets(world: World) -> None:
    world.add_enclave("dumped", IMAGE)
    dumped = str(world.dump())
    assert IMAGE.pcr0.hex() in dumped
    assert KMS_HOST in dumped
    for credentials in (world.service, world.admin, world.tenant):
        assert credentials.secret_access_key not in dumped
        assert str(credentials.session_token) not in dumped or credentials.session_token is None


def test_servers_listen_on_this_machine_only(world: World) -> None:
    assert world.ca_path.read_text().startswith("-----BEGIN CERTIFICATE")
    for path in (world.tunnel.path, world.enclave("dumped").socket):
        assert path.stat().st_mode & 0o777 == 0o600


def test_close_leaves_nothing(tmp_path: Path) -> None:
    config = WorldConfig(nitro_root_path=tmp_path / "root.pem")
    before = threading.active_count()
    world = World(config).start()
    fingerprint, folder, port = world.nitro_root_sha256, world.folder, world.ports[KMS_HOST]
    held = socket.create_connection(("127.0.0.1", port))
    world.close()
    world.close()
    held.close()
    assert not folder.exists()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    never_started = World(config)
    assert never_started.nitro_root_sha256 == fingerprint
    never_started.close()


STAND_IN = """
import signal, socket, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
nsm = socket.socket(socket.AF_UNIX); nsm.connect(options["--nsm"])
nsm.sendall(b"\\x00\\x00\\x00\\x0ckDescribeNSM"); head = nsm.recv(4)
listener = socket.socket(socket.AF_UNIX)
listener.bind(options["--listen"].removeprefix("unix:"))
leave = lambda *_: sys.exit(0)
signal.signal(signal.SIGTERM, leave if options["--end"] == "well" else signal.SIG_IGN)
listener.listen()
peer, _ = listener.accept(); peer.sendall(head)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(("end", "status"), [("well", 0), ("never", -signal.SIGKILL)])
def test_launcher_measures_starts_and_stops(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str, status: int
) -> None:
    monkeypatch.setattr("latensgate_sim.launcher.STOP_TIMEOUT_S", 0.5)
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN)
    files = EnclaveFiles(runtime=(stand_in,), application=())
    launch = EnclaveLaunch(end, files, ("--end", end), program=(str(stand_in),))
    process = start_process(world, launch)
    assert process.device.measurements == measure_enclave_files(files)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        deadline = time.monotonic() + 20
        while client.connect_ex(str(process.listen)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(client.recv(4)) == 4
    assert process.stop() == status


def test_code_folders_are_those_of_the_image() -> None:
    names = [folder.name for folder in code_folders()]
    assert names[0] == "latensgate_shared"
    assert set(names) <= {"latensgate_shared", "latensgate_enclave"}


def test_python_m_latensgate_sim_shows_and_stops_cleanly() -> None:
    command = [sys.executable, "-m", "latensgate_sim", "--model", "scripted", "--no-parent"]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()
        assert process.wait(20) == 0
    shown = "".join(lines)
    assert "PCR0" in shown
    assert "latensgate_parent --config" in shown
    assert "nothing is left running" in shown


def test_command_line_without_the_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(quiet=True)
    assert dev_stack.load_model("scripted", console) is None
    monkeypatch.setattr(local_model, "_WEIGHTS_PACKAGE", "no_such_package")
    assert dev_stack.load_model("auto", console) is None
    result = CliRunner().invoke(command_line.main, ["--model", "local"])
    assert result.exit_code == 1
    assert "model.lock" in result.output


def test_command_line_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel()
    monkeypatch.setattr(local_model, "load", lambda: model)
    seen: list[bool] = []

    def show_and_stop(stack: DevStack, console: Console) -> None:
        show.show_stack(stack, console)
        for enclave in stack.enclaves:
            with socket.socket(socket.AF_UNIX) as client:
                seen.append(client.connect_ex(str(enclave.listen)) == 0)
        file = stack.deployed.credentials
        assert file.stat().st_mode & 0o777 == 0o600
        assert json.loads(file.read_text())["AccessKeyId"] == stack.world.service.access_key_id
        assert stack.deployed.key_arn.startswith(f"arn:aws:kms:us-east-1:{ACCOUNT}:key/")
        assert 'model_id = "my.model"' in (stack.deployed.config / "deployment.toml").read_text()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command_line, "show_stack", show_and_stop)
    words = ["--model", "local", "--enclaves", "1", "--no-parent", "--port", "0"]
    words += ["--alias", "mine=my.model"]
    refused = CliRunner().invoke(command_line.main, [*words, "--fault", "openai-down"])
    assert refused.exit_code == 1
    assert "--openai-alias" in refused.output
    words += ["--openai-alias", "theirs=scripted"]
    words += [w for f in NAMED_FAULTS for w in ("--fault", f)]
    seen.clear()
    result = CliRunner().invoke(command_line.main, words)
    assert result.exit_code == 0, result.output
    assert seen == [True]
    assert "bedrock-throttled" in result.output
    assert "nothing is left running" in result.output


def in_use(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    def is_free(port: int) -> bool:
        return port not in ports

    monkeypatch.setattr(gateway, "_is_free", is_free)


def no_credentials(_session: object) -> None:
    return None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--alias", "without"], "NAME=MODEL_ID expected"),
        (["--port", "9"], "in use"),
        (["--bedrock"], "AWS credentials"),
    ],
)
def test_command_line_says_what_is_wrong(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use(monkeypatch, 9)
    monkeypatch.setattr("boto3.Session.get_credentials", no_credentials)
    result = CliRunner().invoke(command_line.main, ["--no-parent", "--model", "scripted", *words])
    assert result.exit_code
    assert said in result.output


def test_ports_are_the_usual_where_they_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use(monkeypatch)
    usual = gateway.plan_gateway(tmp_path)
    assert (usual.port, usual.operator_port) == (gateway.PORT, gateway.PORT + 1)
    in_use(monkeypatch, gateway.PORT)
    other = gateway.plan_gateway(tmp_path)
    assert gateway.PORT not in {other.port, other.operator_port}
