"""An approver's keys and what the gateway tells of held requests: every form but one is refused."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from latensgate.approver import FORMAT, ApproverKey
from latensgate.gateway.approvals import parse_held, parse_list, parse_view
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.errors import LatensgateError
from latensgate_shared.hold import Decision, HoldDecision
from latensgate_shared.hold_view import seal_view
from latensgate_shared.strict_json import JSONError, JSONObject, JSONValue

ID = "hld_" + "0a" * 16
DIGEST = "sha384:" + "ab" * 48
HELD: JSONObject = {
    "pending_id": ID,
    "state": "pending",
    "model": "m",
    "operation": "chat.completions",
    "held_at": "2026-11-22T10:00:00Z",
    "expires_at": "2026-11-22T11:00:00Z",
    "audit_receipt_id": "aud_0123456789abcdef",
    "attestation_hash": DIGEST,
}
SEED = "5a" * 32


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_keys_come_back_from_their_file_and_are_never_printed(tmp_path: Path) -> None:
    path = tmp_path / "ann.json"
    made = ApproverKey.made(path)
    read = ApproverKey.read(path)
    assert (read.public, read.xwing) == (made.public, made.xwing)
    assert path.stat().st_mode & 0o777 == 0o600
    seeds = [value for name, value in json.loads(path.read_text()).items() if "seed" in name]
    assert len({*seeds}) == 2
    for text in (repr(made), str(made)):
        assert not any(seed in text for seed in seeds)
    decision = HoldDecision(ID, DIGEST, Decision.DENY, 1_800_000_000)
    assert read.sign(decision).verify() == decision
    sealed = seal_view(b"view", made.xwing, pending=ID)
    assert read.open_view(sealed, pending=ID) == b"view"
    with pytest.raises(LatensgateError):
        read.open_view(sealed, pending="hld_" + "00" * 16)
    with pytest.raises(LatensgateError):
        ApproverKey.made(tmp_path / "ben.json").open_view(sealed, pending=ID)


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "ann.json"
    ApproverKey.made(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="there already"):
        ApproverKey.made(path)
    assert path.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="approver key"):
        ApproverKey.made(tmp_path / "file" / "ann.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "JSON"),
        ("[]", "object"),
        ("{}", "approver key"),
        (json.dumps({"format": "x", "ed25519_seed": SEED, "xwing_seed": SEED}), FORMAT),
        (json.dumps({"format": FORMAT, "ed25519_seed": SEED[2:], "xwing_seed": SEED}), "ed25519"),
        (json.dumps({"format": FORMAT, "ed25519_seed": SEED, "xwing_seed": SEED.upper()}), "xwing"),
        (
            json.dumps({"format": FORMAT, "ed25519_seed": SEED, "xwing_seed": SEED, "more": 1}),
            "approver key",
        ),
    ],
)
def test_other_files_hold_no_keys(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path / "ann.json", text)
    with pytest.raises(ConfigurationError, match=re.escape(told)) as caught:
        ApproverKey.read(path)
    assert SEED not in str(caught.value)
    assert SEED.upper() not in str(caught.value)


def test_keys_that_others_may_read_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "ann.json"
    ApproverKey.made(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        ApproverKey.read(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        ApproverKey.read(tmp_path / "none.json")


# --- what the gateway tells ---


def test_held_requests_are_read() -> None:
    found = parse_held(HELD)
    assert (found.pending_id, found.state, found.model) == (ID, "pending", "m")
    assert (found.expires_at - found.held_at).total_seconds() == 3_600
    assert parse_list({"approvals": [HELD, HELD], "count": 2}) == (found, found)
    assert parse_list({"approvals": [], "count": 0}) == ()
    told = parse_view({**HELD, "view": base64.b64encode(b"secret view").decode(), "sealed": True})
    assert (told.held, told.view, told.sealed) == (found, b"secret view", True)
    assert "secret" not in repr(told)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pending_id", "hld_" + "0A" * 16),
        ("pending_id", "hld_../../api/keys"),
        ("pending_id", None),
        ("state", "approved"),
        ("model", 1),
        ("operation", ""),
        ("held_at", "yesterday"),
        ("expires_at", 1_800_000_000),
        ("audit_receipt_id", "aud_"),
        ("attestation_hash", "sha256:" + "ab" * 32),
        ("more", 1),
    ],
)
def test_other_forms_are_refused(name: str, value: JSONValue) -> None:
    bad: JSONObject = {**HELD, name: value}
    view = base64.b64encode(b"view").decode()
    with pytest.raises(JSONError):
        parse_held(bad)
    with pytest.raises(JSONError):
        parse_list({"approvals": [HELD, bad], "count": 2})
    with pytest.raises(JSONError):
        parse_view({**bad, "view": view, "sealed": True})


@pytest.mark.parametrize("member", sorted(HELD))
def test_every_member_is_expected(member: str) -> None:
    with pytest.raises(JSONError):
        parse_held({name: value for name, value in HELD.items() if name != member})


@pytest.mark.parametrize(
    "changes",
    [
        {"view": "x"},
        {"view": 1},
        {"view": "AAAA", "sealed": 1},
        {"view": "AAAA", "sealed": None},
    ],
)
def test_other_views_are_refused(changes: JSONObject) -> None:
    with pytest.raises(JSONError):
        parse_view({**HELD, "sealed": True, **changes})


@pytest.mark.parametrize(
    "value", [{}, {"approvals": {}, "count": 0}, {"approvals": [1], "count": 1}]
)
def test_other_lists_are_refused(value: JSONObject) -> None:
    with pytest.raises(JSONError):
        parse_list({"count": 0, **value})
