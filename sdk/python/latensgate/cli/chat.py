"""``latensgate chat``: one question, or a conversation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from latensgate.cli.chat_once import OneShot, ask_once
from latensgate.cli.chat_talk import talk
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command

if TYPE_CHECKING:
    from latensgate.cli.session import Session

QUESTION_MAX_CHARS: Final = 4_194_304
"""What the enclave scans of one request at most; more would be refused there."""
_CODES: Final = (
    DONE,
    ExitCode.USAGE,
    ExitCode.UNTRUSTED,
    ExitCode.MEASUREMENTS,
    ExitCode.RECEIPT,
    ExitCode.ANSWER,
    ExitCode.CLOCK,
    ExitCode.UNREACHABLE,
    ExitCode.REFUSED,
    ExitCode.UNAUTHENTICATED,
    ExitCode.LATER,
    ExitCode.OUTCOME_UNKNOWN,
    ExitCode.INTERRUPTED,
)


@click.command(epilog=epilog(*_CODES))
@click.argument("question", required=False)
@click.option("--model", metavar="NAME", help="See latensgate models.  [default: the first one]")
@click.option("--system", metavar="TEXT", help="A system message before the first question.")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer.")
@click.option("--explain", is_flag=True, help="Tell the receipt's verdict step by step.")
@click.option("--no-stream", is_flag=True, help="Wait for the whole answer.")
@click.option("--save-receipt", metavar="FILE", help="Keep the receipt, for latensgate verify.")
@gateway_command
def chat(  # noqa: PLR0913, PLR0917 -- a command's options
    session: Session,
    question: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    save_receipt: str | None,
    *,
    explain: bool,
    no_stream: bool,
) -> ExitCode:
    """Ask one QUESTION, or hold a conversation.

    Without QUESTION, standard input is the question if it is no terminal (- says so); else a
    conversation begins. The question is sealed here and opened only in an enclave that your
    configuration accepts; the answer is shown with the verdict on its signed receipt. With
    --simulated, 0 means that all went well under the simulator's root.
    """
    asked = OneShot(
        text=asked_question(question),
        model=model,
        system=system,
        max_tokens=max_tokens,
        explain=explain,
        stream=not no_stream,
        save=save_receipt,
    )
    if asked.text is not None:
        return ask_once(session, asked)
    if session.out.as_json:
        raise click.UsageError("--json: a QUESTION expected, or one on standard input")
    return talk(session, asked)


def asked_question(given: str | None) -> str | None:
    """Return the question of the command line or of standard input; None: a person sits there."""
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        return None
    text = sys.stdin.read(QUESTION_MAX_CHARS + 1).strip()
    if not text:
        raise click.UsageError("no question on standard input")
    return text
