"""What the enclave image carries: distributions, files, lines, megabytes, and how much of it runs.

python scripts/image_cost.py    writes docs/image-cost.md

Lines of others are raw lines of Python files. Own lines are counted twice: raw, and code alone,
without blank lines, comments and docstrings.
"""

from __future__ import annotations

import ast
import asyncio
import io
import sys
import tempfile
import tokenize
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from image_runs import Resident

REPOSITORY: Final = Path(__file__).resolve().parents[1]

PAGE: Final = REPOSITORY / "docs/image-cost.md"
OTHERS: Final = {
    "cryptography": "all primitives, X.509; OpenSSL inside",
    "cffi": "loaded by cryptography's bindings",
    "pycparser": "declared by cffi, never loaded: the image leaves it out",
    "msgspec": "JSON of requests and answers, measured configuration",
    "google-re2": "the only matcher of untrusted texts",
    "phonenumbers": "number plans",
    "presidio-analyzer": "pattern tables and validators (docs/adr/0011)",
}
OWN: Final = {
    "shared": REPOSITORY / "shared/latensgate_shared",
    "enclave": REPOSITORY / "enclave/latensgate_enclave",
}
AIM: Final = 4_000


@dataclass(frozen=True, slots=True)
class Lines:
    """Raw lines, and lines of code alone."""

    files: int = 0
    raw: int = 0
    code: int = 0

    def __add__(self, other: Lines) -> Lines:
        """Add the counts."""
        return Lines(self.files + other.files, self.raw + other.raw, self.code + other.code)


def count_own(file: Path) -> Lines:
    """Count one file of ours."""
    source = file.read_text(encoding="utf-8")
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return Lines(1, len(source.splitlines()), len(code - docstring_lines(source)))


_NO_CODE: Final = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def docstring_lines(source: str) -> set[int]:
    """Return the lines of all texts that stand alone: docstrings, and texts under constants."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Expr) else None
        if text and isinstance(text, ast.Constant) and isinstance(text.value, str):
            lines.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return lines


def total(files: Iterable[Path]) -> Lines:
    """Count many files of ours."""
    return sum((count_own(file) for file in files), Lines())


@dataclass(frozen=True, slots=True)
class Cost:
    """One distribution: what lies on disk, and what of it has been loaded."""

    name: str
    version: str
    python_files: int
    lines: int
    disk_bytes: int
    loaded_modules: int
    loaded_lines: int


def raw_lines(file: Path) -> int:
    """Count the lines of a Python file; binary ones have none."""
    return file.read_bytes().count(b"\n") if file.suffix == ".py" else 0


def cost_of(name: str, loaded: Mapping[str, str | None]) -> Cost:
    """Measure one installed distribution."""
    found: Distribution = distribution(name)
    files = [Path(str(found.locate_file(item))) for item in found.files or []]
    files = [file for file in files if file.is_file() and file.suffix != ".pyc"]
    python = [file for file in files if file.suffix == ".py"]
    own = {str(file.resolve()) for file in files}
    used = [Path(path) for path in loaded.values() if path and str(Path(path).resolve()) in own]
    return Cost(
        name,
        found.version,
        len(python),
        sum(raw_lines(file) for file in python),
        sum(file.stat().st_size for file in files),
        len(used),
        sum(raw_lines(file) for file in used),
    )


def own_rows() -> list[str]:
    """Return the table of own lines."""
    pii = [file for file in OWN["enclave"].rglob("*.py") if "pii" in file.parts]
    shared = total(OWN["shared"].rglob("*.py"))
    enclave = total(file for file in OWN["enclave"].rglob("*.py") if file not in pii)
    parts = {
        "shared": shared,
        "enclave without PII": enclave,
        "**shared + enclave without PII**": shared + enclave,
        "PII engine": total(pii),
        "**all of it**": shared + enclave + total(pii),
    }
    rows = ["| own code | files | raw lines | lines of code |", "|---|---:|---:|---:|"]
    rows += [f"| {n} | {c.files} | {c.raw:,} | {c.code:,} |" for n, c in parts.items()]
    without = (shared + enclave).code
    verdict = "met" if without < AIM else f"missed by {without - AIM:,} lines of code"
    return [*rows, "", f"The aim was under {AIM:,} lines without PII: {verdict}."]


def other_rows(costs: Iterable[Cost]) -> list[str]:
    """Return the table of dependencies."""
    rows = [
        "| distribution | Python files | lines | on disk | modules loaded | lines loaded | why |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    rows += [
        f"| {cost.name} {cost.version} | {cost.python_files:,} | {cost.lines:,} "
        f"| {cost.disk_bytes / 1e6:.1f} MB | {cost.loaded_modules} | {cost.loaded_lines:,} "
        f"| {OTHERS[cost.name]} |"
        for cost in costs
    ]
    return rows


def standard_row(loaded: Mapping[str, str | None]) -> str:
    """Say how much of the standard library runs."""
    names = [name for name in loaded if name.partition(".")[0] in sys.stdlib_module_names]
    files = [Path(path) for name in names if (path := loaded[name])]
    return (
        f"Of Python's standard library {len(names)} modules are loaded, "
        f"{sum(raw_lines(file) for file in files):,} lines."
    )


def page(resident: Resident) -> str:
    """Return the page."""
    costs = [cost_of(name, resident.modules) for name in OTHERS]
    lines = sum(cost.loaded_lines for cost in costs)
    size = sum(cost.disk_bytes for cost in costs) / 1e6
    own, others = "\n".join(own_rows()), "\n".join(other_rows(costs))
    return f"""\
# What the enclave image costs

Written by `python scripts/image_cost.py`, Python {sys.version.split()[0]}.

## Own code

{own}

Lines of code are lines without blank ones, comments and docstrings; a statement over three lines
counts three times. Every file of the enclave is loaded in a running process (tested); of `shared`
all but `merkle`, which verifiers use.

## Code of others

{len(costs)} distributions, {size:.0f} MB, {lines:,} lines of Python loaded. They are pinned by hash
and installed without their own dependencies.

{others}

{standard_row(resident.modules)}
`enclave/loaded-modules.txt` lists all modules; a test compares it with a running process.

## Memory of one enclave process

| moment | resident |
|---|---:|
| gate open, no request yet | {resident.started_kib / 1024:.1f} MiB |
| after {resident.calls:,} calls of all kinds | {resident.after_kib / 1024:.1f} MiB |

Request ids are remembered for ten minutes, 290 to 400 bytes each. `make soak` looks for anything
else that grows.
"""


def main() -> None:
    """Measure and write."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from image_runs import observe_enclave  # noqa: PLC0415  # the test helpers are not installed

    with tempfile.TemporaryDirectory() as scratch:
        resident = asyncio.run(observe_enclave(Path(scratch)))
    PAGE.write_text(page(resident), encoding="utf-8")
    print(f"written: {PAGE.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
