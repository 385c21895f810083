"""``lg.pii.explain``: sealed, typed, receipted; the model is never asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from latensgate import AsyncLatensgate, ConfigurationError, Latensgate, receipt_of
from latensgate.errors import LatensgateClientError
from latensgate_shared.errors import ErrorCode
from sdk_gateway import Gateway
from stack import MODEL

EMAIL = "ann.smith@example.com"
MASK: dict[str, Any] = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}}}


def test_texts_are_explained(make: Callable[..., Latensgate], gateway: Gateway) -> None:
    lg, heard = make(policy=MASK), len(gateway.stack.world.home.bedrock.seen)
    found = lg.pii.explain(["plain", {"text": f"to {EMAIL}", "direction": "tool_results"}])
    assert [each.forwarded for each in found.texts] == ["plain", "to <EMAIL_ADDRESS>"]
    (finding,) = found.texts[1].findings
    assert (finding.category, finding.offset, finding.length) == ("EMAIL_ADDRESS", 3, len(EMAIL))
    assert (finding.decided_by, finding.evidence[0].source) == (["request"], "tier1")
    assert found.counts == {"EMAIL_ADDRESS": {"tool_results": 1}}
    receipt = receipt_of(found)
    assert (receipt.outcome, receipt.usage) == ("dry_run", {})
    assert receipt.private["model_served"] is None
    assert receipt.pii["policy_digest"] == found.policy_digest
    assert len(gateway.stack.world.home.bedrock.seen) == heard  # other tests share the world
    assert all(EMAIL.encode() not in each.body for each in gateway.asked)


def test_a_chat_request_has_the_surrogates_that_it_would_have(
    make: Callable[..., Latensgate], gateway: Gateway
) -> None:
    hide: dict[str, Any] = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "pseudonymise"}}}}
    lg = make(policy=hide, installation_secret=bytes(32))
    messages: Any = [{"role": "user", "content": f"Write to {EMAIL}"}]
    found = lg.pii.explain(model=MODEL, messages=messages, stream=True, stream_options={})
    (text,) = found.texts
    assert text.forwarded is not None
    surrogate = text.forwarded.removeprefix("Write to ")
    lg.chat.completions.create(model=MODEL, messages=messages)
    assert surrogate.encode() in gateway.stack.world.home.bedrock.seen[-1]


def test_the_asynchronous_client_does_the_same(
    make_async: Callable[..., AsyncLatensgate],
) -> None:
    async def scene() -> None:
        lg = make_async(policy=MASK)
        found = await lg.pii.explain(EMAIL, direction="answer")
        assert (found.texts[0].forwarded, found.texts[0].direction) == ("<EMAIL_ADDRESS>", "answer")
        assert receipt_of(found).outcome == "dry_run"

    asyncio.run(scene())


def test_one_of_texts_and_chat_is_expected(lg: Latensgate) -> None:
    with pytest.raises(ConfigurationError):
        lg.pii.explain()
    with pytest.raises(ConfigurationError):
        lg.pii.explain("text", model=MODEL)


def test_a_fault_is_typed_and_names_the_field(lg: Latensgate) -> None:
    with pytest.raises(LatensgateClientError) as refused:
        lg.pii.explain([])
    assert refused.value.error_code is ErrorCode.ERR_REQUEST_INVALID
    assert refused.value.param == "texts"
