"""The enclave's parts in one event loop, over doubles of what is outside: NSM, time, network, AWS.

AWS is the simulator's own KMS, STS and Bedrock behind one TLS server in the test's loop, so every
byte goes through the real TLS, HTTP, SigV4 and CMS. What may fail, fails in two ways: nothing
happened, or it happened and the answer was lost.
"""

from __future__ import annotations

import asyncio
import functools
import io
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ParamSpec
from unittest import mock

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate_enclave import VERSION
from latensgate_enclave.__main__ import openai_providers
from latensgate_enclave.aws.sigv4 import Credentials
from latensgate_enclave.bedrock_upstream import BedrockProvider
from latensgate_enclave.clock import EnclaveClock
from latensgate_enclave.egress import Egress, tls_context
from latensgate_enclave.envelope import TenantKeys
from latensgate_enclave.environment import Environment
from latensgate_enclave.events import EventLog
from latensgate_enclave.gate import KMSClient, KMSGate, Recipient
from latensgate_enclave.identity import UpstreamIdentity
from latensgate_enclave.keys import KeyRing
from latensgate_enclave.measured import (
    Deployment,
    MeasuredConfiguration,
    ModelRoute,
    OpenAIUpstream,
    Policy,
    Trust,
    parse_table,
)
from latensgate_enclave.nitro.nsm import NSMError
from latensgate_enclave.pii import Tier1Engine, parse_floor
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.receipt_book import ReceiptBook
from latensgate_enclave.replay import ReplayWindow
from latensgate_enclave.steps import Parts, Released
from latensgate_enclave.supervisor import Supervisor
from latensgate_enclave.upstream import Surroundings, Upstreams
from latensgate_enclave.upstream_credentials import UpstreamCredentials
from latensgate_shared.calls_upstream import UpstreamCredentialCall
from latensgate_shared.kms_policy import KeyPolicyParameters, render_key_policy_text
from latensgate_shared.sealed import AnswerSecret, OpenedAnswer, SealingKey, open_answer
from latensgate_shared.upstream_credential import UpstreamCredential, seal_credential
from latensgate_sim import nsm as simulated
from latensgate_sim.errors import CutConnectionError
from latensgate_sim.http_server import HTTPServer, Request, Response
from latensgate_sim.identity import Credentials as SimCredentials
from latensgate_sim.measure import Measurements
from latensgate_sim.nitro_pki import NitroChain
from latensgate_sim.openai_upstream import HOST as OPENAI_HOST
from latensgate_sim.openai_upstream import OpenAIUpstream as OpenAIServer
from latensgate_sim.world import ACCOUNT, World, WorldConfig
from paths import REPOSITORY

MODEL = "claude-3.5-sonnet"
PLAIN_MODEL = "plain"
HOME, OTHER = "us-east-1", "eu-central-1"
TENANT = "tnt_a3f9c42b"
_POLICY_TOML = (REPOSITORY / "enclave/policy.toml").read_bytes()
_DIGEST = "sha384:" + "ab" * 48
_P = ParamSpec("_P")


