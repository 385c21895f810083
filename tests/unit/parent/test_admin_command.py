"""``latensgate-admin`` on a real database."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from latensgate_parent.admin import tenants
from latensgate_parent.admin.__main__ import cli, main
from latensgate_parent.admin.exit_codes import ExitCode
from latensgate_parent.store.interfaces import Store, StoredSettings, Tenant
from latensgate_parent.store.open import open_store
from paths import REPOSITORY


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'admin.db'}"


def run(*words: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, list(words), env=env)


def told(database: str, *words: str) -> Any:  # noqa: ANN401 -- JSON
    done = run("--database", database, "--json", *words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def tenant(database: str) -> str:
    return str(told(database, "tenant", "create", "--name", "Acme")["tenant_id"])


def test_tenants(database: str) -> None:
    made = told(database, "tenant", "create", "--name", "Acme", "--requests-per-minute", "600")
    assert made["tenant_id"].startswith("tnt_")
    assert (made["name"], made["requests_per_minute"], made["disabled_at"]) == ("Acme", 600, None)
    name = made["tenant_id"]
    assert told(database, "tenant", "limit", name, "5")["requests_per_minute"] == 5
    disabled = told(database, "tenant", "disable", name)["disabled_at"]
    assert told(database, "tenant", "disable", name)["disabled_at"] == disabled
    assert told(database, "tenant", "enable", name)["disabled_at"] is None
    assert [each["tenant_id"] for each in told(database, "tenant", "list")["tenants"]] == [name]
    assert name in run("--database", database, "tenant", "list").output


def test_a_limit_that_crosses_a_disabling_does_not_enable_the_tenant(database: str) -> None:
    name = tenant(database)
    unharmed = tenants.known_tenant
    looked: list[str] = []

    async def disabled_meanwhile(store: Store, tenant_id: str) -> Tenant:
        found = await unharmed(store, tenant_id)
        if not looked:
            looked.append(tenant_id)
            assert await store.replace_tenant(replace(found, disabled_at_s=7))
        return found

    with mock.patch.object(tenants, "known_tenant", disabled_meanwhile):
        changed = told(database, "tenant", "limit", name, "5")
    assert (changed["requests_per_minute"], changed["disabled_at"]) == (5, "1970-01-01T00:00:07Z")


def test_settings_are_forgotten_once_that_is_confirmed(database: str) -> None:
    name = tenant(database)

    async def store_one() -> None:
        store = await open_store(database)
        assert await store.insert_settings(StoredSettings(name, 3, b"3", 5))
        await store.aclose()

    asyncio.run(store_one())
    words = ("tenant", "forget-settings", name)
    refused = run("--database", database, *words)  # nobody there to say yes
    assert refused.exit_code != 0
    assert told(database, *words, "--yes") == {"tenant_id": name, "versions_forgotten": 1}
    assert told(database, *words, "--yes")["versions_forgotten"] == 0
    unknown = run("--database", database, "tenant", "forget-settings", "tnt_00000000", "--yes")
    assert unknown.exit_code == ExitCode.NOT_FOUND


def test_keys(database: str) -> None:
    owner = tenant(database)
    words = ("key", "create", "--tenant", owner, "--name", "ci", "--scope", "audit:read")
    made = told(database, *words, "--test", "--expiry", "12h")
    assert made["key"].startswith("lg_test_")
    assert made["scopes"] == ["audit:read"]
    assert told(database, *words, "--expiry", "never")["expires_at"] is None
    listed = told(database, "key", "list", "--tenant", owner)["keys"]
    assert len(listed) == 2
    assert "key" not in listed[0]
    revoked = told(database, "key", "revoke", "--tenant", owner, made["id"])
    assert revoked["status"] == "revoked"
    shown = run("--database", database, *words).output
    assert shown.count("lg_live_") == 1
    assert "revoked" in run("--database", database, "key", "list", "--tenant", owner).output


def test_exit_codes(database: str, tmp_path: Path) -> None:
    unknown = "tnt_00000000"
    for code, words in (
        (ExitCode.NOT_FOUND, ("tenant", "disable", unknown)),
        (ExitCode.NOT_FOUND, ("key", "list", "--tenant", unknown)),
        (ExitCode.NOT_FOUND, ("key", "revoke", "--tenant", unknown, "key_" + "0" * 16)),
        (ExitCode.USAGE, ("tenant", "disable", "x")),
        (ExitCode.USAGE, ("tenant", "create", "--name", " ")),
        (ExitCode.USAGE, ("key", "revoke", "--tenant", unknown, "x")),
        (ExitCode.USAGE, ("key", "create", "--tenant", unknown, "--name", "n")),
        (
            ExitCode.USAGE,
            (
                "key",
                "create",
                "--tenant",
                unknown,
                "--name",
                "n",
                "--scope",
                "admin",
                "--expiry",
                "1y",
            ),
        ),
    ):
        done = run("--database", database, "--json", *words)
        assert (done.exit_code, done.stdout) == (code, ""), words
    assert run("tenant", "list").exit_code == ExitCode.SETTINGS
    assert run("--database", "x", "tenant", "list").exit_code == ExitCode.SETTINGS
    assert run("--config", str(tmp_path / "none"), "tenant", "list").exit_code == ExitCode.SETTINGS
    (tmp_path / "file").touch()
    done = run("--database", f"sqlite:///{tmp_path}/file/x.db", "tenant", "list")
    assert done.exit_code == ExitCode.DATABASE


def test_the_database_of_the_settings_even_if_others_are_wrong(
    database: str, tmp_path: Path
) -> None:
    file = tmp_path / "parent.toml"
    file.write_text(f'database = "{database}"\nlisten = 5\nrequests_per_minute = 9\n')
    done = run("--config", str(file), "--json", "tenant", "create", "--name", "Acme")
    assert json.loads(done.stdout)["requests_per_minute"] == 9
    done = run("--json", "tenant", "list", env={"LATENSGATE_PARENT_DATABASE": database})
    assert len(json.loads(done.stdout)["tenants"]) == 1
    file.write_text(f'database = "{database}"\nrequests_per_minute = "x"\n')
    assert (
        run("--config", str(file), "tenant", "create", "--name", "A").exit_code == ExitCode.SETTINGS
    )


def settings_file(folder: Path, database: str) -> Path:
    (folder / "deployment.toml").write_text(
        'regions = ["us-east-1"]\ninvocation_logging = "flag"\n[models.a]\n'
    )
    (folder / "credentials.json").write_text("{}")
    file = folder / "parent.toml"
    pcrs = "\n".join(f'PCR{n} = "{f"a{n}" * 48}"' for n in range(3))
    file.write_text(
        f"""database = "{database}"
