"""What an OpenAI-compatible upstream tells beside text and calls, where the caller asked for it.

Read apart from the answer itself and only if asked for: what nobody asked for is ignored, as all
members are that servers add. Strings that are no words of the answer have closed alphabets, so an
upstream cannot write to the caller past the scan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta, Struct

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.chat_native import NativeAnswer

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject

_Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:/-]{1,128}\Z")]
_Base64: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]*={0,2}\Z")]
_Place: TypeAlias = Annotated[int, Meta(ge=0)]
_Byte: TypeAlias = Annotated[int, Meta(ge=0, le=255)]


class _TopToken(Struct, kw_only=True):
    token: str
    bytes: list[_Byte] | None = None
    logprob: float


class _Token(_TopToken, kw_only=True):
    top_logprobs: Annotated[list[_TopToken], Meta(max_length=20)] = []


class _Logprobs(Struct):
    content: list[_Token] | None = None
    refusal: list[_Token] | None = None


class _Citation(Struct):
    start_index: _Place
    end_index: _Place
    title: str
    url: str


class _Annotation(Struct, tag="url_citation", tag_field="type"):
    url_citation: _Citation


class _Audio(Struct, omit_defaults=True):
    id: _Name | None = None
    data: _Base64 | None = None
    expires_at: _Place | None = None
    transcript: str | None = None


class _Said(Struct):
    annotations: list[_Annotation] | None = None
    audio: _Audio | None = None


class _Choice(Struct):
    message: _Said | None = None
    delta: _Said | None = None
    logprobs: _Logprobs | None = None


class _Found(Struct):
    categories: dict[_Name, bool]
    category_applied_input_types: dict[_Name, list[Literal["text", "image"]]]
    category_scores: dict[_Name, float]
    flagged: bool
    model: _Name
    type: Literal["moderation_result"]


class _Verdict(Struct, tag="moderation_results", tag_field="type"):
    model: _Name
    results: list[_Found]


class _NoVerdict(Struct, tag="error", tag_field="type"):
    code: _Name
    message: str = ""


class _Moderation(Struct):
    input: _Verdict | _NoVerdict
    output: _Verdict | _NoVerdict


class _Native(Struct):
    choices: list[_Choice] = []
    moderation: _Moderation | None = None


class _Head(Struct):
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    system_fingerprint: _Name | None = None


def native_answer(data: bytes, asked: frozenset[str]) -> NativeAnswer:
    """Read a whole answer or a chunk of one.

    Args:
        data: Its JSON.
        asked: Fields of the request that something comes back for.

    Raises:
        UpstreamError: Not of OpenAI's form.
    """
    if not asked:
        return NativeAnswer()
    try:
        found = msgspec.json.decode(data, type=_Native)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError("the upstream's answer is not of OpenAI's form") from None
    choice = found.choices[0] if found.choices else _Choice()
    said = choice.message or choice.delta or _Said()
    message: JSONObject = {}
    if said.annotations and "web_search_options" in asked:
        message["annotations"] = _plain(said.annotations)
    if said.audio is not None and "modalities" in asked:
        message["audio"] = _plain(said.audio)
    logprobs = choice.logprobs if "logprobs" in asked else None
    moderation = found.moderation if "moderation" in asked else None
    return NativeAnswer(
        message,
        None if logprobs is None else _plain(logprobs),
        {} if moderation is None else {"moderation": _plain(_without_words(moderation))},
    )


def native_head(service_tier: object, system_fingerprint: object) -> JSONObject:
    """Return who answered and how, as far as it is told in words that OpenAI has."""
    told: JSONObject = {}
    given = {"service_tier": service_tier, "system_fingerprint": system_fingerprint}
    for name, value in given.items():
        try:
            msgspec.convert({name: value}, _Head)
        except msgspec.ValidationError:
            continue
        if isinstance(value, str):
            told[name] = value
    return told


def _plain(value: object) -> JSONObject:
    return cast("JSONObject", msgspec.to_builtins(value))


def _without_words(moderation: _Moderation) -> _Moderation:
    """Leave out what an upstream says of its own failure: its words never pass."""
    for verdict in (moderation.input, moderation.output):
        if isinstance(verdict, _NoVerdict):
            verdict.message = "the upstream could not moderate"
    return moderation
