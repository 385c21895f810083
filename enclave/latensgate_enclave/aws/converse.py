"""Chat requests to the body of Bedrock Converse and ConverseStream: a pure translation.

Shapes: service model ``bedrock-runtime`` 2023-09-30. Converse is stricter than OpenAI; what a model
lacks (its row of the capability table) is emulated here or refused with the name of the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_enclave.aws.converse_blocks import split_system, turns
from latensgate_enclave.aws.converse_tools import (
    answer_tool,
    dropped_by_model,
    json_instruction,
    offered_tools,
    structured_by,
    text_format,
    thinks,
    tool_config,
    uses_tools,
)
from latensgate_enclave.chat_native import HINTS
from latensgate_enclave.chat_values import UnsupportedError

if TYPE_CHECKING:
    from latensgate_enclave.chat_values import ChatRequest, Effort
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_shared.strict_json import JSONObject

__all__ = [
    "answer_tool",
    "build_converse_body",
    "dropped_by_model",
    "late_stops",
    "offered_tools",
    "structured_by",
    "uses_tools",
]

_THINKING_TOKENS: Final[dict[Effort, int]] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_768,
}
"""Budgets of models that take one instead of an effort; 1,024 is the least that they take."""
_EFFORTS: Final[dict[Effort, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
_NOVA_EFFORTS: Final[dict[Effort, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
}


def build_converse_body(request: ChatRequest, traits: ModelTraits) -> bytes:
    """Return the JSON body of Converse and ConverseStream.

    Raises:
        UnsupportedError: The model or Converse cannot honour a field; ``param`` names it.
    """
    _check_converse(request)
    _check_traits(request, traits)
    structured = structured_by(request, traits)
    system, spoken = split_system(request.messages, traits)
    if structured == "told" and request.response_format is not None:
        system.append(json_instruction(request.response_format))
    tools = tool_config(request, traits, structured)
    output, more = _reasoning(request, traits)
    if structured == "native" and request.response_format is not None:
        output["textFormat"] = text_format(request.response_format)
    if tools is not None and not request.parallel_tool_calls and traits.can("parallel_off"):
        more["tool_choice"] = _single_call(tools)
    body: JSONObject = {
        "messages": turns(spoken, traits),
        "system": [{"text": text} for text in system],
        "inferenceConfig": _inference(request),
        "toolConfig": tools,
        "outputConfig": output,
        "additionalModelRequestFields": more,
        "serviceTier": request.service_tier and {"type": request.service_tier},
    }
    return msgspec.json.encode({name: member for name, member in body.items() if member})


def late_stops(request: ChatRequest) -> tuple[str, ...]:
    """Return the stop sequences that Converse refuses (blank ones): the answer is cut here."""
    return tuple(stop for stop in request.stop if not stop.strip())


def _check_converse(request: ChatRequest) -> None:
    """Refuse what Converse has no place for, whatever the model."""
    for name in request.native:
        if name not in HINTS:
            raise UnsupportedError("only the default of this field is supported", param=name)
    if request.max_tokens == 0:
        raise UnsupportedError("an answer needs at least one token", param="max_completion_tokens")


def _check_traits(request: ChatRequest, traits: ModelTraits) -> None:
    if request.temperature is not None and (not traits.can("sampling") or request.temperature > 1):
        raise UnsupportedError("this model does not take this temperature", param="temperature")
    if request.top_p is not None and not traits.can("sampling"):
        raise UnsupportedError("this model does not take top_p", param="top_p")
    if request.tool_choice == "required":
        if not traits.can("forced_tools"):
            raise UnsupportedError("this model cannot be made to call a tool", param="tool_choice")
        if thinks(request, traits):
            raise UnsupportedError("a model that thinks calls no forced tool", param="tool_choice")
    if uses_tools(request) and not traits.can("tools"):
        raise UnsupportedError("this model does not take tools", param="tools")
    if request.service_tier is not None and not traits.can("service_tier"):
        raise UnsupportedError("this model has the default tier alone", param="service_tier")


def _inference(request: ChatRequest) -> JSONObject:
    late = late_stops(request)
    members: JSONObject = {
        "maxTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": [stop for stop in request.stop if stop not in late] or None,
    }
    return {name: value for name, value in members.items() if value is not None}


def _reasoning(request: ChatRequest, traits: ModelTraits) -> tuple[JSONObject, JSONObject]:
    """Return ``outputConfig`` and ``additionalModelRequestFields`` of an effort."""
    effort = request.reasoning_effort
    if effort is None:
        return {}, {}
    if traits.can("reasoning_effort") and effort in _EFFORTS:
        return {"effort": _EFFORTS[effort]}, {}
    if traits.can("reasoning_thinking") and effort in _THINKING_TOKENS:
        return {}, {"thinking": _thinking(request, _THINKING_TOKENS[effort])}
    if traits.can("reasoning_nova") and effort in {*_NOVA_EFFORTS, "none"}:
        return {}, {"reasoningConfig": _nova(request, effort)}
    if effort == "none" and not traits.can("reasoning_effort"):
        return {}, {}  # it does not think unless it is asked to
    raise UnsupportedError("this model does not take this effort", param="reasoning_effort")


def _thinking(request: ChatRequest, budget: int) -> JSONObject:
    """Return Claude's ``thinking``: a budget below the limit, and no sampling beside it."""
    if request.temperature not in {None, 1} or request.top_p is not None:
        raise UnsupportedError(
            "a model that thinks takes no sampling parameters", param="temperature"
        )
    least = _THINKING_TOKENS["minimal"]
    if request.max_tokens is not None:
        if request.max_tokens <= least:
            raise UnsupportedError(
                f"a model that thinks needs more than {least} tokens", param="max_completion_tokens"
            )
        budget = min(budget, max(least, request.max_tokens // 2))
    return {"type": "enabled", "budget_tokens": budget}


def _nova(request: ChatRequest, effort: Effort) -> JSONObject:
    if effort == "none":
        return {"type": "disabled"}
    if effort == "high" and _inference(request).keys() & {"maxTokens", "temperature", "topP"}:
        raise UnsupportedError(
            "at this effort the model takes no limit and no sampling parameters",
            param="reasoning_effort",
        )
    return {"type": "enabled", "maxReasoningEffort": _NOVA_EFFORTS[effort]}


def _single_call(tools: JSONObject) -> JSONObject:
    """Return Claude's own ``tool_choice``, the only place of its switch for parallel calls."""
    choice = tools.pop("toolChoice", None)
    told: JSONObject = {"type": "auto", "disable_parallel_tool_use": True}
    if isinstance(choice, dict):
        named = choice.get("tool")
        told["type"] = "any" if named is None else "tool"
        if isinstance(named, dict):
            told["name"] = named["name"]
    return told
