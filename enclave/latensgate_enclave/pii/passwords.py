"""Passwords: what a word, a program, a command line or a connection introduces as one.

Two things tell a password from any other word: how it is introduced, and how it looks. A sign of
assignment is enough by itself; behind a mere verb, a value has to look like a password.
"""

from __future__ import annotations

import re
from typing import Final

from latensgate_enclave.pii.findings import Category
from latensgate_enclave.pii.recognizer import Pattern, Recognizer, Span

ASSIGN: Final = r"\\{0,2}[\"']?\]?\s{0,3}(?::=|=>|[:=])\s{0,3}"
"""With the backslashes of JSON in JSON, and the bracket of ``config["password"]``."""
DECLARED: Final = (
    r"(?: ?: ?| )(?:&?(?:'static )?(?i:str|string)|(?i:Optional)\[str\])"
    r"(?: \| (?:None|null|undefined))? ?= ?"
)
"""An assignment with the type before it."""
_QUOTED: Final = r"\\{0,2}[\"'`]([^\s\"'`][^\n\"'`]{2,255})"
_UNQUOTED: Final = r"([^\s\"'`,;<>]{4,})"
_ANY: Final = r"[\"']?([^\s\"']{4,})"
_INTRODUCING: Final = (
    r"(?i:pass(?:[ -]?word|wd|wrd|phrase|code|wort|ord(?:et)?)|pasword|p/?word|p/w|pswd|pwd"
    r"|kennwort|mot de passe|contrasena|senha|wachtwoord"
    r"|has\xffo|losenord(?:et)?|sifre(?:si|m|niz)?|salasana(?:ni)?|heslo"
    r"|adgangskoden?|kodeord(?:et)?|jelszo|parool|lozinka|geslo|zaporka|kata sandi|mat khau)"
)
"""As the view has them: without marks, and a letter that is not ASCII then is 0xFF."""
_IS: Final = r"(?i:is|was|ist|war|lautet|est|es|era|este|e|er|ar|je|jest|on)"
_CHANGED: Final = (
    "(?i:(?:(?:is|was|has been) )?(?:changed|set|reset|updated) to|(?:should|will|must) be|as)"
)
_TELLS: Final = rf"(?:{_IS}(?i: now)?:?|{_CHANGED}|(?i:to|now)|-)"
_FOR: Final = (
    r"(?i:for|to|of|furs?|zum|zur|vom|von|des|der|du|de|del|della|da|do|dla|voor|van|till|til"
    r"|pour|per|para|pentru)"
)
_FOR_WHAT: Final = rf"(?:{_FOR}(?: [A-Za-z\xff'-]{{1,20}}){{1,5}}(?: (?:{_IS}|to)| ?:) )?"
_SOME_WORDS: Final = r"(?:[A-Za-z\xff][A-Za-z\xff'-]{0,19} ?){1,5}"
_STATES: Final = r"(?: (?i:is|was|ist|war|est|es|era|e|lautet|jest)(?: now)? | ?[:=] ?)"
_AS_WHAT: Final = r"(?i:as|is) (?i:the|my|your|ur|his|her|our|their|a) (?:[a-z]{1,12} ){0,2}"
_TOLD: Final = 0.55
"""Score of a value that no sign introduces, or a verb's namesake: it must look like a password."""
_TOLD_TO_BE: Final = 0.58
_TOLD_OF_IT: Final = 0.5
"""Of one that a sentence about it introduces: letters and digits are enough, if it is long."""


def named_value(names: str) -> str:
    """Return a pattern for a name and its value as two members or attributes; group 1 is it."""
    return (
        rf"(?i:name|key)[\"']?[:=]\s?[\"']?[A-Za-z0-9._-]{{0,40}}{names}[\"']?[\s,]{{1,20}}"
        r"[\"']?(?i:value)[\"']?[:=]\s?[\"']?([^\s\"'<>]{4,255})"
    )


def passwords() -> Recognizer:
    """What a keyword introduces as a password, and the password of a URL or a command."""
    return Recognizer(
        name="own.password",
        category=Category.PASSWORD,
        patterns=(*_assigned(), *_told(), *_of_logins(), *_of_commands()),
        judge=_judge_password,
    )


