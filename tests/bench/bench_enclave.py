"""CPU of one request inside the enclave, by stage, against the bare primitives, in one run.

A stub stands where the model is: no TLS, no tunnel. Prompt and answer have 1 KB. Every stage is
timed in the same rounds as the primitives, so that a busy neighbour hits both alike; the lowest of
many short rounds comes closest to a quiet core.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha384
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from latensgate_enclave.chat_answer import ChatAnswer, Finished, TextDelta, Usage
from latensgate_enclave.clock import EnclaveClock
from latensgate_enclave.envelope import TenantKeys
from latensgate_enclave.environment import Environment
from latensgate_enclave.events import EventLog
from latensgate_enclave.identity import UpstreamIdentity
from latensgate_enclave.keys import KeyRing, ManifestFacts
from latensgate_enclave.measured import (
    Deployment,
    MeasuredConfiguration,
    Policy,
    Trust,
    parse_table,
)
from latensgate_enclave.pii import Tier1Engine, parse_floor
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.receipt_book import ReceiptBook
from latensgate_enclave.replay import ReplayWindow
from latensgate_enclave.service import Service
from latensgate_enclave.session import Room
from latensgate_enclave.steps import Parts
from latensgate_enclave.supervisor import Supervisor
from latensgate_enclave.upstream import Upstreams
from latensgate_enclave.upstream_credentials import UpstreamCredentials
from latensgate_shared import calls
from latensgate_shared.cbor import encode
from latensgate_shared.frames import (
    Accepted,
    Chunk,
    End,
    FrameConnection,
    Head,
    HeadMap,
    Request,
    Role,
    split_body,
)
from latensgate_shared.messages import Outer
from latensgate_shared.sealed import SealingKey, seal_request
from latensgate_shared.sealed_plaintext import RequestFields, build_plaintext
from paths import REPOSITORY
from soak_driver import uuid7
from stack import DEPLOYMENT, MODEL

if TYPE_CHECKING:
    from latensgate_enclave.chat_answer import ChatDelta
    from latensgate_enclave.operation import Forwarding, ModelAnswer
    from latensgate_enclave.pii import Budget
    from latensgate_enclave.receipt_book import Facts
    from latensgate_enclave.record import Record
    from latensgate_enclave.steps import (
        Admitted,
        Answered,
        Forwarded,
        Opened,
        Scanned,
        Sealed,
        Sink,
    )
    from latensgate_enclave.upstream import Witness
    from latensgate_shared.receipts import Receipt
    from latensgate_shared.strict_json import JSONObject

_Answer = TypeVar("_Answer", bound="ModelAnswer")
ROUNDS: Final = 120
REQUESTS: Final = 10
STREAM_ROUNDS: Final = 15
TOKENS: Final = 400
TENANT: Final = "tnt_a3f9c42b"
TEXT: Final = (
    "The quick brown fox jumps over the lazy dog while the sun sets over the hill. " * 14
)[:1024]
DIGEST: Final = "sha384:" + "a" * 96
EVIDENCE: Final[JSONObject] = {
    "host": "bedrock-runtime.us-east-1.amazonaws.com",
    "leaf_certificate_sha256": "a" * 64,
    "account": "1" * 12,
    "region": "us-east-1",
    "invocation_logging": "off",
    "checked_at": 1,
}
FLAG_ONLY: Final[Mapping[str, object]] = {"*": {"*": {"action": "flag"}}}
"""Pieces of a stream leave as they come; a floor that masks holds the answer to its end."""
PRIMITIVES: Final = (
    "ML-KEM-768 decapsulate, X25519, AES-GCM of request, content and final, Ed25519 sign, SHA-384s"
)


class _NSM:
    async def attest(
        self, *, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None
    ) -> bytes:
        del nonce, public_key
        payload = encode({"timestamp": int(time.time() * 1000), "user_data": user_data})
        return encode([b"\xa1\x01\x38\x22", {}, payload, bytes(96)])

    async def describe_pcrs(self, *indexes: int) -> Mapping[int, bytes]:
        return dict.fromkeys(indexes, bytes(48))


async def _no_dial(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    raise ConnectionError(f"{host}:{port}: nothing is dialled here")


class _Model(Upstreams):
    """Answers at once: whole, or one word a piece."""

    def __init__(self) -> None:
        pass

    async def converse(self, forwarding: Forwarding, witness: Witness) -> ChatAnswer:
        del forwarding
        witness(EVIDENCE)
        return ChatAnswer((TEXT,), (), "stop", Usage(230, 230))

    @asynccontextmanager
    async def converse_stream(
        self, forwarding: Forwarding, witness: Witness
    ) -> AsyncGenerator[AsyncIterator[list[ChatDelta]]]:
        del forwarding
        witness(EVIDENCE)
        yield self._pieces()

    async def _pieces(self) -> AsyncIterator[list[ChatDelta]]:
        for _ in range(TOKENS):
            yield [TextDelta("word ")]
        yield [Finished("stop"), Usage(230, TOKENS)]


class _OpenGate(Supervisor):
    def __init__(self) -> None:
        pass

    def require_open(self) -> None:
        pass


class Stages:
    """CPU seconds by stage. A stage inside another is not counted in the outer one.

    Args:
        timed: Whether there is a clock at all, which costs some microseconds itself.
    """

    def __init__(self, *, timed: bool) -> None:
        self.spent_s: dict[str, float] = {}
        self._inner_s: list[float] = []
        self._timed = timed

    def at(self, stage: str) -> AbstractContextManager[None]:
        return self._at(stage) if self._timed else _UNTIMED

    @contextmanager
    def _at(self, stage: str) -> Generator[None]:
        self._inner_s.append(0.0)
        start = time.process_time()
        try:
            yield
        finally:
            took_s = time.process_time() - start
            self.spent_s[stage] = self.spent_s.get(stage, 0.0) + took_s - self._inner_s.pop()
            if self._inner_s:
                self._inner_s[-1] += took_s


_UNTIMED: Final = nullcontext()


class TimedReceipts(ReceiptBook):
    """Receipts with a clock on them."""

    stages: Stages

    def issue(self, facts: Facts, private: JSONObject) -> Receipt:
        with self.stages.at("receipt"):
            return super().issue(facts, private)


class TimedPipeline(Pipeline):
    """The pipeline with a clock on its steps. What seals also releases, so it comes last."""

    stages: Stages

    async def run(self, sealed: Sealed, sink: Sink) -> None:
        with self.stages.at("seal and tasks"):
            await super().run(sealed, sink)

    async def open_sealed(self, sealed: Sealed) -> Opened:
        with self.stages.at("open"):
            return await super().open_sealed(sealed)

    def new_record(self, opened: Opened) -> Record:
        with self.stages.at("receipt"):
            return super().new_record(opened)

    async def admit(self, opened: Opened, record: Record) -> Admitted:
        with self.stages.at("validate"):
            return await super().admit(opened, record)

    async def scan(self, admitted: Admitted, record: Record) -> Scanned:
        with self.stages.at("scan"):
            return await super().scan(admitted, record)

    async def forward(self, scanned: Scanned, record: Record) -> Forwarded:
        with self.stages.at("translate"):
            return await super().forward(scanned, record)

    async def scan_answer(
        self, scanned: Scanned, answer: _Answer, budget: Budget, record: Record
    ) -> _Answer:
        with self.stages.at("scan"):
            return await super().scan_answer(scanned, answer, budget, record)

    def render(self, opened: Opened, admitted: Admitted, answered: Answered) -> bytes:
        with self.stages.at("translate"):
            return super().render(opened, admitted, answered)


@dataclass
class _Reply:
    """The enclave's end of a connection: what it would write is counted."""

    frames: FrameConnection
    call_id: int
    stages: Stages
    sent: int = 0

    def head(self, fields: HeadMap) -> None:
        with self.stages.at("frames"):
            self.sent += len(self.frames.send(Head(self.call_id, fields)))

    def body(self, data: bytes) -> None:
        with self.stages.at("frames"):
            for chunk in split_body(self.call_id, data):
                self.sent += len(self.frames.send(chunk))

    def end(self, fields: HeadMap, body: bytes = b"") -> None:
        assert "code" not in fields, fields["code"]
        self.body(body)
        with self.stages.at("frames"):
            self.sent += len(self.frames.send(End(self.call_id, fields)))

    async def drained(self) -> None:
        """Nobody is slow here."""