def in_loop(test: Callable[_P, Awaitable[None]]) -> Callable[_P, None]:
    """Run an asynchronous test in an event loop of its own, and let no task of it remain."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        async def whole() -> None:
            async with asyncio.timeout(30):
                await test(*args, **kwargs)
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"tasks are left: {left}"

        asyncio.run(whole())

    return run


class Accident(Enum):
    """How a call to the outside fails."""

    REFUSED = "failed, nothing happened"
    LOST = "failed, but it happened"


@dataclass
class Monotonic:
    """CLOCK_MONOTONIC that moves when told to."""

    now_ns: int = 5_000_000_000
    slept: list[float] = field(default_factory=list[float])

    def __call__(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        """Let time pass for pauses, and none for the test."""
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1_000_000_000)


@dataclass
class LocalNSM:
    """The simulated device, called without a thread."""

    device: simulated.NSM
    accidents: deque[Accident] = field(default_factory=deque[Accident])
    documents: int = 0
    debug: bool = False

    async def attest(
        self, *, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None
    ) -> bytes:
        accident = self.accidents.popleft() if self.accidents else None
        if accident is Accident.REFUSED:
            raise NSMError("injected")
        document = self.device.attest(user_data=user_data, nonce=nonce, public_key=public_key)
        self.documents += 1
        if accident is Accident.LOST:
            raise NSMError("injected")
        return document

    async def describe_pcrs(self, *indexes: int) -> Mapping[int, bytes]:
        return {index: bytes(48) if self.debug else self.device.pcr(index) for index in indexes}


Answering = Callable[[Request], Awaitable[Response]]


class Cloud:
    """The simulated AWS behind one TLS server.

    Attributes:
        happened: Operations that AWS carried out, in order.
        accidents: By operation: what befalls the next requests.
        instead: By operation: answers of a test's own.
        reached: Set whenever a request has come in.
        hold: Requests wait for it before they are carried out.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.happened: list[str] = []
        self.accidents: dict[str, deque[Accident]] = {}
        self.instead: dict[str, Answering] = {}
        self.reached = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        self.dialled: list[str] = []
        self._handlers: dict[str, Answering] = {}
        for name, region in world.regions.items():
            self._handlers[f"kms.{name}.amazonaws.com"] = region.kms.handle
            self._handlers[f"sts.{name}.amazonaws.com"] = region.sts.handle
            self._handlers[f"bedrock.{name}.amazonaws.com"] = region.control.handle
            self._handlers[f"bedrock-runtime.{name}.amazonaws.com"] = region.bedrock.handle
        if world.config.openai is not None:
            self._handlers[OPENAI_HOST] = world.config.openai.handle
        issued = world.ca.issue(list(self._handlers))
        self.server = HTTPServer(self._handle, world.ca.context(issued))

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(self._handlers)

    def fail(self, operation: str, *accidents: Accident) -> None:
        self.accidents[operation] = deque(accidents)

    async def dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.dialled.append(f"{host}:{port}")
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    async def _handle(self, request: Request) -> Response:
        operation = _operation(request)
        self.reached.set()
        await self.hold.wait()
        waiting = self.accidents.get(operation)
        accident = waiting.popleft() if waiting else None
        if accident is Accident.REFUSED:
            raise CutConnectionError
        handler = self.instead.get(operation, self._handlers[request.headers["host"]])
        response = await handler(request)
        self.happened.append(operation)
        if accident is Accident.LOST:
            raise CutConnectionError
        return response


def _operation(request: Request) -> str:
    """Name what is asked: `Decrypt`, `sts`, `logging`, `converse` or `converse-stream`."""
    target = request.headers.get("x-amz-target")
    if target is not None:
        return target.partition(".")[2]
    if request.headers["host"].startswith("sts."):
        return "sts"
    last = request.path.rpartition("/")[2]
    return "logging" if last == "modelinvocations" else last


@functools.cache
def engine() -> Tier1Engine:
    """One engine for all tests: its patterns take long to compile."""
    return Tier1Engine()


