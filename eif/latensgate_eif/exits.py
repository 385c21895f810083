"""What the command's exit status means (docs/exit-codes.md). A code keeps its meaning."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """Exit codes of ``latensgate-eif``; those that ``latensgate`` has, too, mean the same."""

    DONE = 0
    DIFFERENT = 1
    USAGE = 2
    UNREADABLE = 3
    MALFORMED = 4
    UNTRUSTED = 5
    MEASUREMENTS = 8
    NOT_BUILT = 9
    INTERNAL = 70

    @property
    def meaning(self) -> str:
        """One sentence, as --help says it."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    Exit.DONE: "Done; of diff: the two images are the same.",
    Exit.DIFFERENT: "diff: the two images differ.",
    Exit.USAGE: "The command line is wrong; nothing was done.",
    Exit.UNREADABLE: "A file cannot be read or written.",
    Exit.MALFORMED: "Not an image of the published layout, or not a certificate or key.",
    Exit.UNTRUSTED: "The signature in the image is wrong.",
    Exit.MEASUREMENTS: "measure: other measurements than you expect.",
    Exit.NOT_BUILT: "An input or a tool is missing, or a step of the build failed.",
    Exit.INTERNAL: "A fault of this program; please report it.",
}
EPILOG: Final = "\b\nExit codes:\n" + "\n".join(f"  {code:>2}  {code.meaning}" for code in Exit)
