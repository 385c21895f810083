"""An inspection as a person reads it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from latensgate.cli.certificates import shown_chain
from latensgate.cli.exit_codes import ExitCode
from latensgate.cli.inspection import State
from latensgate.cli.text import printable, relative, utc
from latensgate.cli.words import explanation, headline, pcr_meaning, user_data_meaning
from latensgate.verify.anchors import AWS_NITRO_ROOT_G1_SHA256

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from latensgate.cli.inspection import Inspection, StepResult
    from latensgate.verify.document import UntrustedDocument

_COLOURS: Final = {
    ExitCode.VERIFIED: "green",
    ExitCode.NOT_COMPARED: "yellow",
    ExitCode.SIMULATED: "yellow",
}
_MARKS: Final = {
    State.PASSED: Text("✓ passed", "green"),
    State.FAILED: Text("✗ FAILED", "bold red"),
    State.NOT_RUN: Text("- not run", "dim"),
}
_IMAGE_PCRS: Final = (0, 1, 2)


def report(inspection: Inspection) -> RenderableType:
    """Everything, from the verdict down to the steps."""
    parts: list[RenderableType] = [_verdict(inspection)]
    if inspection.said is not None:
        parts += [
            _facts(inspection, inspection.said),
            _chain(inspection, inspection.said),
            _registers(inspection.said),
            _fields(inspection, inspection.said),
        ]
    parts.append(steps_table(inspection.steps))
    return Group(*parts)


def _verdict(inspection: Inspection) -> RenderableType:
    colour = _COLOURS.get(inspection.code, "red")
    body = Text(headline(inspection), f"bold {colour}")
    for paragraph in explanation(inspection):
        body.append("\n\n" + paragraph, "default not bold")
    return Panel(body, border_style=colour, padding=(1, 2))


def _table(title: str) -> Table:
    return Table(
        title="\n" + title,
        title_justify="left",
        title_style="bold not italic",
        box=box.SIMPLE_HEAD,
        expand=True,
    )


def _title(text: str, inspection: Inspection) -> str:
    """Say above every table whether its content is proved."""
    proved = inspection.failure is None or inspection.failure.step > 7  # noqa: PLR2004 - signature
    return text if proved else f"{text} (as the document says, NOT proved)"


def _rows(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _facts(inspection: Inspection, said: UntrustedDocument) -> RenderableType:
    at = inspection.question.at
    rows = [
        ("enclave", said.module_id),
        ("made at", f"{utc(said.timestamp)} ({relative(said.timestamp, at)})"),
        ("judged at", utc(at)),
        ("attestation_hash", said.attestation_hash),
    ]
    if inspection.region is not None:
        rows.insert(1, ("Region", inspection.region))
    title = Text(_title("Document", inspection), "bold")
    return Padding(Group(title, _rows(rows)), (1, 1, 0, 0))


def _chain(inspection: Inspection, said: UntrustedDocument) -> RenderableType:
    table = _table(_title("Certificate chain", inspection))
    table.add_column("role", no_wrap=True)
    table.add_column("name", overflow="fold", ratio=1)
    table.add_column("valid (UTC)", no_wrap=True)
    table.add_column("key", no_wrap=True)
    chain = shown_chain(said)
    for entry in chain:
        valid = Text("unreadable", "red")
        if entry.not_before is not None and entry.not_after is not None:
            valid = Text(f"{utc(entry.not_before)} to\n{utc(entry.not_after)}")
            if not entry.not_before <= inspection.question.at <= entry.not_after:
                valid.stylize("red")
        table.add_row(entry.role, Text(entry.subject), valid, entry.key or "-")
    root = Text(f"SHA-256 of the root: {chain[0].sha256}\n", "dim")
    amazon = chain[0].sha256 == AWS_NITRO_ROOT_G1_SHA256
    root.append("This is Amazon's root." if amazon else "This is NOT Amazon's root.")
    root.stylize("" if amazon else "yellow", root.plain.index("\n"))
    return Group(table, Padding(root, (0, 1)))


def _registers(said: UntrustedDocument) -> Table:
    table = _table("Platform configuration registers (SHA-384)")
    table.add_column("PCR", justify="right", no_wrap=True)
    table.add_column("measures", overflow="fold", ratio=1)
    table.add_column("value", no_wrap=True)
    zeros: list[int] = []
    for index, value in sorted(said.pcrs.items()):
        if any(value):
            table.add_row(str(index), pcr_meaning(index), f"{value[:24].hex()}\n{value[24:].hex()}")
        elif index in _IMAGE_PCRS:
            alarm = "zeros: DEBUG MODE" if said.debug else "zeros"
            table.add_row(str(index), pcr_meaning(index), Text(alarm, "bold red"))
        else:
            zeros.append(index)
    if zeros:
        table.add_row("", Text(f"PCR {ranges(zeros)}", "dim"), Text("zeros: not used", "dim"))
    return table


def ranges(numbers: list[int]) -> str:
    """``5-7, 9`` for 5, 6, 7, 9."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def _fields(inspection: Inspection, said: UntrustedDocument) -> Table:
    table = _table("What the enclave put in")
    table.add_column("field", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("SHA-256", overflow="fold", ratio=1)
    for name, value in (
        ("user_data", said.user_data),
        ("nonce", said.nonce),
        ("public_key", said.public_key),
    ):
        if value is None:
            table.add_row(name, Text("none", "dim"), "")
            continue
        shown = Text(sha256(value).hexdigest())
        note = user_data_meaning(value, inspection.manifest) if name == "user_data" else ""
        if note:
            shown.append("\n" + note, "dim")
        table.add_row(name, f"{len(value):,} bytes", shown)
    return table


def steps_table(steps: Sequence[StepResult]) -> Table:
    """Numbered steps, what stopped them, and what was not run after that."""
    table = _table("Verification, step by step")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("step", overflow="fold", ratio=1)
    table.add_column("result", no_wrap=True)
    stopped = min((step.number for step in steps if step.state is State.FAILED), default=None)
    for step in steps:
        if stopped is not None and step.number > stopped:
            table.add_row(str(step.number), Text(step.title, "dim"), _MARKS[step.state])
            continue
        title = Text(step.title)
        if step.reason:
            style = "red" if step.state is State.FAILED else "dim"
            title.append("\n" + printable(step.reason), style)
        table.add_row(str(step.number), title, _MARKS[step.state])
    return table
