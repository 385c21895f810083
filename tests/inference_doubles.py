"""Stand-ins around the sealed route: a fleet as a test tells it, and a raw ASGI client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from hashlib import sha256, sha384
from typing import TypeVar, cast

from latensgate_parent.http.asgi import Gateway
from latensgate_parent.http.asgi_types import ASGIApp, ASGIScope, Message, Receive, Send
from latensgate_parent.http.auth import Authenticator
from latensgate_parent.http.errors import Header
from latensgate_parent.http.observer import RequestDone
from latensgate_parent.http.rate_limit import MemoryRateLimiter
from latensgate_parent.http.sealed_route import SealedRoute
from latensgate_parent.link.interfaces import (
    Enclave,
    EnclaveError,
    EnclaveStatus,
    InferenceReply,
    OpenInference,
)
from latensgate_parent.store.interfaces import APIKey, ReceiptQuery, Store, StoredReceipt, Tenant
from latensgate_shared import formats
from latensgate_shared.calls import (
    AttestationAnswer,
    AttestationCall,
    InferenceCall,
    InferenceEnd,
)
from latensgate_shared.error_answers import ErrorAnswer, parse_error_answer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.messages import (
    InferenceRequest,
    Outer,
    encode_inference_request,
    parse_stream_chunk,
)
from latensgate_shared.receipts import PublicPart
from latensgate_shared.sealed import SUITE_X25519, request_hash
from store_memory import MemoryStore

TENANT_ID = "tnt_a3f9c42b"
OTHER_TENANT_ID = "tnt_00000001"
API_KEY = "lg_test_" + "A" * 43
OTHER_API_KEY = "lg_live_" + "B" * 43
ATTESTATION_HASH = "sha384:" + "ab" * 48
KEY_ID = bytes(range(8))
PATH = "/api/inference"
NOW_S = 1_800_000_000.0
T = TypeVar("T")


def run(work: Coroutine[object, object, T]) -> T:
    """Run one test; nothing it began may be left, and nothing may take long."""

    async def bounded() -> T:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(bounded())


def sealed_bytes(text: str = "prompt", key_id: bytes = KEY_ID) -> bytes:
    """Return what has the head of a sealed request."""
    return b"\x01" + key_id + SUITE_X25519.id + sha256(text.encode()).digest() * 3


# --- enclaves ---


@dataclass
class StandInEnclave:
    """Answers as it is told; remembers what it ran.

    Attributes:
        content, final: The sealed answer.
        code: Of a refusal inside the seal.
        error: Raised in place of an answer, after a request has arrived.
        late_error: Raised by a stream after its first piece.
        release: Answers wait for it.
        head: Heads of streams wait for it.
        ran: Sealed requests that ran, in order: a second run of the same would show.
        cancelled: How many were cancelled.
    """

    name: str = "stand-in"
    links: int = 1
    content: bytes = b"\x00nonce and content"
    pieces: Sequence[bytes] = ()
    final: bytes = b"\x00final chunk"
    code: ErrorCode | None = None
    error: BaseException | None = None
    late_error: BaseException | None = None
    release: asyncio.Event | None = None
    head: asyncio.Event | None = None
    receipt_public: bytes | None = None
    ran: list[bytes] = field(default_factory=list[bytes])
    calls: list[InferenceCall] = field(default_factory=list[InferenceCall])
    ends: list[InferenceEnd] = field(default_factory=list[InferenceEnd])
    cancelled: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def arrive(self, call: InferenceCall, sealed_request: bytes) -> None:
        self.calls.append(call)
        self.arrived.set()
        if self.error is not None:
            raise self.error
        self.ran.append(sealed_request)

    async def wait(self) -> None:
        await asyncio.sleep(0)
        if self.release is not None:
            await self.release.wait()

    async def infer(self, call: InferenceCall, sealed_request: bytes) -> InferenceReply:
        self.arrive(call, sealed_request)
        try:
            await self.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return InferenceReply(self.receipt_id(), self.content, self.end(call, sealed_request))

    async def stream(self, call: InferenceCall, sealed_request: bytes) -> OpenInference:
        self.arrive(call, sealed_request)
        await asyncio.sleep(0)
        if self.head is not None:
            await self.head.wait()
        return StandInOpenInference(self, call, sealed_request, self.receipt_id())

    async def attestation(self, call: AttestationCall) -> AttestationAnswer:
        raise NotImplementedError

    def receipt_id(self) -> str:
        return f"aud_{len(self.ends):016x}"

    def end(
        self, call: InferenceCall, sealed_request: bytes, *, cancelled: bool = False
    ) -> InferenceEnd:
        code = ErrorCode.ERR_CANCELLED if cancelled else self.code
        sequence = len(self.ends)
        public = PublicPart(
            receipt_id=self.receipt_id(),
            tenant_id=call.tenant_id,
            key_id=KEY_ID.hex(),
            sequence=sequence,
            previous_receipt_hash=ATTESTATION_HASH if sequence else None,
            issued_at=60,
            outcome="cancelled" if cancelled else "refused" if code else "answered",
            request_hash=request_hash(sealed_request),
            response_hash=ATTESTATION_HASH,
            attestation_hash=call.attestation_hash,
            private_digest=ATTESTATION_HASH,
        )
        end = InferenceEnd(
            final_chunk=self.final,
            receipt_public=self.receipt_public or public.canonical(),
            receipt_signature=bytes(64),
            latency_ms=23,
            pii_detected=False,
            code=code.name if code else None,
        )
        self.ends.append(end)
        return end


class StandInOpenInference:
    """A streamed answer of a ``StandInEnclave``."""

    def __init__(
        self, enclave: StandInEnclave, call: InferenceCall, sealed_request: bytes, receipt_id: str
    ) -> None:
        self._enclave = enclave
        self._call = call
        self._sealed_request = sealed_request
        self._cancelled = asyncio.Event()
        self.receipt_id = receipt_id

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._enclave.pieces or [self._enclave.content]:
            yield piece
            if self._enclave.late_error is not None:
                raise self._enclave.late_error
            await self._wait()
            if self._cancelled.is_set():
                return

    async def _wait(self) -> None:
        await asyncio.sleep(0)
        if self._enclave.release is None:
            return
        waits = [self._enclave.release.wait(), self._cancelled.wait()]
        tasks = [asyncio.ensure_future(each) for each in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def cancel(self) -> None:
        if not self._cancelled.is_set():
            self._cancelled.set()
            self._enclave.cancelled += 1

    async def end(self) -> InferenceEnd:
        cancelled = self._cancelled.is_set()
        return self._enclave.end(self._call, self._sealed_request, cancelled=cancelled)

    async def aclose(self) -> None:
        self._cancelled.set()


@dataclass
class StandInFleet:
    """One enclave that holds ``KEY_ID``."""

    enclave: StandInEnclave = field(default_factory=StandInEnclave)

    def holder_of(self, key_id: str) -> Enclave:
        if key_id != KEY_ID.hex():
            raise EnclaveError("no enclave holds it", code=ErrorCode.ERR_KEY_STALE)
        return self.enclave

    def ready(self) -> Enclave:
        return self.enclave

    def statuses(self) -> Sequence[EnclaveStatus]:
        return ()


# --- the gateway ---


@dataclass
class Observed:
    """An observer that remembers."""

    done: list[RequestDone] = field(default_factory=list[RequestDone])
    unexpected: list[BaseException] = field(default_factory=list[BaseException])

    def request_done(self, done: RequestDone) -> None:
        self.done.append(done)

    def failed_unexpectedly(self, correlation_id: str, error: BaseException) -> None:
        assert correlation_id
        self.unexpected.append(error)


@dataclass
class Rig:
    """A gateway around stand-ins. ``now_s`` may be moved."""

    store: Store
    limit: int = 1000
    now_s: float = NOW_S
    tenant_domain: str | None = None
    surface: ASGIApp | None = None

    def __post_init__(self) -> None:
        self.observed = Observed()
        self.fleet = StandInFleet()
        self.authenticator = Authenticator(self.store, self.clock, self.clock)
        self.limiter = MemoryRateLimiter()
        self.restart()

    def clock(self) -> float:
        return self.now_s

    def restart(self) -> None:
        """Do what a new process does: it knows nothing but the store."""
        self.route = SealedRoute.over(self.store, self.observed, self.clock)
        inference = self.route.inference(
            self.authenticator, self.limiter, self.fleet, monotonic=self.clock
        )
        self.gateway = Gateway(
            inference,
            self.surface or not_found,
            tenant_domain=self.tenant_domain,
            observer=self.observed,
        )

    @property
    def enclave(self) -> StandInEnclave:
        return self.fleet.enclave

    async def post(
        self, text: str = "prompt", *, key: str | None = None, stream: bool = False
    ) -> Got:
        """Send a well-formed request."""
        return await self.send(*request(text, key=key, stream=stream))

    async def send(self, headers: Sequence[Header], body: bytes, path: str = PATH) -> Got:
        return await call(self.gateway, headers, body, path=path)

    async def receipts(self, tenant_id: str = TENANT_ID) -> Sequence[StoredReceipt]:
        page = await self.store.receipts(tenant_id, ReceiptQuery(limit=1000))
        return page.entries


async def make_rig(store: Store | None = None, **options: object) -> Rig:
    """Return a gateway with two tenants."""
    kept = store or MemoryStore()
    rig = Rig(kept, **options)  # type: ignore[arg-type]  # named at the caller
    await add_tenant(kept, TENANT_ID, API_KEY, rig.limit)
    await add_tenant(kept, OTHER_TENANT_ID, OTHER_API_KEY, rig.limit)
    return rig


async def add_tenant(store: Store, tenant_id: str, key: str, limit: int = 1000) -> None:
    await store.insert_tenant(Tenant(tenant_id, tenant_id, limit, 1))
    await store.insert_key(api_key(tenant_id, key))


def api_key(
    tenant_id: str,
    key: str,
    *scopes: str,
    expires_at_s: int | None = None,
    revoked_at_s: int | None = None,
) -> APIKey:
    digest = sha256(key.encode()).digest()
    return APIKey(
        f"key_{digest.hex()[:16]}",
        tenant_id,
        "a key",
        digest,
        key[:12],
        scopes or ("inference:read",),
        1,
        expires_at_s,
        revoked_at_s,
    )


async def not_found(scope: ASGIScope, _receive: Receive, send: Send) -> None:
    """Stand for the surface."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(str(scope["path"])).encode()})


