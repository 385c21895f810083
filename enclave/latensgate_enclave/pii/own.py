"""Own recognizers where Presidio has none, or one that needs what RE2 or an enclave lacks."""

from __future__ import annotations

import re
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Final

from latensgate_enclave.pii.findings import Category
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
    )


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


_ASSIGN: Final = r"\\{0,2}[\"']?\s{0,3}(?::=|=>|[:=])\s{0,3}"
"""With the backslashes of JSON in JSON."""
_QUOTED: Final = r"\\{0,2}[\"'`]([^\s\"'`][^\n\"'`]{2,255})"
_UNQUOTED: Final = r"([^\s\"'`,;<>]{4,})"
_PEM_NAME: Final = "[A-Z0-9 ]{0,40}"
_INTRODUCING: Final = (
    r"(?i:pass(?:word|wd|phrase|code|wort|ord)|pwd|kennwort|mot de passe|contrasena|senha"
    r"|wachtwoord|has\xffo|losenord|sifre|salasana|heslo|adgangskode)"
)
"""As the view has them: without marks, and a letter that is not ASCII then is 0xFF."""
_TELLS: Final = (
    r"(?i:(?:is|was)(?: now| changed to| set to| reset to)?|ist|war|lautet|est|es|era|e|to|now|-)"
)
_FOR_WHAT: Final = r"(?:(?i:for|to|of)(?: [A-Za-z'-]{1,20}){1,4} (?i:is|was) )?"
_TOLD: Final = 0.55
"""Score of a value that no sign introduces, or a verb's namesake: it must look like a password."""


def passwords() -> Recognizer:
    """What a keyword introduces as a password, and the password of a URL or a command."""
    word = (
        rf"(?:(?:\b|_){_INTRODUCING}|[a-z](?:Pass(?:word|wd|phrase|code)|Pwd)"
        r"|\b[A-Z]{2,12}PASSWORD|[A-Z0-9]_PASS)"
    )
    short = r"(?:(?:\b|_)(?i:pass)|[a-z]Pass)"  # also a verb, so only before a quoted value
    told = rf"\b(?:{_INTRODUCING}|(?i:wi-?fi pass))"
    some = r"[\"'`]?([^\s\"'`]*[0-9][^\s\"'`]*)"
    return Recognizer(
        name="own.password",
        category=Category.PASSWORD,
        patterns=(
            Pattern(rf"{word}{_ASSIGN}{_UNQUOTED}", 0.6, group=1),
            Pattern(rf"(?:{word}|{short}){_ASSIGN}{_QUOTED}", 0.6, group=1),
            Pattern(rf"\b{_INTRODUCING}\s(?i:is|ist)\s{some}", 0.6, group=1),
            Pattern(rf"{told}\s{_FOR_WHAT}(?:{_TELLS}\s)?{some}", _TOLD, group=1),
            Pattern(rf"\b(?i:my|the) pass (?i:is|was) {some}", _TOLD, group=1),
            Pattern(rf"(?:\b|_)(?i:pass|pw){_ASSIGN}{some}", _TOLD, group=1),
            Pattern(rf"\b(?i:cred(?:ential)?s?|login)(?:: ?| )[^\s:/]{{1,64}}[:/]{some}", _TOLD, 1),
            Pattern(rf"\b(?i:identified\s+by)\s+{_QUOTED}", 0.6, group=1),
            Pattern(r"<(?i:pass(?:word|wd|phrase)|pwd)>([^<>\n]{3,255})</", 0.6, group=1),
            Pattern(r" (?:-u|--user)[ =][\"']?[^\s:\"'/]{1,64}:([^\s\"'/][^\s\"']{2,})", 0.6, 1),
            Pattern(rf"--(?:[a-z]{{1,16}}-)?{_INTRODUCING} {_UNQUOTED}", 0.6, group=1),
            Pattern(
                r"\b(?:mysql(?:dump|admin)? [^\n]{0,80}-p|sshpass -p ?)[\"']?([^\s\"']{4,})", 0.6, 1
            ),
            Pattern(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/@]*:([^\s/@]+)@", 0.8, group=1),
        ),
        judge=_judge_password,
    )


_NO_PASSWORD: Final = re.compile(
    r"(?P<mask>[*.xX\x80_-])(?P=mask)+"
    r"|[\[<{(](?i:redacted|hidden|masked|removed|filtered|secret|(?:your[ _-]?)?password)[\]>})]+"
    r"|\$\{[A-Za-z_][A-Za-z0-9_.]*\}?|\{\{.*"  # a name that another program replaces
    r"|(?i:null|none|nil|true|false|undefined|string|str|required|optional)[)}\]]*"
    r"|(?:os|process|req|request|self|this|config|settings)\.[A-Za-z_.]+[\[(]?.*"
    r"|[A-Za-z_.]+\(\)"
)
"""What stands where a password would: a mask, a place holder, a type, a program's expression."""
_STOPS: Final = ".,;)"
_TOLD_MIN_CHARS: Final = 6


def _judge_password(view: str, match: Span) -> tuple[Span, ...]:
    text = view[match.start : match.end]
    if _NO_PASSWORD.fullmatch(text):
        return ()
    if match.score != _TOLD:
        return (match,)
    text = text.rstrip(_STOPS)
    kinds = {_kind(character) for character in text}
    mixed = len(text) >= _TOLD_MIN_CHARS and len(kinds) > 2 and "0" in kinds  # noqa: PLR2004
    return (Span(match.start, match.start + len(text), match.score),) if mixed else ()


def _kind(character: str) -> str:
    """Return what an upper-case letter, a lower-case one, a digit or another character is."""
    if character.isdigit():
        return "0"
    if not character.isalpha():
        return "#"
    return "A" if character.isupper() else "a"


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
    r"|(?:signing|encryption|private)[_ -]?key|session[_-]?id|secret|token)"
    r"|[a-z](?:Secret|Token|ApiKey|AccessKey))"
)


def api_keys() -> Recognizer:
    """Keys of known form, and long tokens after a keyword."""
    value = r"([A-Za-z0-9][A-Za-z0-9_./+=~-]{15,})"
    formats = tuple(Pattern(regex, 0.95) for regex in _KEY_FORMATS)
    return Recognizer(
        name="own.api_key",
        category=Category.API_KEY,
        patterns=(
            *formats,
            Pattern(rf"{_KEY_WORDS}{_ASSIGN}\\{{0,2}}[\"'`]?{value}", 0.6, group=1),
            Pattern(rf"{_KEY_WORDS}{_ASSIGN}[\"'`]([^\s\"'`]{{16,255}})[\"'`]", 0.6, group=1),
            Pattern(rf"{_KEY_WORDS} (?:(?i:is|was) )?[\"'`]?{value}", 0.6, group=1),
            Pattern(rf"\b(?i:bearer|basic) {value}", 0.6, group=1),
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
