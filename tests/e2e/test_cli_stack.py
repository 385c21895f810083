"""The command line against the whole product: gateway, enclaves, simulated AWS, real SDK."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway_stack import GatewayStack, gateway_stack
from latensgate.cli.__main__ import cli
from latensgate.cli.exit_codes import DONE, ExitCode

SIMULATED = "--simulated"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    with gateway_stack(tmp_path_factory.mktemp("product")) as running:
        yield running


def run(product: GatewayStack, *arguments: object, stdin: str | None = None) -> Result:
    environment: dict[str, str | None] = {
        "LATENSGATE_CONFIG_DIR": str(product.folder),
        "LATENSGATE_STATE_DIR": str(product.folder / "cli-state"),
        "LATENSGATE_KEY": None,
        "COLUMNS": "120",
    }
    result = CliRunner().invoke(cli, [str(each) for each in arguments], stdin, environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    assert product.api_key not in result.output
    return result


def told(product: GatewayStack, *arguments: object) -> Any:  # noqa: ANN401 - JSON, read by tests
    return json.loads(run(product, *arguments, "--json").stdout)


@pytest.mark.parametrize("form", [["--no-stream"], []])
def test_a_chat_is_sealed_answered_and_proven(product: GatewayStack, form: list[str]) -> None:
    result = run(product, "chat", SIMULATED, "--explain", *form, "Why is the sky blue?")
    assert result.exit_code == DONE, result.output
    assert "You said: Why is the sky blue?" in result.output
    assert result.output.count("✓") == 11
    document = result.output.partition("document     ")[2][:30]
    assert result.output.count(document.strip("…│ ")) == 2  # what was shown is what was sealed to


def test_a_conversation_streams(product: GatewayStack, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["Hello.", "And now?", "/explain"]

    def read(_prompt: str) -> str:
        return typed.pop(0) if typed else "/quit"

    def same(given: str | None) -> str | None:
        return given

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr("latensgate.cli.chat.asked_question", same)
    result = run(product, "chat", SIMULATED)
    assert result.exit_code == DONE, result.output
    assert "You said: And now?" in result.output
    assert result.output.count("✓ simulated · aud_") == 2


def test_an_unknown_model_is_refused_inside_the_seal(product: GatewayStack) -> None:
    answer = told(product, "chat", SIMULATED, "--model", "no-such-model", "Hello.")
    assert (answer["exit_code"], answer["code"]) == (ExitCode.REFUSED, "ERR_MODEL_UNKNOWN")
    assert "ERR_" not in answer["message"]  # the code has a member of its own


def test_without_the_word_nothing_is_sealed(product: GatewayStack) -> None:
    before = product.rows("SELECT COUNT(*) FROM receipts")
    result = run(product, "chat", "Hello.")
    assert result.exit_code == ExitCode.UNTRUSTED
    assert product.rows("SELECT COUNT(*) FROM receipts") == before


def test_evidence_end_to_end(product: GatewayStack, tmp_path: Path) -> None:
    kept = tmp_path / "receipt.json"
    answer = told(product, "chat", SIMULATED, "--save-receipt", kept, "Hello.")
    receipt_id = answer["receipt"]["audit_receipt_id"]
    assert told(product, "verify", kept, SIMULATED)["verdict"] == "simulated"
    assert told(product, "verify", receipt_id, SIMULATED)["verdict"] == "simulated"
    name = answer["receipt"]["attestation_hash"]
    assert told(product, "verify", name, SIMULATED)["gateway_says"] == "simulated"
    assert told(product, "attest", SIMULATED)["verdict"] == "simulated"
    listed = told(product, "audit", "list")
    assert receipt_id in {entry["public"]["receipt_id"] for entry in listed["entries"]}
    assert told(product, "audit", "show", receipt_id)["entry"] in listed["entries"]
    checked = told(product, "audit", "check", SIMULATED, "--kept", kept)
    assert (checked["verdict"], checked["problems"]) == ("simulated", [])
    log = tmp_path / "log.json"
    assert run(product, "audit", "export", "-o", log).exit_code == DONE
    assert told(product, "audit", "check", log, SIMULATED)["receipts"] == checked["receipts"]


def test_a_receipt_that_the_operator_removed_is_missed(
    product: GatewayStack, tmp_path: Path
) -> None:
    for _ in range(2):
        run(product, "chat", SIMULATED, "Hello.")
    log = tmp_path / "log.json"
    run(product, "audit", "export", "-o", log)
    exported = json.loads(log.read_text())
    newest = exported["entries"][0]["public"]
    exported["entries"] = [
        entry
        for entry in exported["entries"]
        if entry["public"]["receipt_id"] == newest["receipt_id"]
        or entry["public"]["attestation_hash"] != newest["attestation_hash"]
        or entry["public"]["sequence"] != newest["sequence"] - 1
    ]
    log.write_text(json.dumps(exported))
    checked = told(product, "audit", "check", log, SIMULATED)
    assert checked["exit_code"] == ExitCode.GAPS
    assert [problem["what"] for problem in checked["problems"]] == ["gap"]


def test_keys_are_made_used_rotated_and_revoked(product: GatewayStack) -> None:
    made = told(product, "keys", "create", "ci", "--scope", "audit:read", "--expiry", "12h")
    secret, key_id = made["key"]["secret"], made["key"]["id"]
    assert run(product, "audit", "list", "--key", secret).exit_code == DONE
    assert run(product, "models", "--key", secret).exit_code == ExitCode.UNAUTHENTICATED
    rotated = told(product, "keys", "rotate", key_id, "--grace", "none")
    assert rotated["key"]["replaces"] == key_id
    assert run(product, "usage", "--key", secret).exit_code == ExitCode.UNAUTHENTICATED
    told(product, "keys", "revoke", rotated["key"]["id"])
    listed = {key["id"]: key["status"] for key in told(product, "keys", "list")["keys"]}
    assert listed[rotated["key"]["id"]] == listed[key_id] == "revoked"


def test_reports(product: GatewayStack) -> None:
    assert told(product, "health")["status"] == "ok"
    assert told(product, "models")["models"]
    assert told(product, "usage")["tenant_id"] == product.tenant_id
    assert run(product, "config", "show", SIMULATED).exit_code == DONE


def test_the_doctor_finds_nothing(product: GatewayStack) -> None:
    found = told(product, "doctor", SIMULATED)
    assert {step["state"] for step in found["steps"]} == {"passed", "not run"}
    assert found["exit_code"] == DONE
    assert "receipt aud_" in found["steps"][-1]["detail"]


def test_the_key_stands_in_no_file_of_the_command_line(product: GatewayStack) -> None:
    run(product, "chat", SIMULATED, "Hello.")
    state = product.folder / "cli-state"
    for folder, _, names in os.walk(state):
        for name in names:
            assert product.api_key.encode() not in (Path(folder) / name).read_bytes()
