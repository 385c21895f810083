"""The view of a text that patterns are matched on, and the way back to the text itself.

What a reader sees and what the code points are can differ on purpose: full-width digits,
zero-width characters inside a number, typographic dashes. The view undoes this one code point at
a time: compatibility decomposition (the NFKD half of NFKC, Unicode Standard Annex 15), marks and
invisible characters dropped, every decimal digit as 0-9, every dash as "-". Taking each code
point alone is what makes the map of offsets trivially right; composing again would add nothing,
because all that matters to a pattern outside ASCII is "letter" or "not a letter".

In the view every character is one byte: ASCII is itself, any other letter is 0xFF, any other
character 0x80. So an offset in the bytes is an offset in the view, and RE2 needs no UTF-8.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SPECIAL: Final = re.compile(r"[^\t\n\r -~]")
_LETTER: Final = "\xff"
_OTHER: Final = "\x80"
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
"""Hangul fillers: letters by class, invisible by use (Default_Ignorable_Code_Point)."""
_SAME: Final = {
    "\u2212": "-",  # minus sign, a symbol by class
    "\u3002": ".",  # ideographic full stop: a label separator (UTS 46)
    "\uff61": ".",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2800": "",  # braille blank, a symbol by class
}
_BY_CLASS: Final = {
    "Zs": " ",
    "Zl": "\n",
    "Zp": "\n",
    "Pd": "-",
    "Mn": "",
    "Me": "",
    "Cf": "",
    "Cc": "",
}


@dataclass(frozen=True, slots=True)
class Folded:
    """A text in which stretches were replaced, and the way back.

    Attributes:
        text: With the replacements.
        starts: Positions in it where a segment starts; empty where nothing was replaced.
        origins: Where each segment starts in the original text.
    """

    text: str
    starts: tuple[int, ...]
    origins: tuple[int, ...]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the original text that a span of this one came from."""
        if not self.starts:
            return start, end
        return self._origin(start)[0], self._origin(end - 1)[1]

    def _origin(self, position: int) -> tuple[int, int]:
        # A segment is plain, character for character, or a replacement as a whole.
        index = bisect_right(self.starts, position) - 1
        here, origin = self.starts[index], self.origins[index]
        following = self.origins[index + 1]
        if self.starts[index + 1] - here == following - origin:
            place = origin + position - here
            return place, place + 1
        return origin, following


@dataclass(frozen=True, slots=True)
class View(Folded):
    """A text as patterns see it: one character per view position, all below U+0100.

    Attributes:
        data: The same as bytes (Latin-1).
    """

    data: bytes


def view_of(text: str) -> View:
    """Make the view of a text. Plain ASCII without control characters is its own view."""
    if text.isascii() and _SPECIAL.search(text) is None:
        return View(text, (), (), text.encode("ascii"))
    folded = replaced(text, _SPECIAL, fold)
    return View(folded.text, folded.starts, folded.origins, folded.text.encode("latin-1"))


def replaced(text: str, special: re.Pattern[str], fold: Callable[[str], str]) -> Folded:
    """Replace every match of a pattern, each alone, and keep the way back."""
    parts: list[str] = []
    starts: list[int] = []
    origins: list[int] = []
    known: dict[str, str] = {}
    position = done = 0
    for match in special.finditer(text):
        index = match.start()
        if index > done:
            starts.append(position)
            origins.append(done)
            parts.append(text[done:index])
            position += index - done
        found = match.group()
        replacement = known.get(found)
        if replacement is None:
            replacement = known[found] = fold(found)
        starts.append(position)
        origins.append(index)
        parts.append(replacement)
        position += len(replacement)
        done = match.end()
    starts.append(position)
    origins.append(done)
    parts.append(text[done:])
    # One place past the end, so that the last segment has an end, too.
    length = position + len(text) - done
    return Folded("".join(parts), (*starts, length + 1), (*origins, len(text) + 1))


_UNREADABLE: Final = re.compile(r"[^\t\n\r -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u1fff]")
_INVISIBLE: Final = frozenset({"Cf", "Cc", "Cs", "Co", "Cn"})


def readable(text: str) -> Folded:
    """Return a text as a person reads it: for a model, which knows words and not patterns.

    Letters stay what they are; compatibility forms (full-width, mathematical) become ordinary
    ones and invisible characters go.
    """
    if text.isascii() and _SPECIAL.search(text) is None:
        return Folded(text, (), ())
    return replaced(text, _UNREADABLE, _readable)


def _readable(character: str) -> str:
    same = _SAME.get(character)
    if same is not None:
        return same
    if character in _BLANK_LETTERS or unicodedata.category(character) in _INVISIBLE:
        return ""
    return unicodedata.normalize("NFKC", character)


def fold(character: str) -> str:
    """Return what stands for one code point in the view: none, one or several characters."""
    same = _SAME.get(character)
    if same is not None:
        return same
    return "".join(
        part if " " <= part <= "~" else _fold_part(part)
        for part in unicodedata.normalize("NFKD", character)
    )


def _fold_part(part: str) -> str:
    if part in _BLANK_LETTERS:
        return ""
    digit = unicodedata.decimal(part, None)
    if digit is not None:
        return str(digit)
    kind = unicodedata.category(part)
    by_class = _BY_CLASS.get(kind)
    if by_class is not None:
        return by_class
    return _SAME.get(part, _LETTER if kind[0] == "L" else _OTHER)
