"""Dry runs and the auditor's view through the whole product: command line, parent, enclave, SDK."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from gateway_stack import GatewayStack, gateway_stack
from latensgate import Latensgate, receipt_of

EMAIL, SSN = "ann.smith@example.com", "536-90-4399"
DRAFT = """
audit_key = "{key}"
[policy.rules.EMAIL_ADDRESS]
"*" = {{ action = "pseudonymise" }}
"""
SIMULATED = "--simulated"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    with gateway_stack(tmp_path_factory.mktemp("explain")) as made:
        yield made


def run(stack: GatewayStack, *words: str, stdin: str = "") -> dict[str, Any]:
    """Run a command as a person's script does; its JSON."""
    environment = {**os.environ, **stack.environment, "LATENSGATE_TENANT": stack.tenant_id}
    command = [sys.executable, "-m", "latensgate.cli.__main__", *words, "--json"]
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        input=stdin,
    )
    assert "Traceback" not in done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return {**told, "code": done.returncode}


@pytest.fixture(scope="module")
def root(running: GatewayStack) -> str:
    """Settings with an audit key are in force; the public root key."""
    told = run(running, "tenant", "init")
    key = run(running, "audit", "keygen")["audit_key"]
    (running.folder / f"{running.tenant_id}.policy.toml").write_text(DRAFT.format(key=key))
    assert run(running, "policy", "sign")["code"] == 0
    assert run(running, "policy", "push")["code"] == 0
    return str(told["tenant_root"])


def test_a_text_is_explained_and_no_model_is_called(running: GatewayStack, root: str) -> None:
    told = run(
        running, "policy", "explain", SIMULATED, "--tenant-root", root, stdin=f"Mail {EMAIL}"
    )
    assert told["code"] == 0
    (text,) = told["texts"]
    (finding,) = text["findings"]
    assert (finding["offset"], finding["length"]) == (5, len(EMAIL))
    assert (finding["action"], finding["decided_by"]) == ("pseudonymise", ["settings"])
    assert text["forwarded"].startswith("Mail [EMAIL_")
    assert told["settings"].startswith("1 sha384:")
    assert told["receipt"]["outcome"] == "dry_run"
    assert EMAIL.encode() not in running.database.read_bytes()
    entry = run(running, "audit", "show", told["receipt"]["audit_receipt_id"])["entry"]
    assert entry["public"]["outcome"] == "dry_run"
    assert run(running, "usage")["usage"]["requests"] == 0


def test_a_policy_file_and_a_chat_file_are_tried(
    running: GatewayStack, tmp_path: Path, root: str
) -> None:
    del root
    policy, chat = tmp_path / "policy.toml", tmp_path / "chat.json"
    policy.write_text('[rules.US_SSN]\nprompt = { action = "fail" }\n')
    messages = [{"role": "user", "content": f"ssn {SSN}"}]
    chat.write_text(json.dumps({"model": "claude-3.5-sonnet", "messages": messages}))
    words = ("policy", "explain", SIMULATED, "--policy", str(policy), "--chat", str(chat))
    told = run(running, *words)
    assert (told["code"], told["refused"]) == (0, True)
    assert told["refusals"] == ["US_SSN in prompt: 1"]
    policy.write_text("[rules.US_SSN]\nprompt = { action = 1 }\n")
    assert run(running, *words)["code"] == 2


def test_the_auditor_opens_and_counts_what_the_gateway_cannot(
    running: GatewayStack, root: str, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENSGATE_CONFIG_DIR", str(running.folder))
        patch.setenv("LATENSGATE_STATE_DIR", str(tmp_path))
        lg = Latensgate(
            simulated=True, base_url=running.url, api_key=running.api_key, tenant_root=root
        )
    with lg:
        model = lg.models.list().data[0].id
        asks: ChatCompletionUserMessageParam = {"role": "user", "content": f"Write to {EMAIL}"}
        first = receipt_of(lg.chat.completions.create(model=model, messages=[asks]))
        second = receipt_of(lg.chat.completions.create(model=model, messages=[asks]))
    told = run(running, "audit", "open", SIMULATED, first.audit_receipt_id)
    assert (told["code"], told["private"]) == (0, first.private)
    sealed = str(told["entry"]["private_sealed"])
    assert "EMAIL" not in sealed

    counted = run(running, "audit", "stats", SIMULATED, "--outcome", "answered")
    assert counted["code"] == 0
    wanted = {"category": "EMAIL_ADDRESS", "direction": "prompt", "action": "pseudonymise"}
    assert {**wanted, "count": 2} in counted["findings"]
    assert counted["outcomes"] == {"answered": 2}

    other = str(tmp_path / "other.key")
    run(running, "audit", "keygen", "--audit-key", other)
    foreign = ("--audit-key", other, first.audit_receipt_id)
    assert run(running, "audit", "open", SIMULATED, *foreign)["code"] == 12

    # What a malicious operator can do: give one receipt the private part of another.
    with closing(sqlite3.connect(running.database)) as database, database:
        database.execute(
            "update receipts set private_sealed ="
            " (select private_sealed from receipts where receipt_id = ?) where receipt_id = ?",
            (first.audit_receipt_id, second.audit_receipt_id),
        )
    assert run(running, "audit", "open", SIMULATED, second.audit_receipt_id)["code"] == 12
    counted = run(running, "audit", "stats", SIMULATED, "--outcome", "answered")
    assert counted["code"] == 12
    assert [each["receipt_id"] for each in counted["problems"]] == [second.audit_receipt_id]
    assert {**wanted, "count": 1} in counted["findings"]
