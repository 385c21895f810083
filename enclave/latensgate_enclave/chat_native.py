"""Chat fields that only a provider with OpenAI's own interface can honour: typed, scanned, told.

They are kept as the JSON that such a provider is sent, rebuilt from what was checked. Values that
change nothing (0, ``{}``, ``["text"]``, ``medium``) are absent ones, which every model takes. What
comes back is told to the caller as it is, so it is asked for only where the policy leaves answers
alone (`unscannable`, ADR 0051).
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import msgspec
from msgspec import field
from msgspec.structs import replace

from latensgate_enclave.chat_native_wire import NativeWire
from latensgate_enclave.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from latensgate_enclave.model_traits import Capability
    from latensgate_shared.strict_json import JSONObject, JSONValue

    SeeText: TypeAlias = Callable[[str], str]

NEEDED: Final[dict[str, Capability]] = {
    "audio": "audio_out",
    "frequency_penalty": "penalties",
    "logit_bias": "logit_bias",
    "logprobs": "logprobs",
    "modalities": "audio_out",
    "moderation": "moderation",
    "prediction": "prediction",
    "presence_penalty": "penalties",
    "seed": "seed",
    "top_logprobs": "logprobs",
    "verbosity": "verbosity",
    "web_search_options": "web_search",
}
"""The word of the row that each of them needs."""
HINTS: Final = frozenset({"prediction", "seed"})
"""Best effort by their contract: where the row lacks the word they are left out and listed."""
_GIVEN: Final = attrgetter(*NEEDED)
_DEFAULTS: Final[tuple[object, ...]] = _GIVEN(NativeWire())
_FREE_TEXTS: Final = frozenset({"prediction", "web_search_options"})
"""Their texts may be masked; a masked name of a voice, a token or a model would name nothing."""
_CLOSED: Final = frozenset(
    {"format", "mode", "modalities", "search_context_size", "type", "verbosity"}
)


def native_fields(wire: NativeWire) -> JSONObject:
    """Return the fields of a request that change something."""
    given = _GIVEN(wire)
    if given == _DEFAULTS:
        return {}
    each = zip(NEEDED, given, _DEFAULTS, strict=True)
    changed = {name: value for name, value, default in each if value != default}
    return cast("JSONObject", msgspec.to_builtins(changed))


def with_native_texts(native: JSONObject, see: SeeText) -> JSONObject:
    """Return the fields with every text that a caller chose replaced by what `see` returns.

    Names of members and values of closed sets are no texts; tokens and seeds are, since a number
    may be a card or a phone number.
    """
    return {name: _seen(value, name, see) for name, value in native.items()}


def _seen(value: JSONValue, name: str, see: SeeText) -> JSONValue:
    if name == "logit_bias" and isinstance(value, dict):
        return {see(token): bias for token, bias in value.items()}
    if name == "seed":
        written = str(value)
        seen = see(written)
        return value if seen == written else seen
    if isinstance(value, dict):
        return {member: _seen(each, member, see) for member, each in value.items()}
    if isinstance(value, list):
        return [_seen(each, name, see) for each in value]
    if isinstance(value, str) and name not in _CLOSED:
        return see(value)
    return value


def fixed_native(native: JSONObject) -> JSONObject:
    """Return the fields that must be sent as they came, or not at all."""
    return {name: value for name, value in native.items() if name not in _FREE_TEXTS}


def unscannable(native: JSONObject) -> tuple[str, ...]:
    """Return the fields whose answers no mask, and no value put back, can reach.

    Tokens repeat the answer letter by letter and tell what else it could have been, a sound says
    it, citations count its characters, and a verdict on the words before the mask tells of them.
    """
    names = ("logprobs", "web_search_options", "moderation")
    modalities = native.get("modalities")
    speaks = isinstance(modalities, list) and "audio" in modalities
    found = tuple([name for name in names if name in native])
    return (*found, "modalities") if speaks else found


class NativeAnswer(Value, frozen=True):
    """What a provider with OpenAI's own interface tells beside text and calls.

    Attributes:
        message: ``annotations`` and ``audio``, as they stand in a message or a delta.
        logprobs: Of the tokens.
        head: ``moderation``, ``service_tier`` and ``system_fingerprint``.
    """

    message: JSONObject = field(default_factory=dict[str, "JSONValue"])
    logprobs: JSONObject | None = None
    head: JSONObject = field(default_factory=dict[str, "JSONValue"])

    def __bool__(self) -> bool:
        """Whether it tells anything."""
        return bool(self.message or self.logprobs or self.head)

    def with_texts(self, see: SeeText) -> NativeAnswer:
        """Return it with titles and addresses of citations and the words of a sound replaced."""
        if not self.message:  # as of every model but OpenAI's own
            return self
        message: JSONObject = {}
        for name, value in self.message.items():
            message[name] = _told(value, name, see)
        return replace(self, message=message)


_TOLD_TEXTS: Final = frozenset({"title", "transcript", "url"})


def _told(value: JSONValue, name: str, see: SeeText) -> JSONValue:
    if isinstance(value, dict):
        return {member: _told(each, member, see) for member, each in value.items()}
    if isinstance(value, list):
        return [_told(each, name, see) for each in value]
    return see(value) if isinstance(value, str) and name in _TOLD_TEXTS else value


def joined(pieces: Iterable[NativeAnswer]) -> NativeAnswer:
    """Return the citations of all pieces and the words of the sound: what a scan counts."""
    cited: list[JSONValue] = []
    said: list[str] = []
    for piece in pieces:
        found = piece.message.get("annotations")
        cited += found if isinstance(found, list) else []
        sound = piece.message.get("audio")
        said.append(str(sound.get("transcript", "")) if isinstance(sound, dict) else "")
    message: JSONObject = {"annotations": cited} if cited else {}
    if any(said):
        message["audio"] = {"transcript": "".join(said)}
    return NativeAnswer(message)
