"""Where the bytes of an image are: what each part of it costs in the file, and so in memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_eif.assemble import Assembled
    from latensgate_eif.ramdisk import Entry

_SHOWN: Final = 14


def size_report(assembled: Assembled) -> str:
    """Return a table of sections, and one of the largest parts of each ramdisk, in Markdown."""
    image = assembled.image
    rows = ["| section | bytes |", "|---|---:|", f"| kernel | {len(image.kernel):,} |"]
    rows += [
        f"| ramdisk {number}, {len(entries):,} entries | {len(ramdisk):,} |"
        for number, (ramdisk, entries) in enumerate(
            zip(image.ramdisks, assembled.ramdisks, strict=True)
        )
    ]
    for number, entries in enumerate(assembled.ramdisks):
        rows += ["", f"| ramdisk {number}: part | files | bytes |", "|---|---:|---:|"]
        rows += _rows(entries)
    return "\n".join(rows) + "\n"


def _rows(entries: Mapping[str, Entry]) -> list[str]:
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for path, entry in entries.items():
        sizes[_part(path)] += len(entry.data)
        files[_part(path)] += 1
    shown = sizes.most_common(_SHOWN)
    rest = set(sizes) - {part for part, _ in shown}
    rows = [f"| {part} | {files[part]:,} | {size:,} |" for part, size in shown]
    if rest:
        count, size = sum(files[part] for part in rest), sum(sizes[part] for part in rest)
        rows.append(f"| everything else | {count:,} | {size:,} |")
    return rows


def _part(path: str) -> str:
    """Return what a file belongs to: a distribution, the standard library, or itself."""
    if "dist-packages/" in path:
        return path.split("dist-packages/", 1)[1].split("/", 1)[0]
    if path.startswith("usr/lib/python3.") and path.count("/") > 2:  # noqa: PLR2004  # below its folder
        return "Python's standard library"
    return path
