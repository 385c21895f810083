"""What an HTTP answer may cost before anybody knows whether it is one: time, memory, traces.

Sizes are bounded by whoever reads: ``carrier.BodyReader`` and ``exchange_stream.EventReader``.
"""

from __future__ import annotations

import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

from latensgate_shared import limits
from latensgate_shared.sealed import AnswerTruncatedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx

ANSWER_WAIT_MAX_S: Final = limits.ANSWER_MAX_S + 60
"""For the bytes of a sealed answer, all waiting together: what the enclave promises, and a minute.
The timeout of the OpenAI client begins anew with every byte, so a drip would never meet it."""
QUESTION_WAIT_MAX_S: Final = 60
"""The same for what no model is asked for: attestations and lists of models."""


def no_cookies() -> CookieJar:
    """Return a jar that takes none: a gateway could recognise who attests without a key."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def is_encoded(response: httpx.Response) -> bool:
    """Whether the body is compressed, which nobody asked for; it is then not read at all."""
    encoding: str = response.headers.get("content-encoding", "identity")
    return encoding.strip().lower() != "identity"


def patient(pieces: Iterator[bytes], wait_max_s: float) -> Iterator[bytes]:
    """Hand on the pieces of a body; what its reader does between them is not counted.

    Raises:
        AnswerTruncatedError: They were waited for too long.
    """
    patience = _Patience(wait_max_s)
    for piece in pieces:
        patience.came()
        yield piece
        patience.waits()


async def patient_async(pieces: AsyncIterator[bytes], wait_max_s: float) -> AsyncIterator[bytes]:
    """Do what ``patient`` does, for tasks.

    Raises:
        AnswerTruncatedError: They were waited for too long.
    """
    patience = _Patience(wait_max_s)
    async for piece in pieces:
        patience.came()
        yield piece
        patience.waits()


class _Patience:
    """Time that is left to wait."""

    __slots__ = ("_left_s", "_since_s", "_wait_max_s")

    def __init__(self, wait_max_s: float) -> None:
        self._wait_max_s = self._left_s = wait_max_s
        self.waits()

    def waits(self) -> None:
        self._since_s = time.monotonic()

    def came(self) -> None:
        self._left_s -= time.monotonic() - self._since_s
        if self._left_s < 0:
            raise AnswerTruncatedError(f"answer: not whole after {self._wait_max_s:g} s")
