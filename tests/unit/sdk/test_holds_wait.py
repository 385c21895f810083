"""Waiting for an approver: what ends it, and what it follows (``client.holds``)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import httpx
import pytest

from latensgate.errors import HeldError
from latensgate.exchange_held import HeldCalls
from latensgate.holds import AsyncHolds, Holds

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate import AsyncLatensgate, Latensgate

PAUSE_S = 0.001


def name(number: int) -> str:
    return f"hld_{number:032x}"


def held(number: int) -> HeldError:
    response = httpx.Response(403, request=httpx.Request("GET", "https://gateway.example/"))
    error = HeldError("held", response=cast("Any", response), body=None)
    error.pending_id = name(number)
    return error


@dataclass
class Told:
    """A client whose gateway tells these things in turn; the last one for ever."""

    replies: list[HeldError | str]
    asked: list[str] = field(default_factory=list[str])
    _shared: object = field(
        default_factory=lambda: SimpleNamespace(
            trust=SimpleNamespace(exchange=SimpleNamespace(held=HeldCalls()))
        )
    )

    def get(self, path: str, *, cast_to: object) -> str:
        assert cast_to is not None
        self.asked.append(path.rpartition("/")[2])
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, HeldError):
            raise reply
        return reply


@dataclass
class AsyncTold:
    """The same for tasks."""

    told: Told
    _shared: object = field(init=False)

    def __post_init__(self) -> None:
        self._shared = vars(self.told)["_shared"]

    async def get(self, path: str, *, cast_to: object) -> str:
        return self.told.get(path, cast_to=cast_to)


def waited(told: Told, what: HeldError | str, timeout: float | None) -> object:
    client = cast("Latensgate", told)
    return Holds(client).wait(what, timeout=timeout, interval=PAUSE_S)


def waited_in_a_task(told: Told, what: HeldError | str, timeout: float | None) -> object:
    client = cast("AsyncLatensgate", AsyncTold(told))
    return asyncio.run(AsyncHolds(client).wait(what, timeout=timeout, interval=PAUSE_S))


BOTH = pytest.mark.parametrize("wait", [waited, waited_in_a_task])
Wait: TypeAlias = "Callable[[Told, HeldError | str, float | None], object]"


@BOTH
def test_it_asks_until_somebody_decides(wait: Wait) -> None:
    told = Told([held(1), held(1), "decided"])
    assert wait(told, held(1), None) == "decided"
    assert told.asked == [name(1)] * 3


@BOTH
def test_a_request_that_was_lost_is_followed_under_its_new_name(wait: Wait) -> None:
    told = Told([held(1), held(2), held(2), held(3), "decided"])
    assert wait(told, name(1), None) == "decided"
    assert told.asked == [name(1), name(1), name(2), name(2), name(3)]


@BOTH
def test_who_stops_waiting_learns_the_new_name(wait: Wait) -> None:
    with pytest.raises(HeldError) as caught:
        wait(Told([held(2)]), held(1), 0.0)
    assert caught.value.pending_id == name(2)
    with pytest.raises(HeldError) as caught:
        wait(Told([held(1)]), held(1), 0.0)
    assert caught.value.pending_id == name(1)


@BOTH
def test_who_knows_a_name_alone_gets_an_error_of_time(wait: Wait) -> None:
    with pytest.raises(TimeoutError, match=name(1)):
        wait(Told([held(1)]), name(1), 0.0)


@BOTH
def test_what_is_no_name_is_not_asked_for(wait: Wait) -> None:
    told = Told(["never"])
    with pytest.raises(ValueError, match="hld_"):
        wait(told, "../keys", None)
    assert told.asked == []
