"""Generated conversations that carry personal data in every place, and what must become of it.

Each uses a tool and goes over several turns, through the real client, parent and enclave, under a
policy that pseudonymises. The scripted model repeats what it is told, in texts and in arguments of
tools, so the caller must read back exactly its own words, and the upstream must have heard none of
the values.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import capture

if TYPE_CHECKING:
    from collections import deque

    from latensgate import Latensgate
    from latensgate_shared.strict_json import JSONObject

TO_MODEL: Final[JSONObject] = {"action": "pseudonymise"}
POLICY: Final[JSONObject] = {
    "rules": {
        "*": {
            "prompt": TO_MODEL,
            "tool_arguments": TO_MODEL,
            "tool_results": TO_MODEL,
            "answer": {"action": "mask"},
        }
    }
}
_NAMES: Final = ("anna", "j.novak", "mbeki_t", "o'hara", "li.wei", "s.garcia", "ö.yilmaz", "kofi99")
_FIRMS: Final = ("example", "corp-mail", "post", "uni-bonn", "acme.internal", "kontor")
_ENDS: Final = ("com", "org", "de", "co.uk", "local", "io", "museum")
_STREETS: Final = ("Maple Street", "Oak Avenue", "Station Road", "Mill Lane", "Hill Drive")
_DIGITS: Final = "0123456789"
Object = dict[str, object]


def _digits(chance: random.Random, count: int, first: str = _DIGITS) -> str:
    return chance.choice(first) + "".join(chance.choice(_DIGITS) for _ in range(count - 1))


def _email(chance: random.Random) -> str:
    name = f"{chance.choice(_NAMES)}{chance.randrange(1000)}"
    return f"{name}@{chance.choice(_FIRMS)}.{chance.choice(_ENDS)}"


def _card(chance: random.Random) -> str:
    digits = chance.choice(("4", "51", "2221", "6011")) + _digits(chance, 20)
    digits = digits[:15]
    doubled = sum(
        sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(digits)
    )
    digits += str(-doubled % 10)
    mark = chance.choice(("", " ", "-"))
    return mark.join(digits[place : place + 4] for place in range(0, 16, 4))


def _iban(chance: random.Random) -> str:
    account = _digits(chance, 18)
    check = 98 - int(account + "131400") % 97  # D = 13, E = 14 (ISO 13616)
    iban = f"DE{check:02}{account}"
    if chance.random() < 0.5:
        return iban
    return " ".join(iban[place : place + 4] for place in range(0, len(iban), 4))


def _ssn(chance: random.Random) -> str:
    return f"{chance.randrange(101, 600)}-{chance.randrange(10, 99)}-{chance.randrange(1000, 9999)}"


def _phone(chance: random.Random) -> str:
    american = f"({chance.randrange(212, 989)}) 555-{chance.randrange(1000, 9999)}"
    german = f"+49 30 {chance.randrange(10**6, 10**7)}"
    british = f"+44 7700 {chance.randrange(900000, 900999)}"
    return chance.choice((american, german, british))


def _ip(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return ".".join(str(chance.randrange(11, 250)) for _ in range(4))
    return f"2001:db8:{chance.randrange(4096, 65536):x}::{chance.randrange(4096, 65536):x}"


def _key(chance: random.Random) -> str:
    letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    secret = "".join(chance.choice(letters) for _ in range(36))
    return chance.choice(("ghp_", "sk_live_", "glpat-")) + secret


def _address(chance: random.Random) -> str:
    return f"{chance.randrange(100, 9999)} {chance.choice(_STREETS)}"


def _mac(chance: random.Random) -> str:
    return ":".join(f"{chance.randrange(256):02x}" for _ in range(6))


_KINDS: Final[tuple[Callable[[random.Random], str], ...]] = (
    _email,
    _card,
    _iban,
    _ssn,
    _phone,
    _ip,
    _key,
    _address,
    _mac,
)
_FRAMES: Final = (
    "Please write to {} today.",
    "My details: {}, as before.",
    "Is {} still right?",
    "Ask them about **{}** — it is urgent.",
    'They noted "{}" in the file.',
    "1. {}\n2. the rest",
    "→ {} ←",
)


@dataclass
class Conversation:
    """One conversation.

    Attributes:
        chance: Where everything comes from.
        values: What may not reach the upstream.
        messages: So far.
    """

    chance: random.Random
    values: list[str] = field(default_factory=list[str])
    messages: list[Object] = field(default_factory=list[Object])

    def value(self) -> str:
        """Return a value: a new one, or one that was said before."""
        if self.values and self.chance.random() < 0.35:
            return self.chance.choice(self.values)
        value = self.chance.choice(_KINDS)(self.chance)
        self.values.append(value)
        return value

    def sentence(self) -> str:
        """Return a short text with one value or two."""
        frames = [self.chance.choice(_FRAMES) for _ in range(self.chance.randrange(1, 3))]
        return "\n".join(frame.format(self.value()) for frame in frames)

    def content(self) -> object:
        """Return the content of a user's message: a text, or parts."""
        text = self.sentence()
        if self.chance.random() < 0.6:
            return text
        return [{"type": "text", "text": text}]

    def tools(self) -> list[Object]:
        """Return a tool whose description and schema carry values, too."""
        schema: Object = {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": f"for example {self.value()}"},
                "limit": {"type": "integer", "minimum": 3},
            },
            "required": ["query"],
        }
        function: Object = {
            "name": "lookup_records",
            "description": f"Records of {self.value()}.",
            "parameters": schema,
        }
        return [{"type": "function", "function": function}]

    def result(self, told: str) -> str:
        """Return what a tool says: JSON in a text, with what it was asked, and more."""
        return json.dumps(
            {
                "asked": told,
                "rows": [{"id": row, "contact": self.value()} for row in range(2)],
                self.value(): {"seen": True},
            },
            ensure_ascii=self.chance.random() < 0.5,
        )


