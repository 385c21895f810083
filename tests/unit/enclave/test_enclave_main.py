"""The composition root: the whole enclave in this process, from its files to SIGTERM."""

from __future__ import annotations

import hashlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from enclave_doubles import HOME, OTHER, configuration, deployment
from latensgate_enclave import VERSION
from latensgate_enclave import __main__ as enclave_main
from latensgate_enclave import server as server_module
from latensgate_enclave.egress import EgressError
from latensgate_enclave.measured import MeasuredConfiguration, OpenAIUpstream
from latensgate_shared.calls import (
    AttestationCall,
    ConfigureKMSCall,
    CredentialsCall,
    HealthAnswer,
    HealthCall,
)
from latensgate_shared.kms_policy import KeyPolicyParameters, render_key_policy_text
from latensgate_sim.deployment import ADMIN_ROLE_ARN, SERVICE_ROLE_ARN
from latensgate_sim.measure import Measurements
from latensgate_sim.tls import EndpointCA
from latensgate_sim.world import ACCOUNT, SimulatedEnclave, World
from stack import ParentLink, write_config

PCRS = Measurements(*(bytes([number]) * 48 for number in (1, 2, 3)))


@pytest.fixture(autouse=True)
def dumpable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the test's own process as it is."""
    monkeypatch.setattr(enclave_main, "forbid_core_dumps", lambda: None)
    monkeypatch.setattr(enclave_main, "settle_heap", lambda: None)


def test_only_hosts_of_the_measured_regions_may_be_dialled() -> None:
    assert enclave_main.allowed_hosts(deployment()) == {
        f"sts.{HOME}.amazonaws.com",
        *(
            f"{service}.{region}.amazonaws.com"
            for service in ("kms", "bedrock", "bedrock-runtime")
            for region in (HOME, OTHER)
        ),
    }


def upstreams(roots: str) -> MeasuredConfiguration:
    """Two upstreams: one under the roots of `trust.toml`, one under its own."""
    common = {"kind": "openai", "location": "a rack", "credential": "none"}
    tables: dict[str, dict[str, object]] = {
        "house": {**common, "host": "llm.example.com", "port": 8443, "tls_roots": roots},
        "other": {**common, "host": "api.example.com"},
    }
    found = msgspec.convert(tables, dict[str, OpenAIUpstream])
    base = configuration(roots)
    return msgspec.structs.replace(
        base, deployment=msgspec.structs.replace(base.deployment, upstreams=found)
    )


def test_upstreams_may_be_dialled_at_their_own_port() -> None:
    measured = upstreams(EndpointCA().pem)
    added = enclave_main.allowed_hosts(measured.deployment) - enclave_main.allowed_hosts(
        deployment()
    )
    assert added == {"llm.example.com:8443", "api.example.com"}


def test_roots_of_an_upstream_count_unless_trust_replaces_them() -> None:
    measured = upstreams(EndpointCA().pem)
    (authority,) = enclave_main.own_contexts(measured)
    assert authority == "llm.example.com:8443"
    trust = msgspec.structs.replace(measured.trust, replaces_upstream_roots=True)
    assert enclave_main.own_contexts(msgspec.structs.replace(measured, trust=trust)) == {}


@contextmanager
def world() -> Generator[tuple[World, SimulatedEnclave]]:
    with World() as made:
        yield made, made.add_enclave("enclave", PCRS)


def arguments(made: World, device: SimulatedEnclave, folder: Path) -> list[str]:
    config = write_config(folder / "config", made)
    return [
        *("--nsm", str(device.socket), "--egress", f"unix:{made.tunnel.path}"),
        *("--listen", f"unix:{folder / 's'}", "--config", str(config)),
    ]


def beside(act: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    """Act beside the enclave, which has the main thread; end it by SIGTERM afterwards."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  # shown by the test
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_it_serves_from_its_files_until_it_is_told_to_stop(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with world() as (made, device):

        def act() -> None:
            link = ParentLink.connect(tmp_path / "s")
            try:
                assert HealthAnswer.from_head(link.call(HealthCall()).head).enclave == "locked"
                held = made.service
                link.call(
                    CredentialsCall(
                        held.access_key_id, held.secret_access_key, held.session_token or "", 1
                    )
                )
                policy = render_key_policy_text(parameters(tmp_path / "config"))
                link.call(ConfigureKMSCall(made.create_key(policy)))
                assert link.call(AttestationCall()).head["manifest"]
            finally:
                link.close()

        thread, failures = beside(act)
        assert enclave_main.main(arguments(made, device, tmp_path)) == 0
        thread.join()
        assert failures == []
    log = capfd.readouterr().err
    for event in ("STARTED", "TIME_SET", "LISTENING", "KEYS_ROTATED", "DRAINING", "STOPPED"):
        assert f"event={event}" in log


def parameters(config: Path) -> KeyPolicyParameters:
    digest = hashlib.sha384((config / "deployment.toml").read_bytes()).hexdigest()
    return KeyPolicyParameters(
        account_id=ACCOUNT,
        partition="aws",
        service_role_arn=SERVICE_ROLE_ARN,
        key_admin_role_arn=ADMIN_ROLE_ARN,
        pcr0=PCRS.pcr0.hex(),
        pcr1=PCRS.pcr1.hex(),
        pcr2=PCRS.pcr2.hex(),
        context_service="latensgate",
        context_release=VERSION,
        context_deployment_digest=f"sha384:{digest}",
    )


def test_what_is_wrong_with_its_files_stops_the_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with world() as (made, device):
        given = arguments(made, device, tmp_path)
        (tmp_path / "config" / "policy.toml").write_text("")
        assert enclave_main.main(given) == 1
    assert "cannot serve: ERR_CONFIGURATION: policy.toml" in capfd.readouterr().err


def test_an_address_that_is_none_stops_the_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--nsm", "/dev/null", "--egress", "tcp:1", "--listen", "unix:/x", "--config", "/"]
    assert enclave_main.main(given) == 1
    assert "cannot serve: ERR_MALFORMED" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_text_of_an_unexpected_exception_reaches_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, *_: object) -> None:
            raise EgressError("a secret of the caller", nothing_sent=True)

    monkeypatch.setattr(server_module, "Session", Broken)
    with world() as (made, device):

        def act() -> None:
            link = ParentLink.connect(tmp_path / "s")
            time.sleep(0.1)
            link.close()

        thread, failures = beside(act)
        assert enclave_main.main(arguments(made, device, tmp_path)) == 0
        thread.join()
        assert failures == []
    log = capfd.readouterr().err
    assert "event=INTERNAL" in log
    assert "secret" not in log


def test_it_is_a_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "latensgate_enclave.__main__")
    monkeypatch.setattr(sys, "argv", ["latensgate_enclave", "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("latensgate_enclave", run_name="__main__")
    assert caught.value.code == 0
    assert "--nsm" in capfd.readouterr().out


def test_pythons_own_handlers_print_no_text(capfd: pytest.CaptureFixture[str]) -> None:
    script = (
        "import sys; from latensgate_enclave.__main__ import main; "
        "main(['--nsm', '/', '--egress', 'x', '--listen', 'x', '--config', '/']); "
        "raise ValueError('secret')"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    said = capfd.readouterr().err
    assert done.returncode == 1
    assert "event=INTERNAL" in said
    assert "secret" not in said


def test_what_python_would_print_becomes_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    enclave_main.say_nothing(ValueError, ValueError("secret"), None)
    assert capsys.readouterr().err == "event=INTERNAL\n"
