"""What tests of the command line share: a stand-in gateway, a configuration, a stand-in SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway_stand_in import StandIn, write_config
from latensgate.attested import AttestationProof
from latensgate.cli import chat_once, chat_talk, doctor_enclave
from latensgate.cli.__main__ import cli
from latensgate.cli.chat_ask import Ask, AskError, SealedAsker, Turn
from latensgate.cli.exit_codes import ExitCode
from latensgate.cli.failures import Failure
from latensgate.config import Wanted
from latensgate.receipts import AnswerReceipt
from latensgate_shared.receipts import Receipt
from protocol_examples import DIGEST

WIDE = {"COLUMNS": "120", "NO_COLOR": "1"}


@dataclass
class Machine:
    """A machine with a configuration that names the stand-in."""

    folder: Path
    stand_in: StandIn
    config: Path
    environment: dict[str, str | None]

    def run(self, *arguments: object, stdin: str | None = None) -> Result:
        """Run a command; whatever happens, no stack trace and no API key is shown."""
        result = CliRunner().invoke(
            cli, [str(each) for each in arguments], input=stdin, env=self.environment
        )
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        assert "Traceback" not in result.output
        assert "lg_test_" + "A" * 43 not in result.output
        return result

    def told(self, *arguments: object, stdin: str | None = None) -> Any:  # noqa: ANN401 - JSON, read by tests
        """Run with ``--json`` and read what it prints."""
        result = self.run(*arguments, "--json", stdin=stdin)
        value = json.loads(result.stdout)
        assert value["format"].startswith("latensgate-")
        if "exit_code" in value:
            assert value["exit_code"] == result.exit_code
        return value

    def own(self, **changes: str) -> None:
        """Write another configuration."""
        self.config = write_config(self.folder, self.stand_in, **changes)


def machine_of(folder: Path, stand_in: StandIn) -> Machine:
    environment: dict[str, str | None] = {
        **WIDE,
        "LATENSGATE_CONFIG_DIR": str(folder),
        "LATENSGATE_STATE_DIR": str(folder / "state"),
        "LATENSGATE_KEY": None,
        "LATENSGATE_TENANT": None,
        "LATENSGATE_BASE_URL": None,
    }
    return Machine(folder, stand_in, write_config(folder, stand_in), environment)


def answer_receipt(stand_in: StandIn, receipt: Receipt | None = None) -> AnswerReceipt:
    """Return what the SDK keeps of an answer."""
    found = receipt or stand_in.entries[0]
    public, private = found.public, found.private.value
    return AnswerReceipt(
        status="simulated",
        audit_receipt_id=public.receipt_id,
        attestation_hash=public.attestation_hash,
        tenant_id=public.tenant_id,
        outcome=public.outcome,
        request_hash=DIGEST,
        response_hash=DIGEST,
        pii_detected=False,
        latency_ms=23,
        usage={"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        public=public,
        private=private,
        signature=found.signature.hex(),
        document=stand_in.document,
        manifest=stand_in.manifest_bytes,
    )


@dataclass
class FakeSDK:
    """Answers in the place of the SDK.

    Attributes:
        answer: The text, or what is raised.
        asked: Messages of each turn.
    """

    stand_in: StandIn
    answer: str | BaseException = "Because of\x1b[2J Rayleigh scattering."
    asked: list[list[Any]] = field(default_factory=list[list[Any]])
    asks: list[Ask] = field(default_factory=list[Ask])
    closed: int = 0
    wanted: Wanted = field(default_factory=Wanted)

    def __call__(self, wanted: Wanted) -> FakeSDK:
        self.wanted = wanted
        return self

    def prove(self) -> AttestationProof:
        """Attest as the SDK does: what is shown is proven."""
        with closing(SealedAsker(self.wanted)) as asker:
            return asker.prove()

    def close(self) -> None:
        self.closed += 1

    def ask(self, messages: list[Any], ask: Ask, show: Callable[[str], None]) -> Turn:
        self.asked.append(list(messages))
        self.asks.append(ask)
        if isinstance(self.answer, BaseException):
            raise self.answer
        if ask.stream:
            show(self.answer[:7])
            show(self.answer[7:])
        return Turn(self.answer, answer_receipt(self.stand_in), "stop")


def refused(code: ExitCode, name: str, *, receipt: AnswerReceipt | None = None) -> AskError:
    return AskError(Failure(code, "refused it", "a hint", name), receipt)


def with_sdk(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> FakeSDK:
    made = FakeSDK(stand_in)
    for module in (chat_once, chat_talk, doctor_enclave):
        monkeypatch.setattr(module, "SealedAsker", made)
    return made