class Bench:
    """An enclave without sockets, and a client.

    Args:
        timed: Whether its steps have clocks on them, which cost some microseconds themselves.
        rules: Of the floor, in place of the measured policy's.
    """

    def __init__(self, *, timed: bool = False, rules: Mapping[str, object] | None = None) -> None:
        raw = (REPOSITORY / "enclave/policy.toml").read_bytes()
        policy = parse_table("policy.toml", raw, Policy)
        deployment = parse_table("deployment.toml", DEPLOYMENT.encode(), Deployment)
        trust = Trust("sim", frozenset({"0" * 64}))
        events = EventLog(io.StringIO())
        environment = Environment(_NSM(), _no_dial, time.monotonic_ns, os.urandom, events)
        self.clock = EnclaveClock(_NSM(), time.monotonic_ns)
        keys = KeyRing(_NSM(), self.clock, os.urandom, Ed25519PrivateKey.generate())
        floor = parse_floor({"rules": rules} if rules else policy.pii)
        self.stages = Stages(timed=timed)
        receipts = (TimedReceipts if timed else ReceiptBook)(keys, os.urandom)
        self.parts = Parts(
            environment=environment,
            configuration=MeasuredConfiguration(policy, DIGEST, deployment, DIGEST, trust, ""),
            clock=self.clock,
            keys=keys,
            tenant_keys=TenantKeys.__new__(TenantKeys),  # no envelope comes
            replay=ReplayWindow(),
            engine=Tier1Engine(),
            floor=floor,
            floor_digest=floor.policy.digest(),
            upstream=_Model(),
            receipts=receipts,
            upstream_credentials=UpstreamCredentials(deployment, self.clock, keys, events),
        )
        pipeline = (TimedPipeline if timed else Pipeline)(self.parts, lambda: None)
        for part in (receipts, pipeline):
            if isinstance(part, TimedReceipts | TimedPipeline):
                part.stages = self.stages
        identity = UpstreamIdentity.__new__(UpstreamIdentity)  # health is not asked
        self.service = Service(pipeline, _OpenGate(), identity, Room(1))
        self.frames = FrameConnection(Role.ENCLAVE)

    async def start(self) -> None:
        await self.clock.refresh()
        arn = "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012"
        facts = ManifestFacts("0.1.0", DIGEST, DIGEST, arn, DIGEST, "111122223333", "us-east-1")
        publication = await self.parts.keys.rotate(bytes(32), facts)
        key = publication.manifest.hpke_keys[0]
        self.sealing_key = SealingKey(key.suite, key.public_key)
        self.attestation_hash = publication.attestation_hash

    def requests(self, count: int, *, stream: bool = False) -> list[bytes]:
        """Return calls as the bytes of a new connection; made outside of what is timed."""
        self.frames, parent = FrameConnection(Role.ENCLAVE), FrameConnection(Role.PARENT)
        outer = Outer(self.attestation_hash, MODEL, TENANT, stream=stream)
        call = calls.InferenceCall(
            outer.attestation_hash, outer.model, outer.tenant_id, outer.operation, stream
        )
        made: list[bytes] = []
        for call_id in range(1, count + 1):
            data = parent.send(calls.request_frame(call_id, call))
            wire = self._sealed(outer)
            data += b"".join(parent.send(chunk) for chunk in split_body(call_id, wire))
            made.append(data + parent.send(End(call_id)))
        return made

    def _sealed(self, outer: Outer) -> bytes:
        body: dict[str, object] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": TEXT}],
            **({"stream": True} if outer.stream else {}),
        }
        fields = RequestFields(uuid7(), int(time.time() * 1000))
        plaintext = build_plaintext(fields, json.dumps(body).encode())
        return seal_request(self.sealing_key, outer.canonical(), plaintext).wire

    async def serve(self, data: bytes) -> None:
        """Do what a session does with one call."""
        with self.stages.at("frames"):
            request, *rest = self.frames.receive(data)
            assert isinstance(request, Request)
            self.frames.send(Accepted(request.call_id))
            body = b"".join(chunk.data for chunk in rest if isinstance(chunk, Chunk))
        reply = _Reply(self.frames, request.call_id, self.stages)
        with self.stages.at("heads"):
            await self.service(request, body, reply)


