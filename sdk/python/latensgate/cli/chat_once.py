"""One question, one answer, one receipt."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.text import Text

from latensgate.cli.chat_ask import Ask, AskError, SealedAsker, Turn, message
from latensgate.cli.chat_view import (
    answer_panel,
    explanation,
    judged,
    question_panel,
    receipt_json,
    receipt_line,
    state_panel,
)
from latensgate.cli.evidence import UnreadableError
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.cli.failures import Failure
from latensgate.cli.live import attest_live
from latensgate.cli.receipt_view import verdict
from latensgate.cli.text import printable
from latensgate.verify.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai.types.chat import ChatCompletionMessageParam

    from latensgate.attested import AttestationProof
    from latensgate.cli.chat_ask import Asker
    from latensgate.cli.output import Output
    from latensgate.cli.session import Session
    from latensgate.receipts import AnswerReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShot:
    """What the command line says.

    Attributes:
        text: The question; None begins a conversation.
        model: None: the first that the gateway lists.
        system: System message, if one.
        max_tokens: Of an answer.
        explain: Whether the receipt's verdict is told step by step.
        stream: Whether the answer is shown as it comes.
        save: File for the receipt.
    """

    text: str | None
    model: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    explain: bool = False
    stream: bool = True
    save: str | None = None


def ask_once(session: Session, asked: OneShot) -> ExitCode:
    """Ask one question and show what came of it."""
    out, question = session.out, asked.text or ""
    with closing(SealedAsker(session.wanted)) as asker:
        if asked.explain:
            proof = proven(session, asker)
            out.show(state_panel(session.base_url, proof), question_panel(question))
        ask = Ask(model_name(session, asked.model), asked.max_tokens, _streams(out, asked))
        turn = turn_of(session, asker, first_messages(asked, question), ask, explain=asked.explain)
    if asked.save is not None:
        save_receipt(turn.receipt, asked.save)
    return _show(session, asked, turn)


def _streams(out: Output, asked: OneShot) -> bool:
    """Only a terminal sees an answer grow; what is framed or parsed is shown as a whole."""
    return asked.stream and out.console.is_terminal and not (asked.explain or out.as_json)


def first_messages(asked: OneShot, question: str) -> list[ChatCompletionMessageParam]:
    """Return the messages of a conversation with one question."""
    system = [] if asked.system is None else [message("system", asked.system)]
    return [*system, message("user", question)]


def model_name(session: Session, named: str | None) -> str:
    """Return the model to ask: the one named, or the first that the gateway lists.

    Raises:
        ConfigurationError: The operator names none.
    """
    if named is not None:
        return named
    models = session.tenant_gateway().models()
    if not models:
        raise ConfigurationError("model: the operator names none; say --model")
    return models[0].model_id


def proven(session: Session, asker: Asker) -> AttestationProof:
    """Attest now; end the command if the enclave is not proven to be one that is accepted."""
    try:
        return asker.prove()
    except AskError as error:
        refused(session, error.failure)


def refused(session: Session, failure: Failure) -> NoReturn:
    """End the command; where an attestation was refused, say at which step."""
    if failure.exit_code is ExitCode.UNTRUSTED:
        _tell_step(session)
    session.out.fail(failure)


def _tell_step(session: Session) -> None:
    """Ask once more, in steps, and end the command if one refuses."""
    live = attest_live(session.gateway(), session.policy)
    if live.attested is None:
        detail = live.error.detail if live.error else "the attestation was refused"
        told = next((step for step in live.steps if step.state.value == "failed"), None)
        where = "" if told is None else f" at step {told.number} ({told.title.lower()})"
        session.out.fail(refusal(live.code, f"attestation refused{where}: {detail}"))


def refusal(code: ExitCode, text: str) -> Failure:
    """Return how a refused attestation is told."""
    return Failure(
        code,
        printable(text),
        "Nothing was sent. All steps: latensgate attest. A developer's stack wants --simulated.",
        "ERR_ATTESTATION_INVALID",
    )


def turn_of(
    session: Session,
    asker: Asker,
    messages: list[ChatCompletionMessageParam],
    ask: Ask,
    *,
    explain: bool,
) -> Turn:
    """Ask one turn; end the command with its exit code if there is no answer to believe."""
    out = session.out
    try:
        if ask.stream or out.as_json:
            return asker.ask(messages, ask, shower(out))
        with out.error.status("Sealed; waiting for the enclave ..."):
            return asker.ask(messages, ask, shower(out))
    except AskError as error:
        if explain and error.receipt is not None and not out.as_json:
            out.show(receipt_line(error.receipt))
        refused(session, error.failure)


def shower(out: Output) -> Callable[[str], None]:
    """Return what prints pieces of an answer as they come."""

    def show(text: str) -> None:
        out.console.print(answer_piece(text), end="", soft_wrap=True)

    return show


def answer_piece(text: str) -> Text:
    """Return a piece of an answer, safe to print; line ends stay."""
    return Text("".join(mark if mark == "\n" or mark.isprintable() else "\ufffd" for mark in text))


def save_receipt(receipt: AnswerReceipt, name: str) -> None:
    """Write a receipt; only its owner may read it.

    Raises:
        UnreadableError: It cannot be written.
    """
    path = Path(name)
    try:
        path.touch(mode=0o600)
        path.write_text(receipt.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise UnreadableError(f"{name}: {error.strerror or 'cannot be written'}") from None


def _show(session: Session, asked: OneShot, turn: Turn) -> ExitCode:
    out, receipt = session.out, turn.receipt
    checks, code = judged(receipt, session.policy)
    ending = DONE if code is ExitCode.SIMULATED else code
    out.data(
        {
            "format": "latensgate-chat/1",
            "verdict": code.verdict,
            "exit_code": int(ending),
            "answer": turn.text,
            "finish_reason": turn.finish_reason,
            "receipt": receipt_json(receipt),
            "checks": [check.to_json() for check in checks],
        }
    )
    if asked.explain:
        out.show(answer_panel(turn.text), *explanation(receipt, checks), verdict(code))
        again = session.verify_command(receipt.audit_receipt_id)
        out.line(f"  Check it again, from the log:  {again}")
        return ending
    if not _streams(out, asked):
        out.line(str(answer_piece(turn.text)))
    elif not turn.text.endswith("\n"):
        out.line()
    if not out.as_json:
        out.error.print(receipt_line(receipt), soft_wrap=True)
    return ending
