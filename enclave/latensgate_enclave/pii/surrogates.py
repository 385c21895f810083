"""Surrogates: what the model reads in the place of a value, as ``[EMAIL_k7q2]``.

Short, ASCII and bracketed, because models copy that faithfully; the label says what it stands for,
so that the model can still write about it. The id is an HMAC of the value under the conversation's
secret: the same value has the same surrogate in every turn and on every replica, nobody without
the secret can make one that is restored, and nothing is kept between requests: each request brings
its whole conversation, and each value in it is given its surrogate anew.

An id has four characters, or four more for as long as it would be taken for another: by a second
value of the request, or by a text that the caller itself wrote in this form.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final

from latensgate_shared.pii_names import Category

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 characters, five bits each; without l, o, 0 and 1, which are taken for others."""
_STEP_CHARS: Final = 4
_ID_MAX_CHARS: Final = 24
_LABEL: Final = b"latensgate/1 surrogate\x00"
_LABELS: Final = {
    Category.EMAIL_ADDRESS: "EMAIL",
    Category.PHONE_NUMBER: "PHONE",
    Category.CREDIT_CARD: "CARD",
    Category.CREDIT_CARD_INVALID: "CARDNO",
    Category.IBAN_CODE: "IBAN",
    Category.IBAN_CODE_INVALID: "IBANNO",
    Category.US_SSN: "SSN",
    Category.US_ITIN: "ITIN",
    Category.US_PASSPORT: "PASSPORT",
    Category.US_BANK_NUMBER: "ACCOUNT",
    Category.UK_NHS: "NHS",
    Category.MEDICAL_LICENSE: "LICENSE",
    Category.RECORD_NUMBER: "RECORD",
    Category.STREET_ADDRESS: "ADDRESS",
    Category.IP_ADDRESS: "IP",
    Category.MAC_ADDRESS: "MAC",
    Category.DATE_TIME: "DATE",
    Category.API_KEY: "KEY",
    Category.PRIVATE_KEY: "PRIVATEKEY",
    Category.DENY_LISTED: "TERM",
    Category.ORGANIZATION: "ORG",
}
SEPARATOR: Final = "(?:\\\\{0,3}_|[-\u2010\u2011 \u00a0])"
_SHAPE: Final = re.compile(rf"(?<![A-Za-z0-9])[A-Za-z]{{2,12}}{SEPARATOR}[a-zA-Z2-9]{{4,24}}")


def label_of(category: Category) -> str:
    """Return the upper-case letters that a surrogate of this category begins with."""
    return _LABELS.get(category) or category.value.replace("_", "")


class Surrogates:
    """The surrogates of one request, and the way back to their values.

    Args:
        secret: The conversation's; whoever has it can tell which surrogate a value has.
    """

    __slots__ = ("_by_value", "_secret", "_taken", "values")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._by_value: dict[tuple[Category, str], str] = {}
        self._taken: set[str] = set()
        self.values: dict[str, str] = {}
        """Name (label and id, lower case) → value. Content: never printed."""

    def avoid(self, texts: Iterable[str]) -> None:
        """Note what callers wrote in the form of a surrogate: none of ours may be taken for it."""
        for text in texts:
            for match in _SHAPE.finditer(text):
                self._taken.add(folded(match.group()))

    def of(self, category: Category, value: str) -> str:
        """Return the surrogate of a value."""
        found = self._by_value.get((category, value))
        if found is None:
            found = self._by_value[category, value] = self._made(category, value)
        return found

    def _made(self, category: Category, value: str) -> str:
        label = label_of(category)
        told = category.value.encode() + b"\x00" + value.encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._secret, _LABEL + told, "sha256")
        whole = "".join([_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_ID_MAX_CHARS]])
        size = _STEP_CHARS
        while (name := f"{label}_{whole[:size]}".lower()) in self._taken and size < len(whole):
            size += _STEP_CHARS
        self._taken.add(name)
        self.values[name] = value
        return f"[{label}_{whole[:size]}]"

    def __len__(self) -> int:
        """Return how many values have one."""
        return len(self.values)

    @property
    def labels(self) -> frozenset[str]:
        """Labels of those that were made."""
        return frozenset(label_of(category) for category, _ in self._by_value)


def folded(written: str) -> str:
    """Return the name that a surrogate has in `Surrogates.values`, however it is written."""
    label = re.match("[A-Za-z]*", written)
    start = label.end() if label else 0
    end = start
    while end < len(written) and not (written[end].isascii() and written[end].isalnum()):
        end += 1
    return f"{written[:start]}_{written[end:]}".lower()
