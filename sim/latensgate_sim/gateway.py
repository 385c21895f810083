"""The parent beside a world: its settings, its process, its first tenant.

The parent is another distribution, and stays a process that is told everything by its settings
file, as it is on AWS. Nothing of it is imported here.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from latensgate_sim.launcher import opened_log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from latensgate_sim.launcher import EnclaveProcess
    from latensgate_sim.world import World

PORT: Final = 8700
_PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to the other end of connections: one of them could have the
port of a gateway at the moment when that is started again."""
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.05
_POLL_GROWTH: Final = 1.3
_POLL_MAX_S: Final = 0.5
"""Who asks for health more often than five times a second for a minute is refused."""
_FOLDER_MODE: Final = 0o700
_LOG_SHOWN_LINES: Final = 12
_REQUEST: Final = '"event":"request"'


class GatewayNotStartedError(Exception):
    """The parent did not come up; it says why on its standard error."""


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """What the parent is told.

    Attributes:
        folder: Its settings and database, mode 0700.
        port: Public port on 127.0.0.1.
        operator_port: Metrics; on 127.0.0.1, too.
        egress: UNIX socket on which it serves the tunnel of the enclaves.
    """

    folder: Path
    port: int
    operator_port: int

    @property
    def egress(self) -> Path:
        """UNIX socket on which it serves the tunnel of the enclaves."""
        return self.folder / "egress.sock"

    @property
    def settings(self) -> Path:
        """Its settings file."""
        return self.folder / "parent.toml"

    @property
    def url(self) -> str:
        """What clients call."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def operator_url(self) -> str:
        """Where the operator finds metrics."""
        return f"http://127.0.0.1:{self.operator_port}"


def plan_gateway(folder: Path, port: int | None = None) -> GatewayPlan:
    """Choose ports: the wished one (0: any), or the usual if it is free, otherwise any.

    Raises:
        GatewayNotStartedError: The wished port is in use.
    """
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    if port and not _is_free(port):
        raise GatewayNotStartedError(f"port {port} is in use; name another or leave it out")
    usual = port is None and _is_free(PORT)
    public = port or (PORT if usual else _any_free())
    operator = public + 1 if _is_free(public + 1) else _any_free()
    return GatewayPlan(folder, public, operator)


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_free() -> int:
    while not _is_free(port := secrets.choice(_PORTS)):
        pass
    return port


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a parent is put in front of.

    Attributes:
        world: The simulated AWS.
        enclaves: All run one image.
        config: Folder of the measured files.
        key_arn: The KMS key of this release.
        credentials: File with those of the service role.
    """

    world: World
    enclaves: Sequence[EnclaveProcess]
    config: Path
    key_arn: str
    credentials: Path

    @property
    def measurements(self) -> dict[str, str]:
        """PCR0, PCR1 and PCR2 in hex."""
        return self.enclaves[0].device.measurements.hex()

    def trusted(self, table: str) -> list[str]:
        """Return the lines of TOML that accept this image under the simulated root."""
        return [
            f'simulated_root_sha256 = "{self.world.nitro_root_sha256}"',
            f"[[{table}.measurements]]",
            *(f'{name} = "{value}"' for name, value in self.measurements.items()),
        ]


