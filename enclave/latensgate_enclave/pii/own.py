"""Own recognizers where Presidio has none, or one that needs what RE2 or an enclave lacks."""

from __future__ import annotations

import re
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Final

from latensgate_enclave.pii.findings import Category
from latensgate_enclave.pii.passwords import ASSIGN, DECLARED, named_value, passwords
from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span, words

if TYPE_CHECKING:
    from latensgate_enclave.pii.recognizer import Judge

_LOCAL: Final = r"[A-Za-z0-9_\xff][A-Za-z0-9._%+'\xff-]*"
_LABEL: Final = r"[A-Za-z0-9\xff][A-Za-z0-9\xff-]*"
_LAST_OF_DOMAIN: Final = r"[A-Za-z\xff][A-Za-z0-9\xff-]*[A-Za-z0-9\xff]"
_AT: Final = r" ?[\[({] ?(?i:at) ?[\])}] ?"
_WRITTEN_DOT: Final = r" ?[\[({] ?(?i:dot) ?[\])}] ?"
_DOT: Final = rf"(?:{_WRITTEN_DOT}|\.)"
_SPOKEN_END: Final = (
    "(?i:com?|org|net|edu|gov|info|biz|io|ai|me|eu|us|uk|ca|au|nz|in|jp|de|at|ch|fr|it|es|pt|nl|be"
    "|se|no|dk|fi|pl|cz|ie|il|br|mx)"
)
"""Domains that end an address told in words: after a bare "dot" any word could stand."""


def emails() -> Recognizer:
    """Addresses under any top-level domain, known or not: internal mail is personal data too.

    The last label starts with a letter, so that ``package@1.2.3`` is none. Presidio's recognizer
    would ask the public suffix list, over the network.
    """
    return Recognizer(
        name="own.email",
        category=Category.EMAIL_ADDRESS,
        patterns=(
            Pattern(rf"{_LOCAL}(?:@|%40)(?:{_LABEL}\.)+{_LAST_OF_DOMAIN}", 0.9),
            Pattern(
                rf"(?:{_LOCAL}{_WRITTEN_DOT}){{0,3}}{_LOCAL}{_AT}{_LABEL}(?:{_DOT}{_LABEL})+", 0.6
            ),
            Pattern(
                rf"{_LOCAL} (?i:at) {_LABEL}(?: (?i:dot) {_LABEL})? (?i:dot) {_SPOKEN_END}\b", 0.5
            ),
            Pattern(
                rf"{_LOCAL}(?:@ (?:{_LABEL}\.)+{_LAST_OF_DOMAIN}"
                rf"| @ (?:{_LABEL}\.)+{_LAST_OF_DOMAIN}"
                rf"| @(?:{_LABEL}\.)+{_SPOKEN_END}\b)",
                0.5,
            ),
        ),
        judge=_judge_email,
    )


_OF_A_PROGRAM: Final = re.compile(r"git@[A-Za-z0-9.-]+\Z")
"""Whom everybody logs in as, to fetch what ``git@github.com:someone/something`` names."""
_USER_OF_URL: Final = re.compile(r"://[^\s/@]{0,64}:\Z")
_URL_CHARS: Final = 72
_OF_SOMEBODY: Final = re.compile(r"[A-Za-z\xff._-]+@")
"""A name could be a person's, whatever stands before it; with digits or signs it is a password."""


def _judge_email(view: str, match: Span) -> tuple[Span, ...]:
    if _OF_A_PROGRAM.match(view, match.start, match.end) and view.startswith(":", match.end):
        return ()
    if _OF_SOMEBODY.match(view, match.start, match.end):
        return (match,)
    # What stands before the "@" is the password of a URL, and has a category of its own.
    before = _USER_OF_URL.search(view, max(0, match.start - _URL_CHARS), match.start)
    return () if before else (match,)


_IP_CONTEXT: Final = words("ip ipv4 ipv6 address host server")
_RUN: Final = "[A-Za-z0-9_:.]*"
_LAST_LABEL: Final = re.compile(r".*[G-Zg-z_][A-Za-z0-9_]*:(?=.)")
"""What stands before an address without a space, as ``src`` in ``src:fe80::1``."""


def ip6_addresses() -> Recognizer:
    """IPv6 in every form; the standard library's parser decides, not a long expression."""
    return Recognizer(
        name="own.ip6",
        category=Category.IP_ADDRESS,
        patterns=(
            Pattern(
                r"[A-Za-z0-9_:.]*:[A-Za-z0-9_:.]*:[A-Za-z0-9_:.]*"
                r"(?:%[A-Za-z][A-Za-z0-9_.-]{0,14})?(?:/[0-9]{1,3})?",
                0.6,
            ),
        ),
        context=_IP_CONTEXT,
        judge=_judge_ip6,
    )


