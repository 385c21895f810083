"""What one request leaves behind, gathered while it runs: the private part of its receipt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from latensgate_enclave.pii.protection import NO_SURROGATES
from latensgate_enclave.tenant_settings import NO_SETTINGS
from latensgate_shared.pii_names import Category, Direction
from latensgate_shared.pii_policy import NO_OPINION
from latensgate_shared.receipts import SALT_BYTES, salted_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from latensgate_enclave.chat_answer import Usage
    from latensgate_enclave.environment import Entropy, MonotonicClock
    from latensgate_enclave.holding import Holding, Pending
    from latensgate_enclave.pii.protection import Protection
    from latensgate_shared.strict_json import JSONObject

_NS_PER_MS = 1_000_000


class StreamedHash:
    """`salted_hash` of content that comes in pieces."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._hash = hashlib.sha384(salt)

    def update(self, content: bytes) -> None:
        """Take the next piece."""
        self._hash.update(content)

    def result(self) -> JSONObject:
        """Return what `salted_hash` returns for all pieces joined."""
        return {"salt": self._salt.hex(), "hash": "sha384:" + self._hash.hexdigest()}


@dataclass(slots=True)
class Record:
    """Gathered step by step; what a step did not reach stays null. Hashes only, no content.

    Attributes:
        receipt_id: Of the receipt that there will be.
        tenant_id: Whose request.
        request_id: As sealed.
        model_asked: The alias of the caller.
        started_ns: Monotonic time at the start.
        settings: Which tenant settings were applied.
        audit_key: X-Wing key of the tenant's auditor, to which the private part is sealed.
        dry_run: Whether nothing was asked but what the policy would do.
        holding: Holds the request where its policy asks for an approver.
        hold: What is told of a request that was held, or is run after it.
        pending: What the parent is to store of a request that is held.
    """

    receipt_id: str
    tenant_id: str
    request_id: str
    model_asked: str
    entropy: Entropy = field(repr=False)
    monotonic_ns: MonotonicClock = field(repr=False)
    settings: str = NO_SETTINGS
    audit_key: bytes | None = field(default=None, repr=False)
    dry_run: bool = False
    holding: Holding | None = field(default=None, repr=False)
    hold: JSONObject | None = None
    pending: Pending | None = field(default=None, repr=False)
    model_served: str | None = None
    evidence: JSONObject | None = None
    fields_dropped: tuple[str, ...] = ()
    policy_digest: str | None = None
    engine_digest: str | None = None
    protection: Protection | None = field(default=None, repr=False)
    counts: dict[str, dict[str, int]] = field(init=False)
    usage: Usage | None = None
    hashes: dict[str, JSONObject] = field(init=False)
    timings_ms: dict[str, int] = field(init=False)
    started_ns: int = field(init=False)
    lap_ns: int = field(init=False)

    def __post_init__(self) -> None:
        self.counts, self.hashes, self.timings_ms = {}, {}, {}
        self.started_ns = self.lap_ns = self.monotonic_ns()

    def hash_content(self, step: str, content: bytes) -> None:
        """Note the salted hash of what a step held: `opened`, `forwarded` or `returned`."""
        self.hashes[step] = salted_hash(self.entropy(SALT_BYTES), content)

    def begin_hash(self) -> StreamedHash:
        """Begin the salted hash of content that comes in pieces."""
        return StreamedHash(self.entropy(SALT_BYTES))

    def hash_streamed(self, step: str, streamed: StreamedHash) -> None:
        """Note the hash of content that came in pieces."""
        self.hashes[step] = streamed.result()

    def lap(self, stage: str) -> None:
        """Note how long a stage took, in whole milliseconds, rounded to nearest."""
        now_ns = self.monotonic_ns()
        self.timings_ms[stage] = (now_ns - self.lap_ns + _NS_PER_MS // 2) // _NS_PER_MS
        self.lap_ns = now_ns

    def latency_ms(self) -> int:
        """Return milliseconds since the start."""
        return (self.monotonic_ns() - self.started_ns) // _NS_PER_MS

    def witness(self, evidence: JSONObject) -> None:
        """Note who is asked, before anything is sent there: a call that fails is told, too."""
        self.evidence = evidence

    def add_counts(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Add counts by category and direction."""
        for category, directions in counts.items():
            own = self.counts.setdefault(category, {})
            for direction, count in directions.items():
                own[direction] = own.get(direction, 0) + count

    def drop(self, names: Iterable[str]) -> None:
        """Add names of fields that are not forwarded."""
        self.fields_dropped = tuple(sorted({*self.fields_dropped, *names}))

    def add_usage(self, usage: Usage) -> None:
        """Add what one model call cost; a request may take several."""
        self.usage = usage if self.usage is None else self.usage + usage

    @property
    def pii_detected(self) -> bool:
        """Whether anything was found that the policy acts on."""
        return bool(self.counts)

    def usage_object(self) -> JSONObject | None:
        """Return `usage` as OpenAI clients know it; None where no model answered."""
        return None if self.usage is None else self.usage.to_openai()

    def _surrogates(self) -> JSONObject:
        made = self.protection
        return dict(NO_SURROGATES) if made is None else made.surrogate_counts()

    def _actions(self) -> JSONObject:
        """Return what the policy asks for in each cell that is counted."""
        policy = None if self.protection is None else self.protection.policy
        if policy is None:
            return {}
        return {
            name: {
                way: policy.acting(Direction(way))
                .get(Category(name), NO_OPINION)
                .action.name.lower()
                for way in by
            }
            for name, by in self.counts.items()
        }

    def private_part(self) -> JSONObject:
        """Return the private part of the receipt (docs/spec/receipts.md)."""
        held: JSONObject = {} if self.hold is None else {"hold": self.hold}
        return {
            **held,
            "request_id": self.request_id,
            "opened": self.hashes.get("opened"),
            "forwarded": self.hashes.get("forwarded"),
            "returned": self.hashes.get("returned"),
            "model_asked": self.model_asked,
            "model_served": self.model_served,
            "upstream": self.evidence,
            "fields_dropped": list(self.fields_dropped),
            "pii": {
                "policy_digest": self.policy_digest,
                "engine_digest": self.engine_digest,
                "settings": self.settings,
                "detected": self.pii_detected,
                "counts": {name: dict(by) for name, by in self.counts.items()},
                "actions": self._actions(),
                "surrogates": self._surrogates(),
            },
            "usage": self.usage_object() or {},
            "timings_ms": dict(self.timings_ms),
        }
