"""The values that one request becomes, one type a step (see `pipeline`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from latensgate_enclave.holds import Holds
from latensgate_enclave.pii.cache import FindingsCache
from latensgate_enclave.tenant_settings import SettingsBook
from latensgate_enclave.values import Value

if TYPE_CHECKING:
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.envelope import TenantKeys
    from latensgate_enclave.environment import Environment
    from latensgate_enclave.holding import Pending
    from latensgate_enclave.keys import KeyRing
    from latensgate_enclave.measured import MeasuredConfiguration
    from latensgate_enclave.operation import Forwarding, ModelAnswer, ModelRequest, Operation
    from latensgate_enclave.pii.protection import Protection
    from latensgate_enclave.pii.scanner import Scanner
    from latensgate_enclave.receipt_book import ReceiptBook
    from latensgate_enclave.replay import ReplayWindow
    from latensgate_enclave.upstream import Upstreams
    from latensgate_enclave.upstream_credentials import UpstreamCredentials
    from latensgate_shared.answer_records import AnswerValues
    from latensgate_shared.errors import ErrorCode
    from latensgate_shared.messages import Outer
    from latensgate_shared.pii_policy import Floor
    from latensgate_shared.receipts import Receipt
    from latensgate_shared.sealed import AnswerSecret
    from latensgate_shared.sealed_plaintext import SealedPlaintext
    from latensgate_shared.strict_json import JSONObject


@dataclass(frozen=True, slots=True)
class Parts:
    """What the steps work with; put together in `__main__` only."""

    environment: Environment
    configuration: MeasuredConfiguration
    clock: EnclaveClock
    keys: KeyRing
    tenant_keys: TenantKeys
    replay: ReplayWindow
    engine: Scanner
    floor: Floor
    floor_digest: str
    upstream: Upstreams
    receipts: ReceiptBook
    upstream_credentials: UpstreamCredentials
    settings: SettingsBook = field(default_factory=SettingsBook)
    findings: FindingsCache = field(default_factory=FindingsCache)
    holds: Holds = field(default_factory=Holds)


class Sealed(Value, frozen=True):
    """As it came from the parent: nothing is believed.

    Attributes:
        outer: The visible part.
        wire: What is sealed.
        tenant_settings: What the parent says is the tenant's signed settings.
    """

    outer: Outer
    wire: bytes
    tenant_settings: bytes | None = None


class Opened(Value, frozen=True):
    """It opened under a key that only this enclave holds; its content is not judged yet.

    Attributes:
        outer: What stands outside, bound by the seal.
        request_hash: Of the sealed bytes.
        key_id: 16 hex digits.
        plaintext: All that was sealed.
        body: The OpenAI request, parsed.
        body_bytes: The exact text of it, out of the KMS envelope if there was one.
        answer_secret: What the answer is sealed under.
        tenant_settings: As the parent gave them; nothing is believed.
        shared_secret: Of the request's KEM: opens it again, should it be held.
        size_bytes: Of the sealed bytes.
        surrogate_secret: That surrogates are made of where the request names no conversation;
            None: a new one.
    """

    outer: Outer
    request_hash: str
    key_id: str
    plaintext: SealedPlaintext
    body: JSONObject
    body_bytes: bytes
    answer_secret: AnswerSecret
    tenant_settings: bytes | None
    shared_secret: bytes
    size_bytes: int
    surrogate_secret: bytes | None


class Admitted(Value, frozen=True):
    """Fresh, new, and a request that can be honoured.

    Attributes:
        operation: What is asked for, and writes the answer.
        request: As checked.
        protection: Under the effective policy.
        size_bytes: Of its JSON: whether walking over it would hold others up.
    """

    operation: Operation
    request: ModelRequest
    protection: Protection
    size_bytes: int


class Scanned(Value, frozen=True):
    """Its texts are as the policy wants them."""

    request: ModelRequest
    protection: Protection
    size_bytes: int


class Forwarded(Value, frozen=True):
    """What the model is sent: one call after the other."""

    scanned: Scanned
    calls: tuple[Forwarding, ...]


class Answered(Value, frozen=True):
    """The model answered each call, and its texts are as the policy wants them, too."""

    answers: tuple[ModelAnswer, ...]


class Released(Value, frozen=True):
    """Nothing more is decided: these bytes may leave.

    Attributes:
        final: The framed final chunk.
        receipt: Its public part and signature are for the parent to store.
        values: What the parent may repeat as hints.
        code: Of a refusal; None for an answer.
        pending: Of a request that is held: for the parent to store.
        private_sealed: The receipt's private part, sealed to the tenant's audit key.
    """

    final: bytes
    receipt: Receipt
    values: AnswerValues
    code: ErrorCode | None
    pending: Pending | None = None
    private_sealed: bytes | None = None


class Sink(Protocol):
    """Where the sealed answer goes: the parent's connection. Writing waits for nobody."""

    def begin(self, receipt_id: str) -> None:
        """Say that it opened: from here on there will be a receipt of this id."""
        ...

    def content(self, framed: bytes, /) -> None:
        """Send sealed content."""
        ...

    def finish(self, released: Released, content: bytes) -> None:
        """Send the last sealed content, the final chunk and what the parent stores, at once."""
        ...

    async def drained(self) -> None:
        """Wait while the parent is slow."""
        ...
