"""What was sealed and not answered yet: a retry sends the identical bytes (http.md section 3)."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_shared.limits import IDEMPOTENCY_KEY_MAX_CHARS, MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from latensgate.exchange_seal import SealedCall

CALLS_MAX_COUNT: Final = 1_024
"""Calls that are being tried or were given up: beyond any client's concurrency; oldest go first."""
CALLS_MAX_BYTES: Final = 64 * MIB
"""Sealed bodies held for calls that were given up: one of the largest, many of the usual."""


@dataclass(slots=True, repr=False)
class OpenCall:
    """One logical request of the application over all its attempts.

    Attributes:
        key: Idempotency key as the application's client names it.
        digest: SHA-256 of the request's body.
        round: How often it was sealed anew after a sealed refusal that may be tried again.
        sealed: The bytes to send, once there are any.
    """

    key: str
    digest: bytes
    round: int = 0
    sealed: SealedCall | None = None

    @property
    def wire_key(self) -> str:
        """The key that the gateway sees: a request that was sealed anew is another one to it."""
        if not self.round:
            return self.key
        suffix = f".{self.round}"
        return self.key[: IDEMPOTENCY_KEY_MAX_CHARS - len(suffix)] + suffix


class CallStore:
    """Open calls by idempotency key. Bounded; shared by threads and tasks."""

    __slots__ = ("_calls", "_lock", "_pid", "_until")

    def __init__(self, until: Callable[[SealedCall], datetime]) -> None:
        """Take what says until when sealed bytes are worth keeping."""
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._calls: OrderedDict[str, OpenCall] = OrderedDict()
        self._until = until

    def in_this_process(self) -> None:
        """Take a new lock in a forked process: who held it is not there."""
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()

    def begin(self, key: str, digest: bytes, at: datetime) -> OpenCall:
        """Return the call of this key if it is the same request, or a new one."""
        with self._lock:
            self._drop_ended(at)
            held = self._calls.get(key)
            if held is None or held.digest != digest:
                held = self._calls[key] = OpenCall(key, digest)
            self._calls.move_to_end(key)
            self._drop_surplus()
            return held

    def sealed(self, call: OpenCall, made: SealedCall) -> SealedCall:
        """Return the bytes that all attempts send: those that were sealed first."""
        with self._lock:
            if call.sealed is None:
                call.sealed = made
            return call.sealed

    def unseal(self, call: OpenCall, used: SealedCall | None, *, spent: bool) -> None:
        """Let the next attempt seal anew, unless another one did already.

        Args:
            call: The request.
            used: What was refused.
            spent: Whether the enclave judged it, so that the gateway keeps the refusal for its key.
        """
        with self._lock:
            if call.sealed is used:
                call.sealed, call.round = None, call.round + spent

    def end(self, call: OpenCall) -> None:
        """Forget a call: it was answered."""
        with self._lock:
            if self._calls.get(call.key) is call:
                del self._calls[call.key]

    def _drop_ended(self, at: datetime) -> None:
        ended = [
            key
            for key, call in self._calls.items()
            if call.sealed and at >= self._until(call.sealed)
        ]
        for key in ended:
            del self._calls[key]

    def _drop_surplus(self) -> None:
        held = sum(len(call.sealed.body) for call in self._calls.values() if call.sealed)
        while len(self._calls) > 1 and (
            len(self._calls) > CALLS_MAX_COUNT or held > CALLS_MAX_BYTES
        ):
            _, dropped = self._calls.popitem(last=False)
            held -= len(dropped.sealed.body) if dropped.sealed else 0

    def __len__(self) -> int:
        return len(self._calls)
