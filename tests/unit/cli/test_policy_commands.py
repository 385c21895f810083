"""tenant init; policy edit, check, sign, push, show."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from cli_fixtures import Machine
from latensgate.cli.exit_codes import DONE, ExitCode
from settings_examples import Root

SSN = '[policy.rules.US_SSN]\n"*" = { action = "mask" }\n'


def files(machine: Machine) -> tuple[Path, str]:
    """Return the configuration folder, and the tenant."""
    told = machine.told("config", "show")
    return Path(told["config_dir"]), told["values"]["tenant"]["value"]


def signed(machine: Machine) -> tuple[Path, str]:
    folder, tenant = files(machine)
    machine.told("tenant", "init")
    (folder / f"{tenant}.policy.toml").write_text(SSN)
    machine.told("policy", "sign")
    return folder, tenant


def test_a_root_key_is_made_once_and_only_its_owner_reads_it(machine: Machine) -> None:
    folder, tenant = files(machine)
    told = machine.told("tenant", "init")
    path = folder / f"{tenant}.root.pem"
    assert told["file"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    again = machine.run("tenant", "init")
    assert again.exit_code == ExitCode.USAGE
    assert "never overwritten" in again.output
    assert path.read_bytes() == before
    assert "PRIVATE" not in machine.run("tenant", "init", "--root-key", folder / "other").output


def test_a_draft_is_made_edited_and_checked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.environment["EDITOR"] = "true"
    monkeypatch.setenv("EDITOR", "true")
    result = machine.run("policy", "edit")
    assert result.exit_code == DONE
    assert "EMAIL_ADDRESS" in result.output
    folder, tenant = files(machine)
    draft = folder / f"{tenant}.policy.toml"
    draft.write_text(SSN)
    assert machine.run("policy", "edit").exit_code == DONE
    assert "US_SSN" in machine.run("policy", "check").output
    draft.write_text("")
    assert "no policy" in machine.run("policy", "check").output


def test_an_editor_is_not_opened_where_nobody_sees_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    result = machine.run("policy", "edit")
    folder, tenant = files(machine)
    assert result.exit_code == ExitCode.USAGE
    assert "set EDITOR" in result.output
    assert (folder / f"{tenant}.policy.toml").exists()


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        (b"x = ", "TOML expected"),
        (b"\xff", "TOML in UTF-8"),
        (b'[policy.rules.EMAIL]\n"*" = { action = "mask" }', "settings.policy.rules"),
        (b"version = 3", "writes this member itself"),
        (b"kms_key_arn = 1979-05-27", "found date"),
        (b"more = 1", "settings"),
    ],
)
def test_a_wrong_draft_is_told_by_its_field(machine: Machine, draft: bytes, said: str) -> None:
    folder, tenant = files(machine)
    (folder / f"{tenant}.policy.toml").write_bytes(draft)
    result = machine.run("policy", "check")
    assert result.exit_code == ExitCode.USAGE
    assert said in result.output


def test_signing_counts_up_and_shows(machine: Machine) -> None:
    folder, tenant = signed(machine)
    path = folder / f"{tenant}.settings.json"
    assert json.loads(path.read_bytes())["settings"]["version"] == 1
    assert machine.told("policy", "sign")["settings"]["version"] == 2
    assert "version 3" in machine.run("policy", "sign").output
    assert machine.told("policy", "sign", "--settings-version", 9)["settings"]["version"] == 9
    assert "Signed by your root key" in machine.run("policy", "show", "--file", path).output


def test_a_root_key_that_others_read_or_that_is_none_signs_nothing(machine: Machine) -> None:
    folder, tenant = signed(machine)
    path = folder / f"{tenant}.root.pem"
    path.chmod(0o644)
    assert "chmod 600" in machine.run("policy", "sign").output
    path.chmod(0o600)
    path.write_bytes(b"-----BEGIN")
    assert machine.run("policy", "sign").exit_code == ExitCode.USAGE
    path.unlink()
    assert machine.run("policy", "sign").exit_code == ExitCode.USAGE


def stored(machine: Machine, document: bytes) -> None:
    answer = {**json.loads(document), "version": 1, "stored_at": "2026-11-14T09:23:41Z"}
    for method in ("GET", "PUT"):
        machine.stand_in.routes[f"{method} /api/policy"] = 200, answer


def test_pushing_sends_the_document_as_it_was_signed(machine: Machine) -> None:
    folder, tenant = signed(machine)
    document = (folder / f"{tenant}.settings.json").read_bytes()
    stored(machine, document)
    assert machine.told("policy", "push")["pushed"] is True
    assert machine.stand_in.asked[-1].body == document
    assert "is stored" in machine.run("policy", "push").output


def test_another_tenants_document_is_not_pushed(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(Root().document("tnt_00000009"))
    result = machine.run("policy", "push", other)
    assert result.exit_code == ExitCode.USAGE
    assert not machine.stand_in.asked


def test_showing_says_who_signed(machine: Machine) -> None:
    _, tenant = files(machine)
    foreign = Root()
    stored(machine, foreign.document(tenant, 4, kms_key_arn="arn:aws:kms:k"))
    assert machine.told("policy", "show")["verdict"] == "not-compared"
    root = foreign.public.hex()
    assert machine.told("policy", "show", "--tenant-root", root)["verdict"] == "verified"
    machine.run("tenant", "init")
    result = machine.run("policy", "show")
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "do not rely on it" in result.output
    assert machine.run("policy", "show", "--tenant-root", "x").exit_code == ExitCode.USAGE
    stored(machine, Root().document(tenant).replace(b'"version":1', b'"version":2'))
    assert machine.run("policy", "show").exit_code == ExitCode.REFUSED


def test_without_a_tenant_nothing_is_named(machine: Machine) -> None:
    machine.config.write_text("")
    assert machine.run("tenant", "init").exit_code == ExitCode.USAGE
