"""All processes of a developer's stack, in the order in which an operator would start them."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import platformdirs

from latensgate_sim import local_model
from latensgate_sim.deployment import (
    ALIASES,
    Alias,
    UpstreamAliases,
    create_release_key,
    deployment_toml,
    launch_enclave,
    write_config,
)
from latensgate_sim.gateway import (
    Deployed,
    FirstTenant,
    GatewayNotStartedError,
    GatewayProcess,
    create_tenant,
    plan_gateway,
    start_gateway,
    write_client_configuration,
    write_settings,
)
from latensgate_sim.launcher import LISTEN_TIMEOUT_S, EnclaveNotStartedError
from latensgate_sim.openai_upstream import OpenAIUpstream
from latensgate_sim.operator import make_operator_key, push_credential
from latensgate_sim.real_bedrock import BedrockForwarder
from latensgate_sim.world import World, WorldConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from latensgate_sim.launcher import EnclaveProcess
    from latensgate_sim.models import Model

CONFIG_FOLDER_VARIABLE: Final = "LATENSGATE_CONFIG_DIR"
CLIENT_FILE: Final = "dev.toml"
REQUESTS_PER_MINUTE: Final = 600
"""Of the first tenant: a developer's loop must not meet the default of 60."""


class StackNotStartedError(Exception):
    """A part of the stack did not come up; the text says which and why."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What the command line asks for.

    Attributes:
        model: ``auto``, ``local`` or ``scripted``.
        bedrock: Ask the real Bedrock instead.
        aliases: Names of applications to Bedrock model ids, or to ids with a row of `policy.toml`,
            besides or in place of the usual ones.
        openai_aliases: Names to models of a simulated OpenAI-compatible upstream.
        openai_capabilities: Their row of `policy.toml`.
        openai_forward: A plain server of that interface that answers them instead.
        enclaves: How many processes.
        regions: The first one is where enclaves run.
        port: Of the gateway; None: the usual one, or any that is free.
        parent: Whether the gateway is started.
        nitro_root: File that keeps the attestation root over restarts.
        requests_per_minute: Of the first tenant.
        verbose: Show the parent's log lines.
    """

    model: str = "auto"
    bedrock: bool = False
    aliases: Mapping[str, str | Alias] = field(default_factory=dict[str, "str | Alias"])
    openai_aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    openai_capabilities: str = "full"
    openai_forward: str | None = None
    enclaves: int = 2
    regions: Sequence[str] = ("us-east-1",)
    port: int | None = None
    parent: bool = True
    nitro_root: Path | None = None
    requests_per_minute: int = REQUESTS_PER_MINUTE
    verbose: bool = False