enclaves = ["unix:{folder}/enclave.sock"]
egress_listen = "unix:{folder}/egress.sock"
kms_key_arn = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
credentials = "file:{folder}/credentials.json"
deployment = "{folder}/deployment.toml"
operator_listen = "127.0.0.1:1"
[[verifier.measurements]]
{pcrs}
"""
    )
    return file


def test_check(database: str, tmp_path: Path) -> None:
    file = settings_file(tmp_path, database)
    done = run("--config", str(file), "--json", "check")
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (0, True)
    (tmp_path / "credentials.json").unlink()
    (tmp_path / "deployment.toml").write_text("x")
    done = run("--config", str(file), "--json", "check")
    checks = {each["what"]: each["fault"] for each in json.loads(done.stdout)["checks"]}
    assert done.exit_code == ExitCode.CHECK
    assert {what for what, fault in checks.items() if fault} == {"credentials", "deployment"}
    done = run("check")
    assert done.exit_code == ExitCode.CHECK
    done = run("--config", str(file), "--database", "x", "--json", "check")
    assert "database" in {
        each["what"] for each in json.loads(done.stdout)["checks"] if each["fault"]
    }


def test_drain_without_a_parent(database: str, tmp_path: Path) -> None:
    file = settings_file(tmp_path, database)
    assert run("--config", str(file), "drain").exit_code == ExitCode.PARENT
    file.write_text("operator_listen = 5\n")
    assert run("--config", str(file), "drain").exit_code == ExitCode.SETTINGS


def test_no_stack_trace_reaches_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        mock.patch("latensgate_parent.admin.__main__.cli", side_effect=ValueError("secret")),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert ended.value.code == ExitCode.INTERNAL
    assert "secret" not in capsys.readouterr().err


def test_the_page_says_what_the_codes_mean() -> None:
    page = (REPOSITORY / "docs/exit-codes.md").read_text().partition("`latensgate-admin`")[2]
    for code in ExitCode:
        assert f"| {int(code)} | {code.meaning} |" in page
