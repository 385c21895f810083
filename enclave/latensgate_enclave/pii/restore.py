"""Surrogates turned back into values, in an answer that comes in pieces of any size.

Models change what they copy: case, markdown around it and backslashes in it, a hyphen for the
underscore, brackets left out; and in the JSON text of tool arguments brackets may be escapes. All
of that is read. A name that is not one of this request's is left as it stands, and reported if it
has the exact form of a surrogate: the model made it up, or somebody wrote it for the model to
repeat.

What is held back is at most one surrogate long: `HELD_MAX_CHARS`. The result does not depend on how
the answer was cut into pieces.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_enclave.pii.surrogates import SEPARATOR, folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.pii.surrogates import Surrogates

HELD_MAX_CHARS: Final = 64
"""Longest tail that could still become a surrogate: brackets, label, separator and id, escaped."""
_OPEN: Final = r"(?:\\{0,3}\[|\\{1,2}u005[bB])"
_CLOSE: Final = r"(?:\\{0,3}\]|\\{1,2}u005[dD])"
_ID: Final = "[a-zA-Z2-9]{4,24}(?![A-Za-z0-9])"
_INVENTED: Final = r"\[[A-Z]{2,12}_(?:[a-km-np-z2-9]{4})+\]"
_CUT_ESCAPE: Final = r"(?:\\{1,3}|\\{1,2}u(?:0(?:0(?:5[bB]?)?)?)?)"
_CUT_CLOSE: Final = r"(?:\\{1,3}|\\{1,2}u(?:0(?:0(?:5)?)?)?)?"


class Restorer:
    """Restores one text that comes in pieces.

    Args:
        surrogates: Of the request.
        json_text: Whether the text is JSON, so that values are written as in a JSON string.
    """

    __slots__ = ("_before", "_held", "_json_text", "_patterns", "_values", "restored", "unknown")

    def __init__(self, surrogates: Surrogates, *, json_text: bool = False) -> None:
        self._values = surrogates.values
        self._json_text = json_text
        self._patterns = _patterns(tuple(sorted(surrogates.labels)))
        self._held = self._before = ""
        self.restored = self.unknown = 0

    def push(self, text: str) -> str:
        """Take the next piece; return what can be said already."""
        whole = self._held + text
        return self._released(whole, self._safe_end(whole))

    def end(self) -> str:
        """Return what was held back: nothing follows."""
        return self._released(self._held, len(self._held))

    def _safe_end(self, whole: str) -> int:
        """Return the end of what cannot be the beginning of a surrogate."""
        cut = self._patterns[1]
        start = max(0, len(whole) - HELD_MAX_CHARS)
        # One character more is looked at, for what stands before a name decides whether it is one.
        view = self._before + whole
        found = cut.search(view, len(self._before) + start)
        return len(whole) if found is None else found.start() - len(self._before)

    def _released(self, whole: str, end: int) -> str:
        self._held = whole[end:]
        if not end:
            return ""
        before = self._before
        view = before + whole
        told = self._patterns[0].sub(self._written, view[: len(before) + end])
        self._before = whole[end - 1 : end]
        return told[len(before) :]

    def _written(self, match: re.Match[str]) -> str:
        name = match["inside"] or match["bare"]
        value = self._values.get(folded(name))
        if value is None:
            self.unknown += match["inside"] is not None and _is_invented(match.group())
            return match.group()
        self.restored += 1
        if self._json_text:
            return msgspec.json.encode(_encodable(value)).decode()[1:-1]
        return value


def known_spans(surrogates: Surrogates, text: str) -> list[tuple[int, int]]:
    """Return where surrogates of the request stand in a text, in order."""
    if not surrogates.values:
        return []
    known = surrogates.values
    whole = _patterns(tuple(sorted(surrogates.labels)))[0]
    return [
        match.span()
        for match in whole.finditer(text)
        if folded(match["inside"] or match["bare"]) in known
    ]


def _encodable(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def _is_invented(written: str) -> bool:
    return re.fullmatch(_INVENTED, written) is not None


@lru_cache(maxsize=256)
def _patterns(labels: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what finds surrogates, and what finds a tail that could become one."""
    known = "|".join(sorted(labels, key=len, reverse=True)) or "(?!)"
    bare = rf"(?<![A-Za-z0-9])(?:(?i:{known}){SEPARATOR}{_ID})"
    inside = rf"[A-Za-z]{{2,12}}{SEPARATOR}{_ID}"
    whole = rf"{_OPEN}(?P<inside>{inside}){_CLOSE}|(?P<bare>{bare})"
    any_label = rf"[A-Za-z]{{0,12}}(?:{_CUT_SEPARATOR}(?:[a-zA-Z2-9]{{0,24}}{_CUT_CLOSE})?)?"
    known_label = rf"(?<![A-Za-z0-9])(?i:{_cut_labels(labels)})"
    known_bare = rf"{known_label}|(?<![A-Za-z0-9])(?i:{known}){_CUT_SEPARATOR}[a-zA-Z2-9]{{0,24}}"
    cut = rf"(?:{_OPEN}{any_label}|{_CUT_ESCAPE}|{known_bare})\Z"
    return re.compile(whole, re.ASCII), re.compile(cut, re.ASCII)


_CUT_SEPARATOR: Final = "(?:\\\\{0,3}_|\\\\{1,3}|[-\u2010\u2011 \u00a0])"


def _cut_labels(labels: Sequence[str]) -> str:
    """Return alternatives of every beginning of every label."""
    beginnings = {label[:size] for label in labels for size in range(1, len(label) + 1)}
    return "|".join(sorted(beginnings, key=len, reverse=True)) or "(?!)"