def _assigned() -> tuple[Pattern, ...]:
    """Behind a sign of assignment, as people and as programs write it."""
    word = (
        rf"(?:(?:\b|_){_INTRODUCING}|[a-z](?:Pass(?:word|wd|phrase|code)|Pwd)"
        r"|\b[A-Z]{2,12}PASSWORD|[A-Z0-9]_PASS"
        r"|(?:\b|_)(?:db|s?ftp|smtp|imap|mail|mysql|pg|ssh|admin|root|user|auth|proxy|become)_pass)"
    )
    short = r"(?:(?:\b|_)(?i:pass)|[a-z]Pass)"  # also a verb, so only before a quoted value
    name = r"(?:(?i:passw(?:or)?d|passphrase|pwd)|PASS)"
    return (
        Pattern(rf"{word}{ASSIGN}{_UNQUOTED}", 0.6, group=1),
        Pattern(rf"(?:{word}|{short})(?:{ASSIGN}|{DECLARED}){_QUOTED}", 0.6, group=1),
        Pattern(
            rf"(?:{word}|(?i:basicauth)\([\"'][^\"'\n]{{1,64}})[\"'], ?[\"']([^\n\"']{{4,255}})",
            _TOLD,
            group=1,
        ),  # of a call
        Pattern(named_value(name), 0.6, group=1),
        Pattern(
            r"<(?i:pass(?:word|wd|phrase)|pwd)>(?:<!\[CDATA\[)?([^<>\n]{3,255}?)(?:\]\]>)?</",
            0.6,
            group=1,
        ),
        Pattern(
            r"\b(?i:identified\s+by\s+|password for [^\n=]{1,64} = (?:password\()?)" + _QUOTED,
            0.6,
            group=1,
        ),
    )


def _told() -> tuple[Pattern, ...]:
    """In a sentence."""
    some = r"[\"'`(]?([^\s\"'`]*[0-9][^\s\"'`]*)"
    told = rf"\b(?:{_INTRODUCING}|(?i:wi-?fi pass|pw))"
    short = (
        r"(?i:(?:my|the|new|your|root|admin) pass|pw|psw|(?:clave|parola)(?: [a-z]{2,12})?)"
        rf"(?: {_FOR}(?: [A-Za-z\xff'-]{{1,20}}){{1,5}})?"
    )
    return (
        *_told_of(told, some),
        Pattern(rf"{told}\s{_FOR_WHAT}(?:{_TELLS}\s)?{some}", _TOLD, group=1),
        Pattern(rf"\b{short}(?: {_IS}| ?:)? {some}", _TOLD, group=1),
        Pattern(rf"(?:\b|_)(?i:pass|pw){ASSIGN}{some}", _TOLD, group=1),
        Pattern(
            rf"\b(?i:cred(?:ential)?s?|login|zugangsdaten)(?: {_FOR} [A-Za-z0-9-]{{1,20}})?"
            rf"(?:: ?| )[^\s:/]{{1,64}} ?[:/] ?{some}",
            _TOLD,
            group=1,
        ),
        Pattern(
            r"\b(?i:pass ?phrase)(?: for(?: [A-Za-z'-]{1,20}){1,4})?(?: (?:is|was))?:? ?"
            r"[\"'`]([A-Za-z]{2,12}(?:[ -][A-Za-z]{2,12}){2,23})[\"'`]",
            0.6,
            group=1,
        ),
    )


def _told_of(told: str, some: str) -> tuple[Pattern, ...]:
    """In a sentence that says of a password what it is, was or becomes."""
    reset = rf"{told}[^\n]{{0,40}} (?i:changed|reset|set) (?i:it|that|this) to {some}"
    first = r"(?:^|[\s\"'`(])([^\s\"'`]*[0-9][^\s\"'`]*)[\"'`]?"
    return (
        Pattern(rf"\b{_INTRODUCING}\s(?i:is|ist)\s{some}", _TOLD_TO_BE, group=1),
        Pattern(rf"{told}\s{_SOME_WORDS}{_STATES}{some}", _TOLD, group=1),
        Pattern(reset, _TOLD_OF_IT, group=1),
        Pattern(rf"\b{_INTRODUCING} (?i:was|used to be) {some}", _TOLD_OF_IT, group=1),
        Pattern(rf"{first} {_AS_WHAT}{_INTRODUCING}\b", _TOLD, group=1),
    )


