"""Stand-ins for whole enclaves: they listen, want credentials and a KMS key, and publish keys."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate_parent.link.address import UnixAddress
from latensgate_parent.link.credentials import AWSCredentials, CredentialsError
from latensgate_shared import calls, cbor
from latensgate_shared.call_forms import Operation
from latensgate_shared.cose import attestation_hash, parse_sign1, signed_digest
from latensgate_shared.errors import ErrorCode
from latensgate_shared.manifest import HPKEKey, Manifest, encode_manifest
from latensgate_shared.sealed import SUITE_X25519
from latensgate_shared.usage import UsageTotals, encode_usage_totals, usage_signing_input
from link_doubles import StandInEnclave

ACCOUNT = "123456789012"
KEY_ARN = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
DIGEST = "sha384:" + "1" * 96


def make_document(content: bytes) -> tuple[str, bytes]:
    """Return something that has the form of an attestation document, and its hash."""
    document = cbor.encode([b"", {}, content, bytes(96)])
    message = parse_sign1(document, max_bytes=1 << 20)
    return attestation_hash(signed_digest(message)), document


def make_manifest(
    receipt_key: Ed25519PrivateKey, *, not_before: int | None = None, key: bytes | None = None
) -> Manifest:
    """Return a manifest with one fresh HPKE key."""
    begin = int(time.time()) if not_before is None else not_before
    return Manifest(
        software_version="0.1.0",
        hpke_keys=(HPKEKey(SUITE_X25519, key or os.urandom(32)),),
        receipt_public_key=receipt_key.public_key().public_bytes_raw(),
        policy_digest=DIGEST,
        deployment_digest=DIGEST,
        kms_key_arn=KEY_ARN,
        kms_key_policy_digest=DIGEST,
        service_account=ACCOUNT,
        region="us-east-1",
        not_before=begin,
        not_after=begin + 4_500,
    )


def attestation_of(manifest: Manifest) -> calls.AttestationAnswer:
    """Return how an enclave publishes a manifest."""
    raw = encode_manifest(manifest)
    name, document = make_document(raw)
    return calls.AttestationAnswer(name, document, raw)


@dataclass
class StandInHost:
    """One enclave: its state outlives connections, and `restart` begins a new one."""

    path: Path
    generations: list[Manifest] = field(default_factory=list[Manifest])
    connections: list[StandInEnclave] = field(default_factory=list[StandInEnclave])
    asked: list[calls.Call] = field(default_factory=list[calls.Call])
    refusals: dict[Operation, ErrorCode] = field(default_factory=dict[Operation, ErrorCode])
    silent: set[Operation] = field(default_factory=set[Operation])
    credentials: str | None = None
    bedrock_down: bool = False
    draining: bool = False
    gate: calls.KMSState = calls.KMSState.UNCONFIGURED
    server: asyncio.AbstractServer | None = None

    def __post_init__(self) -> None:
        self.receipt_key = Ed25519PrivateKey.generate()

    @property
    def address(self) -> UnixAddress:
        return UnixAddress(str(self.path))

    @property
    def name(self) -> str:
        return str(self.address)

    @property
    def key_id(self) -> str:
        """Of the newest key."""
        return self.generations[-1].hpke_keys[0].key_id

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.path.unlink(missing_ok=True)
        self.server = await loop.create_unix_server(self._connected, str(self.path))

    def _connected(self) -> StandInEnclave:
        made = StandInEnclave(self._answer)
        self.connections.append(made)
        return made

    async def stop(self) -> None:
        """Die, as by a signal."""
        if self.server is not None:
            self.server.close()
        for connection in self.connections:
            connection.transport.abort()
        self.connections.clear()
        await asyncio.sleep(0)

    async def restart(self) -> None:
        await self.stop()
        self.receipt_key = Ed25519PrivateKey.generate()
        self.generations.clear()
        self.credentials, self.gate = None, calls.KMSState.UNCONFIGURED
        await self.start()

    def rotate(self, manifest: Manifest | None = None) -> None:
        self.generations.append(manifest or make_manifest(self.receipt_key))

    def asked_for(self, operation: Operation) -> list[calls.Call]:
        return [call for call in self.asked if call.call is operation]

    def health(self) -> calls.HealthAnswer:
        state = calls.EnclaveState.LOCKED
        if self.gate is calls.KMSState.RELEASED:
            state = calls.EnclaveState.READY
        elif self.gate is calls.KMSState.DENIED:
            state = calls.EnclaveState.STOPPED
        if self.draining:
            state = calls.EnclaveState.DRAINING
        bedrock = calls.BedrockState.READY if self.credentials else calls.BedrockState.UNCHECKED
        if self.bedrock_down:
            bedrock = calls.BedrockState.UNREACHABLE
        return calls.HealthAnswer(state, self.gate, bedrock)

    def _answer(self, link: StandInEnclave, call_id: int) -> None:
        call = link.call(call_id)
        self.asked.append(call)
        if call.call in self.silent:
            return
        if call.call in self.refusals:
            link.refuse(call_id, self.refusals[call.call])
            return
        match call:
            case calls.HealthCall():
                link.answer(call_id, self.health(), b"", {})
            case calls.CredentialsCall():
                self.credentials = call.session_token
                self.bedrock_down = False
                link.answer(call_id, calls.Done(), b"", {})
            case calls.ConfigureKMSCall():
                self._configure(link, call_id, call)
            case calls.AttestationCall():
                self._attest(link, call_id)
            case calls.UsageCall():
                totals = encode_usage_totals(UsageTotals(int(time.time()), {}))
                signature = self.receipt_key.sign(usage_signing_input(totals))
                link.answer(call_id, calls.UsageAnswer(signature), totals, {})
            case calls.DrainCall():
                self.draining = True
                link.answer(call_id, calls.DrainAnswer(2), b"", {})
            case _:
                link.answer_inference(call_id)

    def _configure(self, link: StandInEnclave, call_id: int, call: calls.ConfigureKMSCall) -> None:
        if self.credentials is None:
            link.refuse(call_id, ErrorCode.ERR_UPSTREAM_IDENTITY)
            return
        self.gate = calls.KMSState.RELEASED
        if not self.generations:
            self.rotate()
        new = None if call.wrapped_secret else os.urandom(8)
        link.answer(call_id, calls.ConfigureKMSAnswer(self.gate, new), b"", {})

    def _attest(self, link: StandInEnclave, call_id: int) -> None:
        if not self.generations or self.gate is not calls.KMSState.RELEASED:
            link.refuse(call_id, ErrorCode.ERR_ENCLAVE_UNAVAILABLE)
            return
        link.answer(call_id, attestation_of(self.generations[-1]), b"", {})


@dataclass
class StandInCredentials:
    """A provider that a test changes."""

    token: str | None = "token-1"  # noqa: S105  # no secret

    async def credentials(self) -> AWSCredentials:
        await asyncio.sleep(0)
        if self.token is None:
            raise CredentialsError("none now")
        return AWSCredentials("key id", "secret-value", self.token, 2_000_000_000)
