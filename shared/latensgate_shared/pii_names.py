"""The closed vocabulary of policies about personal data: what, where, and what is done.

It crosses a boundary: tenants sign policies, tools check them before they are signed, and receipts
count by these names.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final


class Category(Enum):
    """Every category that a policy can name. Names are Presidio's where it has one.

    ``…_INVALID`` has the form and the issuer or country of its namesake, and wrong check digits: a
    typing error more often than not, so a policy may want to mask it and not to refuse it.
    """

    EMAIL_ADDRESS = "EMAIL_ADDRESS"
    PHONE_NUMBER = "PHONE_NUMBER"
    CREDIT_CARD = "CREDIT_CARD"
    CREDIT_CARD_INVALID = "CREDIT_CARD_INVALID"
    IBAN_CODE = "IBAN_CODE"
    IBAN_CODE_INVALID = "IBAN_CODE_INVALID"
    US_SSN = "US_SSN"
    US_ITIN = "US_ITIN"
    US_PASSPORT = "US_PASSPORT"
    US_BANK_NUMBER = "US_BANK_NUMBER"
    UK_NHS = "UK_NHS"
    MEDICAL_LICENSE = "MEDICAL_LICENSE"
    RECORD_NUMBER = "RECORD_NUMBER"
    STREET_ADDRESS = "STREET_ADDRESS"
    CRYPTO = "CRYPTO"
    IP_ADDRESS = "IP_ADDRESS"
    MAC_ADDRESS = "MAC_ADDRESS"
    UUID = "UUID"
    URL = "URL"
    DATE_TIME = "DATE_TIME"
    API_KEY = "API_KEY"
    PRIVATE_KEY = "PRIVATE_KEY"
    PASSWORD = "PASSWORD"  # noqa: S105 - the name of a category
    PERSON = "PERSON"
    LOCATION = "LOCATION"
    ORGANIZATION = "ORGANIZATION"
    NRP = "NRP"
    DENY_LISTED = "DENY_LISTED"
    """A term of a policy's own deny list."""
    CUSTOM = "CUSTOM"
    """What a policy's own recognizer finds, unless it names another category."""
    ATTACHMENT = "ATTACHMENT"
    """An image, a sound or a binary document, which nobody can look into (ADR 0031)."""


OF_POLICIES: Final = frozenset({Category.DENY_LISTED, Category.CUSTOM})
"""Found by what a policy itself brings, and by no engine."""

UNSEEN: Final = frozenset({Category.ATTACHMENT})
"""Counted and refused as a whole: there is no text to find anything in, and nothing to mask."""

NAME_CATEGORIES: Final = frozenset(
    {Category.PERSON, Category.LOCATION, Category.ORGANIZATION, Category.NRP}
)
"""Found by tier 2 alone. A policy has to name them: they need the ``ner`` flavour of the image."""


class Direction(Enum):
    """Where a text goes."""

    PROMPT = "prompt"
    ANSWER = "answer"
    TOOL_ARGUMENTS = "tool_arguments"
    TOOL_RESULTS = "tool_results"


class Action(IntEnum):
    """What happens to a finding; the order is that of strictness."""

    ALLOW = 0
    FLAG = 1
    PSEUDONYMISE = 2
    MASK = 3
    FAIL = 4