_IP6_MAX_CHARS: Final = 65
"""Eight groups with an embedded IPv4 address (45), a zone (16) and a prefix length (4)."""
_LABEL_MAX_CHARS: Final = 32


def _judge_ip6(view: str, match: Span) -> tuple[Span, ...]:
    if match.end - match.start > _IP6_MAX_CHARS + _LABEL_MAX_CHARS:
        return ()
    text = view[match.start : match.end]
    label = _LAST_LABEL.match(text)
    start = 0 if label is None else label.end()
    address = text[start:].rstrip(".")
    if not address.endswith("::"):
        address = address.rstrip(":")
    if not _is_ip6(address):
        return ()
    # "a::b" is an address, and a name in several programming languages.
    score = match.score if any(character.isdigit() for character in address) else 0.3
    return (Span(match.start + start, match.start + start + len(address), score),)


def _is_ip6(text: str) -> bool:
    if text in {"::", ""}:
        return False  # the unspecified address says nothing about anybody
    try:
        return ip_interface(text).version == 6  # noqa: PLR2004 - the protocol's number
    except ValueError:
        return False


def ip4_addresses() -> Recognizer:
    """IPv4 as people who write about attacks do, with ``[.]`` or ``(.)`` for dots."""
    octet = "(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
    marked = "|".join(rf"(?:{mark}{octet}){{3}}" for mark in (r"\[\.\]", r"\(\.\)", r"\[dot\]"))
    return Recognizer(
        name="own.ip4",
        category=Category.IP_ADDRESS,
        patterns=(Pattern(rf"\b{octet}(?:{marked})\b", 0.6),),
        context=_IP_CONTEXT,
    )


def mac_addresses(judge: Judge) -> Recognizer:
    """EUI-48 with one kind of separator; Presidio's pattern has a back-reference for that."""
    pair = "[0-9A-Fa-f]{2}"
    return Recognizer(
        name="own.mac",
        category=Category.MAC_ADDRESS,
        patterns=tuple(Pattern(rf"\b(?:{pair}{mark}){{5}}{pair}\b", 0.6) for mark in ":-"),
        judge=judge,
    )


def urls() -> Recognizer:
    """Links with a scheme or ``www.``; bare domains are too often file names and methods."""
    rest = r"[A-Za-z0-9\xff][^\s<>\"'`{}|\\^]*[A-Za-z0-9\xff/=&_~#-]"
    return Recognizer(
        name="own.url",
        category=Category.URL,
        patterns=(
            Pattern(rf"(?i:https?|ftp|wss?)://{rest}", 0.6),
            Pattern(rf"\b(?i:www)\.{rest}", 0.6),
        ),
    )


_PEM_NAME: Final = "[A-Z0-9 ]{0,40}"


def private_keys() -> Recognizer:
    """PEM and OpenPGP private keys, to their end mark or else as far as the key can reach."""
    end = rf"(?:-----END {_PEM_NAME}KEY(?: BLOCK)?-----)?"
    return Recognizer(
        name="own.private_key",
        category=Category.PRIVATE_KEY,
        patterns=(
            Pattern(rf"-----BEGIN {_PEM_NAME}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-[^-])*{end}", 1.0),
        ),
    )