# --- the client ---


def request(  # noqa: PLR0913 - each is one thing that a test changes
    text: str = "prompt",
    *,
    key: str | None = None,
    stream: bool = False,
    tenant_id: str = TENANT_ID,
    api_key: str = API_KEY,
    sealed: bytes | None = None,
) -> tuple[list[Header], bytes]:
    """Return headers and body of a well-formed request."""
    outer = Outer(ATTESTATION_HASH, "claude-3.5-sonnet", tenant_id, stream=stream)
    wire = sealed_bytes(text) if sealed is None else sealed
    body = encode_inference_request(InferenceRequest(outer, wire))
    headers = [
        (b"host", b"gateway.example"),
        (b"authorization", b"Bearer " + api_key.encode()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"latensgate-attestation", ATTESTATION_HASH.encode()),
    ]
    if key is not None:
        headers.append((b"idempotency-key", key.encode()))
    return headers, body


def replaced(headers: Sequence[Header], name: bytes, *values: bytes) -> list[Header]:
    """Return headers with these values for a name, or none."""
    kept = [each for each in headers if each[0] != name]
    return kept + [(name, value) for value in values]


@dataclass
class Got:
    """An answer as it came."""

    status: int = 0
    headers: list[Header] = field(default_factory=list[Header])
    pieces: list[bytes] = field(default_factory=list[bytes])
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def header(self, name: str) -> str | None:
        found = [value for each, value in self.headers if each == name.encode()]
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0].decode() if found else None

    @property
    def error(self) -> ErrorAnswer:
        assert self.status >= 400
        assert self.header("content-type") == "application/json"
        return parse_error_answer(self.body)

    @property
    def code(self) -> ErrorCode:
        code = self.error.error.code
        assert code.http_status == self.status
        return code

    @property
    def code_or_none(self) -> ErrorCode | None:
        return self.code if self.status >= 400 else None

    @property
    def json(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.body))

    @property
    def sealed_answer(self) -> bytes:
        return formats.base64_bytes(self.json["response_ciphertext"], "answer", 1 << 24)

    @property
    def chunks(self) -> bytes:
        return b"".join(read_events(self.body))


