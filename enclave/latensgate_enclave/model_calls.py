"""The model calls that answer one request: a few at once, their answers in the order of the calls.

Most requests are one call. Embeddings are many where the model takes one text at a time, and asked
for one after the other they would take as long as all of them together.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import MODEL_CALLS_AT_ONCE_MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_enclave.operation import Forwarding, ModelAnswer, ModelRequest
    from latensgate_enclave.record import Record
    from latensgate_enclave.upstream import Witness


class Asked(Protocol):
    """Who is asked: `upstream.Upstreams`."""

    async def converse(self, forwarding: Forwarding, witness: Witness) -> ModelAnswer:
        """Return a whole answer."""
        ...


def translated(
    request: ModelRequest, route: ModelRoute, traits: ModelTraits, record: Record
) -> tuple[Forwarding, ...]:
    """Return the model calls that answer a request; the record gets the hash of their bodies.

    Raises:
        LatensgateError: The model cannot honour the request.
    """
    calls = request.translate(route, traits)
    record.hash_content("forwarded", b"".join([call.body for call in calls]))
    return calls


async def model_answers(
    upstream: Asked, calls: Sequence[Forwarding], record: Record, deadline_ms: int
) -> list[ModelAnswer]:
    """Ask for all answers, `MODEL_CALLS_AT_ONCE_MAX_COUNT` at once.

    The first call that fails ends the others: what it raised is raised here. What was answered by
    then is on the record.

    Args:
        upstream: Whom to ask.
        calls: In the order of the answers.
        record: Is told who was asked and what it cost.
        deadline_ms: For all of them together, milliseconds.

    Raises:
        UpstreamError: ``ERR_UPSTREAM_TIMEOUT``: not all were answered in time.
        LatensgateError: As `upstream.Upstreams.converse`.
    """

    async def ask(call: Forwarding) -> ModelAnswer:
        answer = await upstream.converse(call, record.witness)
        record.add_usage(answer.usage)
        return answer

    if len(calls) == 1:  # which has a deadline of its own
        return [await ask(calls[0])]
    places = asyncio.Semaphore(MODEL_CALLS_AT_ONCE_MAX_COUNT)

    async def ask_in_turn(call: Forwarding) -> ModelAnswer:
        async with places:
            return await ask(call)

    tasks = [asyncio.ensure_future(ask_in_turn(call)) for call in calls]
    return await _together(tasks, deadline_ms)


async def _together(
    tasks: Sequence[asyncio.Future[ModelAnswer]], deadline_ms: int
) -> list[ModelAnswer]:
    try:
        async with asyncio.timeout(deadline_ms / 1000):
            return await asyncio.gather(*tasks)
    except TimeoutError:
        raise UpstreamError(
            f"models: not all of {len(tasks)} calls were answered within {deadline_ms} ms",
            code=ErrorCode.ERR_UPSTREAM_TIMEOUT,
        ) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
