"""Passwords, told by the words around them, and where programs and commands take them."""

from __future__ import annotations

import re
from typing import Final

from latensgate_enclave.pii.findings import Category
from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span

ASSIGN: Final = r"\\{0,2}[\"']?\s{0,3}(?::=|=>|[:=])\s{0,3}"
"""With the backslashes of JSON in JSON."""
_QUOTED: Final = r"\\{0,2}[\"'`]([^\s\"'`][^\n\"'`]{2,255})"
_UNQUOTED: Final = r"([^\s\"'`,;<>]{4,})"
_INTRODUCING: Final = (
    r"(?i:pass(?:[ -]?word|wd|wrd|phrase|code|wort|ord)|pasword|p/?word|p/w|pswd|pwd|kennwort"
    r"|mot de passe|contrasena|senha|wachtwoord|has\xffo|losenord|sifre|salasana|heslo|adgangskode)"
)
"""As the view has them: without marks, and a letter that is not ASCII then is 0xFF."""
_TELLS: Final = (
    r"(?i:(?:is|was)(?: now| changed to| set to| reset to)?|ist|war|lautet|est|es|era|e|to|now|-)"
)
_SOME_WORDS: Final = r"(?:[A-Za-z\xff][A-Za-z\xff'-]{0,19} ?){1,5}"
_STATES: Final = r"(?: (?i:is|was|ist|war|est|es|era|e|lautet|jest)(?: now)? | ?[:=] ?)"
_AS_WHAT: Final = r"(?i:as|is) (?i:the|my|your|ur|his|her|our|their|a) (?:[a-z]{1,12} ){0,2}"
_TOLD: Final = 0.55
"""Score of a value that no sign introduces, or a verb's namesake: it must look like a password."""
_TOLD_TO_BE: Final = 0.58
_TOLD_OF_IT: Final = 0.5
"""Of one that a sentence about it introduces: letters and digits are enough, if it is long."""


_WORD: Final = (
    rf"(?:(?:\b|_){_INTRODUCING}|[a-z](?:Pass(?:word|wd|phrase|code)|Pwd)"
    r"|\b[A-Z]{2,12}PASSWORD|[A-Z0-9]_PASS)"
)
_SOME: Final = r"[\"'`]?([^\s\"'`]*[0-9][^\s\"'`]*)"


def passwords() -> Recognizer:
    """What a keyword introduces as a password, and the password of a URL or a command."""
    return Recognizer(
        name="own.password",
        category=Category.PASSWORD,
        patterns=(*_assigned(), *_told(), *_handed_over()),
        judge=_judge_password,
    )


def _assigned() -> tuple[Pattern, ...]:
    """Behind a sign."""
    short = r"(?:(?:\b|_)(?i:pass)|[a-z]Pass)"  # also a verb, so only before a quoted value
    return (
        Pattern(rf"{_WORD}{ASSIGN}{_UNQUOTED}", 0.6, group=1),
        Pattern(rf"(?:{_WORD}|{short}){ASSIGN}{_QUOTED}", 0.6, group=1),
        Pattern(rf"(?:\b|_)(?i:pass|pw){ASSIGN}{_SOME}", _TOLD, group=1),
        Pattern(rf"\b(?i:cred(?:ential)?s?|login)(?:: ?| )[^\s:/]{{1,64}}[:/]{_SOME}", _TOLD, 1),
    )


def _told() -> tuple[Pattern, ...]:
    """In a sentence."""
    told = rf"\b(?:{_INTRODUCING}|(?i:wi-?fi pass|pw))"
    reset = rf"{told}[^\n]{{0,40}} (?i:changed|reset|set) (?i:it|that|this) to {_SOME}"
    first = r"(?:^|[\s\"'`(])([^\s\"'`]*[0-9][^\s\"'`]*)[\"'`]?"
    return (
        Pattern(rf"\b{_INTRODUCING}\s(?i:is|ist)\s{_SOME}", _TOLD_TO_BE, group=1),
        Pattern(rf"{told}\s(?:{_TELLS}\s)?{_SOME}", _TOLD, group=1),
        Pattern(rf"{told}\s{_SOME_WORDS}{_STATES}{_SOME}", _TOLD, group=1),
        Pattern(reset, _TOLD_OF_IT, group=1),
        Pattern(rf"\b{_INTRODUCING} (?i:was|used to be) {_SOME}", _TOLD_OF_IT, group=1),
        Pattern(rf"{first} {_AS_WHAT}{_INTRODUCING}\b", _TOLD, group=1),
        Pattern(rf"\b(?i:my|the) pass (?i:is|was) {_SOME}", _TOLD, group=1),
    )


def _handed_over() -> tuple[Pattern, ...]:
    """To a program, in its own way."""
    return (
        Pattern(rf"\b(?i:identified\s+by)\s+{_QUOTED}", 0.6, group=1),
        Pattern(r"<(?i:pass(?:word|wd|phrase)|pwd)>([^<>\n]{3,255})</", 0.6, group=1),
        Pattern(r" (?:-u|--user)[ =][\"']?[^\s:\"'/]{1,64}:([^\s\"'/][^\s\"']{2,})", 0.6, 1),
        Pattern(rf"--(?:[a-z]{{1,16}}-)?{_INTRODUCING} {_UNQUOTED}", 0.6, group=1),
        Pattern(
            r"\b(?:mysql(?:dump|admin)? [^\n]{0,80}-p|sshpass -p ?)[\"']?([^\s\"']{4,})", 0.6, 1
        ),
        Pattern(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/@]*:([^\s/@]+)@", 0.8, group=1),
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
_SEPARATORS: Final = ",;"
_STOPS: Final = f".){_SEPARATORS}"
_LOOKED_AT: Final = {_TOLD: (6, 3), _TOLD_TO_BE: (4, 1), _TOLD_OF_IT: (8, 2)}
"""How many characters a password has at least, and of how many kinds, where words tell it."""


def _judge_password(view: str, match: Span) -> tuple[Span, ...]:
    text = view[match.start : match.end]
    if _NO_PASSWORD.fullmatch(text):
        return ()
    if match.score not in _LOOKED_AT:
        text = text.rstrip(_SEPARATORS)
        return (Span(match.start, match.start + len(text), match.score),)
    text = text.rstrip(_STOPS)
    min_chars, min_kinds = _LOOKED_AT[match.score]
    kinds = {_kind(character) for character in text}
    looks_like_one = len(text) >= min_chars and len(kinds) >= min_kinds and "0" in kinds
    return (Span(match.start, match.start + len(text), match.score),) if looks_like_one else ()


def _kind(character: str) -> str:
    """Return what an upper-case letter, a lower-case one, a digit or another character is."""
    if character.isdigit():
        return "0"
    if not character.isalpha():
        return "#"
    return "A" if character.isupper() else "a"
