r"""Extra scans: what stands in a text under an encoding that a reader, or a model, sees through.

Escapes (percent, ``\uXXXX``, HTML numbers) are replaced in the whole text, so that what they
interrupt reads on. A base64 word is decoded on its own, and what is found in it covers the word.
One level: what is encoded twice is not found (docs/pii.md says so).
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from latensgate_enclave.pii.normalise import Folded, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

ESCAPED: Final = r"%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|&#(?:[0-9]{2,7}|[xX][0-9A-Fa-f]{2,6});"
BASE64_WORD: Final = r"[A-Za-z0-9+/_-]{16,}={0,2}"
_ESCAPE: Final = re.compile(rf"(?:%[89A-Fa-f][0-9A-Fa-f]){{2,4}}|{ESCAPED}")
_WORD: Final = re.compile(BASE64_WORD)
_URL_SAFE: Final = str.maketrans("-_", "+/")
_GROUP_CHARS: Final = 4
_CODE_POINTS: Final = 0x110000
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


class DecodedWord(NamedTuple):
    """A base64 word.

    Attributes:
        start: Where it stands.
        end: Code point after it.
        text: What it says.
    """

    start: int
    end: int
    text: str


def unescaped(text: str) -> Folded:
    """Replace every escape by what it stands for, with the way back."""
    return replaced(text, _ESCAPE, _unescape)


def _unescape(escape: str) -> str:
    if escape[0] == "%":
        return unquote_to_bytes(escape).decode("utf-8", "replace")
    if escape[0] == "\\":
        return chr(int(escape.removeprefix("\\u"), base=16))
    digits = escape[2:-1]
    number = int(digits[1:], 16) if digits[0] in "xX" else int(digits)
    return chr(number) if number < _CODE_POINTS else escape


def base64_words(text: str) -> Iterator[DecodedWord]:
    """Yield the words that are base64 of a text. Any other word decodes to bytes that are none."""
    for match in _WORD.finditer(text):
        decoded = _decoded(match.group().rstrip("="))
        if decoded is not None:
            yield DecodedWord(match.start(), match.end(), decoded)


def _decoded(word: str) -> str | None:
    whole = word[: len(word) - (len(word) % _GROUP_CHARS == 1)]
    padding = "=" * (-len(whole) % _GROUP_CHARS)
    try:
        text = binascii.a2b_base64(whole.translate(_URL_SAFE) + padding).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return None if _CONTROLS.search(text) else text
