"""Run every ``bench_*.py`` beside this file and write its rows into docs/benchmarks.md.

Each gives ``measure() -> list[(name, value, meaning)]``. Names as arguments choose some of them:
``python tests/bench frames verify``. What lies outside the markers of the page is kept.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Row: TypeAlias = "tuple[str, float, str]"

HERE: Final = Path(__file__).resolve().parent
PAGE: Final = HERE.parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end -->"
TITLE: Final = f"# Benchmarks\n\n{BEGIN}\n{END}\n"
ADVICE: Final = (
    "Ratios within one run are what counts; absolute figures hold for this machine and this hour."
)


def discover(chosen: Iterable[str]) -> list[str]:
    """Return the names of the benchmarks, all or the chosen ones."""
    names = sorted(path.stem for path in HERE.glob("bench_*.py"))
    wanted = {f"bench_{name.removeprefix('bench_')}" for name in chosen}
    if unknown := wanted.difference(names):
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return [name for name in names if not wanted or name in wanted]


def run(name: str) -> list[Row]:
    """Measure one benchmark."""
    module = importlib.import_module(name)
    measure = cast("Callable[[], list[Row]]", module.measure)
    return measure()


def machine() -> str:
    """Describe where and when the figures were taken."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    today = datetime.now(tz=UTC).date().isoformat()
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {today}."


def table(results: dict[str, list[Row]]) -> Table:
    """Return the rows for a terminal."""
    shown = Table("benchmark", "value", "meaning")
    shown.columns[1].justify = "right"
    for rows in results.values():
        for name, value, meaning in rows:
            shown.add_row(name, f"{value:,.3f}", meaning)
        shown.add_section()
    return shown


def page_part(results: dict[str, list[Row]]) -> str:
    """Return the rows as they stand on the page."""
    lines = [BEGIN, "", machine(), ADVICE]
    for module, rows in results.items():
        lines += ["", f"## {module.removeprefix('bench_')}", ""]
        lines += ["| benchmark | value | meaning |", "|---|---:|---|"]
        lines += [f"| {name} | {value:,.3f} | {meaning} |" for name, value, meaning in rows]
    return "\n".join([*lines, "", END])


def write_page(part: str) -> None:
    """Replace what stands between the markers."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else TITLE
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE.name} has lost its markers {BEGIN} and {END}")
    PAGE.write_text(before + part + after, encoding="utf-8")


def main() -> None:
    """Measure, print, and write the page unless only some were chosen."""
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    names = discover(sys.argv[1:])
    results: dict[str, list[Row]] = {}
    for name in names:
        print(f"{name} ...", flush=True)
        results[name] = run(name)
    Console().print(table(results))
    if len(sys.argv) == 1:
        write_page(page_part(results))


if __name__ == "__main__":
    main()
