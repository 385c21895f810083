"""attest, verify, audit: evidence of the stand-in, good and bad, judged by the one verifier."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli_fixtures import Machine, answer_receipt
from gateway_stand_in import Asked, Reply, StandIn, entry_members, error
from latensgate.cli import verify_receipt as verify_module
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.cli.receipt_view import pii_words, private_rows, usage_words
from latensgate.cli.text import coarse
from latensgate_shared import formats
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject
from protocol_examples import TENANT

SIMULATED = "--simulated"


def states(told: dict[str, Any]) -> dict[int, str]:
    return {step["number"]: step["state"] for step in told["steps"]}


# --- attest ---


def test_attest_proves_what_runs(machine: Machine) -> None:
    told = machine.told("attest", SIMULATED)
    assert told["verdict"] == "simulated"
    assert states(told) == dict.fromkeys(range(1, 19), "passed") | {11: "not run"}
    assert told["manifest"]["region"] == "eu-central-1"
    assert told["attestation_hash"] == machine.stand_in.attestation_hash
    shown = machine.run("attest", SIMULATED)
    assert shown.exit_code == ExitCode.SIMULATED
    assert "which you chose to accept" in shown.output
    nonces = {asked.query["nonce"] for asked in machine.stand_in.asked}
    assert len(nonces) == 2


def test_without_simulated_the_root_is_foreign(machine: Machine) -> None:
    result = machine.run("attest")
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "say so: --simulated" in result.output
    assert states(machine.told("attest"))[4] == "failed"


def test_what_was_served_can_be_kept(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    machine.run("attest", SIMULATED, "--save", folder, "--json")
    assert (folder / "manifest.json").read_bytes() == machine.stand_in.manifest_bytes
    assert (folder / "document.cbor").read_bytes() == machine.stand_in.document
    (tmp_path / "file").touch()
    result = machine.run("attest", SIMULATED, "--save", tmp_path / "file")
    assert result.exit_code == ExitCode.UNREADABLE


def test_a_key_that_nobody_holds(machine: Machine) -> None:
    assert machine.run("attest", SIMULATED, "--key-id", "00" * 8).exit_code == ExitCode.LATER


def other(**changes: Any) -> Callable[[StandIn], None]:  # noqa: ANN401 - members of a document
    """Serve another fresh document."""

    def change(stand_in: StandIn) -> None:
        def reply(asked: Asked) -> Reply:
            status, told = stand_in.attestation(asked)
            nonce = bytes.fromhex(asked.query["nonce"])
            fresh = stand_in.make_document(nonce, **changes)
            return status, dict(told) | {"nonce_document": formats.to_base64(fresh)}  # type: ignore[arg-type]  # an object

        stand_in.routes["GET /api/attestation"] = reply

    return change


def hint(stand_in: StandIn) -> None:
    def reply(asked: Asked) -> Reply:
        status, told = stand_in.attestation(asked)
        return status, dict(told) | {"attestation_hash": "sha384:" + "00" * 48}  # type: ignore[arg-type]  # an object

    stand_in.routes["GET /api/attestation"] = reply


def skewed(stand_in: StandIn) -> None:
    stand_in.skew = timedelta(minutes=20)


def aged(stand_in: StandIn) -> None:
    begin = stand_in.bound.not_before - 4_300
    stand_in.bound = replace(stand_in.bound, not_before=begin, not_after=begin + 4_500)
    stand_in.__post_init__()


REFUSED = {
    "hint of another": (hint, 14, ExitCode.UNTRUSTED),
    "no nonce": (other(nonce=None), 15, ExitCode.BINDING),
    "clock": (skewed, 17, ExitCode.CLOCK),
    "too old": (aged, 18, ExitCode.TIME),
}


@pytest.mark.parametrize(("change", "step", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_the_step_that_refuses(
    machine: Machine, change: Callable[[StandIn], None], step: int, code: ExitCode
) -> None:
    change(machine.stand_in)
    told = machine.told("attest", SIMULATED)
    assert (told["exit_code"], states(told)[step]) == (code, "failed")
    assert [state for state in states(told).values()].count("failed") == 1  # noqa: C416 - counted
    assert told["manifest"] is None
    shown = machine.run("attest", SIMULATED)
    assert "Do not send anything confidential" in shown.output


def test_another_image_is_refused(machine: Machine) -> None:
    text = machine.config.read_text().replace("a0a0", "b0b0")
    machine.config.write_text(text)
    result = machine.run("attest", SIMULATED)
    assert result.exit_code == ExitCode.MEASUREMENTS
    assert "not an image you accept" in result.output


# --- verify: documents ---


def test_an_archived_document(machine: Machine) -> None:
    name = machine.stand_in.attestation_hash
    told = machine.told("verify", name, SIMULATED)
    assert (told["of"], told["verdict"]) == ("document", "simulated")
    assert told["inspection"]["document"]["attestation_hash"] == name
    shown = machine.run("verify", name, SIMULATED)
    assert "The gateway itself says: simulated" in shown.output
    assert machine.run("verify", name).exit_code == ExitCode.UNTRUSTED
    unknown = machine.run("verify", "sha384:" + "00" * 48, SIMULATED)
    assert unknown.exit_code == ExitCode.REFUSED


@pytest.mark.parametrize("name", ["aud_zz", "sha384:00", "aud_" + "0" * 17])
def test_a_name_with_a_digit_too_few_is_not_taken_for_a_file(machine: Machine, name: str) -> None:
    result = machine.run("verify", name, SIMULATED)
    assert result.exit_code == ExitCode.USAGE
    assert "or aud_ and 16, lower-case hex digits expected" in " ".join(result.output.split())


def test_a_good_document_of_another_name_is_refused(machine: Machine) -> None:
    stand_in, asked = machine.stand_in, "sha384:" + "00" * 48
    good = stand_in.attest(Asked("GET", "", {"hash": stand_in.attestation_hash}, {}, b""))[1]
    archived: JSONObject = dict(good) | {"hash": asked, "fresh": False}  # type: ignore[arg-type]  # an object
    stand_in.routes["GET /api/attest"] = 200, archived
    result = machine.run("verify", asked, SIMULATED)
    assert result.exit_code == ExitCode.BINDING
    assert "another attestation_hash" in result.output
    assert "It shows what ran then" in result.output


# --- verify: receipts ---


def test_a_receipt_of_the_log(machine: Machine) -> None:
    for number in (0, 2):
        told = machine.told("verify", f"aud_{number:016x}", SIMULATED)
        assert (told["of"], told["verdict"]) == ("receipt", "simulated")
        assert len(told["checks"]) == 4
        assert all(check["good"] for check in told["checks"])
    shown = machine.run("verify", "aud_0000000000000002", SIMULATED)
    assert shown.exit_code == ExitCode.SIMULATED
    assert machine.run("verify", "aud_0000000000000002").exit_code == ExitCode.UNTRUSTED
    assert machine.run("verify", "aud_00000000000000ff", SIMULATED).exit_code == ExitCode.REFUSED


def test_a_receipt_whose_predecessor_is_withheld(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = "aud_0000000000000002"
    removed = machine.stand_in.entries.pop(1)
    result = machine.run("verify", last, SIMULATED)
    assert result.exit_code == ExitCode.GAPS
    assert "the gateway does not show it" in result.output
    machine.stand_in.entries.insert(0, removed)
    monkeypatch.setattr(verify_module, "SEARCHED_MAX_COUNT", 0)
    assert machine.run("verify", last, SIMULATED).exit_code == ExitCode.GAPS


def test_a_forged_receipt(machine: Machine) -> None:
    good = machine.stand_in.entries[1]
    machine.stand_in.entries[1] = replace(good, signature=bytes(64))
    result = machine.run("verify", good.public.receipt_id, SIMULATED)
    assert result.exit_code == ExitCode.RECEIPT
    assert "keep it as evidence" in result.output
    after = machine.run("verify", "aud_0000000000000002", SIMULATED)
    assert after.exit_code == ExitCode.GAPS


def kept(machine: Machine, folder: Path, **changes: object) -> Path:
    path = folder / "receipt.json"
    told = answer_receipt(machine.stand_in).export() | changes
    path.write_text(json.dumps(told))
    return path


def test_a_receipt_that_was_kept_needs_no_gateway(machine: Machine, tmp_path: Path) -> None:
    path = kept(machine, tmp_path)
    told = machine.told("verify", path, SIMULATED)
    assert (told["verdict"], len(told["checks"])) == ("simulated", 5)
    assert machine.stand_in.asked == []
    shown = machine.run("verify", path, SIMULATED)
    assert "no model ran" not in shown.output
    assert machine.run("verify", path).exit_code == ExitCode.UNTRUSTED


def test_a_bare_receipt_gets_its_document_from_the_gateway(
    machine: Machine, tmp_path: Path
) -> None:
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(machine.stand_in.entries[0].to_json()))
    told = machine.told("verify", path, SIMULATED)
    assert told["verdict"] == "simulated"
    assert told["checks"][-1]["detail"] == "hashes were not kept: not compared"
    assert machine.stand_in.asked[-1].path == "/api/attest"


WRONG_RECEIPTS: dict[str, dict[str, object]] = {
    "another request": {"request_hash": "sha384:" + "00" * 48},
    "another tenant": {"tenant_id": "tnt_00000000"},
    "another document": {"attestation_hash": "sha384:" + "00" * 48},
    "another version": {"version": 2},
    "unknown member": {"more": 1},
}


@pytest.mark.parametrize("changes", WRONG_RECEIPTS.values(), ids=WRONG_RECEIPTS.keys())
def test_kept_receipts_that_are_wrong(
    machine: Machine, tmp_path: Path, changes: dict[str, object]
) -> None:
    result = machine.run("verify", kept(machine, tmp_path, **changes), SIMULATED)
    assert result.exit_code == ExitCode.RECEIPT


def test_files_that_hold_no_receipt(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert machine.run("verify", path, SIMULATED).exit_code == ExitCode.UNREADABLE
    path.write_text("hello")
    assert machine.run("verify", path, SIMULATED).exit_code == ExitCode.RECEIPT


# --- audit ---


def test_audit_list(machine: Machine) -> None:
    told = machine.told("audit", "list", "--limit", "2", "--page", "2")
    assert (told["total"], len(told["entries"])) == (3, 1)
    shown = machine.run("audit", "list").output
    assert "Page 1 of 1, 3 receipts in all." in shown
    assert "aud_0000000000000002" in shown
    assert "No receipts here." in machine.run("audit", "list", "--outcome", "held").output


@pytest.mark.parametrize("since", ["7d", "24h", "2026-06-01", "2026-06-01T12:30:00+02:00"])
def test_audit_filters(machine: Machine, since: str) -> None:
    assert machine.run("audit", "list", "--since", since).exit_code == DONE
    assert machine.stand_in.asked[-1].query["since"].endswith("Z")


def test_audit_filters_that_are_none(machine: Machine) -> None:
    assert machine.run("audit", "list", "--since", "yesterday").exit_code == ExitCode.USAGE
    assert machine.run("audit", "list", "--outcome", "fine").exit_code == ExitCode.USAGE


def test_audit_show(machine: Machine) -> None:
    shown = machine.run("audit", "show", "aud_0000000000000000")
    assert "none: the first one" in shown.output
    assert "Not verified" in shown.output
    told = machine.told("audit", "show", "aud_0000000000000001")
    assert told["entry"] == entry_members(machine.stand_in.entries[1])


def test_a_log_without_a_gap(machine: Machine, tmp_path: Path) -> None:
    told = machine.told("audit", "check", SIMULATED, "--kept", kept(machine, tmp_path))
    assert (told["verdict"], told["receipts"], told["problems"]) == ("simulated", 3, [])
    assert told["chains"][0]["last_sequence"] == 2
    asked = [each.path for each in machine.stand_in.asked]
    assert asked.count("/api/attest") == 1
    assert "no gap" in machine.run("audit", "check", SIMULATED).output


def test_an_empty_log(machine: Machine) -> None:
    machine.stand_in.entries.clear()
    result = machine.run("audit", "check", SIMULATED)
    assert (result.exit_code, "no receipts to check" in result.output) == (DONE, True)


def remove(*numbers: int) -> Callable[[StandIn], None]:
    def change(stand_in: StandIn) -> None:
        for number in sorted(numbers, reverse=True):
            stand_in.entries.pop(number)

    return change


def forge(stand_in: StandIn) -> None:
    stand_in.entries[1] = replace(stand_in.entries[1], signature=bytes(64))


def foreign(stand_in: StandIn) -> None:
    stand_in.entries.append(stand_in.make_receipt(3, tenant_id="tnt_00000000"))


def unnamed(stand_in: StandIn) -> None:
    stand_in.entries.append(stand_in.make_receipt(3, attestation_hash="sha384:" + "00" * 48))


def unlinked(stand_in: StandIn) -> None:
    stand_in.entries.append(stand_in.make_receipt(3, previous_receipt_hash="sha384:" + "00" * 48))


PROBLEMS = {
    "one missing": (remove(1), {"gap"}, ExitCode.GAPS),
    "first missing": (remove(0), {"gap"}, ExitCode.GAPS),
    "two missing": (remove(0, 1), {"gap"}, ExitCode.GAPS),
    "forged": (forge, {"receipt", "gap"}, ExitCode.RECEIPT),
    "foreign": (foreign, {"tenant", "gap"}, ExitCode.RECEIPT),
    "unknown document": (unnamed, {"document"}, ExitCode.RECEIPT),
    "another chain": (unlinked, {"chain"}, ExitCode.RECEIPT),
}


@pytest.mark.parametrize(("change", "kinds", "code"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_what_is_wrong_with_a_log(
    machine: Machine, change: Callable[[StandIn], None], kinds: set[str], code: ExitCode
) -> None:
    change(machine.stand_in)
    told = machine.told("audit", "check", SIMULATED)
    assert {problem["what"] for problem in told["problems"]} == kinds
    assert told["exit_code"] == code
    shown = machine.run("audit", "check", SIMULATED)
    assert "problem(s)" in shown.output


def test_a_receipt_that_the_log_withholds_or_changed(machine: Machine, tmp_path: Path) -> None:
    path = kept(machine, tmp_path)
    own = machine.stand_in.entries[0]
    machine.stand_in.entries.clear()
    told = machine.told("audit", "check", SIMULATED, "--kept", path)
    assert [problem["what"] for problem in told["problems"]] == ["withheld"]
    assert told["exit_code"] == ExitCode.GAPS
    machine.stand_in.entries.append(machine.stand_in.make_receipt(0, outcome="failed"))
    assert own.public.receipt_id == machine.stand_in.entries[0].public.receipt_id
    told = machine.told("audit", "check", SIMULATED, "--kept", path)
    assert told["exit_code"] == ExitCode.RECEIPT


def test_a_log_under_a_foreign_root_is_refused_as_a_whole(machine: Machine) -> None:
    told = machine.told("audit", "check")
    assert {problem["what"] for problem in told["problems"]} == {"document"}
    assert told["exit_code"] == ExitCode.RECEIPT


def test_a_gateway_that_breaks_off_gives_no_verdict(machine: Machine) -> None:
    machine.stand_in.routes["GET /api/attest"] = error(ErrorCode.ERR_OVERLOADED)
    assert machine.run("audit", "check", SIMULATED).exit_code == ExitCode.LATER


def test_an_export_is_checked_without_the_gateway(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    assert machine.told("audit", "export", "--output", path)["receipts"] == 3
    machine.stand_in.asked.clear()
    told = machine.told("audit", "check", path, SIMULATED)
    assert (told["verdict"], told["receipts"]) == ("simulated", 3)
    assert machine.stand_in.asked == []
    printed = json.loads(machine.run("audit", "export").stdout)
    assert printed | {"exported_at": ""} == json.loads(path.read_text()) | {"exported_at": ""}
    exported = json.loads(path.read_text())
    exported["documents"] = {}
    path.write_text(json.dumps(exported))
    assert machine.run("audit", "check", path, SIMULATED).exit_code == ExitCode.RECEIPT


def test_exports_that_are_none(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for text in ("x", "{}", '{"format": "x"}'):
        path.write_text(text)
        assert machine.run("audit", "check", path, SIMULATED).exit_code == ExitCode.USAGE
    good = json.loads(machine.run("audit", "export").stdout)
    wrong: list[JSONObject] = [{"format": "other"}, {"entries": {}}, {"documents": {"x": {}}}]
    for changes in wrong:
        path.write_text(json.dumps(good | changes))
        assert machine.run("audit", "check", path, SIMULATED).exit_code == ExitCode.USAGE
    path.write_text(json.dumps(good))
    filtered = machine.run("audit", "check", path, SIMULATED, "--outcome", "held")
    assert filtered.exit_code == ExitCode.USAGE
    folder = tmp_path / "absent" / "log.json"
    assert machine.run("audit", "export", "-o", folder).exit_code == ExitCode.UNREADABLE


# --- words ---


def test_words_of_private_parts() -> None:
    assert pii_words(None) == "not told"
    assert pii_words({"detected": True}) == "found"
    assert pii_words({"detected": True, "counts": {"EMAIL": 2}}) == "found: EMAIL (2)"
    counts: JSONObject = {"detected": True, "counts": {"EMAIL": {"prompt": 2, "answer": 1}}}
    assert pii_words(counts) == "found: EMAIL (1 answer, 2 prompt)"
    assert usage_words({}) == "no model ran"
    assert usage_words({"total_tokens": 3}) == "total_tokens 3"
    rows = dict(private_rows({"upstream": {"host": "h", "region": "r"}, "model_asked": None}))
    assert str(rows["upstream"]) == "host h, region r"
    assert dict(private_rows({"upstream": {}}))["upstream"] is not None
    assert coarse(10**15).endswith(" s")
    assert coarse(0) == "1970-01-01 00:00"


def test_the_tenant_of_the_fixtures() -> None:
    assert TENANT.startswith("tnt_")
