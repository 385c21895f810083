"""A conversation at the terminal."""

from __future__ import annotations

import contextlib
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Final

from rich.text import Text

from latensgate.cli.chat_ask import Ask, AskError, SealedAsker, message
from latensgate.cli.chat_once import (
    model_name,
    proven,
    save_receipt,
    shower,
)
from latensgate.cli.chat_view import explanation, judged, receipt_line, state_panel
from latensgate.cli.evidence import UnreadableError
from latensgate.cli.exit_codes import DONE
from latensgate.cli.failures import failure_of
from latensgate.cli.receipt_view import verdict
from latensgate.cli.simple import plain

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

    from latensgate.cli.chat_ask import Asker, Turn
    from latensgate.cli.chat_once import OneShot
    from latensgate.cli.exit_codes import ExitCode
    from latensgate.cli.session import Session
    from latensgate.receipts import AnswerReceipt

_HELP: Final = (
    ("/explain", "the last receipt's verdict, step by step"),
    ("/save FILE", "keep the last receipt, for latensgate verify"),
    ("/attest", "prove again what runs there"),
    ("/model NAME", "ask another model from now on"),
    ("/new", "forget the conversation"),
    ("/help", "this"),
    ("/quit", "end (also Ctrl-D)"),
)


@dataclass(slots=True)
class Conversation:
    """What was said, and the last receipt.

    Attributes:
        session: Where it is shown.
        asker: Who answers.
        ask: Model and limits.
        system: Messages that stay when a new conversation begins.
        turns: Questions and answers; only turns that were answered are in it.
        receipt: Of the last answer, or of the last sealed refusal.
    """

    session: Session
    asker: Asker
    ask: Ask
    system: list[ChatCompletionMessageParam]
    turns: list[ChatCompletionMessageParam] = field(
        default_factory=list["ChatCompletionMessageParam"]
    )
    receipt: AnswerReceipt | None = None

    def take(self, line: str) -> bool:
        """Take one line; False ends the conversation."""
        if line.startswith("/"):
            return self._command(*line.split(maxsplit=1))
        if line:
            self._question(line)
        return True

    def _question(self, text: str) -> None:
        out, asked = self.session.out, message("user", text)
        try:
            turn = self.asker.ask([*self.system, *self.turns, asked], self.ask, shower(out))
        except AskError as error:
            self.receipt = error.receipt or self.receipt
            out.line()
            out.show(plain(f"✗ {error.failure.message}", "red"))
            out.show(plain(f"  {error.failure.hint}", "dim"))
            return
        except KeyboardInterrupt:
            out.line()
            out.show(Text("Stopped; this turn is forgotten.", "dim"))
            return
        self._answered(asked, turn)

    def _answered(self, asked: ChatCompletionMessageParam, turn: Turn) -> None:
        out = self.session.out
        if not self.ask.stream:
            shower(out)(turn.text)
        self.turns += [asked, message("assistant", turn.text)]
        self.receipt = turn.receipt
        out.line()
        out.show(receipt_line(turn.receipt), "")

    def _command(self, name: str, argument: str = "") -> bool:
        out = self.session.out
        if name in {"/quit", "/exit"}:
            return False
        if name == "/new":
            self.turns.clear()
            out.show(Text("A new conversation.", "dim"))
        elif name == "/model" and argument:
            self.ask = replace(self.ask, model=argument)
        elif name == "/attest":
            out.show(state_panel(self.session.base_url, proven(self.session, self.asker)))
        elif name in {"/explain", "/save"}:
            self._with_receipt(name, argument)
        else:
            for command, what in _HELP:
                out.show(Text.assemble((f"  {command:<12} ", "bold"), (what, "dim")))
        return True

    def _with_receipt(self, name: str, argument: str) -> None:
        out = self.session.out
        if self.receipt is None:
            out.show(Text("There is no receipt yet.", "dim"))
        elif name == "/explain":
            checks, code = judged(self.receipt, self.session.policy)
            out.show(*explanation(self.receipt, checks), verdict(code))
        else:
            try:
                save_receipt(self.receipt, argument or f"{self.receipt.audit_receipt_id}.json")
            except UnreadableError as error:
                out.show(plain(f"✗ {failure_of(error).message}", "red"))
            else:
                out.show(Text("Kept.", "dim"))


def talk(session: Session, asked: OneShot) -> ExitCode:
    """Show the verified state, then take questions until the end of input."""
    with contextlib.suppress(ImportError):
        import_module("readline")  # input() then has history and editing
    with closing(SealedAsker(session.wanted)) as asker:
        session.out.show(state_panel(session.base_url, proven(session, asker)))
        ask = Ask(model_name(session, asked.model), asked.max_tokens, asked.stream)
        session.out.show(plain(f"Asking {ask.model}. /help lists commands, Ctrl-D ends.", "dim"))
        system = [] if asked.system is None else [message("system", asked.system)]
        conversation = Conversation(session, asker, ask, system)
        while conversation.take(_line(session)):
            pass
    return DONE


def _line(session: Session) -> str:
    """Read a line; the end of input ends the conversation, Ctrl-C only this line."""
    while True:
        try:
            return input("> ").strip()
        except EOFError:
            session.out.line()
            return "/quit"
        except KeyboardInterrupt:
            session.out.line("  (Ctrl-D or /quit ends)", "dim")
