"""Everything of the simulated AWS, put together in one place.

A ``World`` runs its servers on an event loop in a thread of its own, so tests of any kind can hold
one and change it while it runs. All ports are ephemeral and on 127.0.0.1; all files lie in one
temporary folder; ``close`` leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

from latensgate_sim.bedrock import BedrockRuntime
from latensgate_sim.clock import Clock
from latensgate_sim.control import STS, BedrockControl
from latensgate_sim.http_server import Handler, HTTPServer
from latensgate_sim.identity import Credentials, IdentityStore
from latensgate_sim.kms import KMS
from latensgate_sim.kms_keys import KeyRing
from latensgate_sim.models import CATALOGUE, Model, ModelCard, ScriptedModel
from latensgate_sim.nitro_pki import Issued, NitroChain, load_or_make_root, make_root
from latensgate_sim.nsm import NSM
from latensgate_sim.nsm_server import NSMServer
from latensgate_sim.openai_upstream import HOST as OPENAI_HOST
from latensgate_sim.sigv4 import SigV4Checker
from latensgate_sim.tls import EndpointCA
from latensgate_sim.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from latensgate_sim.measure import Measurements
    from latensgate_sim.openai_upstream import OpenAIUpstream
    from latensgate_sim.real_bedrock import BedrockForwarder

ACCOUNT: Final = "111122223333"
TENANT_ACCOUNT: Final = "444455556666"
SERVICE_ROLE: Final = "LatensgateService"
ADMIN_ROLE: Final = "LatensgateKeyAdmin"
_CALL_TIMEOUT_S: Final = 30.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """How a world begins.

    Attributes:
        regions: The first one is where enclaves run.
        default_engine: What answers for model ids without an engine of their own.
        local: A loaded local model, or None.
        models: Model ids.
        forward: The way to the real Bedrock, in place of ``default_engine``.
        openai: A server of OpenAI's interface beside Bedrock, or None.
        nitro_root_path: Where the attestation root is kept over restarts; None makes a new one.
    """

    regions: Sequence[str] = ("us-east-1",)
    default_engine: str = "scripted"
    local: Model | None = None
    models: Mapping[str, ModelCard] = field(default_factory=lambda: dict(CATALOGUE))
    nitro_root_path: Path | None = None
    openai: OpenAIUpstream | None = None
    forward: BedrockForwarder | None = None


@dataclass(frozen=True, slots=True)
class SimulatedEnclave:
    """One enclave's device.

    Attributes:
        nsm: The device; tests may reach in.
        socket: Where a process reaches it.
        measurements: What the launcher measured.
    """

    nsm: NSM
    socket: Path
    measurements: Measurements


@dataclass(frozen=True, slots=True)
class Region:
    """The services of one Region."""

    kms: KMS
    bedrock: BedrockRuntime
    control: BedrockControl
    sts: STS


class World:
    """A running simulated AWS.

    Attributes:
        clock: The time of NSM, KMS, STS and Bedrock.
        identities: Credentials that are known.
        nitro_root: Root of the attestation documents.
        ca: Authority of the TLS servers.
        regions: Services by Region name.
        folder: Sockets and root certificates.
        tunnel: The way out for an enclave process.
        service: Credentials of the service role in ``ACCOUNT``.
        admin: Credentials of the key administrator in ``ACCOUNT``.
        tenant: Credentials of an application in ``TENANT_ACCOUNT``.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self.clock = Clock()
        self.identities = IdentityStore(self.clock)
        self.nitro_root = _root(self.config.nitro_root_path)
        self.ca = EndpointCA()
        self.regions = {name: self._region(name) for name in self.config.regions}
        self.folder = Path(tempfile.mkdtemp(prefix="latensgate-sim-"))
        self.service = self.identities.role_session(ACCOUNT, SERVICE_ROLE)
        self.admin = self.identities.role_session(ACCOUNT, ADMIN_ROLE, "admin", iam_actions=("*",))
        self.tenant = self.identities.user(TENANT_ACCOUNT, "application")
        self._servers: dict[str, HTTPServer] = {}
        self._enclaves: dict[str, tuple[SimulatedEnclave, NSMServer]] = {}
        self._chains: dict[str, NitroChain] = {}
        self._routes: dict[str, int] = {}
        self.tunnel = Tunnel(self.folder / "egress.sock", self._routes)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="simulated-aws", daemon=True
        )
        self._closed = False

    # --- life ---

    def start(self) -> Self:
        """Start every server; returns the world itself."""
        self._thread.start()
        self.run(self._start())
        (self.folder / "nitro-root.pem").write_text(self.nitro_root.pem, encoding="ascii")
        (self.folder / "endpoint-ca.pem").write_text(self.ca.pem, encoding="ascii")
        return self

    def close(self) -> None:
        """Stop every server, end the thread and remove the folder; safe to call again."""
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            self.run(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, work: Coroutine[None, None, _T]) -> _T:
        """Run a coroutine on the world's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_TIMEOUT_S)

    # --- what tests and the launcher ask for ---

    @property
    def home(self) -> Region:
        """The services of the first Region."""
        return self.regions[self.config.regions[0]]

    @property
    def nitro_root_sha256(self) -> str:
        """Fingerprint of the attestation root: what a client has to accept on purpose."""
        return hashlib.sha256(self.nitro_root.der).hexdigest()

    @property
    def ca_path(self) -> Path:
        """The TLS authority as a PEM file."""
        return self.folder / "endpoint-ca.pem"

    @property
    def ports(self) -> dict[str, int]:
        """Local port of every simulated AWS host name."""
        return {host: server.port for host, server in self._servers.items()}

    def add_enclave(
        self,
        name: str,
        measurements: Measurements,
        *,
        debug: bool = False,
        instance_id: str = "i-0123456789abcdef0",
    ) -> SimulatedEnclave:
        """Give a new enclave its device. Only the caller, who measured, decides its PCRs."""
        chain = self._chains.setdefault(
            instance_id,
            NitroChain(self.nitro_root, self.config.regions[0], instance_id, self.clock),
        )
        role_arn = self.service.identity.principal_arn
        nsm = NSM(chain, measurements, self.clock, debug=debug, parent_role_arn=role_arn)
        path = self.folder / f"nsm-{secrets.token_hex(4)}.sock"
        server = NSMServer(nsm, path)
        self.run(server.start())
        enclave = SimulatedEnclave(nsm, path, measurements)
        self._enclaves[name] = (enclave, server)
        return enclave

    def enclave(self, name: str) -> SimulatedEnclave:
        """Return the device of an enclave that was added."""
        return self._enclaves[name][0]

    def remove_enclave(self, name: str) -> None:
        """Take the device of an enclave away."""
        _, server = self._enclaves.pop(name)
        self.run(server.close())
        server.path.unlink(missing_ok=True)

    def create_key(
        self, policy: str | None = None, *, by: Credentials | None = None, **parameters: object
    ) -> str:
        """Create a key in the home Region with its final policy at once; returns its ARN."""
        wanted: dict[str, object] = {"BypassPolicyLockoutSafetyCheck": True, **parameters}
        if policy is not None:
            wanted["Policy"] = policy
        identity = (by or self.admin).identity
        answer = self.home.kms.call(identity, "CreateKey", wanted)
        return str(cast("dict[str, object]", answer["KeyMetadata"])["Arn"])

    def set_policy(self, key_arn: str, policy: str) -> None:
        """Change a key policy behind everyone's back, as only AWS itself could."""
        region, account = key_arn.split(":")[3:5]
        self.regions[region].kms.keys.resolve(key_arn, account).policy = policy

    def dump(self) -> dict[str, object]:
        """Return what runs and where; no secrets."""
        return {
            "folder": str(self.folder),
            "nitro_root_sha256": self.nitro_root_sha256,
            "endpoints": {host: f"127.0.0.1:{port}" for host, port in self.ports.items()},
            "tunnel": str(self.tunnel.path),
            "enclaves": {
                name: {
                    "socket": str(enclave.socket),
                    "module_id": enclave.nsm.module_id,
                    "debug": enclave.nsm.debug,
                    **enclave.measurements.hex(),
                }
                for name, (enclave, _) in self._enclaves.items()
            },
            "kms_log": [entry for region in self.regions.values() for entry in region.kms.log],
        }

    def cut_connections(self) -> None:
        """Cut what is open to every service, idle or not: as after a pause of the provider."""

        async def cut() -> None:
            for server in self._servers.values():
                await server.connections.cut()

        self.run(cut())

    # --- inside ---

    async def _start(self) -> None:
        for name, region in self.regions.items():
            await self._serve(f"kms.{name}.amazonaws.com", region.kms.handle)
            await self._serve(f"sts.{name}.amazonaws.com", region.sts.handle)
            await self._serve(f"bedrock-runtime.{name}.amazonaws.com", region.bedrock.handle)
            await self._serve(f"bedrock.{name}.amazonaws.com", region.control.handle)
        if self.config.openai is not None:
            await self._serve(OPENAI_HOST, self.config.openai.handle)
        await self.tunnel.start()

    async def _serve(self, host: str, handler: Handler) -> None:
        server = HTTPServer(handler, self.ca.context(self.ca.issue([host])))
        await server.start()
        self._servers[host] = server
        self._routes[f"{host}:443"] = server.port

    async def _stop(self) -> None:
        await self.tunnel.close()
        for _, nsm_server in self._enclaves.values():
            await nsm_server.close()
        for server in self._servers.values():
            await server.close()
        if self.config.forward is not None:
            await self.config.forward.aclose()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _region(self, name: str) -> Region:
        def checker(service: str, status: int) -> SigV4Checker:
            return SigV4Checker(service, name, self.identities, self.clock, status)

        root_sha256 = hashlib.sha256(self.nitro_root.der).hexdigest()
        return Region(
            kms=KMS(KeyRing(name), checker("kms", 400), self.clock, root_sha256),
            bedrock=BedrockRuntime(
                checker("bedrock", 403),
                self.config.models,
                self._engines(),
                forward=self.config.forward,
            ),
            control=BedrockControl(checker("bedrock", 403)),
            sts=STS(checker("sts", 403)),
        )

    def _engines(self) -> dict[str, Model]:
        engines: dict[str, Model] = {"scripted": ScriptedModel()}
        if self.config.local is not None:
            engines["local"] = self.config.local
        if self.config.default_engine in engines:
            engines["default"] = engines[self.config.default_engine]
        return engines


def _root(path: Path | None) -> Issued:
    return make_root() if path is None else load_or_make_root(path)