class DevStack:
    """A running stack: a context manager that leaves nothing behind.

    Attributes:
        options: As asked for.
        world: The simulated AWS.
        enclaves: Their processes.
        deployed: What the gateway is put in front of.
        plan: Where the gateway is; also without a parent, for one that is started by hand.
        gateway: The parent's process; None while there is none.
        tenant: The first tenant; None without a parent.
        client_file: The configuration of clients on this machine; None without a parent.
    """

    def __init__(self, options: StackOptions, console: Console) -> None:
        self.options = options
        self._console = console
        self._life = ExitStack()
        self.enclaves: list[EnclaveProcess] = []
        self.gateway: GatewayProcess | None = None
        self.tenant: FirstTenant | None = None
        self.client_file: Path | None = None

    def __enter__(self) -> Self:
        with self._life:
            try:
                self._start()
            except (EnclaveNotStartedError, GatewayNotStartedError) as error:
                raise StackNotStartedError(str(error)) from error
            self._life = self._life.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._life.close()

    def _start(self) -> None:
        with self._console.status("Starting the simulated AWS ..."):
            self.world = self._life.enter_context(World(self._world_config()))
            self.plan = plan_gateway(self.world.folder / "parent", self.options.port)
        folder = self._config()
        with self._console.status(f"Measuring and starting {self.options.enclaves} enclaves ..."):
            self._start_enclaves(folder)
        measured = self.enclaves[0].device.measurements
        key_arn = create_release_key(self.world, measured, folder)
        credentials = write_credentials(self.world)
        self.deployed = Deployed(self.world, self.enclaves, folder, key_arn, credentials)
        write_settings(self.plan, self.deployed)
        if self.options.parent:
            with self._console.status("Starting the gateway; the enclaves ask KMS for keys ..."):
                self._life.callback(self.stop_parent)
                self.start_parent()
                self._admit_client()
                self.push_upstream_credential()

    def _world_config(self) -> WorldConfig:
        engine = None if self.options.bedrock else load_model(self.options.model, self._console)
        return WorldConfig(
            regions=self.options.regions,
            default_engine="scripted" if engine is None else "local",
            local=engine,
            nitro_root_path=self.options.nitro_root,
            forward=forwarder() if self.options.bedrock else None,
            openai=self._upstream(),
        )

    def _upstream(self) -> OpenAIUpstream | None:
        if not self.options.openai_aliases:
            return None
        return OpenAIUpstream(forward=self.options.openai_forward)

    def _config(self) -> Path:
        own = self.options.aliases.items()
        aliases = {
            **ALIASES,
            **{name: to if isinstance(to, Alias) else Alias(to) for name, to in own},
        }
        upstream = None
        if self.options.openai_aliases:
            operator_key = make_operator_key(self._signing_key)
            upstream = UpstreamAliases(
                operator_key, self.options.openai_aliases, self.options.openai_capabilities
            )
        deployment = deployment_toml(self.options.regions, aliases=aliases, upstream=upstream)
        return write_config(self.world.folder / "measured", self.world, deployment)

    def _start_enclaves(self, config: Path) -> None:
        self._life.callback(self._stop_enclaves)
        for name in (f"enclave-{number}" for number in range(self.options.enclaves)):
            self.enclaves.append(self._launch(name, config))
        for enclave in self.enclaves:
            enclave.wait_listening(LISTEN_TIMEOUT_S)

    def _launch(self, name: str, config: Path) -> EnclaveProcess:
        egress = self.plan.egress if self.options.parent else None
        return launch_enclave(self.world, config, name, egress=egress, log=self._log(name))

    def _stop_enclaves(self) -> None:
        for enclave in self.enclaves:
            enclave.stop()

    def restart_enclave(self, number: int) -> None:
        """Start the same image again after its process has ended, on the same socket."""
        ended = self.enclaves[number]
        ended.stop()
        self.world.remove_enclave(ended.name)
        self.enclaves[number] = self._launch(ended.name, self.deployed.config)

    def start_parent(self) -> None:
        """Start the parent, also again after it has ended, and wait until all is healthy.

        Raises:
            GatewayNotStartedError: It is not.
        """
        self.gateway = start_gateway(self.plan, log=self._log("parent"))
        self.gateway.wait_ready()

    @property
    def _signing_key(self) -> Path:
        return self.world.folder / "upstream-operator.pem"

    def push_upstream_credential(self) -> None:
        """Bring the upstream's key into the enclaves as an operator does; again after a restart.

        Raises:
            GatewayNotStartedError: They did not take it.
        """
        upstream = self.world.config.openai
        if upstream is None:
            return
        push_credential(self.plan, self._signing_key, upstream.key, self.client_environment)

    def stop_parent(self) -> None:
        """Stop the parent as an operator does; safe to call again."""
        if self.gateway is not None:
            self.gateway.stop()
            self.gateway = None

    def _admit_client(self) -> None:
        name = f"developer-{secrets.token_hex(2)}"
        self.tenant = create_tenant(
            self.plan, name, requests_per_minute=self.options.requests_per_minute
        )
        self.client_file = write_client_configuration(
            client_folder() / CLIENT_FILE, self.plan, self.deployed, self.tenant
        )
        self._life.callback(self.client_file.unlink, missing_ok=True)

    def _log(self, name: str) -> Path | None:
        return None if self.options.verbose else self.world.folder / f"{name}.log"

    @property
    def client_environment(self) -> dict[str, str]:
        """Environment of a client that uses this stack and no other."""
        wrong = ("LATENSGATE_KEY", "LATENSGATE_TENANT", "LATENSGATE_BASE_URL")
        kept = {name: value for name, value in os.environ.items() if name not in wrong}
        return {**kept, "LATENSGATE_BASE_URL": self.plan.url}


def client_folder() -> Path:
    """Return where clients on this machine look for their configuration."""
    named = os.environ.get(CONFIG_FOLDER_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_config_dir("latensgate"))


def load_model(model: str, console: Console) -> Model | None:
    """Load the local model if asked for or there, showing that it takes a moment.

    Raises:
        ModelNotInstalledError: It was asked for and is not there.
    """
    if model == "scripted" or (model == "auto" and not local_model.installed()):
        return None
    with console.status("Loading SmolLM2-135M (about a second) ..."):
        return local_model.load()


def forwarder() -> BedrockForwarder:
    """Return the way to the real Bedrock with the developer's own credentials.

    Raises:
        StackNotStartedError: There are none.
    """
    import boto3  # noqa: PLC0415 -- 100 ms of import that only this option needs

    session = boto3.Session()
    if session.get_credentials() is None:
        raise StackNotStartedError(
            "--bedrock needs AWS credentials, for example AWS_PROFILE or AWS_ACCESS_KEY_ID"
        )
    return BedrockForwarder(session)


def write_credentials(world: World) -> Path:
    """Write the service role's simulated credentials for a parent (mode 0600)."""
    path = world.folder / "service-credentials.json"
    path.touch(mode=0o600)
    held = world.service
    members = {
        "AccessKeyId": held.access_key_id,
        "SecretAccessKey": held.secret_access_key,
        "Token": held.session_token,
    }
    path.write_text(json.dumps(members), encoding="ascii")
    return path