def write_settings(plan: GatewayPlan, deployed: Deployed) -> Path:
    """Write the parent's settings file; returns it."""
    listed = ", ".join(f'"unix:{enclave.listen}"' for enclave in deployed.enclaves)
    ports = deployed.world.ports
    lines = [
        f'listen = "127.0.0.1:{plan.port}"',
        f'operator_listen = "127.0.0.1:{plan.operator_port}"',
        f'public_url = "{plan.url}"',
        f'database = "sqlite:///{plan.folder}/latensgate.db"',
        f"enclaves = [{listed}]",
        f'egress_listen = "unix:{plan.egress}"',
        f'kms_key_arn = "{deployed.key_arn}"',
        f'credentials = "file:{deployed.credentials}"',
        f'deployment = "{deployed.config / "deployment.toml"}"',
        "[egress_routes]",
        *(f'"{host}:443" = "127.0.0.1:{port}"' for host, port in ports.items()),
        "[verifier]",
        *deployed.trusted("verifier"),
    ]
    plan.settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return plan.settings


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A started parent; its lines go to the terminal where `log` is None."""

    plan: GatewayPlan
    process: subprocess.Popen[bytes]
    log: Path | None

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until its health is good: enclave, KMS and Bedrock.

        Raises:
            GatewayNotStartedError: It ended, or was not healthy in time.
        """
        deadline_s = time.monotonic() + timeout_s
        pause_s = _POLL_S
        while True:
            told = _health(self.plan.url)
            if told is True:
                return
            status = self.process.poll()
            if status is not None:
                raise GatewayNotStartedError(f"the parent ended with status {status}{self._end()}")
            if time.monotonic() > deadline_s:
                text = f"not healthy after {timeout_s:.0f} s: {told}{self._end()}"
                raise GatewayNotStartedError(text)
            time.sleep(pause_s)
            pause_s = min(pause_s * _POLL_GROWTH, _POLL_MAX_S)

    def _end(self) -> str:
        """Return the last lines of its log, but of requests: clients that wait send very many."""
        if self.log is None:
            return ""
        told = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [line for line in told if _REQUEST not in line]
        return "\n".join(["", *lines[-_LOG_SHOWN_LINES:]])

    def stop(self) -> int:
        """Ask it to drain, wait, and kill it if it does not; returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _health(url: str) -> bool | str:
    try:
        answer = httpx.get(f"{url}/api/health", timeout=2.0, trust_env=False)
    except httpx.HTTPError as error:
        return type(error).__name__
    return True if answer.is_success else answer.text


def start_gateway(plan: GatewayPlan, *, log: Path | None = None) -> GatewayProcess:
    """Start the parent from its settings.

    Args:
        plan: Its settings file is written.
        log: Where its lines go; None: nowhere but the terminal.
    """
    command = [sys.executable, "-m", "latensgate_parent", "--config", str(plan.settings)]
    with opened_log(log) as sink:
        process = subprocess.Popen(  # noqa: S603 -- own interpreter and arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env=_environment(),
        )
    return GatewayProcess(plan, process, log)


def _environment() -> dict[str, str]:
    """Return this process's environment without settings that would reach into the parent."""
    return {k: v for k, v in os.environ.items() if not k.startswith("LATENSGATE_PARENT_")}


@dataclass(frozen=True, slots=True)
class FirstTenant:
    """A tenant and its key, as the operator's command made them."""

    tenant_id: str
    api_key: str


def create_tenant(plan: GatewayPlan, name: str, *, requests_per_minute: int) -> FirstTenant:
    """Create a tenant and a key of all scopes, as an operator does.

    Raises:
        GatewayNotStartedError: The operator's command failed.
    """
    limit = str(requests_per_minute)
    tenant = _admin(plan, "tenant", "create", "--name", name, "--requests-per-minute", limit)
    tenant_id = tenant["tenant_id"]
    made = _admin(
        plan, "key", "create", "--tenant", tenant_id, "--name", name, "--scope", "admin", "--test"
    )
    return FirstTenant(tenant_id, made["key"])


def _admin(plan: GatewayPlan, *words: str) -> Mapping[str, str]:
    module = [sys.executable, "-m", "latensgate_parent.admin"]
    command = [*module, "--config", str(plan.settings), "--json", *words]
    done = subprocess.run(  # noqa: S603 -- own interpreter and arguments, no shell
        command, capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode:
        raise GatewayNotStartedError(
            f"latensgate-admin {words[0]} {words[1]}: {done.stderr.strip()}"
        )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def write_client_configuration(
    path: Path, plan: GatewayPlan, deployed: Deployed, tenant: FirstTenant
) -> Path:
    """Write what a client on this machine needs to trust and use this stack (mode 0600)."""
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    lines = [
        "# Written by the developer stack, removed when it stops.",
        "[[gateways]]",
        f'base_url = "{plan.url}"',
        f'tenant = "{tenant.tenant_id}"',
        f'api_key = "{tenant.api_key}"',
        *deployed.trusted("gateways"),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