def primitives() -> Callable[[], None]:
    """Return what does the cryptography of one request and nothing else."""
    kem, ecdh, signer = (
        MLKEM768PrivateKey.generate(),
        X25519PrivateKey.generate(),
        Ed25519PrivateKey.generate(),
    )
    _, encapsulated = kem.public_key().encapsulate()
    peer = X25519PrivateKey.generate().public_key()
    key, nonce = bytes(32), bytes(12)
    request = AESGCM(key).encrypt(nonce, bytes(1_280), b"final")

    def call() -> None:
        kem.decapsulate(encapsulated)
        ecdh.exchange(peer)
        AESGCM(key).decrypt(nonce, request, b"final")
        AESGCM(key).encrypt(nonce, request, b"")
        AESGCM(key).encrypt(nonce, request + request, b"final")
        signer.sign(request)
        for size in (2_500, 1_100, 1_100, 1_400, 1_500, 900, 900, 900):
            sha384(bytes(size)).digest()

    return call


async def _cpu_s(bench: Bench, wires: Sequence[bytes]) -> float:
    start = time.process_time()
    for wire in wires:
        await bench.serve(wire)
    return time.process_time() - start


async def _unary() -> tuple[float, float, dict[str, float]]:
    """Return microseconds of a request, the primitives and each stage; the lowest of all rounds."""
    bench, timed, bare = Bench(), Bench(timed=True), primitives()
    for each in (bench, timed):
        await each.start()
        await _cpu_s(each, each.requests(REQUESTS))
    totals: list[float] = []
    bares: list[float] = []
    stages: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        totals.append(await _cpu_s(bench, bench.requests(REQUESTS)))
        start = time.process_time()
        for _ in range(REQUESTS):
            bare()
        bares.append(time.process_time() - start)
        wires = timed.requests(REQUESTS)
        timed.stages.spent_s.clear()
        await _cpu_s(timed, wires)
        stages.append(dict(timed.stages.spent_s))
    return _us(totals), _us(bares), {name: _us([it[name] for it in stages]) for name in stages[0]}


