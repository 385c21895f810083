"""Look-ups that many want at once: made once, and never joined after what they read was changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from latensgate_parent.http.auth import Authenticator
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.flights import Flights
from latensgate_parent.http.settings_shelf import SettingsShelf
from latensgate_parent.store.interfaces import StoredSettings, StoreError
from store_memory import MemoryStore

MANY = 40
JOINABLE_S = 60.0
KEY = b"lg_test_" + b"a" * 43


@dataclass
class Slow:
    """Answers when it is let."""

    asked: list[str] = field(default_factory=list[str])
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def look_up(self, key: str) -> str:
        self.asked.append(key)
        number = len(self.asked)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return f"{key} {number}"


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_comes_meanwhile_waits_for_the_look_up_under_way() -> None:
    async def test() -> None:
        slow, flights = Slow(), Flights[str, str](JOINABLE_S)
        ones = [asyncio.create_task(flights.join("one", slow.look_up)) for _ in range(MANY)]
        two = asyncio.create_task(flights.join("two", slow.look_up))
        await _turns()
        slow.may_answer.set()
        assert await asyncio.gather(*ones) == ["one 1"] * MANY
        assert await two == "two 2"
        assert await flights.join("one", slow.look_up) == "one 3"  # nothing is remembered

    asyncio.run(test())


def test_a_look_up_that_takes_too_long_is_joined_by_nobody_more() -> None:
    """It may have read a key before that was revoked."""

    async def test() -> None:
        slow, flights = Slow(), Flights[str, str](0.01)
        first = asyncio.create_task(flights.join("one", slow.look_up))
        await asyncio.sleep(0.02)
        second, third = (asyncio.create_task(flights.join("one", slow.look_up)) for _ in range(2))
        await _turns()
        slow.may_answer.set()
        told = await asyncio.gather(first, second, third)
        assert list(told) == ["one 1", "one 2", "one 2"]

    asyncio.run(test())


def test_a_caller_that_goes_away_takes_no_answer_from_the_others() -> None:
    async def test() -> None:
        slow, flights = Slow(), Flights[str, str](JOINABLE_S)
        first, second = (asyncio.create_task(flights.join("one", slow.look_up)) for _ in range(2))
        await _turns()
        first.cancel()
        await _turns()
        slow.may_answer.set()
        assert await second == "one 1"
        assert first.cancelled()

    asyncio.run(test())


def test_a_failure_is_everybodys_and_the_next_one_asks_again() -> None:
    async def test() -> None:
        slow, flights = Slow(error=StoreError("closed")), Flights[str, str](JOINABLE_S)
        tasks = [asyncio.create_task(flights.join("one", slow.look_up)) for _ in range(3)]
        await _turns()
        slow.may_answer.set()
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in told] == [StoreError] * 3
        slow.error = None
        assert await flights.join("one", slow.look_up) == "one 2"

    asyncio.run(test())


@pytest.mark.parametrize("everything", [False, True])
def test_nobody_joins_what_may_have_read_the_old_state(*, everything: bool) -> None:
    async def test() -> None:
        slow, flights = Slow(), Flights[str, str](JOINABLE_S)
        before = asyncio.create_task(flights.join("one", slow.look_up))
        await _turns()
        if everything:
            flights.part_all()
        else:
            flights.part("one")
        after = [asyncio.create_task(flights.join("one", slow.look_up)) for _ in range(2)]
        await _turns()
        slow.may_answer.set()
        assert await before == "one 1"
        assert (
            await asyncio.gather(*after) == ["one 2"] * 2
        )  # the old one's end did not take it away

    asyncio.run(test())


class _CountingStore(MemoryStore):
    """Counts what it is asked, and answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def settings(self, tenant_id: str) -> StoredSettings | None:
        self.asked += 1
        await self.may_answer.wait()
        return await super().settings(tenant_id)

    async def authenticate(self, digest: bytes) -> None:
        self.asked += 1
        await self.may_answer.wait()
        assert digest


def test_a_burst_of_requests_asks_for_settings_once() -> None:
    async def test() -> None:
        store = _CountingStore()
        shelf = SettingsShelf(store)
        burst = [asyncio.create_task(shelf.document("tnt_a3f9c42b")) for _ in range(MANY)]
        await _turns()
        store.may_answer.set()
        assert await asyncio.gather(*burst) == [None] * MANY
        assert store.asked == 1

    asyncio.run(test())


def test_a_burst_of_requests_asks_for_their_key_once_and_each_is_refused() -> None:
    async def test() -> None:
        store = _CountingStore()
        authenticator = Authenticator(store)
        headers = [(b"x-api-key", KEY)]
        burst = [
            asyncio.create_task(authenticator.authenticate(headers, None)) for _ in range(MANY)
        ]
        await _turns()
        store.may_answer.set()
        told = await asyncio.gather(*burst, return_exceptions=True)
        assert all(isinstance(each, GatewayError) for each in told)
        assert len({id(each) for each in told}) == MANY  # one error for each, not one for all
        assert store.asked == 1

    asyncio.run(test())


@pytest.mark.parametrize("everything", [False, True])
def test_a_key_that_is_revoked_meanwhile_is_asked_for_again(*, everything: bool) -> None:
    async def test() -> None:
        store = _CountingStore()
        authenticator = Authenticator(store)
        headers = [(b"x-api-key", KEY)]
        before = asyncio.create_task(authenticator.authenticate(headers, None))
        await _turns()
        if everything:
            authenticator.forget_all()
        else:
            authenticator.forget(sha256(KEY).digest())
        after = asyncio.create_task(authenticator.authenticate(headers, None))
        await _turns()
        assert store.asked == 2
        store.may_answer.set()
        await asyncio.gather(before, after, return_exceptions=True)

    asyncio.run(test())
