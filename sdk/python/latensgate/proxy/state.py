"""What the proxy knows of itself: counts, last receipts, the last fault. Never content."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from latensgate.attested import AttestationProof
from latensgate.exchange_steps import NeedAttested

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from latensgate.receipts import AnswerReceipt
    from latensgate.transport_async import AsyncTrust
    from latensgate_shared.strict_json import JSONObject, JSONValue

FORMAT: Final = "latensgate-proxy-status/1"
RECEIPTS_MAX_COUNT: Final = 20
"""Shown, not kept: the application has each receipt's id in its answer."""
UNPROVEN: Final = "unproven"
"""Word of a proxy that may seal to nobody at the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A request that came to its end.

    Attributes:
        route: ``chat/completions`` ...
        status: HTTP status.
        outcome: ``answered``, ``refused``, ``failed``, ``cut`` or ``cancelled``.
        took_ms: From its first byte to the last of its answer.
        code: Of the error, or None.
        receipt_id: ``aud_…``, or None.
        usage: Tokens, as the enclave signed them.
    """

    route: str
    status: int
    outcome: str
    took_ms: int
    code: str | None = None
    receipt_id: str | None = None
    usage: JSONObject = field(default_factory=dict[str, "JSONValue"])

    def to_json(self) -> JSONObject:
        """Return it for programs."""
        return {
            "route": self.route,
            "status": self.status,
            "outcome": self.outcome,
            "took_ms": self.took_ms,
            "code": self.code,
            "audit_receipt_id": self.receipt_id,
            "usage": self.usage,
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the attestation could not be renewed.

    Attributes:
        code: Of the error; empty: the gateway was not reached.
        message: For people.
        since: First time, without success in between.
    """

    code: str
    message: str
    since: datetime


class Watcher(Protocol):
    """Whoever shows what happens."""

    def served(self, request: Served) -> None:
        """A request ended."""
        ...

    def attestation(self, state: ProxyState) -> None:
        """The attestation, or a fault of it, changed."""
        ...


class ProxyState:
    """Counts and last events of one proxy, on one event loop.

    Attributes:
        trust: Whose attestation is held.
        clock: The time.
        active: Requests that run.
        counts: Ended requests by route and outcome.
        receipts: The last ones, newest first.
        fault: Why the attestation could not be renewed, or None.
        watchers: Who shows it.
    """

    def __init__(self, trust: AsyncTrust, clock: Callable[[], datetime]) -> None:
        self.trust = trust
        self.clock = clock
        self.active = 0
        self.started = clock()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.receipts: deque[Served] = deque(maxlen=RECEIPTS_MAX_COUNT)
        self.fault: Fault | None = None
        self.watchers: list[Watcher] = []

    @property
    def proof(self) -> AttestationProof | None:
        """What was proven last, usable or not."""
        held = self.trust.exchange.cell.peek()
        return None if held is None else AttestationProof.of(held)

    @property
    def ready(self) -> bool:
        """Whether requests may be sealed now."""
        return self.trust.held(NeedAttested()) is not None

    @property
    def word(self) -> str:
        """``verified``, ``simulated`` or ``unproven``."""
        proof = self.proof
        return proof.status if proof is not None and self.ready else UNPROVEN

    @property
    def total(self) -> int:
        """Requests that ended."""
        return sum(self.counts.values())

    def end(self, request: Served) -> None:
        """Count a request."""
        self.counts[request.route, request.outcome] += 1
        if request.receipt_id is not None:
            self.receipts.appendleft(request)
        for watcher in self.watchers:
            watcher.served(request)

    def failed(self, code: str, message: str) -> None:
        """Note that the attestation could not be renewed."""
        since = self.clock() if self.fault is None else self.fault.since
        self._change(Fault(code, message, since))

    def proven(self) -> None:
        """Note that it was."""
        self._change(None)

    def _change(self, fault: Fault | None) -> None:
        self.fault = fault
        for watcher in self.watchers:
            watcher.attestation(self)

    def snapshot(self) -> JSONObject:
        """Return everything for programs."""
        counts: JSONObject = {}
        for (route, outcome), number in sorted(self.counts.items()):
            of_route = counts.setdefault(route, {})
            if isinstance(of_route, dict):
                of_route[outcome] = number
        return {
            "format": FORMAT,
            "status": self.word,
            "ready": self.ready,
            "gateway": self.trust.root,
            "tenant_id": self.trust.exchange.sealer.tenant,
            "attestation": _attestation(self.proof),
            "fault": _fault(self.fault),
            "started_at": self.started.isoformat(timespec="seconds"),
            "active": self.active,
            "served": self.total,
            "requests": counts,
            "receipts": [one.to_json() for one in self.receipts],
        }


def _attestation(proof: AttestationProof | None) -> JSONObject | None:
    if proof is None:
        return None
    manifest = proof.attestation.manifest
    pcrs = proof.attestation.document.pcrs
    return {
        "status": proof.status,
        "attestation_hash": proof.attestation_hash,
        "module_id": proof.module_id,
        "region": proof.region,
        "pcrs": {f"PCR{number}": pcrs[number].hex() for number in (0, 1, 2)},
        "suite": proof.suite,
        "key_id": proof.key_id,
        "software_version": manifest.software_version,
        "policy_digest": manifest.policy_digest,
        "deployment_digest": manifest.deployment_digest,
        "attested_at": proof.attested_at.isoformat(timespec="seconds"),
        "renew_at": proof.renew_at.isoformat(timespec="seconds"),
        "sealable_until": proof.sealable_until.isoformat(timespec="seconds"),
        "not_after": manifest.not_after,
    }


def _fault(fault: Fault | None) -> JSONObject | None:
    if fault is None:
        return None
    since = fault.since.isoformat(timespec="seconds")
    return {"code": fault.code or None, "message": fault.message, "since": since}


def receipt_facts(receipt: AnswerReceipt | None) -> tuple[str | None, JSONObject]:
    """Return what is shown of a receipt: its id and its usage."""
    return (None, {}) if receipt is None else (receipt.audit_receipt_id, receipt.usage)