@functools.cache
def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Bench:
    """One enclave's parts, put together as `__main__.compose` does."""

    world: World
    cloud: Cloud
    nsm: LocalNSM
    monotonic: Monotonic
    clock: EnclaveClock
    egress: Egress
    identity: UpstreamIdentity
    client: KMSClient
    recipient: Recipient
    gate: KMSGate
    supervisor: Supervisor
    pipeline: Pipeline
    log: io.StringIO

    @property
    def parts(self) -> Parts:
        return self.pipeline.parts

    @property
    def keys(self) -> KeyRing:
        return self.pipeline.parts.keys

    def advance(self, seconds: float) -> None:
        """Let time pass for the enclave and for AWS."""
        self.world.clock.advance(seconds)
        self.monotonic.advance(seconds)

    def policy_parameters(self, **changes: str) -> KeyPolicyParameters:
        deployment = self.parts.configuration.deployment
        parameters = KeyPolicyParameters(
            account_id=ACCOUNT,
            partition="aws",
            service_role_arn=deployment.service_role_arn,
            key_admin_role_arn=deployment.key_admin_role_arn,
            pcr0=self.nsm.device.pcr(0).hex(),
            pcr1=self.nsm.device.pcr(1).hex(),
            pcr2=self.nsm.device.pcr(2).hex(),
            context_service="latensgate",
            context_release=VERSION,
            context_deployment_digest=self.parts.configuration.deployment_digest,
        )
        return replace(parameters, **changes)

    def create_key(self, *, multi_region: bool = False, origin: str = "AWS_KMS") -> str:
        policy = render_key_policy_text(self.policy_parameters())
        return self.world.create_key(policy, MultiRegion=multi_region, Origin=origin)

    async def open(self) -> str:
        """Do what an honest parent does at the start; return the key's ARN."""
        await self.supervisor.accept_credentials(credentials(self.world.service))
        key_arn = self.create_key()
        await self.supervisor.configure_kms(key_arn, None)
        return key_arn


def credentials(held: SimCredentials) -> Credentials:
    return Credentials(held.access_key_id, held.secret_access_key, held.session_token)


