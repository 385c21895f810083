"""What an image holds, one line a path: mode, size, SHA-256. For people and for `diff`."""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from latensgate_eif.ramdisk import Entry


def manifest_lines(entries: Mapping[str, Entry]) -> list[str]:
    """Return a line for each entry, sorted by path.

    ``mode size sha256 path``; of a device its numbers stand in place of the hash, of a folder a
    dash.
    """
    return [f"{_facts(entry)} {path}" for path, entry in sorted(entries.items())]


def _facts(entry: Entry) -> str:
    return f"{entry.mode:06o} {len(entry.data)} {_content(entry)}"


def _content(entry: Entry) -> str:
    if stat.S_ISDIR(entry.mode):
        return "-"
    if stat.S_ISCHR(entry.mode):
        return f"{entry.device[0]}:{entry.device[1]}"
    return hashlib.sha256(entry.data).hexdigest()


def manifest_text(title: str, ramdisks: Sequence[Mapping[str, Entry]]) -> str:
    """Return the manifest of several ramdisks.

    Args:
        title: Comment lines at the start.
        ramdisks: In their order.
    """
    lines = [f"# {line}" for line in title.splitlines()]
    for number, entries in enumerate(ramdisks):
        lines += ["", f"# ramdisk {number}", *manifest_lines(entries)]
    return "\n".join(lines) + "\n"


def changed_lines(
    old: Mapping[str, Entry], new: Mapping[str, Entry]
) -> Iterable[tuple[str, str | None, str | None]]:
    """Yield path, old facts and new facts of every entry that is not the same in both."""
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before != after:
            yield path, _facts_or_none(before), _facts_or_none(after)


def _facts_or_none(entry: Entry | None) -> str | None:
    return None if entry is None else _facts(entry)
