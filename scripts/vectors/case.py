"""What one vector is, and how it is written: one JSON file, one statement, one failure at most."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class Case:
    """One vector.

    Attributes:
        name: File name without number and suffix, said in a few words.
        operation: Operation of docs/spec/conformance.md.
        why: One sentence: what this case shows.
        spec: Page and section that decide it.
        input: What the implementation is given.
        output: What it must give back; None where it must refuse.
        error: The kind of error with which it must refuse; None where it must accept.
    """

    name: str
    operation: str
    why: str
    spec: str
    input: Mapping[str, Json]
    output: Mapping[str, Json] | None = None
    error: str | None = None


def fixed(label: str, length: int) -> bytes:
    """Return ``length`` bytes that are the same on every run: the "randomness" of a vector."""
    return hashlib.shake_256(b"latensgate vectors, not secret: " + label.encode()).digest(length)


def base64_text(data: bytes) -> str:
    """RFC 4648 section 4, with padding."""
    return base64.b64encode(data).decode()


def sha384_text(data: bytes) -> str:
    """Return ``sha384:`` and 96 hexadecimal digits."""
    return "sha384:" + hashlib.sha384(data).hexdigest()


def _document(folder: str, number: int, case: Case) -> dict[str, Json]:
    expect: dict[str, Json] = (
        {"ok": False, "error": case.error}
        if case.output is None
        else {"ok": True, "output": case.output}
    )
    return {
        "id": f"{folder}/{number:03d}-{case.name}",
        "operation": case.operation,
        "why": case.why,
        "spec": case.spec,
        "input": case.input,
        "expect": expect,
    }


def write_folder(root: Path, folder: str, cases: Sequence[Case]) -> int:
    """Write the cases of one folder and remove what an earlier generator left there.

    Returns:
        Number of bytes written.
    """
    target = root / folder
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.json"):
        old.unlink()
    total = 0
    for number, case in enumerate(cases, start=1):
        if (case.output is None) == (case.error is None):
            raise AssertionError(f"{folder}/{case.name}: exactly one of output and error")
        text = json.dumps(_document(folder, number, case), indent=1, ensure_ascii=True) + "\n"
        (target / f"{number:03d}-{case.name}.json").write_text(text, encoding="ascii")
        total += len(text)
    return total
