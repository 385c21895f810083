"""policy explain: what is asked, what is shown, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from cli_fixtures import Machine, answer_receipt
from latensgate import PolicyDryRun
from latensgate.cli import sealed_client as module
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.config import Wanted
from latensgate_shared.strict_json import JSONObject
from protocol_examples import DIGEST

TEXT = "Mail ann@example.com\x1b[2J, 555"


def finding(**changes: object) -> dict[str, object]:
    evidence = {
        "source": "tier1",
        "recognizer": "own.email",
        "offset": 5,
        "length": 15,
        "score": 0.9,
        "pattern": "@",
        "pattern_score": 0.4,
        "validated_score": 0.5,
        "context": [{"word": "mail", "distance": 1}],
        "reading": "escaped",
    }
    told: dict[str, object] = {
        "category": "EMAIL_ADDRESS",
        "offset": 5,
        "length": 15,
        "score": 0.9,
        "threshold": 0.35,
        "action": "mask",
        "hold": False,
        "fate": "acted",
        "recognizer": "own.email",
        "decided_by": ["floor"],
        "layers": [],
        "evidence": [evidence],
    }
    return told | changes


def explained(**changes: object) -> dict[str, object]:
    text = {
        "direction": "prompt",
        "hint": "mail",
        "original": TEXT,
        "forwarded": "Mail <EMAIL_ADDRESS>, 555",
        "findings": [
            finding(),
            finding(fate="below_threshold", score=0.2, decided_by=[], evidence=[]),
            finding(fate="across", hold=True),
        ],
    }
    plain = {**text, "forwarded": TEXT, "findings": [], "hint": ""}
    told: dict[str, object] = {
        "attestation_hash": DIGEST,
        "audit_receipt_id": "aud_0000000000000000",
        "model": "none",
        "refused": False,
        "refusals": [],
        "policy_digest": DIGEST,
        "engine_digest": DIGEST,
        "settings": f"1 {DIGEST}",
        "counts": {"EMAIL_ADDRESS": {"prompt": 1}},
        "surrogates": 0,
        "attachments": {"count": 1, "action": "flag", "refused": False, "hold": False},
        "texts": [text, plain],
    }
    return told | changes


class FakeClient:
    """Keeps what is asked."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.made: dict[str, object] = {}
        self.answer: dict[str, object] | Exception = explained()
        self.pii = self

    def make(self, wanted: Wanted, **given: object) -> FakeClient:
        del wanted
        self.made = given
        return self

    def close(self) -> None: ...

    def explain(self, text: object, **chat: object) -> PolicyDryRun:
        self.asked.append((text, chat))
        if isinstance(self.answer, Exception):
            raise self.answer
        made = PolicyDryRun.model_validate(self.answer)
        made.keep_receipt(answer_receipt(self.machine.stand_in))
        return made


@pytest.fixture
def client(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    made = FakeClient(machine)
    monkeypatch.setattr(module, "sealed_client", made.make)
    return made


def test_a_text_is_shown_with_reasons(machine: Machine, client: FakeClient) -> None:
    machine.environment["COLUMNS"] = "240"
    result = machine.run("policy", "explain", "--simulated", TEXT)
    assert result.exit_code == DONE
    assert client.asked == [([{"text": TEXT, "direction": "prompt"}], {})]
    for words in (
        "Mail <EMAIL_ADDRESS>, 555",
        "as it would be forwarded",
        "nothing: below its threshold",
        "part of what runs over several",
        "mask, hold",
        "own.email, pattern 0.4, validator 0.5",
        "1: flag",
        "0.2 < 0.35",
    ):
        assert " ".join(words.split()) in " ".join(result.output.split()), words
    assert "\x1b[2J" not in result.output


def test_everything_is_told_to_programs(machine: Machine, client: FakeClient) -> None:
    client.answer = explained(refused=True, refusals=["US_SSN in prompt: 1"], attachments=None)
    told = machine.told("policy", "explain", "--simulated", "--direction", "answer", stdin=TEXT)
    assert told["texts"][0]["findings"][0]["evidence"][0]["context"][0]["word"] == "mail"
    assert client.asked[0][0][0]["direction"] == "answer"
    assert "Refused as a whole" in machine.run("policy", "explain", "x").output


def test_a_policy_and_a_chat_request_come_from_files(
    machine: Machine, client: FakeClient, tmp_path: Path
) -> None:
    policy, chat = tmp_path / "p.toml", tmp_path / "c.json"
    policy.write_text('[policy.rules.US_SSN]\nprompt = { action = "mask" }\n')
    request: JSONObject = {"model": "m", "messages": []}
    chat.write_text(json.dumps(request))
    words = ("policy", "explain", "--policy", policy, "--chat", chat, "--tenant-root", "ab" * 32)
    assert machine.run(*words).exit_code == DONE
    assert client.asked == [(None, request)]
    rules = {"rules": {"US_SSN": {"prompt": {"action": "mask"}}}}
    assert client.made == {"policy": rules, "tenant_root": "ab" * 32}
    for text in ("policy = 1", "[rules.NOPE]", "= ="):
        policy.write_text(text)
        assert machine.run(*words).exit_code == ExitCode.USAGE
    policy.unlink()
    assert machine.run(*words).exit_code == ExitCode.UNREADABLE


@pytest.mark.usefixtures("client")
def test_what_cannot_be_asked_is_a_fault_of_the_command_line(
    machine: Machine, tmp_path: Path
) -> None:
    chat, binary = tmp_path / "c.json", tmp_path / "b"
    chat.write_text('{"model": "m", "text": "x"}')
    binary.write_bytes(b"\xff")
    for words in (
        ("TEXT", "--file", binary),
        ("--chat", chat),
        ("--chat", binary),
        ("--file", binary),
    ):
        assert machine.run("policy", "explain", *words).exit_code == ExitCode.USAGE
    assert machine.run("policy", "explain", "--file", "/nope").exit_code == ExitCode.UNREADABLE


def test_a_refusal_ends_the_command(machine: Machine, client: FakeClient) -> None:
    request: Any = httpx.Request("POST", "https://gateway.invalid")
    client.answer = openai.APIConnectionError(request=request)
    assert machine.run("policy", "explain", "x").exit_code == ExitCode.UNREACHABLE


def test_a_client_is_made_as_the_command_line_says(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[dict[str, object]] = []

    def make(**given: object) -> None:
        made.append(given)

    def trusted(_ca_file: Path) -> bool:
        return True

    monkeypatch.setattr(module, "Latensgate", make)
    monkeypatch.setattr(module, "tls_context", trusted)
    module.sealed_client(Wanted(tenant="tnt_a3f9c42b", ca_file=tmp_path / "ca.pem"))
    module.sealed_client(Wanted(simulated=True), policy={}, tenant_root="ab")
    assert made[0]["http_client"] is not None
    assert (made[1]["http_client"], made[1]["policy"], made[1]["tenant_root"]) == (None, {}, "ab")
    assert machine.stand_in.asked == []