def _of_logins() -> tuple[Pattern, ...]:
    """Behind the name of its user."""
    user = r"(?i:login|user(?:name)?|usr|benutzer(?:name)?|usuario|utente|utilisateur|e-?mail)"
    return (
        Pattern(
            rf"\b{user}[\"']?\s?[:=]\s?\S{{1,64}}?[,;|/\s]{{1,3}}(?i:pass|pw|psw)[\"']?\s?[:=]"
            r"\s?[\"']?([^\s\"',;]{4,})",
            0.6,
            group=1,
        ),
        Pattern(r" (?:-u|--user)[ =][\"']?[^\s:\"'/]{1,64}:([^\s\"'/][^\s\"']{2,})", 0.6, 1),
        Pattern(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/@]*:([^\s/@]+)@", 0.8, group=1),
        Pattern(r"[A-Za-z0-9]:([^\s:@/\"']{3,})@(?:tcp|unix)\(", 0.8, group=1),
        Pattern(r"[a-z0-9]:([^\s\"':|]{4,})[\"']? ?\| ?(?:sudo )?chpasswd", 0.8, 1),
    )


def _of_commands() -> tuple[Pattern, ...]:
    """Behind an option, if the command is one whose option that is."""
    more = r" (?:[^\n]{0,48} )?"
    return (
        Pattern(rf"--(?:[a-z]{{1,16}}-)?{_INTRODUCING} {_UNQUOTED}", 0.6, group=1),
        Pattern(rf"\b(?:mysql(?:dump|admin)?{more}-p|sshpass -p ?){_ANY}", 0.6, group=1),
        Pattern(
            rf"\b(?:(?:sqlcmd|bcp|(?:un)?zip|ipmitool|mosquitto_[ps]ub){more}-P ?"
            rf"|redis-cli{more}-a |ldap[a-z]{{3,8}}{more}-w "
            rf"|(?:mongo(?:sh|dump|restore|export|import)?|docker login){more}-p "
            rf"|smbclient{more}-U ?[^\s%]{{1,32}}%|htpasswd -[A-Za-z]{{0,6}}b[A-Za-z]{{0,6}}"
            r" \S{1,64} \S{1,64} "
            rf"|net use{more}/user:\S{{1,32}} |keytool{more}-(?:[a-z]{{3,4}})?(?:store|key)pass "
            rf"|openssl{more}-pass(?:in|out)? pass:|ConvertTo-SecureString (?:-String )?"
            rf"|(?:ENV|ARG|setx) [A-Z0-9_]{{0,40}}(?:PASSWORD|PASS|PWD) ){_ANY}",
            0.6,
            group=1,
        ),
        Pattern(r"\b(?:sqlplus |oracle:thin:)[^\s/]{1,64}/([^\s/@]{4,})@", 0.6, group=1),
    )


