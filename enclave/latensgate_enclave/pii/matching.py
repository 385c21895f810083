"""RE2, and nothing but RE2, matches patterns on what users send: its time is linear by design.

Two things the library leaves to its caller are done here. A set that was never compiled is a
fault of memory when it is asked, so none can exist. And a set that runs out of memory answers
"nothing matched": a sentinel that matches every text is therefore in each set, and an answer
without it is an error, never an empty finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

import re2  # type: ignore[import-untyped] # publishes no types; the protocols below state them

from latensgate_enclave.pii.errors import PIIPatternError
from latensgate_shared.limits import PII_REGEX_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Match(Protocol):
    def span(self, group: int = 0) -> tuple[int, int]: ...


class _Compiled(Protocol):
    programsize: int

    def finditer(self, text: bytes) -> Iterator[_Match]: ...
    def match(self, text: bytes) -> _Match | None: ...


class _CompiledSet(Protocol):
    def Add(self, pattern: bytes) -> int: ...  # noqa: N802 - the library's name
    def Compile(self) -> None: ...  # noqa: N802 - the library's name
    def Match(self, text: bytes) -> list[int] | None: ...  # noqa: N802 - the library's name


class _SetFactory(Protocol):
    def SearchSet(self, options: _Options) -> _CompiledSet: ...  # noqa: N802 - the library's name


class _Options(Protocol):
    encoding: object
    max_mem: int
    never_capture: bool
    dot_nl: bool
    log_errors: bool


class _OptionsFactory(Protocol):
    Encoding: _Encodings

    def __call__(self) -> _Options: ...


class _Encodings(Protocol):
    LATIN1: object


class _Library(Protocol):
    error: type[Exception]
    Set: _SetFactory
    Options: _OptionsFactory

    def compile(self, pattern: bytes, options: _Options) -> _Compiled: ...


_RE2: Final = cast("_Library", re2)
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
            PIIPatternError: RE2 does not take the pattern.
        """
        options = _options(captures=group > 0)
        try:
            self._compiled = _RE2.compile(pattern.encode("latin-1"), options)
        except _RE2.error:
            raise PIIPatternError(f"RE2 refuses a pattern of {len(pattern)} characters") from None
        self._group = group

    @property
    def size(self) -> int:
        """Instructions of the program that RE2 made of it: bounds its time for one character."""
        return self._compiled.programsize

    def starts(self, data: bytes) -> bool:
        """Whether the pattern matches at the start of the data."""
        return self._compiled.match(data) is not None

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
            PIIPatternError: RE2 does not take a pattern, or not all of them together.
        """
        found = _RE2.Set.SearchSet(_options(captures=False))
        try:
            found.Add(_SENTINEL)
            for pattern in patterns:
                found.Add(pattern.encode("latin-1"))
            found.Compile()
        except _RE2.error:
            raise PIIPatternError("RE2 refuses the set of patterns") from None
        self._set = found

    def matching(self, data: bytes) -> list[int]:
        """Return the indexes of the patterns that match somewhere, in order.

        Raises:
            PIIPatternError: The set did not reach the end of the text.
        """
        matched = self._set.Match(data)
        if matched is None or 0 not in matched:
            raise PIIPatternError("the RE2 set gave up on a text")
        return sorted(index - 1 for index in matched if index)


def _options(*, captures: bool) -> _Options:
    options = _RE2.Options()
    options.encoding = _RE2.Options.Encoding.LATIN1
    options.max_mem = PII_REGEX_MAX_BYTES
    options.never_capture = not captures
    options.dot_nl = True
    options.log_errors = False
    return options
