"""Every command and every snippet of the README, run as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway_stack import GatewayStack, gateway_stack
from latensgate.cli.exit_codes import ExitCode
from latensgate_sim.dev_stack import StackOptions
from paths import REPOSITORY, published

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.splitlines()
]
OF_MAKE = [command for command in COMMANDS if command.startswith("make ")]
OF_SERVERS = [command for command in COMMANDS if "latensgate proxy" in command]
OF_BIN = [each for each in COMMANDS if each.startswith(".venv/bin/") and each not in OF_SERVERS]
SNIPPETS = [text for kind, text in BLOCKS if kind == "python"]
DOCUMENT = "attestation/prod-20260421T223340Z-f1f05745.cbor"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    options = StackOptions(model="scripted", port=0)
    with gateway_stack(tmp_path_factory.mktemp("readme"), options) as running:
        yield running


@pytest.fixture
def folder(stack: GatewayStack, tmp_path: Path) -> Path:
    """A working folder in which the names that the README uses exist."""
    (tmp_path / "parent.toml").write_text(stack.dev.plan.settings.read_text())
    (tmp_path / "tests").symlink_to(REPOSITORY / "tests")
    (tmp_path / "document.cbor").symlink_to(published("nitro", DOCUMENT))
    return tmp_path


def test_nothing_is_left_out() -> None:
    assert len(OF_MAKE) + len(OF_BIN) + len(OF_SERVERS) == len(COMMANDS)
    assert len(OF_SERVERS) == 1
    assert len(OF_BIN) >= 15
    assert len(SNIPPETS) == 1


@pytest.mark.parametrize("command", OF_MAKE)
def test_make_targets_exist(command: str) -> None:
    words = [*shlex.split(command), "-n"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def expected_codes(command: str) -> set[int]:
    """Evidence under a simulated root, and evidence without a policy, have codes of their own."""
    if "attest inspect" in command:
        return {ExitCode.NOT_COMPARED, ExitCode.TIME}
    judged = "attest --simulated" in command or "audit check" in command
    return {ExitCode.SIMULATED} if judged else {0}


@pytest.mark.parametrize("command", OF_BIN)
def test_commands(command: str, stack: GatewayStack, folder: Path) -> None:
    program, *words = shlex.split(command)
    words = [stack.tenant_id if word == "tnt_a3f9c42b" else word for word in words]
    path = BIN / Path(program).name
    done = subprocess.run(
        [str(path), *words],
        cwd=folder,
        env={**os.environ, **stack.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in expected_codes(command), done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", OF_SERVERS)
def test_servers_serve_until_they_are_stopped(
    command: str, stack: GatewayStack, folder: Path
) -> None:
    program, *words = shlex.split(command)
    started = [str(BIN / Path(program).name), *words, "--port", "0"]
    environment = {**os.environ, **stack.environment}
    with subprocess.Popen(
        started, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            told = next(line for line in running.stdout if "http://127.0.0.1:" in line)
            url = re.search(r"http://127\.0\.0\.1:[0-9]+", told)
            assert url is not None
            assert httpx.get(f"{url[0]}/status", trust_env=False).json()["status"] == "simulated"
        finally:
            running.send_signal(signal.SIGINT)
        running.stdout.read()
    assert running.returncode == 0


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets(snippet: str, stack: GatewayStack, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=folder,
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *_, attestation_hash, status = done.stdout.splitlines()
    assert re.fullmatch(r"sha384:[0-9a-f]{96}", attestation_hash)
    assert status == "simulated"


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