_NO_PASSWORD: Final = re.compile(
    r"(?P<mask>[*.xX\x80_-])(?P=mask)+"
    r"|[\[<{(](?i:redacted|hidden|masked|removed|filtered|secret|(?:your[ _-]?)?password)[\]>})]+"
    r"|\$\{[A-Za-z_][A-Za-z0-9_.]*(?:\}|:\?.*)"  # a name that another program replaces
    r"|\{\{[A-Za-z0-9_.$|-]*\}{0,2}"
    r"|\$\(.*|%[A-Z_]{3,}%|[^A-Za-z0-9]{1,3}_?[A-Z_]{0,32}PASS[A-Z_]{0,32}%"
    r"|\$[A-Z_][A-Z0-9_]{2,}|(?i:\$[a-z_]{0,32}(?:pass|pw)[a-z_]{0,32})"
    r"|!(?:vault|secret|Ref|Sub|GetAtt|ImportValue|env_var)"
    r"|(?i:null|none|nil|true|false|undefined|&?str|string|secretstr|required|optional)[)}\]]*"
    r"|(?i:n?varchar|char)\([0-9]+\)?|Optional\[[A-Za-z]+\]"
    r"|(?:os|process|req|request|self|this|config|settings)(?:\.[A-Za-z_]+)+(?:[\[(].*)?"
    r"|[A-Za-z_.]+\(\)|[x*!]:[0-9]*:.*"  # the latter in a list of users
)
"""What stands where a password would: a mask, a place holder, a type, a program's expression."""
_EXPRESSION: Final = re.compile(
    r"@?[A-Za-z_][A-Za-z0-9_.]*\("  # a call, up to the quote of its first argument
    r"|[a-z_][A-Za-z0-9_.]*\([A-Za-z0-9_.,]*\)?(?:\.[A-Za-z_]+\([A-Za-z0-9_.,]*\)?)*"
    r"|(?:PropTypes|DataTypes|var|local|module|data|random_password|values|args|form|body"
    r"|user|secrets|env|props)"
    r"(?:\.[A-Za-z_][A-Za-z0-9_]*)+[\[(]?"
    r"|\{[a-z]*:?|\([a-z]+|\[\][a-z]+|(?:/[A-Za-z0-9_.-]+){2,}/?",
)
_OF_PROSE: Final = re.compile(
    "(?:see|siehe|ask|must|should|cannot|not|the|your|will|has|have|with|this|that|please|enter"
    "|choose|minimum|minimaal|mindestens|wird|muss|kein|unchanged|empty|unknown|expired"
    "|incorrect|wrong|invalid|missing)",
    re.IGNORECASE,
)
_NAMESAKE: Final = re.compile(
    r"(?:[A-Za-z_][A-Za-z0-9_]*\.){0,4}[A-Za-z_]*(?i:password|passwd|pwd)[)\]}]*"
)
_CONSTANT: Final = re.compile(r"[A-Z]\s?[:=]\s?\Z")
"""``PASSWORD=password`` is one; ``password=password`` hands a variable on."""
_NEXT_MEMBER: Final = re.compile(r"&[A-Za-z_.-]{1,40}=")
_SEPARATORS: Final = ",;"
_STOPS: Final = f".){_SEPARATORS}"
_LOOKED_AT: Final = {_TOLD: (6, 3), _TOLD_TO_BE: (4, 1), _TOLD_OF_IT: (8, 2)}
"""How many characters a password has at least, and of how many kinds, where words tell it."""
_BEFORE_CHARS: Final = 4


def _judge_password(view: str, match: Span) -> tuple[Span, ...]:
    text = view[match.start : match.end]
    before = view[max(0, match.start - _BEFORE_CHARS) : match.start]
    if _NO_PASSWORD.fullmatch(text) or (before[-1:] not in "\"'`" and _stands_for(text, before)):
        return ()
    following = _NEXT_MEMBER.search(text) if before.endswith("=") else None
    if following is not None:
        text = text[: following.start()]
    text = text.rstrip(_STOPS if match.score in _LOOKED_AT else _SEPARATORS)
    if not text or not _looks_like_one(text, match.score):
        return ()
    return (Span(match.start, match.start + len(text), match.score),)


def _stands_for(text: str, before: str) -> bool:
    """Whether what no quotes hold is a program's expression, or the next word of a sentence."""
    if _EXPRESSION.fullmatch(text) or _OF_PROSE.fullmatch(text):
        return True
    return _NAMESAKE.fullmatch(text) is not None and _CONSTANT.search(before) is None


def _looks_like_one(text: str, score: float) -> bool:
    if score not in _LOOKED_AT:
        return True
    if text.startswith("/"):
        return False  # a path, or what is left of a link
    min_chars, min_kinds = _LOOKED_AT[score]
    kinds = {_kind(character) for character in text}
    return len(text) >= min_chars and len(kinds) >= min_kinds and "0" in kinds


def _kind(character: str) -> str:
    """Return what an upper-case letter, a lower-case one, a digit or another character is."""
    if character.isdigit():
        return "0"
    if not character.isalpha():
        return "#"
    return "A" if character.isupper() else "a"
