"""The JSON of chat fields that only a provider with OpenAI's own interface can honour.

Their values are closed sets, numbers in OpenAI's ranges, and texts, all of which the scan sees.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from latensgate_shared.limits import CHAT_LOGIT_BIASES_MAX_COUNT, CHAT_MESSAGES_MAX_COUNT

_Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:/-]{1,64}\Z")]
_Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
_Token: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
_Bias: TypeAlias = Annotated[int, Meta(ge=-100, le=100)]


class VoiceWire(Struct, forbid_unknown_fields=True):
    """A voice of the account's own."""

    id: _Name


class AudioOutWire(Struct, forbid_unknown_fields=True):
    """How to speak."""

    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]
    voice: _Name | VoiceWire


class ModerationModeWire(Struct, forbid_unknown_fields=True):
    """What is done with what is found."""

    mode: Literal["score", "block"]


class ModerationPolicyWire(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Of request and answer."""

    input: ModerationModeWire | None = None
    output: ModerationModeWire | None = None


class ModerationWire(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which model judges, and how."""

    model: _Name
    policy: ModerationPolicyWire | None = None


class PredictedTextWire(Struct, tag="text", tag_field="type", forbid_unknown_fields=True):
    """A part of a prediction."""

    text: str


class PredictionWire(Struct, tag="content", tag_field="type", forbid_unknown_fields=True):
    """What the answer will be about."""

    content: str | Annotated[list[PredictedTextWire], Meta(max_length=CHAT_MESSAGES_MAX_COUNT)]


class PlaceWire(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Where somebody is."""

    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


class LocationWire(
    Struct, tag="approximate", tag_field="type", forbid_unknown_fields=True, omit_defaults=True
):
    """Where somebody is, about."""

    approximate: PlaceWire


class WebSearchWire(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How to search."""

    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: LocationWire | None = None


class NativeWire(Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields; a request has them beside its others."""

    audio: AudioOutWire | None = None
    frequency_penalty: _Penalty = 0.0
    logit_bias: Annotated[dict[_Token, _Bias], Meta(max_length=CHAT_LOGIT_BIASES_MAX_COUNT)] = {}
    logprobs: bool = False
    modalities: Annotated[list[Literal["text", "audio"]], Meta(min_length=1, max_length=2)] = field(
        default_factory=lambda: ["text"]
    )
    moderation: ModerationWire | None = None
    prediction: PredictionWire | None = None
    presence_penalty: _Penalty = 0.0
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] = 0
    verbosity: Literal["low", "medium", "high"] = "medium"
    web_search_options: WebSearchWire | None = None
