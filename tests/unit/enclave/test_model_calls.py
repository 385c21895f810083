"""Several model calls of one request: how many at once, in which order, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.invoke import FAMILIES, CallAnswer, CallReader
from latensgate_enclave.chat_answer import Usage
from latensgate_enclave.measured_upstreams import ModelRoute
from latensgate_enclave.model_calls import model_answers
from latensgate_enclave.operation import Forwarding
from latensgate_enclave.record import Record
from latensgate_enclave.upstream import Witness
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import MODEL_CALLS_AT_ONCE_MAX_COUNT

ROUTE = ModelRoute("amazon.titan-embed-text-v2:0", "titan-embed-v2", region="us-east-1")
READER = CallReader(FAMILIES["embed_titan_v2"])
CALLS = [Forwarding(ROUTE, b"%d" % n, READER, "invoke", whole=True) for n in range(30)]


def record() -> Record:
    return Record("aud_0", "tnt_0", "id", "m", bytes, lambda: 0)


class Upstream:
    """Answers each call with its own number."""

    def __init__(self, wait: Callable[[int], Awaitable[None]]) -> None:
        self.wait = wait
        self.running = self.most = self.cancelled = 0

    async def converse(self, forwarding: Forwarding, witness: Witness) -> CallAnswer:
        number = int(forwarding.body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.wait(number)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        witness({"number": number})
        return CallAnswer([[float(number)]], Usage(1, 0), 1)


async def _soon(number: int) -> None:
    for _ in range(30 - number):
        await asyncio.sleep(0)


def test_answers_are_in_the_order_of_the_calls() -> None:
    async def run() -> None:
        upstream, told = Upstream(_soon), record()
        answers = await model_answers(upstream, CALLS, told, 10_000)
        vectors = [answer.vectors[0][0] for answer in answers if isinstance(answer, CallAnswer)]
        assert vectors == [float(n) for n in range(30)]
        assert upstream.most == MODEL_CALLS_AT_ONCE_MAX_COUNT
        assert told.usage == Usage(30, 0)
        assert told.evidence is not None

    asyncio.run(run())


def test_one_call_has_its_own_deadline() -> None:
    async def run() -> None:
        answers = await model_answers(Upstream(_soon), CALLS[:1], record(), 0)
        assert len(answers) == 1

    asyncio.run(run())


def test_the_first_failure_ends_the_others() -> None:
    async def fail(number: int) -> None:
        if number == 3:
            raise UpstreamError("no", code=ErrorCode.ERR_UPSTREAM_THROTTLED)
        if number > 3:
            await asyncio.sleep(60)

    async def run() -> None:
        upstream, told = Upstream(fail), record()
        with pytest.raises(UpstreamError) as caught:
            await model_answers(upstream, CALLS, told, 10_000)
        assert caught.value.code is ErrorCode.ERR_UPSTREAM_THROTTLED
        assert upstream.running == 0
        assert upstream.cancelled
        assert told.usage == Usage(3, 0)  # what was answered by then is booked

    asyncio.run(run())


def test_all_have_one_deadline() -> None:
    async def run() -> None:
        upstream = Upstream(lambda _number: asyncio.sleep(60))
        with pytest.raises(UpstreamError) as caught:
            await model_answers(upstream, CALLS, record(), 20)
        assert caught.value.code is ErrorCode.ERR_UPSTREAM_TIMEOUT
        assert upstream.running == 0

    asyncio.run(run())


def test_who_leaves_ends_them() -> None:
    async def run() -> None:
        upstream = Upstream(lambda _number: asyncio.sleep(60))
        asking = asyncio.ensure_future(model_answers(upstream, CALLS, record(), 10_000))
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert upstream.running == 0
        assert upstream.cancelled == MODEL_CALLS_AT_ONCE_MAX_COUNT

    asyncio.run(run())
