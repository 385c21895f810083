"""The replay set: request ids seen inside the window, remembered in this enclave's memory.

It is complete because no other process can open a request sealed to this enclave's keys
(DESIGN 3.4), and a restart forgets it together with the keys. Memory full means refuse.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import REPLAY_MAX_IDS, REQUEST_WINDOW_S

_WINDOW_MS: Final = REQUEST_WINDOW_S * 1000
_BUCKET_MS: Final = 10_000
"""Ids are forgotten by the bucket: sets of 16-byte ids take a third of what one queue takes."""


class ReplayRefusedError(LatensgateError):
    """The request is a replay, outside its time window, or cannot be remembered."""

    code = ErrorCode.ERR_REPLAY


class ReplayWindow:
    """Remembers request ids for as long as their `issued_at` could still be accepted.

    An id is kept for twice the window: a request may be stamped up to one window ahead of enclave
    time and stays acceptable until one window after its stamp.
    """

    def __init__(self, max_ids: int = REPLAY_MAX_IDS) -> None:
        self._max_ids = max_ids
        self._buckets: deque[tuple[int, set[bytes]]] = deque()
        self._count = 0

    def admit(self, request_id: str, *, issued_at_ms: int, now_ms: int) -> None:
        """Admit a request id once.

        Args:
            request_id: UUID as sealed; its form has been checked.
            issued_at_ms: The client's stamp, milliseconds since 1970.
            now_ms: Enclave time, milliseconds since 1970.

        Raises:
            ReplayRefusedError: `ERR_REQUEST_AGE` outside the window, `ERR_REPLAY` when the id was
                seen, `ERR_OVERLOADED` when no further id can be remembered.
        """
        if abs(now_ms - issued_at_ms) > _WINDOW_MS:
            raise ReplayRefusedError(
                f"issued_at {issued_at_ms} ms is more than {_WINDOW_MS} ms off enclave time "
                f"{now_ms} ms",
                code=ErrorCode.ERR_REQUEST_AGE,
            )
        self._forget(now_ms)
        raw = bytes.fromhex(request_id.replace("-", ""))
        if any(raw in seen for _, seen in self._buckets):
            raise ReplayRefusedError("this request_id was already accepted")
        if self._count >= self._max_ids:
            raise ReplayRefusedError(
                f"{self._max_ids} request ids are remembered and none can be forgotten yet",
                code=ErrorCode.ERR_OVERLOADED,
            )
        self._current(now_ms).add(raw)
        self._count += 1

    def _current(self, now_ms: int) -> set[bytes]:
        """Return the bucket of this moment; its ids are forgotten together, never too early."""
        if not self._buckets or now_ms >= self._buckets[-1][0] - 2 * _WINDOW_MS:
            self._buckets.append((now_ms + _BUCKET_MS + 2 * _WINDOW_MS, set()))
        return self._buckets[-1][1]

    def _forget(self, now_ms: int) -> None:
        while self._buckets and self._buckets[0][0] < now_ms:
            self._count -= len(self._buckets.popleft()[1])
