"""What models do with approved requests: those that cannot stream, tell no price, or embed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import msgspec

from enclave_client import chat, tool
from enclave_doubles import HOME, MODEL, Bench, bench, in_loop, nothing
from hold_examples import ANN, EMAIL, held, models_asked, settings, with_xwing
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ChatDelta,
    Finished,
    TextDelta,
    Usage,
    estimated_usage,
)
from latensgate_enclave.chat_values import ToolCall
from latensgate_enclave.measured import MeasuredConfiguration, ModelRoute
from latensgate_enclave.operation import Forwarding
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.upstream import Upstreams
from latensgate_shared.hold_view import open_view, verify_view
from latensgate_shared.strict_json import JSONObject

EMBEDDER = "embedder"


def with_configuration(
    made: Bench, configuration: MeasuredConfiguration, upstream: object = None
) -> Bench:
    """The same parts under another configuration, and perhaps with a model of the test's own."""
    chosen = made.parts.upstream if upstream is None else cast("Upstreams", upstream)
    parts = replace(made.parts, configuration=configuration, upstream=chosen)
    return replace(made, pipeline=Pipeline(parts, nothing))


class Unary:
    """A model that answers in one piece."""

    async def converse(self, call: Forwarding, witness: Callable[[JSONObject], None]) -> ChatAnswer:
        assert call.whole
        witness({"host": "scripted"})
        return ChatAnswer(("a",), (ToolCall("id", "look_up", {}),), "tool_calls", Usage(3, 4))


@in_loop
async def test_a_model_that_cannot_stream_tools_is_asked_for_the_whole() -> None:
    async with bench() as made:
        await made.open()
        before = made.parts.configuration
        able = {
            name: words - {"tools_streaming"} for name, words in before.policy.capabilities.items()
        }
        policy = msgspec.structs.replace(before.policy, capabilities=able)
        other = with_configuration(made, msgspec.structs.replace(before, policy=policy), Unary())
        kept = await held(other, chat(f"Write to {EMAIL}", tools=[tool()]), stream=True)
        told = await kept.decide(ANN.says(kept.notice))
        assert told.code is None
        assert told.body["object"] == "chat.completion"
        assert '"tool_calls"' in told.text
        usage = cast("JSONObject", told.private["usage"])
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 4)
        assert usage.get("estimated") is not True


class Silent:
    """A model that streams an answer and never tells what it cost."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    @asynccontextmanager
    async def converse_stream(
        self, call: Forwarding, witness: Callable[[JSONObject], None]
    ) -> AsyncGenerator[AsyncIterator[Sequence[ChatDelta]]]:
        async def pieces() -> AsyncIterator[Sequence[ChatDelta]]:
            yield [TextDelta("Done")]
            yield [Finished("stop")]

        self.bodies.append(call.body)
        witness({"host": "scripted"})
        yield pieces()


@in_loop
async def test_a_stream_that_tells_no_usage_is_booked_by_its_length() -> None:
    async with bench() as made:
        await made.open()
        model = Silent()
        other = with_configuration(made, made.parts.configuration, model)
        kept = await held(other, stream=True)
        told = await kept.decide(ANN.says(kept.notice))
        assert (told.code, len(model.bodies)) == (None, 1)
        usage = cast("JSONObject", told.private["usage"])
        assert usage["estimated"] is True
        assert usage["prompt_tokens"] == estimated_usage(len(model.bodies[0]), 0).prompt_tokens


@in_loop
async def test_embeddings_are_held_and_sent_once_approved() -> None:
    async with bench() as made:
        await made.open()
        before = made.parts.configuration
        table = {
            "model_id": "amazon.titan-embed-text-v2:0",
            "region": HOME,
            "capabilities": "titan-embed-v2",
        }
        models = {**before.deployment.models, EMBEDDER: msgspec.convert(table, ModelRoute)}
        deployment = msgspec.structs.replace(before.deployment, models=models)
        other = with_configuration(made, msgspec.structs.replace(before, deployment=deployment))
        ann = with_xwing()
        document = settings(
            ann,
            policy={
                "rules": {"EMAIL_ADDRESS": {"prompt": {"action": "mask", "hold": True}}},
                "hold": {"show_content": True},
            },
        )
        body: JSONObject = {"model": EMBEDDER, "input": ["Hello", f"Write to {EMAIL}"]}
        kept = await held(other, body, document=document, operation="embeddings")
        assert models_asked(made) == []
        assert kept.notice.counts == {"EMAIL_ADDRESS": {"prompt": 1}}
        shown = await kept.view(ann)
        assert ann.xwing is not None
        plain = open_view(ann.xwing, shown.view, pending=kept.notice.pending_id)
        view = verify_view(plain, made.keys.receipt_key.public_key().public_bytes_raw())
        assert view.operation == "embeddings"
        assert view.content is not None
        assert len(view.content) == 2  # this model takes one text a call
        assert EMAIL not in "".join(view.content)
        told = await kept.decide(ann.says(kept.notice))
        assert told.code is None
        assert told.body["object"] == "list"
        assert len(models_asked(made)) == 2


@in_loop
async def test_any_of_several_approvers_may_decide() -> None:
    async with bench() as made:
        await made.open()
        ben = replace(with_xwing(), name="Ben")
        kept = await held(made, document=settings(ben, ANN))
        assert kept.notice.approvers == ("Ben", "Ann")
        told = await kept.decide(ANN.says(kept.notice))
        assert told.code is None
        assert cast("JSONObject", told.private["hold"])["approver"] == ANN.public.hex()
        assert told.body["model"] == MODEL
