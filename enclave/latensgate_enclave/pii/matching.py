"""RE2, and nothing but RE2, matches patterns on what users send: its time is linear by design.

Two things the library leaves to its caller are done here. A set that was never compiled is a
fault of memory when it is asked, so none can exist. And a set that runs out of memory answers
"nothing matched": a sentinel that matches every text is therefore in each set, and an answer
without it is an error, never an empty finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

import re2  # type: ignore[import-untyped] # publishes no types; the protocols below state them
from latensgate_shared.limits import PII_REGEX_MAX_BYTES

from latensgate_enclave.pii.errors import PIIEngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Match(Protocol):
    def span(self, group: int = 0) -> tuple[int, int]: ...


class _Compiled(Protocol):
    def finditer(self, text: bytes) -> Iterator[_Match]: ...


class _CompiledSet(Protocol):
    def Add(self, pattern: bytes) -> int: ...  # noqa: N802 - the library's name
    def Compile(self) -> None: ...  # noqa: N802 - the library's name
    def Match(self, text: bytes) -> list[int] | None: ...  # noqa: N802 - the library's name


_SENTINEL: Final = b""


class Regex:
    """One pattern over the bytes of a view."""

    __slots__ = ("_compiled", "_group")

    def __init__(self, pattern: str, *, group: int = 0) -> None:
        """Compile.

        Args:
            pattern: RE2 syntax, characters below U+0100.
            group: Group whose span is the match; 0 is the whole.

        Raises:
            PIIEngineError: RE2 does not take the pattern.
        """
        options = _options(captures=group > 0)
        try:
            compiled = re2.compile(pattern.encode("latin-1"), options)
        except re2.error:
            raise PIIEngineError(f"RE2 refuses a pattern of {len(pattern)} characters") from None
        self._compiled = cast("_Compiled", compiled)
        self._group = group

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return the spans of all matches, leftmost first, not overlapping."""
        group = self._group
        return [match.span(group) for match in self._compiled.finditer(data)]


class Gate:
    """One pass over a text that tells which patterns have any match in it."""

    __slots__ = ("_set",)

    def __init__(self, patterns: Iterable[str]) -> None:
        """Compile the set.

        Raises:
            PIIEngineError: RE2 does not take a pattern, or not all of them together.
        """
        found = cast("_CompiledSet", re2.Set.SearchSet(_options(captures=False)))
        try:
            found.Add(_SENTINEL)
            for pattern in patterns:
                found.Add(pattern.encode("latin-1"))
            found.Compile()
        except re2.error:
            raise PIIEngineError("RE2 refuses the set of patterns") from None
        self._set = found

    def matching(self, data: bytes) -> list[int]:
        """Return the indexes of the patterns that match somewhere, in order.

        Raises:
            PIIEngineError: The set did not reach the end of the text.
        """
        matched = self._set.Match(data)
        if matched is None or 0 not in matched:
            raise PIIEngineError("the RE2 set gave up on a text")
        return sorted(index - 1 for index in matched if index)


def _options(*, captures: bool) -> object:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = PII_REGEX_MAX_BYTES
    options.never_capture = not captures
    options.dot_nl = True
    options.log_errors = False
    return options
