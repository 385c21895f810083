"""Reading bodies of sealed requests: how long, how large, and how much at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.fields import single
from latensgate_parent.limits import (
    BODY_READ_TIMEOUT_S,
    HELD_BODIES_MAX_BYTES,
    HELD_BODIES_TENANT_MAX_BYTES,
    INFERENCE_MAX_OPEN,
    INFERENCE_TENANT_MAX_OPEN,
)
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import SEALED_BODY_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from latensgate_parent.http.asgi_types import Receive
    from latensgate_parent.http.errors import Header

_LENGTH_MAX_DIGITS: Final = 15


class ClientGoneError(LatensgateError):
    """Nobody waits for an answer any more."""

    code = ErrorCode.ERR_CANCELLED


@dataclass(slots=True)
class Share:
    """What one tenant holds of the room."""

    open: int = 0
    held_bytes: int = 0


class Room:
    """How many sealed requests are under way, and how many bytes they hold."""

    def __init__(
        self,
        max_open: int = INFERENCE_MAX_OPEN,
        max_bytes: int = HELD_BODIES_MAX_BYTES,
        tenant_max_open: int = INFERENCE_TENANT_MAX_OPEN,
        tenant_max_bytes: int = HELD_BODIES_TENANT_MAX_BYTES,
    ) -> None:
        self._max_open = max_open
        self._max_bytes = max_bytes
        self.tenant_max_open = tenant_max_open
        self.tenant_max_bytes = tenant_max_bytes
        self.shares: dict[str, Share] = {}
        self.open = 0
        self.held_bytes = 0

    def place(self) -> Place:
        """Return a place, to be entered.

        Raises:
            GatewayError: ``ERR_OVERLOADED``: there is none.
        """
        if self.open >= self._max_open:
            raise _overloaded()
        return Place(self)

    def has(self, count_bytes: int) -> bool:
        """Whether so many more bytes may be held."""
        return self.held_bytes + count_bytes <= self._max_bytes


class Place:
    """One request's place in the room; what it holds is given back when it is left."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held_bytes = 0
        self._tenant_id = ""
        self._share = Share()

    def __enter__(self) -> Self:
        self._room.open += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        room, share = self._room, self._share
        room.open -= 1
        room.held_bytes -= self._held_bytes
        share.held_bytes -= self._held_bytes
        self._held_bytes = 0
        if self._tenant_id:
            share.open -= 1
            if not share.open:
                del room.shares[self._tenant_id]

    def belong_to(self, tenant_id: str) -> None:
        """Count the place among those of a tenant; none may have so many that others have none.

        Raises:
            GatewayError: ``ERR_OVERLOADED``: the tenant has its share.
        """
        share = self._room.shares.get(tenant_id) or Share()
        if share.open >= self._room.tenant_max_open:
            raise _overloaded("of this tenant ")
        share.open += 1
        self._room.shares[tenant_id] = self._share = share
        self._tenant_id = tenant_id

    def try_take(self, count_bytes: int) -> bool:
        """Hold so many more bytes, if there is room."""
        share = self._share
        if not self._room.has(count_bytes):
            return False
        if share.held_bytes + count_bytes > self._room.tenant_max_bytes:
            return False
        self._room.held_bytes += count_bytes
        share.held_bytes += count_bytes
        self._held_bytes += count_bytes
        return True

    def take(self, count_bytes: int) -> None:
        """Hold so many more bytes.

        Raises:
            GatewayError: ``ERR_OVERLOADED``: there is no room.
        """
        if not self.try_take(count_bytes):
            raise _overloaded()


def _overloaded(whose: str = "") -> GatewayError:
    return GatewayError(ErrorCode.ERR_OVERLOADED, f"Too many requests {whose}are under way here.")


async def read_body(headers: Sequence[Header], receive: Receive, place: Place) -> bytes:
    """Return the body of a sealed request.

    Raises:
        GatewayError: ``ERR_TOO_LARGE``, where the length is announced before anything is read;
            ``ERR_OVERLOADED``; ``ERR_REQUEST_INVALID``: no length, or not complete in time.
        ClientGoneError: The caller went away.
    """
    announced = content_length(headers)
    if announced is not None:
        _check_size(announced)
        place.take(announced)
    try:
        async with asyncio.timeout(BODY_READ_TIMEOUT_S):
            return await _read(receive, place, announced or 0)
    except TimeoutError:
        raise GatewayError(
            ErrorCode.ERR_REQUEST_INVALID,
            f"The body was not complete within {BODY_READ_TIMEOUT_S:.0f} s.",
        ) from None


async def _read(receive: Receive, place: Place, taken: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError("the caller went away before the body was complete")
        piece = cast("bytes", message.get("body", b""))
        size += len(piece)
        _check_size(size)
        if size > taken:
            place.take(size - taken)
            taken = size
        if not message.get("more_body"):
            return b"".join((*pieces, piece)) if pieces else piece
        pieces.append(piece)


def content_length(headers: Sequence[Header]) -> int | None:
    """Return the announced length of a body.

    Raises:
        GatewayError: ``ERR_REQUEST_INVALID``: it stands twice or is no number.
    """
    value = single(headers, b"content-length")
    if value is None:
        return None
    if not value.isdigit():
        raise GatewayError(
            ErrorCode.ERR_REQUEST_INVALID,
            "Header Content-Length: a number expected.",
            param="Content-Length",
        )
    return int(value) if len(value) <= _LENGTH_MAX_DIGITS else 10**_LENGTH_MAX_DIGITS


def _check_size(size: int) -> None:
    if size > SEALED_BODY_MAX_BYTES:
        raise GatewayError(
            ErrorCode.ERR_TOO_LARGE, f"A body of at most {SEALED_BODY_MAX_BYTES} bytes expected."
        )