def _us(rounds_s: Sequence[float]) -> float:
    return min(rounds_s) / REQUESTS * 1e6


async def _token_us() -> float:
    """Return microseconds for one more token of a stream."""
    bench = Bench(rules=FLAG_ONLY)
    await bench.start()
    plain = [await _cpu_s(bench, bench.requests(4)) / 4 for _ in range(STREAM_ROUNDS)]
    streams = [
        await _cpu_s(bench, bench.requests(2, stream=True)) / 2 for _ in range(STREAM_ROUNDS)
    ]
    return (min(streams) - min(plain)) / TOKENS * 1e6


def measure() -> list[tuple[str, float, str]]:
    """Return rows of name, value and what the value means."""
    total, bare, stages = asyncio.run(_unary())
    token = asyncio.run(_token_us())
    without = total - stages["scan"]
    return [
        ("enclave request, 1 KB each way", total, "us CPU, all but sockets and TLS"),
        *((f"enclave stage: {name}", spent, "us CPU") for name, spent in stages.items()),
        ("enclave primitives", bare, f"us CPU: {PRIMITIVES}"),
        ("enclave without scan", without, "us CPU (500 at most with the parent, on a quiet core)"),
        ("enclave ratio", without / bare, "without scan / bare primitives"),
        ("enclave streamed token", token, "us CPU (30 at most), with the scan at the end"),
    ]


if __name__ == "__main__":
    for row in measure():
        print(f"{row[0]:<32} {row[1]:9.1f}  {row[2]}")