def deployment(invocation_logging: str = "refuse") -> Deployment:
    """Two Regions and two models."""
    route = {"model_id": "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "region": HOME}
    table = {
        "account": ACCOUNT,
        "regions": [HOME, OTHER],
        "service_role_arn": f"arn:aws:iam::{ACCOUNT}:role/LatensgateService",
        "key_admin_role_arn": f"arn:aws:iam::{ACCOUNT}:role/LatensgateKeyAdmin",
        "invocation_logging": invocation_logging,
        "models": {
            MODEL: {**route, "capabilities": "full"},
            PLAIN_MODEL: {**route, "capabilities": "text"},
        },
    }
    return msgspec.convert(table, Deployment)


def configuration(ca_pem: str, invocation_logging: str = "refuse") -> MeasuredConfiguration:
    return MeasuredConfiguration(
        policy=parse_table("policy.toml", _POLICY_TOML, Policy),
        policy_digest=_DIGEST,
        deployment=deployment(invocation_logging),
        deployment_digest=_DIGEST,
        trust=Trust("sim", frozenset({"0" * 64})),
        ca_pem=ca_pem,
    )


OPERATOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
COMPATIBLE_MODEL = "compatible"


def with_upstream(measured: MeasuredConfiguration) -> MeasuredConfiguration:
    """Add an OpenAI-compatible upstream and a model of it."""
    tables = {"house": {"kind": "openai", "host": OPENAI_HOST, "location": "a rack"}}
    route = {"upstream": "house", "model_id": "scripted", "capabilities": "openai-chat"}
    before = measured.deployment
    changed = msgspec.structs.replace(
        before,
        models={**before.models, COMPATIBLE_MODEL: msgspec.convert(route, ModelRoute)},
        upstreams=msgspec.convert(tables, dict[str, OpenAIUpstream]),
        upstream_operator_key=OPERATOR.public_key().public_bytes_raw().hex(),
    )
    return msgspec.structs.replace(measured, deployment=changed)


def deliver_credential(made: Bench, secret: str, upstream: str = "house") -> None:
    """Do what an operator does."""
    publication = made.keys.current()
    key = publication.manifest.hpke_keys[0]
    now_ms = made.clock.now_ms()
    credential = UpstreamCredential(publication.attestation_hash, upstream, now_ms, secret)
    sealing_key = SealingKey(key.suite, key.public_key)
    sealed = seal_credential(credential, sealing_key, OPERATOR.sign)
    call = UpstreamCredentialCall(credential.attestation_hash, upstream, sealed.wire)
    assert made.parts.upstream_credentials.answer(call).confirmed


@asynccontextmanager
async def bench(
    *,
    invocation_logging: str = "refuse",
    model_timeout_ms: int = 20_000,
    openai: OpenAIServer | None = None,
) -> AsyncGenerator[Bench]:
    """Build an enclave's parts over a simulated AWS in this loop; with an upstream beside it."""
    world = World(WorldConfig(regions=(HOME, OTHER), openai=openai))
    try:
        cloud = Cloud(world)
        await cloud.server.start()
        made = await _build(world, cloud, invocation_logging, model_timeout_ms)
        try:
            yield made
        finally:
            cloud.hold.set()
            made.egress.close()
            await cloud.server.close()
    finally:
        world.close()


async def _build(
    world: World, cloud: Cloud, invocation_logging: str, model_timeout_ms: int
) -> Bench:
    measured = configuration(world.ca.pem, invocation_logging)
    if world.config.openai is not None:
        measured = with_upstream(measured)
    chain = NitroChain(world.nitro_root, HOME, "i-0123456789abcdef0", world.clock)
    pcrs = Measurements(*(bytes([number]) * 48 for number in (1, 2, 3)))
    nsm, monotonic, log = (
        LocalNSM(simulated.NSM(chain, pcrs, world.clock)),
        Monotonic(),
        io.StringIO(),
    )
    clock = EnclaveClock(nsm, monotonic)
    await clock.refresh()
    egress = Egress(cloud.dial, tls_context(measured.ca_pem), cloud.hosts, clock)
    identity = UpstreamIdentity(egress, clock, measured.deployment)
    client = KMSClient(egress, identity, clock)
    with mock.patch.object(rsa, "generate_private_key", return_value=_rsa_key()):
        recipient = Recipient(nsm, clock)
    keys = KeyRing(nsm, clock, os.urandom, Ed25519PrivateKey.generate())
    floor, events = parse_floor(measured.policy.pii), EventLog(log)
    credentials = UpstreamCredentials(measured.deployment, clock, keys, events)
    parts = Parts(
        environment=Environment(nsm, cloud.dial, monotonic, os.urandom, events),
        configuration=measured,
        clock=clock,
        keys=keys,
        tenant_keys=TenantKeys(client, recipient, clock, frozenset({HOME, OTHER})),
        replay=ReplayWindow(),
        engine=engine(),
        floor=floor,
        floor_digest=floor.policy.digest(),
        upstream=Upstreams(
            {
                "bedrock": BedrockProvider(identity, clock),
                **openai_providers(measured.deployment, credentials),
            },
            Surroundings(egress, monotonic, os.urandom, model_timeout_ms, monotonic.sleep),
        ),
        receipts=ReceiptBook(keys, os.urandom),
        upstream_credentials=credentials,
    )
    gate = KMSGate(client, recipient, nsm, measured, VERSION)
    supervisor = Supervisor(clock, identity, gate, keys, events)
    return Bench(
        world, cloud, nsm, monotonic, clock, egress, identity, client, recipient, gate,
        supervisor, Pipeline(parts, supervisor.require_open), log,
    )  # fmt: skip


def nothing() -> None:
    """A gate that is always open."""


@dataclass
class Recording:
    """A sink that keeps what leaves."""

    begun: str | None = None
    pieces: list[bytes] = field(default_factory=list[bytes])
    released: Released | None = None

    def begin(self, receipt_id: str) -> None:
        self.begun = receipt_id

    def content(self, framed: bytes) -> None:
        self.pieces.append(framed)

    def finish(self, released: Released, content: bytes) -> None:
        self.pieces += [content] if content else []
        self.released = released

    async def drained(self) -> None:
        await asyncio.sleep(0)

    def open(self, secret: AnswerSecret) -> OpenedAnswer:
        assert self.released is not None, "the answer was never released"
        return open_answer(secret, b"".join(self.pieces) + self.released.final)
