"""What the routes of the surface answer: every member and format (docs/spec/http.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from dataclasses import replace

import pytest

from latensgate.gateway.attestations import parse_archived, parse_evidence
from latensgate.gateway.audit import parse_page
from latensgate.gateway.daily import parse_days
from latensgate.gateway.reports import parse_health, parse_models, parse_usage
from latensgate_parent.link.interfaces import EnclaveError, EnclaveStatus
from latensgate_parent.store.interfaces import ArchivedDocument, StoredUsage
from latensgate_shared.calls import BedrockState, EnclaveState, HealthAnswer, KMSState
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import parse_json_object
from latensgate_shared.usage import TenantUsage, UsageTotals, encode_usage_totals
from nitro_factory import PCR0, Draft, standard_pcrs
from protocol_examples import DIGEST, NOT_BEFORE
from surface_bench import (
    GOOD,
    HELD_KEY,
    MANIFEST,
    NOW_S,
    OTHER_TENANT,
    TENANT,
    SurfaceBench,
    document,
    receipt_key_hex,
    sha384_name,
)

NONCE = "ab" * 32


@pytest.fixture
def bench() -> Generator[SurfaceBench]:
    running = SurfaceBench()
    yield running
    running.close()


# --- GET /api/attestation ---


def test_attestation_without_nonce_may_be_cached_and_is_asked_for_once(bench: SurfaceBench) -> None:
    answer = bench.ask("GET", "/api/attestation")
    assert answer.status_code == 200
    told = parse_evidence(parse_json_object(answer.content, max_bytes=1 << 20), with_nonce=False)
    assert told.manifest == MANIFEST
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert bench.ask("GET", "/api/attestation").content == answer.content
    assert len(bench.fleet.enclave.calls) == 1
    bench.now += 6
    bench.ask("GET", "/api/attestation")
    assert len(bench.fleet.enclave.calls) == 2


def test_what_an_enclave_said_before_it_started_again_is_told_to_nobody(
    bench: SurfaceBench,
) -> None:
    bench.ask("GET", "/api/attestation")
    bench.fleet.enclave.links += 1
    bench.ask("GET", "/api/attestation")
    assert len(bench.fleet.enclave.calls) == 2


def test_attestation_with_nonce_is_fresh_each_time(bench: SurfaceBench) -> None:
    url = f"/api/attestation?nonce={NONCE}&key_id={HELD_KEY}"
    answers = [bench.ask("GET", url) for _ in range(2)]
    assert all(answer.headers["cache-control"] == "no-store" for answer in answers)
    told = parse_evidence(parse_json_object(answers[0].content, max_bytes=1 << 20), with_nonce=True)
    assert told.nonce_document == b"fresh"
    calls = bench.fleet.enclave.calls
    assert [(call.nonce, call.key_id) for call in calls] == [(bytes.fromhex(NONCE), HELD_KEY)] * 2


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("nonce=AB", "nonce"),
        (f"nonce={NONCE.upper()}", "nonce"),
        ("nonce=", "nonce"),
        (f"nonce={NONCE}&nonce={NONCE}", "nonce"),
        ("key_id=1", "key_id"),
        ("key_id=%00", "key_id"),
        ("other=1", "other"),
        ("%0a%1b=1", "??"),
    ],
)
def test_attestation_refuses_other_parameters(bench: SurfaceBench, query: str, param: str) -> None:
    told = bench.refused("GET", f"/api/attestation?{query}")
    assert told.error.code is ErrorCode.ERR_REQUEST_INVALID
    assert told.error.param == param


def test_attestation_of_a_key_that_nobody_holds(bench: SurfaceBench) -> None:
    told = bench.refused("GET", "/api/attestation?key_id=" + "0" * 16)
    assert told.error.code is ErrorCode.ERR_KEY_STALE


def test_attestation_errors_show_no_detail_and_say_when_to_retry(bench: SurfaceBench) -> None:
    bench.fleet.is_ready = False
    answer = bench.ask("GET", "/api/attestation")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "secret" not in answer.text
    bench.fleet.is_ready = True
    bench.fleet.enclave.error = EnclaveError("busy", code=ErrorCode.ERR_RATE_LIMITED)
    answer = bench.ask("GET", f"/api/attestation?nonce={NONCE}")
    assert answer.status_code == 429
    assert "retry-after" in answer.headers


# --- GET /api/attest ---


def test_attest_of_a_good_document(bench: SurfaceBench) -> None:
    name = bench.archive()
    answer = bench.ask("GET", f"/api/attest?hash={name}")
    assert answer.status_code == 200
    told = answer.json()
    parse_archived(parse_json_object(answer.content, max_bytes=1 << 20))
    assert told["hash"] == name
    assert told["pcr_values"]["PCR0"] == PCR0.hex()
    assert set(told["pcr_values"]) == {f"PCR{index}" for index in standard_pcrs()}
    assert told["enclave_image_sha"] == f"sha384:{PCR0.hex()}"
    assert told["timestamp"] == "2026-06-01T12:30:00Z"
    assert told["region"] == "eu-central-1"
    assert told["status"] == "simulated"
    assert told["fresh"] is True
    assert [step["number"] for step in told["verdict"]] == list(range(1, 14))
    assert {step["state"] for step in told["verdict"]} == {"passed"}
    bench.now = NOT_BEFORE + 4_500
    assert bench.ask("GET", f"/api/attest?hash={name}").json()["fresh"] is False


@pytest.mark.parametrize(
    ("draft", "status", "step"),
    [
        (Draft(pcrs={index: bytes(48) for index in range(3)}), "debug", 9),
        (Draft(pcrs=standard_pcrs() | {0: b"x" * 48}), "untrusted", 10),
        (Draft(module_id="i-0123456789abcdef1-enc0198a1b2c3d4e5f6"), "invalid", 6),
        (Draft(nonce=bytes(32)), "invalid", 12),
    ],
)
def test_attest_tells_the_step_that_refuses(
    bench: SurfaceBench, draft: Draft, status: str, step: int
) -> None:
    told = bench.ask("GET", f"/api/attest?hash={bench.archive(draft)}").json()
    assert told["status"] == status
    assert told["fresh"] is False
    states = [each["state"] for each in told["verdict"]]
    assert states == ["passed"] * (step - 1) + ["failed"] + ["not run"] * (13 - step)
    assert told["verdict"][step - 1]["reason"]
    assert told["region"] == (None if step <= 6 else "eu-central-1")


def test_attest_never_says_good_of_another_document_under_a_hash(bench: SurfaceBench) -> None:
    swapped = ArchivedDocument(DIGEST, document(), MANIFEST, NOW_S)
    bench.run(bench.store.archive(swapped))
    told = bench.ask("GET", f"/api/attest?hash={DIGEST}").json()
    assert told["status"] == "invalid"
    assert told["verdict"][0]["state"] == "failed"


def test_attest_of_what_cannot_be_read(bench: SurfaceBench) -> None:
    bench.run(bench.store.archive(ArchivedDocument(DIGEST, b"\x00", b"{}", NOW_S)))
    answer = bench.ask("GET", f"/api/attest?hash={DIGEST}")
    told = answer.json()
    parse_archived(parse_json_object(answer.content, max_bytes=1 << 20))
    assert (told["status"], told["timestamp"], told["region"]) == ("invalid", None, None)
    assert (told["pcr_values"], told["enclave_image_sha"]) == ({}, None)


def test_attest_of_an_unknown_hash_and_of_none(bench: SurfaceBench) -> None:
    told = bench.refused("GET", f"/api/attest?hash={DIGEST}")
    assert told.error.code is ErrorCode.ERR_ATTESTATION_UNKNOWN
    for query in ("", "?hash=1", "?hash=sha384:" + "A" * 96, f"?hash={DIGEST}%00"):
        told = bench.refused("GET", f"/api/attest{query}")
        assert (told.error.code, told.error.param) == (ErrorCode.ERR_REQUEST_INVALID, "hash")


def test_verify_page_shows_the_same_and_escapes(bench: SurfaceBench) -> None:
    name = bench.archive()
    page = bench.ask("GET", f"/verify?hash={name}").text
    assert "simulated" in page
    assert "Refuse debug mode" in page
    assert "<b>" not in bench.ask("GET", "/verify?hash=<b>").text
    assert "No document" in bench.ask("GET", f"/verify?hash={DIGEST}").text
    assert "Look up" in bench.ask("GET", "/verify").text


# --- GET /api/audit ---


def test_audit_pages_newest_first(bench: SurfaceBench) -> None:
    stored = [bench.receipt(number) for number in range(30)]
    key = bench.key("audit:read")
    answer = bench.ask("GET", "/api/audit", key)
    told = answer.json()
    page = parse_page(parse_json_object(answer.content, max_bytes=1 << 20))
    assert (told["page"], told["limit"], told["total"]) == (1, 25, 30)
    assert [entry.public.sequence for entry in page.entries] == list(range(29, 4, -1))
    assert page.entries[0].public.canonical() == stored[29].public
    assert page.entries[0].signature == stored[29].signature.hex()
    assert page.entries[0].private_sealed == b"sealed"
    assert told["entries"][1]["private_sealed"] is None
    assert set(told["entries"][0]) == {"public", "signature", "private_sealed"}
    last = bench.ask("GET", "/api/audit?page=4&limit=10", key).json()
    assert (last["entries"], last["total"]) == ([], 30)


def test_audit_filters(bench: SurfaceBench) -> None:
    bench.receipt(0)
    bench.receipt(1, outcome="refused", issued_at=1_780_315_320)
    key = bench.key("audit:read")
    for query, numbers in (
        ("outcome=refused", [1]),
        ("outcome=held", []),
        (f"key_id={'0' * 16}", []),
        (f"attestation_hash={DIGEST}", [1, 0]),
        ("since=2026-06-01T12:02:00Z", [1]),
        ("until=2026-06-01T12:02:00Z", [0]),
    ):
        entries = bench.ask("GET", f"/api/audit?{query}", key).json()["entries"]
        assert [entry["public"]["sequence"] for entry in entries] == numbers, query


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=1.0", "page"),
        ("page=%201", "page"),
        ("page=+1", "page"),
        ("page=1_0", "page"),
        ("page=01", "page"),
        ("page=", "page"),
        ("page=\u0661", "page"),
        ("page=1000001", "page"),
        ("page=" + "9" * 5000, "page"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1000000000", "limit"),
        ("outcome=ANSWERED", "outcome"),
        ("key_id=xyz", "key_id"),
        ("attestation_hash=sha384:", "attestation_hash"),
        ("since=yesterday", "since"),
        ("since=2026-02-30T00:00:00Z", "since"),
        ("until=2026-06-01T12:02:00.5Z", "until"),
        ("until=2026-06-01T12:02:00%2B00:00", "until"),
        ("page=1&page=2", "page"),
        ("pages=1", "pages"),
    ],
)
def test_audit_refuses_other_parameters(bench: SurfaceBench, query: str, param: str) -> None:
    told = bench.refused("GET", f"/api/audit?{query}", bench.key("audit:read"))
    assert (told.error.code, told.error.param) == (ErrorCode.ERR_REQUEST_INVALID, param)


def test_one_receipt(bench: SurfaceBench) -> None:
    bench.receipt(7)
    bench.receipt(8, tenant=OTHER_TENANT)
    key = bench.key("audit:read")
    assert bench.ask("GET", f"/api/audit/aud_{7:016x}", key).json()["public"]["sequence"] == 7
    for number in (8, 9):
        told = bench.refused("GET", f"/api/audit/aud_{number:016x}", key)
        assert told.error.code is ErrorCode.ERR_NOT_FOUND
    told = bench.refused("GET", "/api/audit/aud_1", key)
    assert (told.error.code, told.error.param) == (ErrorCode.ERR_REQUEST_INVALID, "receipt_id")


# --- GET /api/health ---


def status(health: HealthAnswer | None = GOOD, *, age_s: int = 1) -> EnclaveStatus:
    checked = None if health is None else (NOW_S - age_s) * 1000
    return EnclaveStatus("unix:/e", connected=True, health=health, checked_at_ms=checked)


def test_health_of_enclaves_that_all_serve(bench: SurfaceBench) -> None:
    bench.fleet.found = [status(), status()]
    answer = bench.ask("GET", "/api/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "enclave": {"status": "ready", "ready": 2, "total": 2},
        "kms": {"status": "released"},
        "bedrock": {"status": "ready"},
        "checked_at": "2026-06-01T12:03:19Z",
    }
    assert bench.fleet.enclave.calls == []


@pytest.mark.parametrize(
    ("statuses", "overall", "enclave", "kms"),
    [
        ([status(), status(None)], "degraded", "ready", "released"),
        ([status(replace(GOOD, kms=KMSState.UNREACHABLE))], "degraded", "ready", "unreachable"),
        ([status(replace(GOOD, enclave=EnclaveState.LOCKED)), status()], "degraded", "ready", None),
        ([], "unavailable", "unreachable", "unknown"),
        ([status(age_s=60)], "unavailable", "unreachable", "unknown"),
        ([replace(status(), connected=False)], "unavailable", "unreachable", "unknown"),
        (
            [status(HealthAnswer(EnclaveState.STOPPED, KMSState.DENIED, BedrockState.READY))],
            "unavailable",
            "stopped",
            "denied",
        ),
        ([status(replace(GOOD, bedrock=BedrockState.UNREACHABLE))], "unavailable", "ready", None),
        ([status(replace(GOOD, bedrock=BedrockState.LOGGING_ON))], "unavailable", "ready", None),
    ],
)
def test_health_of_others(
    bench: SurfaceBench,
    statuses: list[EnclaveStatus],
    overall: str,
    enclave: str,
    kms: str | None,
) -> None:
    bench.fleet.found = statuses
    answer = bench.ask("GET", "/api/health")
    assert answer.status_code == (503 if overall == "unavailable" else 200)
    members = parse_json_object(answer.content, max_bytes=1 << 20)
    told = parse_health(members, status=answer.status_code)
    assert (told.status, told.enclave) == (overall, enclave)
    assert kms in {None, told.kms}
    if answer.status_code == 503:
        assert "retry-after" in answer.headers
        assert bench.notes.done[-1].code is ErrorCode.ERR_ENCLAVE_UNAVAILABLE


def test_health_while_receipts_cannot_be_stored(bench: SurfaceBench) -> None:
    """Enclaves may be well: no request can be served all the same."""
    bench.fleet.found = [
        EnclaveStatus("unix:/a", connected=True, health=GOOD, checked_at_ms=NOW_S * 1000)
    ]
    assert bench.ask("GET", "/api/health").status_code == 200
    bench.store_fails = True
    answer = bench.ask("GET", "/api/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert "stored" in answer.json()["error"]["message"]


def test_health_while_draining(bench: SurfaceBench) -> None:
    bench.fleet.found = [status()]
    bench.draining = True
    bench.gateway.drain()
    answer = bench.ask("GET", "/api/health")
    assert answer.status_code == 503
    assert answer.json()["enclave"]["status"] == "ready"
    assert bench.refused("GET", "/api/models").error.code is ErrorCode.ERR_OVERLOADED


# --- GET /api/models, GET /api/usage ---


def test_models(bench: SurfaceBench) -> None:
    answer = bench.ask("GET", "/api/models", bench.key("inference:read"))
    parsed = parse_models(parse_json_object(answer.content, max_bytes=1 << 20))
    assert [model.model_id for model in parsed] == ["claude-3.5-sonnet", "nova-embed-2"]
    assert [model.kind for model in parsed] == ["chat", "embeddings"]
    assert answer.json() == {
        "object": "list",
        "data": [
            {
                "id": "claude-3.5-sonnet",
                "object": "model",
                "created": 1_759_104_000,
                "owned_by": "latensgate",
                "shutdown_date": "2027-04-01",
                "kind": "chat",
            },
            {
                "id": "nova-embed-2",
                "object": "model",
                "created": 0,
                "owned_by": "latensgate",
                "shutdown_date": None,
                "kind": "embeddings",
            },
        ],
    }


def usage(**tenants: int) -> bytes:
    counts = {
        name: TenantUsage(requests=n, prompt_tokens=10 * n, completion_tokens=100 * n)
        for name, n in tenants.items()
    }
    return encode_usage_totals(UsageTotals(NOW_S, counts))


def test_days_count_what_public_parts_say_for_their_tenant_alone(bench: SurfaceBench) -> None:
    bench.receipt(0)
    bench.receipt(1, outcome="refused", issued_at=1_780_315_320)
    bench.receipt(2, issued_at=1_780_315_260 + 86_400)
    bench.receipt(3, tenant=OTHER_TENANT)
    key = bench.key("audit:read")
    answer = bench.ask("GET", "/api/usage/days", key)
    page = parse_days(parse_json_object(answer.content, max_bytes=1 << 20))
    assert [(each.day, each.receipts, each.outcomes) for each in page.entries] == [
        ("2026-06-02", 1, {"answered": 1}),
        ("2026-06-01", 2, {"answered": 1, "refused": 1}),
    ]
    assert (page.page, page.limit, page.total) == (1, 31, 2)
    second = bench.ask("GET", "/api/usage/days?page=2&limit=1", key).json()
    assert [each["day"] for each in second["entries"]] == ["2026-06-01"]
    span = "since=2026-06-01T12:02:00Z&until=2026-06-02T00:00:00Z"
    (found,) = bench.ask("GET", f"/api/usage/days?{span}", key).json()["entries"]
    assert found["outcomes"] == {"refused": 1}
    theirs = bench.key("audit:read", tenant=OTHER_TENANT)
    (others,) = bench.ask("GET", "/api/usage/days", theirs).json()["entries"]
    assert others["receipts"] == 1


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=401", "limit"),
        ("page=0", "page"),
        ("since=2026", "since"),
        ("outcome=held", "outcome"),
    ],
)
def test_days_refuse_other_parameters(bench: SurfaceBench, query: str, param: str) -> None:
    told = bench.refused("GET", f"/api/usage/days?{query}", bench.key("audit:read"))
    assert (told.error.code, told.error.param) == (ErrorCode.ERR_REQUEST_INVALID, param)
    told = bench.refused("GET", "/api/usage/days", bench.key("inference:read"))
    assert told.error.code is ErrorCode.ERR_FORBIDDEN


def test_usage_shows_the_tenant_its_own(bench: SurfaceBench) -> None:
    both = usage(**{TENANT: 2, OTHER_TENANT: 5})
    bench.run(bench.store.store_usage(StoredUsage(receipt_key_hex(), NOW_S, both, bytes(64))))
    others = usage(**{OTHER_TENANT: 7})
    bench.run(bench.store.store_usage(StoredUsage("0" * 64, NOW_S, others, bytes(64))))
    answer = bench.ask("GET", "/api/usage", bench.key("audit:read"))
    told = answer.json()
    parse_usage(parse_json_object(answer.content, max_bytes=1 << 20))
    assert told["usage"] == {"requests": 2, "prompt_tokens": 20, "completion_tokens": 200}
    assert [each["totals_hash"] for each in told["enclaves"]] == [sha384_name(both)]
    assert told["enclaves"][0]["signature"] == "00" * 64
    assert OTHER_TENANT not in answer.text


def test_usage_is_read_again_after_a_while(bench: SurfaceBench) -> None:
    key = bench.key("audit:read")
    assert bench.ask("GET", "/api/usage", key).json()["enclaves"] == []
    totals = usage(**{TENANT: 1})
    bench.run(bench.store.store_usage(StoredUsage(receipt_key_hex(), NOW_S, totals, bytes(64))))
    assert bench.ask("GET", "/api/usage", key).json()["enclaves"] == []
    bench.now += 31
    assert bench.ask("GET", "/api/usage", key).json()["usage"]["requests"] == 1
    bench.now += 31
    assert bench.ask("GET", "/api/usage", key).json()["usage"]["requests"] == 1


# --- the reference ---


def test_reference_is_self_contained(bench: SurfaceBench) -> None:
    answer = bench.ask("GET", "/")
    page = answer.text
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script|<img|<link|style='|https?://(?!gateway\.example)", page)
    for word in ("POST", "/api/inference", "ERR_PII_HARD_FAIL", "tnt_a3f9c42b", "npm", "from lat"):
        assert word in page or word == "npm"
    document_ = json.loads(bench.ask("GET", "/openapi.json").text)
    for path in document_["paths"]:
        assert path in page