@dataclass
class Outcome:
    """What went wrong, in words without values."""

    calls: int = 0
    faults: list[str] = field(default_factory=list[str])

    def expect(self, what: str, *, holds: bool) -> None:
        if not holds:
            self.faults.append(what)


@dataclass(frozen=True)
class Said:
    """What a model answered."""

    text: str
    calls: Sequence[Mapping[str, str]]


def hold(seed: int, client: Latensgate, model: str, seen: deque[bytes]) -> Outcome:
    """Hold one conversation, and judge what the upstream saw and what came back.

    Args:
        seed: Of everything in it.
        client: Asks under `POLICY`.
        model: A scripted one.
        seen: What the upstream got; emptied before and after.
    """
    talk = Conversation(random.Random(seed))  # noqa: S311 -- examples, no secrets
    outcome = Outcome()
    seen.clear()
    talk.messages.append({"role": "system", "content": f"You serve {talk.value()}."})
    for _ in range(talk.chance.randrange(1, 3)):
        _use_tool(talk, outcome, client, model)
        _chat(talk, outcome, client, model)
    leaks = leaked(seen, talk.values)
    outcome.expect(f"conversation {seed}: the upstream saw {leaks}", holds=not leaks)
    seen.clear()
    return outcome


def _use_tool(talk: Conversation, outcome: Outcome, client: Latensgate, model: str) -> None:
    asked = talk.content()
    talk.messages.append({"role": "user", "content": asked})
    tools = talk.tools()
    forced = {"type": "function", "function": {"name": "lookup_records"}}
    said = ask(talk, outcome, client, model, tools=tools, tool_choice=forced)
    outcome.expect("a tool was to be called", holds=len(said.calls) == 1)
    for call in said.calls:
        told = cast("Object", json.loads(call["arguments"]))
        outcome.expect("arguments came back changed", holds=told.get("query") == text_of(asked))
        function = {"name": call["name"], "arguments": call["arguments"]}
        called: Object = {"id": call["id"], "type": "function", "function": function}
        talk.messages.append({"role": "assistant", "content": None, "tool_calls": [called]})
        result = talk.result(str(told.get("query")))
        talk.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        answered = ask(talk, outcome, client, model, tools=tools)
        right = answered.text == f"Tool result: {result}"
        outcome.expect("a tool's result came back changed", holds=right)
        talk.messages.append({"role": "assistant", "content": answered.text})


def _chat(talk: Conversation, outcome: Outcome, client: Latensgate, model: str) -> None:
    asked = talk.content()
    talk.messages.append({"role": "user", "content": asked})
    said = ask(talk, outcome, client, model)
    outcome.expect("a text came back changed", holds=said.text == f"You said: {text_of(asked)}")
    talk.messages.append({"role": "assistant", "content": said.text})


def text_of(content: object) -> str:
    """Return the text of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) for part in cast("list[Object]", content))


def ask(
    talk: Conversation, outcome: Outcome, client: Latensgate, model: str, **more: object
) -> Said:
    """Ask, whole or streamed."""
    outcome.calls += 1
    body = {"model": model, "messages": talk.messages, **more}
    create = cast("Callable[..., object]", client.chat.completions.create)
    if talk.chance.random() < 0.5:
        return _streamed(cast("Iterable[object]", create(**body, stream=True)))
    return _whole(create(**body))


def _dumped(thing: object) -> Object:
    return cast("Object", cast("Callable[[], object]", getattr(thing, "model_dump"))())  # noqa: B009 -- any of the client's types


def _whole(answer: object) -> Said:
    (choice,) = cast("list[dict[str, Object]]", _dumped(answer)["choices"])
    message = choice["message"]
    calls = cast("list[dict[str, object]]", message.get("tool_calls") or [])
    return Said(
        str(message.get("content") or ""),
        [{"id": str(call["id"]), **cast("dict[str, str]", call["function"])} for call in calls],
    )


def _streamed(pieces: Iterable[object]) -> Said:
    text, calls = "", dict[int, dict[str, str]]()
    for piece in pieces:
        for choice in cast("list[dict[str, Object]]", _dumped(piece)["choices"]):
            delta = choice["delta"]
            text += str(delta.get("content") or "")
            for part in cast("list[Object]", delta.get("tool_calls") or []):
                call = calls.setdefault(cast("int", part["index"]), {"arguments": ""})
                function = cast("Object", part.get("function") or {})
                if part.get("id"):
                    call |= {"id": str(part["id"]), "name": str(function["name"])}
                call["arguments"] += str(function.get("arguments") or "")
    return Said(text, list(calls.values()))


_NOT_WORDS: Final = re.compile(rb"[^a-z0-9]+")


def leaked(bodies: Iterable[bytes], values: Iterable[str]) -> list[str]:
    """Return in what forms values stand in what the upstream got; never the values."""
    captured = b"\n".join(bodies)
    wanted = set(values)
    found = {leak.form for leak in capture.search({"upstream": captured}, wanted)}
    folded = _NOT_WORDS.sub(b"", captured.lower())
    if any(_NOT_WORDS.sub(b"", value.lower().encode()) in folded for value in wanted):
        found.add("letters and digits")
    return sorted(found)
