"""audit keygen, open, stats; usage --days: what the auditor reads, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import cast

import pytest

from cli_fixtures import Machine
from gateway_stand_in import StandIn, entry_members
from latensgate.audit_key import AuditKey
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate_shared import formats
from latensgate_shared.audit_seal import seal_private_part
from latensgate_shared.receipts import PrivatePart, Receipt, parse_public_part, sign_receipt
from latensgate_shared.strict_json import JSONObject
from protocol_examples import RECEIPT_KEY, private_part, public_members

SIMULATED = "--simulated"
PII: JSONObject = {
    "policy_digest": None,
    "engine_digest": None,
    "settings": "none",
    "detected": True,
    "counts": {"EMAIL_ADDRESS": {"prompt": 2}, "US_SSN": {"answer": 1}},
    "actions": {"EMAIL_ADDRESS": {"prompt": "mask"}},
    "surrogates": {"made": 0, "restored": 0, "unknown": 0},
}


@pytest.fixture
def key(machine: Machine) -> AuditKey:
    return AuditKey.read(Path(machine.told("audit", "keygen")["file"]))


def receipt(stand_in: StandIn, number: int, **changes: object) -> Receipt:
    """Return a receipt whose private part tells of findings."""
    private = PrivatePart({**private_part(), "pii": PII})
    members = public_members() | {
        "receipt_id": f"aud_{number:016x}",
        "attestation_hash": stand_in.attestation_hash,
        "issued_at": stand_in.bound.not_before // 60 * 60 + 60,
        "private_digest": private.digest,
    }
    public = parse_public_part(cast("JSONObject", members | changes))
    return sign_receipt(public, private, RECEIPT_KEY.sign)


def stored(machine: Machine, *entries: JSONObject) -> None:
    """Let the gateway hold these receipts alone."""
    page: JSONObject = {"entries": [*entries], "page": 1, "limit": 100, "total": len(entries)}
    machine.stand_in.routes["GET /api/audit"] = 200, page
    for entry in entries:
        public = entry["public"]
        assert isinstance(public, dict)
        machine.stand_in.routes[f"GET /api/audit/{public['receipt_id']}"] = 200, entry


def sealed(one: Receipt, public_key: bytes) -> JSONObject:
    told = formats.to_base64(seal_private_part(public_key, one))
    return {**entry_members(one), "private_sealed": told}


def test_a_key_is_made_once_and_only_its_owner_reads_it(machine: Machine) -> None:
    told = machine.told("audit", "keygen")
    path = Path(told["file"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert AuditKey.read(path).public.hex() == told["audit_key"]
    again = machine.run("audit", "keygen")
    assert again.exit_code == ExitCode.USAGE
    assert "never overwritten" in again.output
    shown = machine.run("audit", "keygen", "--audit-key", machine.folder / "other.key")
    assert shown.exit_code == DONE
    assert 'audit_key = "' in shown.output
    assert machine.run("audit", "keygen", "--audit-key", path / "key").exit_code == (ExitCode.USAGE)


BAD_KEYS = {
    "others may read": (0o644, None, "chmod 600"),
    "another file": (0o600, b"key", "keygen"),
    "no base64": (
        0o600,
        "-----BEGIN LATENSGATE AUDIT KEY----- * -----END LATENSGATE AUDIT KEY-----",
        "keygen",
    ),
    "too short": (
        0o600,
        "-----BEGIN LATENSGATE AUDIT KEY----- AAAA -----END LATENSGATE AUDIT KEY-----",
        "keygen",
    ),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_key_that_is_none_is_refused(machine: Machine, name: str) -> None:
    mode, content, words = BAD_KEYS[name]
    path = Path(machine.told("audit", "keygen")["file"])
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    result = machine.run("audit", "open", "aud_0000000000000001")
    assert result.exit_code == ExitCode.USAGE
    assert words in result.output


def test_no_key_is_a_fault_of_the_command_line(machine: Machine) -> None:
    assert machine.run("audit", "stats").exit_code == ExitCode.USAGE


def test_a_private_part_is_opened_and_shown(machine: Machine, key: AuditKey) -> None:
    one = receipt(machine.stand_in, 1)
    stored(machine, sealed(one, key.public))
    shown = machine.run("audit", "open", SIMULATED, one.public.receipt_id)
    assert shown.exit_code == DONE
    assert "EMAIL_ADDRESS" in shown.output
    assert "simulated root" in shown.output
    told = machine.told("audit", "open", SIMULATED, one.public.receipt_id)
    assert told["private"]["pii"] == PII


def test_what_is_not_the_receipts_own_is_refused(machine: Machine, key: AuditKey) -> None:
    one, two = receipt(machine.stand_in, 1), receipt(machine.stand_in, 2)
    foreign = AuditKey(bytes(32))
    swapped = {**entry_members(one), "private_sealed": sealed(two, key.public)["private_sealed"]}
    cut = formats.to_base64(seal_private_part(key.public, one)[:-9])
    for entry in (
        entry_members(one),
        sealed(one, foreign.public),
        swapped,
        {**entry_members(one), "private_sealed": cut},
        {**sealed(one, key.public), "signature": "00" * 64},
    ):
        stored(machine, entry)
        result = machine.run("audit", "open", SIMULATED, one.public.receipt_id)
        assert result.exit_code == ExitCode.RECEIPT, result.output


def test_findings_are_counted_by_category_direction_and_action(
    machine: Machine, key: AuditKey
) -> None:
    kinds = ("answered", "refused", "dry_run", "answered")
    made = [receipt(machine.stand_in, n, outcome=each) for n, each in enumerate(kinds)]
    parts = [*(sealed(each, key.public) for each in made[:3]), entry_members(made[3])]
    stored(machine, *parts)
    told = machine.told("audit", "stats", SIMULATED)
    assert told["outcomes"] == {"answered": 2, "dry_run": 1, "refused": 1}
    assert (told["opened"], told["without_private_part"], told["detected"]) == (2, 1, 2)
    assert told["findings"] == [
        {"category": "EMAIL_ADDRESS", "direction": "prompt", "action": "mask", "count": 4},
        {"category": "US_SSN", "direction": "answer", "action": "not told", "count": 2},
    ]
    shown = machine.run("audit", "stats", SIMULATED)
    assert shown.exit_code == DONE
    assert "EMAIL_ADDRESS" in shown.output
    stored(machine, parts[2])
    dry = machine.told("audit", "stats", SIMULATED, "--outcome", "dry_run")
    assert (dry["opened"], dry["findings"][0]["count"]) == (1, 2)


@pytest.mark.usefixtures("key")
def test_what_does_not_open_is_told_and_not_counted(machine: Machine) -> None:
    one = receipt(machine.stand_in, 1)
    stored(machine, sealed(one, AuditKey(bytes(32)).public))
    told = machine.told("audit", "stats", SIMULATED)
    assert (told["exit_code"], told["opened"], told["findings"]) == (12, 0, [])
    assert told["problems"][0]["receipt_id"] == one.public.receipt_id
    assert "does not open" in machine.run("audit", "stats", SIMULATED).output
    stored(machine)
    assert "Nothing was found" in machine.run("audit", "stats", SIMULATED).output


def day(name: str, **changes: object) -> JSONObject:
    told: JSONObject = {
        "day": name,
        "receipts": 3,
        "private_sealed": 1,
        "outcomes": {"answered": 2, "refused": 1},
    }
    return told | cast("JSONObject", changes)


def test_days_are_listed(machine: Machine) -> None:
    days: list[JSONObject] = [day("2026-11-14"), day("2026-11-13")]
    asked: list[dict[str, str]] = []

    def pages(request: object) -> tuple[int, JSONObject]:
        query = cast("dict[str, str]", getattr(request, "query"))  # noqa: B009  # of a stand-in
        asked.append(query)
        number = int(query["page"])
        return 200, {"entries": [days[number - 1]], "page": number, "limit": 1, "total": 2}

    machine.stand_in.routes["GET /api/usage/days"] = pages
    told = machine.told("usage", "--days", "--since", "2026-11-01")
    assert [each["day"] for each in told["days"]] == ["2026-11-14", "2026-11-13"]
    assert asked[0]["since"] == "2026-11-01T00:00:00Z"
    assert "answered 2" in machine.run("usage", "--days").output
    none: JSONObject = {"entries": [], "page": 1, "limit": 400, "total": 0}
    machine.stand_in.routes["GET /api/usage/days"] = 200, none
    assert "No receipts" in machine.run("usage", "--days").output
    assert machine.run("usage", "--since", "2026-11-01").exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    "changes",
    [
        {"day": "today"},
        {"day": 1},
        {"outcomes": []},
        {"outcomes": {"done": 3}},
        {"receipts": 4},
        {"private_sealed": 4},
    ],
)
def test_days_of_another_form_are_refused(machine: Machine, changes: dict[str, object]) -> None:
    page: JSONObject = {
        "entries": [day("2026-11-14", **changes)],
        "page": 1,
        "limit": 400,
        "total": 1,
    }
    machine.stand_in.routes["GET /api/usage/days"] = 200, page
    assert machine.run("usage", "--days").exit_code == ExitCode.PROTOCOL
