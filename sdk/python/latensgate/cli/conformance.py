"""``latensgate conformance``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich import box
from rich.table import Table
from rich.text import Text

from latensgate.cli.output import Terminal
from latensgate.conformance.case import UNSUPPORTED, CaseError
from latensgate.conformance.load import load_cases
from latensgate.conformance.runner import Command, ImplementationError, in_process, run
from latensgate.conformance.serve import answer_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate.conformance.runner import Outcome

DISAGREES: Final = 1
CRASHED: Final = 3
SHOWN_PROBLEMS: Final = 20
"""Disagreements told one by one; beyond it the table and --json have the rest."""
_EPILOG: Final = """\b
Exit codes:
   0  Every case agrees.
   1  At least one case disagrees.
   2  The command line is wrong, or a folder holds no known test vector.
   3  The implementation crashed, hung or did not speak the protocol.
"""


@click.group()
def conformance() -> None:
    """Hold an implementation to test vectors (docs/spec/conformance.md)."""


@conformance.command("answer")
def answer_command() -> None:
    """Answer cases: one JSON line each on standard input, one each on standard output."""
    for line in answer_lines(sys.stdin.buffer):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


@conformance.command("run", epilog=_EPILOG)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--implementation",
    metavar="CMD",
    help="Command that answers cases on standard input. Default: this program itself.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result for programs.")
def run_command(folders: tuple[Path, ...], implementation: str | None, *, as_json: bool) -> None:
    """Run every test vector below FOLDERS: ours, and published sets in their own form."""
    try:
        cases = load_cases(folders)
        asked = in_process if implementation is None else Command(implementation)
        outcomes = run(cases, asked)
    except CaseError as error:
        raise click.UsageError(str(error)) from None
    except ImplementationError as error:
        click.echo(f"Error: the implementation gave no verdict: {error}", err=True)
        sys.exit(CRASHED)
    if as_json:
        click.echo(_json(outcomes))
    else:
        _print(outcomes)
    sys.exit(DISAGREES if _problems(outcomes) else 0)


def _problems(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.problem is not None]


def _counts(outcomes: Sequence[Outcome]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        row = counts.setdefault(outcome.case.folder, Counter())
        row["cases"] += 1
        if outcome.answer.error == UNSUPPORTED:
            row["unsupported"] += 1
        row["agree" if outcome.problem is None else "disagree"] += 1
    return counts


def _problem(outcome: Outcome) -> dict[str, str | None]:
    case = outcome.case
    return {
        "id": case.case_id,
        "operation": case.operation,
        "problem": outcome.problem,
        "why": case.why,
    }


def _json(outcomes: Sequence[Outcome]) -> str:
    told = {
        "format": "latensgate-conformance/1",
        "cases": len(outcomes),
        "disagree": len(_problems(outcomes)),
        "folders": {
            name: {key: row[key] for key in ("cases", "agree", "disagree", "unsupported")}
            for name, row in _counts(outcomes).items()
        },
        "problems": [_problem(outcome) for outcome in _problems(outcomes)],
    }
    return json.dumps(told, indent=2)


def _print(outcomes: Sequence[Outcome]) -> None:
    console = Terminal()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("vectors")
    for name in ("cases", "agree", "disagree", "unsupported"):
        table.add_column(name, justify="right")
    for folder, row in sorted(_counts(outcomes).items()):
        wrong = Text(str(row["disagree"]), "bold red" if row["disagree"] else "dim")
        table.add_row(folder, str(row["cases"]), str(row["agree"]), wrong, str(row["unsupported"]))
    console.print(table)
    problems = _problems(outcomes)
    for outcome in problems[:SHOWN_PROBLEMS]:
        console.print(Text(f"✗ {outcome.case.case_id}: {outcome.problem}", "red"))
        if outcome.case.why:
            console.print(Text(f"  {outcome.case.why}", "dim"))
    if len(problems) > SHOWN_PROBLEMS:
        console.print(f"… and {len(problems) - SHOWN_PROBLEMS} more; --json has them all")
    word = "All cases agree." if not problems else f"{len(problems)} of {len(outcomes)} disagree."
    console.print(Text(word, "bold green" if not problems else "bold red"))