def read_events(body: bytes) -> list[bytes]:
    """Read server-sent events as WHATWG HTML says, strictly."""
    found: list[bytes] = []
    *events, rest = body.split(b"\n\n")
    assert rest == b""
    for event in events:
        lines = event.split(b"\n")
        assert len(lines) == 1
        if not lines[0].startswith(b":"):
            assert lines[0].startswith(b"data: ")
            found.append(parse_stream_chunk(lines[0].removeprefix(b"data: ")))
    return found


@dataclass
class Connection:
    """One request of a raw ASGI client: told when to go away, seen while it runs."""

    body: Sequence[bytes]
    got: Got = field(default_factory=Got)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    stalled: asyncio.Event | None = None
    on_send: Callable[[Message], Awaitable[None]] | None = None

    async def receive(self) -> Message:
        if self.sent < len(self.body):
            self.sent += 1
            more = self.sent < len(self.body)
            return {"type": "http.request", "body": self.body[self.sent - 1], "more_body": more}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.stalled is not None and message["type"] == "http.response.body":
            await self.stalled.wait()
        assert not self.got.complete, "something was sent after the end"
        if message["type"] == "http.response.start":
            assert not self.got.status, "two answers"
            self.got.status = cast("int", message["status"])
            self.got.headers = list(cast("Sequence[Header]", message["headers"]))
        else:
            assert self.got.status
            self.got.pieces.append(cast("bytes", message.get("body", b"")))
            self.got.complete = not message.get("more_body", False)
            if self.got.complete:
                self.gone.set()
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


def scope_of(headers: Sequence[Header], path: str = PATH, method: str = "POST") -> ASGIScope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("192.0.2.1", 1234),
        "server": ("127.0.0.1", 8700),
    }


async def call(
    app: ASGIApp,
    headers: Sequence[Header],
    body: bytes | Sequence[bytes],
    *,
    path: str = PATH,
    method: str = "POST",
) -> Got:
    """Send a request and return its whole answer."""
    connection = Connection([body] if isinstance(body, bytes) else body)
    await app(scope_of(headers, path, method), connection.receive, connection.send)
    assert connection.got.complete
    return connection.got


def begin(
    rig: Rig, headers: Sequence[Header], body: bytes
) -> tuple[Connection, asyncio.Task[None]]:
    """Send a request; return its connection and the task that answers it."""
    connection = Connection([body])

    async def serve() -> None:
        await rig.gateway(scope_of(headers), connection.receive, connection.send)

    return connection, asyncio.get_running_loop().create_task(serve())


def digest_of(text: str) -> bytes:
    return sha384(sealed_bytes(text)).digest()
