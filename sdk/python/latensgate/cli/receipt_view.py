"""A receipt and its verdict, as a person reads them: for ``chat`` and ``verify``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.cli.simple import count, facts_table, plain, state
from latensgate.cli.text import coarse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from latensgate.cli.output import Output
    from latensgate_shared.receipts import PublicPart
    from latensgate_shared.strict_json import JSONObject, JSONValue


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        title: What was looked at.
        detail: What was found.
        good: Whether it holds.
    """

    title: str
    detail: str = ""
    good: bool = True

    def to_json(self) -> JSONObject:
        """Return it for programs."""
        return {"title": self.title, "good": self.good, "detail": self.detail}


def checks_table(checks: Sequence[Check]) -> Table:
    """Return numbered lines: what was looked at, and what was found."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    for number, check in enumerate(checks, 1):
        mark = Text("✓", "bold green") if check.good else Text("✗", "bold red")
        title = Text(check.title, "" if check.good else "bold red")
        detail = plain(check.detail, "dim" if check.good else "red")
        table.add_row(mark, str(number), title, detail)
    return table


def show_checks(out: Output, checks: Sequence[Check], code: ExitCode) -> None:
    """Print numbered checks and the verdict."""
    out.show(checks_table(checks), "", verdict(code))


def verdict(code: ExitCode) -> Text:
    """Return the verdict in one line."""
    if code is DONE:
        return Text("Verified: an enclave that you accept signed this receipt.", "bold green")
    if code is ExitCode.SIMULATED:
        return Text("Simulated: it all verifies, but under a simulator's root.", "bold yellow")
    if code is ExitCode.GAPS:
        return Text("The receipt verifies, but the one before it is missing.", "bold red")
    return Text("Refused: do not rely on this receipt; keep it as evidence.", "bold red")


def receipt_facts(public: PublicPart, private: JSONObject | None) -> Table:
    """Return what a receipt says."""
    rows: list[tuple[str, RenderableType]] = [
        ("receipt", plain(public.receipt_id)),
        ("tenant", plain(public.tenant_id)),
        ("outcome", state(public.outcome)),
        ("issued in minute", plain(coarse(public.issued_at) + " UTC")),
        ("place in its chain", plain(count(public.sequence))),
        ("document", plain(public.attestation_hash)),
    ]
    if private is not None:
        rows += private_rows(private)
    return facts_table(rows)


def private_rows(private: JSONObject) -> list[tuple[str, RenderableType]]:
    """Return what only the caller knows."""
    asked, served = private.get("model_asked"), private.get("model_served")
    rows: list[tuple[str, RenderableType]] = [
        ("model", plain(f"{_word(asked)}, served by {_word(served)}" if served else _word(asked))),
        ("personal data", plain(pii_words(private.get("pii")))),
        ("tokens", plain(usage_words(private.get("usage")))),
    ]
    upstream = private.get("upstream")
    if isinstance(upstream, dict):
        rows.append(("upstream", plain(upstream_words(upstream))))
    return rows


def _word(value: JSONValue) -> str:
    return value if isinstance(value, str) else "none"


def pii_words(pii: JSONValue) -> str:
    """Return the scan's verdict in words."""
    if not isinstance(pii, dict):
        return "not told"
    if pii.get("detected") is not True:
        return "scanned, none found"
    counts = pii.get("counts")
    if not isinstance(counts, dict) or not counts:
        return "found"
    return "found: " + ", ".join(_category(name, value) for name, value in sorted(counts.items()))


def _category(name: str, value: JSONValue) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{count} {action}" for action, count in sorted(value.items()))
        return f"{name} ({inner})"
    return f"{name} ({value})"


def usage_words(usage: JSONValue) -> str:
    """Return token counts in words."""
    if not isinstance(usage, dict) or not usage:
        return "no model ran"
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        return f"{prompt:,} in, {completion:,} out"
    return ", ".join(f"{name} {value}" for name, value in sorted(usage.items()))


def upstream_words(upstream: JSONObject) -> str:
    """Return where the request went, as the enclave saw it."""
    names = ("host", "endpoint", "region", "account", "logging")
    told = [f"{name} {upstream[name]}" for name in names if isinstance(upstream.get(name), str)]
    return ", ".join(told) or "told in the receipt"
