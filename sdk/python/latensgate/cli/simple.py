"""Tables and short forms that several commands show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from latensgate.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rich.console import RenderableType

_GOOD = {"ok", "ready", "released", "active", "answered", "verified", "passed"}
_FAIR = {"degraded", "simulated", "starting", "draining", "unreachable", "held", "cancelled"}


def list_table(*columns: str, whole: Collection[str] = ()) -> Table:
    """Return an empty table with a plain head; what people copy stays whole on its line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    return table


def facts_table(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Return names and values, one a line."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def plain(text: str, style: str = "") -> Text:
    """Return text of strangers, safe to print."""
    return Text(printable(text), style)


def state(text: str) -> Text:
    """Return a state with its colour; the word alone says it, too."""
    style = "green" if text in _GOOD else "yellow" if text in _FAIR else "red"
    return Text(printable(text), style)


def short_hash(text: str, digits: int = 12) -> str:
    """Return the beginning of ``sha384:…``, enough to compare by eye."""
    head, colon, digest = text.partition(":")
    return text if not colon or len(digest) <= digits else f"{head}:{digest[:digits]}…"


def count(number: int) -> str:
    """Return a number with separators."""
    return f"{number:,}"
