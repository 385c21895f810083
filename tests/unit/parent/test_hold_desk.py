"""Held requests in the parent: kept, claimed once, ended in every way; time and enclave by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

import pytest

from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError
from latensgate_parent.store.held_forms import HoldState, StoredHold
from latensgate_shared.calls import InferenceEnd
from latensgate_shared.calls_hold import HoldDecideCall, HoldViewAnswer, HoldViewCall
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.jcs import canonicalize
from surface_bench import NOW_S, OTHER_TENANT, TENANT, SurfaceBench

ID = "hld_" + "0" * 32
HASH = "sha384:" + "ab" * 48
RECEIPT = "aud_0123456789abcdef"
HOLD = StoredHold(
    pending_id=ID,
    tenant_id=TENANT,
    receipt_id="aud_" + "1" * 16,
    attestation_hash=HASH,
    model="m",
    operation="chat.completions",
    enclave="unix:/enclave-0",
    state=HoldState.PENDING,
    holder="",
    held_at_s=NOW_S,
    expires_at_s=NOW_S + 60,
    sealed_request=b"sealed",
    settings=b"settings",
    pending_state=b"state",
)
DECISION = {
    "pending_id": ID,
    "plan_digest": HASH,
    "decision": "approve",
    "expires_at": NOW_S + 9,
    "approver": "00" * 32,
    "signature": "00" * 64,
}


def public(receipt_id: str = RECEIPT) -> bytes:
    return canonicalize(
        {
            "receipt_id": receipt_id,
            "tenant_id": TENANT,
            "key_id": "0" * 16,
            "sequence": 0,
            "issued_at": NOW_S,
            "outcome": "answered",
            "attestation_hash": HASH,
        }
    )


def end(code: str | None = None, receipt_id: str = RECEIPT) -> InferenceEnd:
    return InferenceEnd(bytes(17), public(receipt_id), bytes(64), 1, pii_detected=False, code=code)


@dataclass
class Answering:
    """An answer on its way."""

    told: InferenceEnd
    error: LatensgateError | None = None
    receipt_id: str = RECEIPT

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b"content"
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        raise AssertionError

    async def end(self) -> InferenceEnd:
        return self.told

    async def aclose(self) -> None:
        await asyncio.sleep(0)


@dataclass
class Enclave:
    """One that holds what a test says."""

    told: InferenceEnd = field(default_factory=end)
    refuses: LatensgateError | None = None
    breaks: LatensgateError | None = None
    asked: list[HoldDecideCall | HoldViewCall] = field(
        default_factory=list[HoldDecideCall | HoldViewCall]
    )
    bodies: list[bytes] = field(default_factory=list[bytes])

    async def decide(self, call: HoldDecideCall, body: bytes) -> Answering:
        self.asked.append(call)
        self.bodies.append(body)
        if self.refuses is not None:
            raise self.refuses
        return Answering(self.told, self.breaks)

    async def view(self, call: HoldViewCall, body: bytes) -> tuple[HoldViewAnswer, bytes]:
        self.asked.append(call)
        self.bodies.append(body)
        if self.refuses is not None:
            raise self.refuses
        return HoldViewAnswer(sealed=True), b"view"


@pytest.fixture
def made() -> Iterator[SurfaceBench]:
    bench = SurfaceBench()
    bench.run(bench.store.insert_hold(HOLD))
    bench.holding.enclave = Enclave()
    yield bench
    bench.close()


def state_of(made: SurfaceBench) -> str:
    made.run(made.services.holds.tasks.wait(5))
    made.run(made.services.holds.backlog.wait(5))
    key = made.key("inference:read")
    return str(made.ask("GET", f"/api/holds/{ID}", key).json()["state"])


def decide(made: SurfaceBench) -> int:
    key = made.key("approvals:write")
    return made.ask("POST", f"/api/approvals/{ID}", key, json=DECISION).status_code


def test_an_approved_request_is_answered_for_a_day(made: SurfaceBench) -> None:
    key = made.key("admin")
    assert made.ask("GET", f"/api/holds/{ID}/answer", key).status_code == 202
    assert decide(made) == 200
    assert state_of(made) == "answered"
    answer = made.ask("GET", f"/api/holds/{ID}/answer", key)
    assert answer.status_code == 200
    assert answer.json()["audit_receipt_id"] == RECEIPT
    stored = made.run(made.store.hold(TENANT, ID))
    assert stored is not None
    assert (stored.sealed_request, stored.settings, stored.pending_state) == (b"", b"", b"")
    assert made.run(made.store.receipt(TENANT, RECEIPT)) is not None
    enclave = made.holding.enclave
    assert isinstance(enclave, Enclave)
    assert enclave.bodies == [b"settings" + b"sealed"]
    assert decide(made) == 400  # decided before: no enclave is asked again
    assert len(enclave.bodies) == 1


@pytest.mark.parametrize(
    ("code", "state", "status"),
    [("ERR_HOLD_DENIED", "denied", 403), ("ERR_UPSTREAM", "failed", 502)],
)
def test_other_ends_are_sealed_too(made: SurfaceBench, code: str, state: str, status: int) -> None:
    made.holding.enclave = Enclave(end(code))
    assert decide(made) == 200
    assert state_of(made) == state
    answer = made.ask("GET", f"/api/holds/{ID}/answer", made.key("admin"))
    assert answer.status_code == status
    assert "response_ciphertext" in answer.json()


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [
        (EnclaveError("no", code=ErrorCode.ERR_APPROVAL_REFUSED), 403, "pending"),
        (EnclaveError("no", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE), 503, "pending"),
        (EnclaveError("no", code=ErrorCode.ERR_HOLD_LOST), 409, "lost"),
        (EnclaveError("no", code=ErrorCode.ERR_OUTCOME_UNKNOWN), 409, "unknown"),
        (EnclaveLostError("gone"), 409, "unknown"),
    ],
)
def test_a_decision_that_is_not_taken(
    made: SurfaceBench, error: LatensgateError, status: int, state: str
) -> None:
    made.holding.enclave = Enclave(refuses=error)
    assert decide(made) == status
    assert state_of(made) == state
    if state != "pending":
        answer = made.ask("GET", f"/api/holds/{ID}/answer", made.key("admin"))
        assert answer.status_code == 409
        assert decide(made) == 409


@pytest.mark.parametrize(
    "enclave",
    [Enclave(breaks=EnclaveLostError("gone")), Enclave(end(receipt_id="aud_" + "f" * 16))],
)
def test_an_answer_that_is_lost_on_its_way(made: SurfaceBench, enclave: Enclave) -> None:
    made.holding.enclave = enclave
    assert decide(made) == 200
    assert state_of(made) == "unknown"


def test_an_enclave_that_is_gone_has_lost_it(made: SurfaceBench) -> None:
    made.holding.enclave = None
    assert decide(made) == 409
    assert state_of(made) == "lost"


def test_a_hold_expires(made: SurfaceBench) -> None:
    made.now += 60
    assert state_of(made) == "expired"
    assert decide(made) == 409
    answer = made.ask("GET", f"/api/holds/{ID}/answer", made.key("admin"))
    assert answer.json()["code"] == "ERR_HOLD_EXPIRED"
    assert made.run(made.store.expire_holds(NOW_S + 60)) == 1


def test_approvers_see_lists_and_views(made: SurfaceBench) -> None:
    key = made.key("approvals:write")
    listed = made.ask("GET", "/api/approvals", key).json()
    assert (listed["count"], listed["approvals"][0]["pending_id"]) == (1, ID)
    shown = made.ask("GET", f"/api/approvals/{ID}?approver={'00' * 32}", key)
    assert shown.status_code == 200
    assert (shown.json()["view"], shown.json()["sealed"]) == ("dmlldw==", True)
    refuses = EnclaveError("/secret", code=ErrorCode.ERR_APPROVAL_REFUSED)
    made.holding.enclave = Enclave(refuses=refuses)
    refused = made.ask("GET", f"/api/approvals/{ID}?approver={'00' * 32}", key)
    assert refused.status_code == 403
    assert "/secret" not in refused.text


def test_who_looks_finds_out_that_it_is_lost(made: SurfaceBench) -> None:
    key = made.key("approvals:write")
    url = f"/api/approvals/{ID}?approver={'00' * 32}"
    made.holding.enclave = None
    assert made.ask("GET", url, key).status_code == 409
    assert state_of(made) == "lost"
    assert made.ask("GET", url, key).status_code == 409


def test_others_find_nothing(made: SurfaceBench) -> None:
    key = made.key("admin", tenant=OTHER_TENANT)
    for method, url, body in (
        ("GET", f"/api/holds/{ID}", None),
        ("GET", f"/api/holds/{ID}/answer", None),
        ("GET", f"/api/approvals/{ID}?approver={'00' * 32}", None),
        ("POST", f"/api/approvals/{ID}", DECISION),
    ):
        assert made.ask(method, url, key, json=body).status_code == 404
    assert made.ask("GET", "/api/approvals", key).json()["count"] == 0


def test_a_decision_is_for_the_path_it_is_sent_to(made: SurfaceBench) -> None:
    other = {**DECISION, "pending_id": ID[:-1] + "1"}
    key = made.key("approvals:write")
    assert made.ask("POST", f"/api/approvals/{ID}", key, json=other).status_code == 400


def test_of_two_decisions_one_is_presented(made: SurfaceBench) -> None:
    assert made.run(made.store.claim_hold(TENANT, ID, "a"))
    assert not made.run(made.store.claim_hold(TENANT, ID, "b"))
    assert decide(made) == 400
    assert made.run(made.store.abandon_holds("a")) == 0
    assert made.run(made.store.abandon_holds("b")) == 1  # a killed parent's successor
    assert state_of(made) == "unknown"
    made.run(made.store.settle_hold(TENANT, ID, HoldState.ANSWERED))  # what does not run stays
    assert state_of(made) == "unknown"


def test_a_claim_that_another_parent_won(
    made: SurfaceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_: object) -> bool:
        return False

    monkeypatch.setattr(made.store, "claim_hold", lose)
    assert decide(made) == 400


def test_the_identical_hold_twice_is_one(made: SurfaceBench) -> None:
    made.run(made.store.insert_hold(replace(HOLD, model="other")))
    found = made.run(made.store.hold(TENANT, ID))
    assert found is not None
    assert found.model == "m"
