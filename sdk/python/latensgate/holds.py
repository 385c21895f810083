"""``client.holds``: requests that an approver must decide on (docs/holds.md).

A request that is held raises ``HeldError``. Its answer can be opened by this process alone, since
only it has the secret under which the request was sealed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from latensgate.errors import HeldError
from latensgate_shared.errors import MalformedError
from latensgate_shared.hold import pending_id as checked_pending_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latensgate.client import AsyncLatensgate, Latensgate
    from latensgate.exchange_held import HeldCalls

Answer: TypeAlias = Any
"""What the request would have returned: a chat completion, a response or embeddings."""
INTERVAL_S: Final = 2.0
"""Pause between two questions, at first."""
INTERVAL_MAX_S: Final = 15.0
"""Longest pause: a tenant's limit of requests counts these questions, too."""
_GROWTH: Final = 1.5


class Holds:
    """Held requests of one client and its copies."""

    def __init__(self, client: Latensgate) -> None:
        self._client = client

    def poll(self, held: HeldError | str) -> Answer | None:
        """Return the answer of a held request, or None while nobody has decided.

        Args:
            held: The error, or its ``pending_id``.

        Raises:
            Forbidden: An approver denied it (``ERR_HOLD_DENIED``); ``receipt`` is signed proof.
            Conflict: Nobody decided in time (``ERR_HOLD_EXPIRED``), or its outcome is not known.
            HeldError: It was lost with its enclave and asked anew; it waits under another id now.
            NotFound: This process did not ask for it.
            ValueError: That is no ``pending_id``.
        """
        pending_id = _id_of(held)
        try:
            return self._client.get(
                f"/holds/{pending_id}",
                cast_to=cast("Any", answer_kind(_calls(self._client), pending_id)),
            )
        except HeldError as error:
            if error.pending_id == pending_id:
                return None
            raise

    def wait(
        self,
        held: HeldError | str,
        *,
        timeout: float | None = None,
        interval: float = INTERVAL_S,
    ) -> Answer:
        """Wait until an approver has decided; return the answer.

        Args:
            held: The error, or its ``pending_id``.
            timeout: Seconds; None: until the hold expires.
            interval: Seconds before the second question; later ones come more slowly.

        Raises:
            HeldError: Nobody has decided within ``timeout``; ask again with it.
            LatensgateClientError: As ``poll``.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        for pause in pauses(interval):
            try:
                answer = self.poll(held)
            except HeldError as error:
                answer, held = None, error  # lost, and asked anew
            if answer is not None:
                return answer
            if ends is not None and time.monotonic() + pause > ends:
                raise still_held(held, _calls(self._client))
            time.sleep(pause)
        raise AssertionError  # the pauses never end


class AsyncHolds:
    """Held requests of one asynchronous client and its copies."""

    def __init__(self, client: AsyncLatensgate) -> None:
        self._client = client

    async def poll(self, held: HeldError | str) -> Answer | None:
        """As ``Holds.poll``."""
        pending_id = _id_of(held)
        try:
            return await self._client.get(
                f"/holds/{pending_id}",
                cast_to=cast("Any", answer_kind(_calls(self._client), pending_id)),
            )
        except HeldError as error:
            if error.pending_id == pending_id:
                return None
            raise

    async def wait(
        self,
        held: HeldError | str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as the synchronous one
        interval: float = INTERVAL_S,
    ) -> Answer:
        """As ``Holds.wait``."""
        ends = None if timeout is None else time.monotonic() + timeout
        for pause in pauses(interval):
            try:
                answer = await self.poll(held)
            except HeldError as error:
                answer, held = None, error  # lost, and asked anew
            if answer is not None:
                return answer
            if ends is not None and time.monotonic() + pause > ends:
                raise still_held(held, _calls(self._client))
            await asyncio.sleep(pause)
        raise AssertionError  # the pauses never end


def _id_of(held: HeldError | str) -> str:
    try:
        return checked_pending_id(held.pending_id if isinstance(held, HeldError) else held)
    except MalformedError as error:
        raise ValueError(str(error)) from None


def pauses(interval: float) -> Iterator[float]:
    """Yield seconds between questions, for ever."""
    pause = interval
    while True:
        yield pause
        pause = min(max(INTERVAL_MAX_S, interval), pause * _GROWTH)


def _calls(client: Latensgate | AsyncLatensgate) -> HeldCalls:
    return vars(client)["_shared"].trust.exchange.held  # type: ignore[no-any-return]  # of ours


def answer_kind(calls: HeldCalls, pending_id: str) -> type[object]:
    """Return what the answer is read into."""
    held = calls.find(pending_id)
    operation = "" if held is None else held.operation
    if operation == "embeddings":
        return CreateEmbeddingResponse
    if operation == "responses":
        from openai.types.responses import Response  # noqa: PLC0415 -- openai 1.60 has none

        return Response
    return ChatCompletion


def still_held(held: HeldError | str, calls: HeldCalls) -> Exception:
    """Return what says that nobody has decided yet."""
    if isinstance(held, HeldError):
        return held
    found = calls.find(held)
    text = f"{held}: nobody has decided in time"
    return TimeoutError(text if found is None else f"{text}; it expires later")