_KEY_FORMATS: Final = (
    r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b",  # AWS access key ids
    r"\bgh[opusr]_[A-Za-z0-9]{36,255}",  # GitHub tokens
    r"\bgithub_pat_[A-Za-z0-9_]{40,255}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",  # GitLab
    r"\bxox[abeprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"\b(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,}",  # Stripe
    r"\bsk-(?:[a-z]{2,8}-){0,2}[A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic and their like
    r"\bAIza[A-Za-z0-9_-]{35}",  # Google API keys
    r"\bya29\.[A-Za-z0-9_-]{20,}",  # Google OAuth tokens
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",  # SendGrid
    r"\b(?:AC|SK)[0-9a-f]{32}\b",  # Twilio
    r"\bnpm_[A-Za-z0-9]{36}\b",
    r"\bpypi-[A-Za-z0-9_-]{40,}",
    r"\bhf_[A-Za-z0-9]{30,}",  # Hugging Face
    r"\b(?:whsec_[A-Za-z0-9+/=]{24,}|sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,})",  # payment
    r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",  # Shopify
    r"\b(?:GOCSPX-[A-Za-z0-9_-]{20,}|EAAC[A-Za-z0-9]{30,})",  # Google and Facebook clients
    r"\b(?:dop_v1_[0-9a-f]{64}|dapi[0-9a-f]{32}|key-[0-9a-f]{32}|[0-9a-f]{32}-us[0-9]{1,2})\b",
    r"\b(?:hv[bs]\.[A-Za-z0-9_-]{20,}|NRAK-[A-Z0-9]{20,}|gl(?:sa|c)_[A-Za-z0-9+/=_-]{20,})",
    r"\b(?:ATATT3[A-Za-z0-9_=-]{20,}|lin_api_[A-Za-z0-9]{30,}|dckr_pat_[A-Za-z0-9_-]{20,})",
    r"\b(?:PMAK-[0-9a-f]{24}-[0-9a-f]{34}|pscale_[a-z]{2,8}_[A-Za-z0-9_.-]{30,})",
    r"\b(?:gsk_[A-Za-z0-9]{40,}|xai-[A-Za-z0-9]{60,}|r8_[A-Za-z0-9]{30,})",  # models
    r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}\b",  # Discord bots
    r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{30,35}\b",  # Telegram bots
    r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}",
    r"\bT[A-Z0-9]{8,11}/B[A-Z0-9]{8,11}/[A-Za-z0-9]{20,}",  # Slack's hooks
    r"\bapi/webhooks/[0-9]{17,20}/[A-Za-z0-9_-]{60,}",  # Discord's
    r"\blg_(?:live|test)_[A-Za-z0-9]{10,}",  # our own
    r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",  # JSON Web Tokens
)
_KEY_WORDS: Final = (
    r"(?:(?:\b|_)(?i:api[_ -]?(?:key|token)|secret[_ -]?(?:access[_ -]?)?key"
    r"|(?:shared)?access[_ -]?(?:key|token)|accountkey|client[_ -]?secret"
    r"|(?:auth|bot|refresh|session|private)[_ -]?token"
    r"|(?:signing|encryption|private|subscription)[_ -]?key|session[_-]?id|appid|secret|token"
    r"|api[ -]?schlussel|(?:cle|clave|chiave|chave)(?: de)?[ -]api)"
    r"|[a-z](?:Secret|Token|ApiKey|AccessKey))"
)


_KEY_IS: Final = "(?i:is|was|ist|lautet|est|es|e)"
_SIGNATURE: Final = "[A-Za-z0-9%+/_-]{40,}={0,2}"
_AWS_ID: Final = r"\b(?:AKIA|ASIA)[A-Z0-9]{16}"
"""What the secret is handed on behind, without a word."""


def api_keys() -> Recognizer:
    """Keys of known form, and long tokens after a keyword."""
    value = r"([A-Za-z0-9][A-Za-z0-9_./+=~-]{15,})"
    formats = tuple(Pattern(regex, 0.95) for regex in _KEY_FORMATS)
    return Recognizer(
        name="own.api_key",
        category=Category.API_KEY,
        patterns=(
            *formats,
            Pattern(rf"{_KEY_WORDS}{ASSIGN}\\{{0,2}}[\"'`]?{value}", 0.6, group=1),
            Pattern(
                rf"{_KEY_WORDS}(?:{ASSIGN}|{DECLARED})[\"'`]([^\s\"'`]{{16,255}})[\"'`]",
                0.6,
                group=1,
            ),
            Pattern(rf"{_KEY_WORDS} (?:{_KEY_IS} )?[\"'`]?{value}", 0.6, group=1),
            Pattern(named_value(_KEY_WORDS), 0.6, group=1),
            Pattern(rf"[?&]sig=({_SIGNATURE})", 0.6, group=1),  # shared access, Azure
            Pattern(r"\bhttps?://([0-9a-f]{32})(?::[0-9a-f]{32})?@", 0.6, group=1),  # Sentry
            Pattern(rf"\b(?i:bearer|basic) {value}", 0.6, group=1),
            Pattern(rf"{_AWS_ID}[\"'`]?[\s,;:/|]{{1,6}}[\"'`]?([A-Za-z0-9/+]{{40}})\b", 0.6, 1),
        ),
        judge=_judge_key,
    )


def _judge_key(view: str, match: Span) -> tuple[Span, ...]:
    if match.score > 0.9:  # noqa: PLR2004 - the score of a known form, above
        return (match,)
    text = view[match.start : match.end]
    mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    return (match,) if mixed else ()


def own(mac_judge: Judge) -> tuple[Recognizer, ...]:
    """Return the recognizers of this module."""
    return (
        emails(),
        ip4_addresses(),
        ip6_addresses(),
        mac_addresses(mac_judge),
        urls(),
        passwords(),
        private_keys(),
        api_keys(),
    )
