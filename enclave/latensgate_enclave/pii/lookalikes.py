"""What looks like personal data and is not: versions like addresses, other numbers like SSNs.

A finding is dropped for what stands around it only where it looks like the other thing itself, and
where no name says what it is: who passes on too much does more harm than who hides too much.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Final

from latensgate_enclave.pii.recognizer import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_enclave.pii.recognizer import Judge, Span

_NEAR_CHARS: Final = 24
_COUNTED: Final = words(
    "version ver v revision section sec chapter clause paragraph article fig figure table annex"
    " appendix oid"
)
_RELEASED: Final = words(
    "release build firmware python java jdk android ios kernel php ruby openssl log4j ffmpeg"
)
_AGENTS: Final = words(
    "chrome chromium crios firefox safari edg edge opr opera version nginx apache python php"
)
"""What is counted in four parts: by its word, by its product, by a browser in its own name."""
_VERSION: Final = re.compile(r"[0-9]{1,2}(?:\.[0-9]{1,2}){3}")
"""Parts of a version are small; of four random parts of an address they are one time in forty."""
_MARKS: Final = " :=#\"'"
_COUNTED_AFTER: Final = re.compile(
    r"(?:\.[0-9]{1,5}){2}|\.(?:jar|war|zip|t?gz|tar|exe|dll|msi|whl|deb|rpm|dmg|apk|nupkg)\b"
    r"|-(?:alpha|beta|rc|snapshot)",
    re.IGNORECASE,
)
_LOCAL_NETWORK: Final = re.compile(r"(?:10|127|192\.168|172\.(?:1[6-9]|2[0-9]|3[01]))\.")
_CALLED_ADDRESS: Final = re.compile(
    r"(?<![A-Za-z])(?:ip(?:v?4)?|addr(?:ess(?:es)?)?)(?![A-Za-z])", re.IGNORECASE
)
_DIGIT_AND_DOT: Final = tuple(f"{digit}." for digit in range(10))
_WORD_CHARS: Final = string.ascii_letters + string.digits


def unless_counted(judge: Judge) -> Judge:
    """Return a judge of IPv4 that drops versions, sections and object identifiers first."""

    def checked(view: str, match: Span) -> Iterable[Span]:
        return () if _is_counted(view, match) else judge(view, match)

    return checked


def _is_counted(view: str, match: Span) -> bool:
    before = view[max(0, match.start - _NEAR_CHARS) : match.start]
    if before.endswith("/"):
        return _word_at_end(before[:-1]) in _AGENTS
    if before.endswith(_DIGIT_AND_DOT):
        return True
    after = view[match.end : match.end + _NEAR_CHARS]
    looks_so = _VERSION.fullmatch(view, match.start, match.end) is not None
    return (
        looks_so and not _CALLED_ADDRESS.search(f"{before} {after}") and _told(before, view, match)
    )


def _told(before: str, view: str, match: Span) -> bool:
    """Whether a word, or what it goes on with, says that it counts something."""
    if before.endswith("==") or _COUNTED_AFTER.match(view, match.end):
        return True
    if _word_at_end(before.rstrip("." + _MARKS)) in _COUNTED:
        return True
    # The release of an address says so, too: then it is one of a local network.
    released = _word_at_end(before.rstrip(_MARKS)) in _RELEASED
    return released and _LOCAL_NETWORK.match(view, match.start) is None


def _word_at_end(text: str) -> str:
    return text[len(text.rstrip(_WORD_CHARS)) :].lower()


_NUMBER_AFTER: Final = re.compile("-[0-9]")
_COUNTRY_CODE: Final = re.compile(
    "2(?:1[1-8]|[2-6][0-9]|9[0-9])|3[578][0-9]|42[0-3]|5[09][0-9]|6[7-9][0-9]|8(?:[057][0-9]|8[0-6])"
    "|9[679][0-9]"
)
"""ITU-T, list of assigned E.164 country codes: those of three digits."""
_US_NAME: Final = re.compile(
    r"(?<![a-z])(?:ssn|ss ?#|social|itin|tax(?:payer)?)(?![a-z])", re.IGNORECASE
)


def unless_part_of_another(judge: Judge) -> Judge:
    """Return a judge of SSNs and ITINs that drops what goes on, and what a plus leads in abroad.

    A plus is also a blank in forms and the first column of a difference: only what begins as
    countries' numbers do is left to the telephones.
    """

    def checked(view: str, match: Span) -> Iterable[Span]:
        before = view[max(0, match.start - _NEAR_CHARS) : match.start]
        abroad = before.endswith("+") and _COUNTRY_CODE.match(view, match.start)
        if (abroad or _NUMBER_AFTER.match(view, match.end)) and not _US_NAME.search(before):
            return ()
        return judge(view, match)

    return checked
