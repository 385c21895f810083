"""Writes of one turn of the loop are one write."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latensgate_parent import gathering
from latensgate_parent.gathering import GatheringTransport

if TYPE_CHECKING:
    from collections.abc import Coroutine


@dataclass
class Wire:
    """The connection below."""

    written: list[bytes] = field(default_factory=list[bytes])
    ended: list[str] = field(default_factory=list[str])

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return bool(self.ended)

    def get_write_buffer_size(self) -> int:
        return 7

    def close(self) -> None:
        self.ended.append("closed")

    def abort(self) -> None:
        self.ended.append("aborted")

    def get_extra_info(self, name: str) -> str:
        return name

    def pause_reading(self) -> None:
        self.written.append(b"(paused)")

    def resume_reading(self) -> None:
        self.written.append(b"(resumed)")


def over(wire: Wire) -> asyncio.Transport:
    return GatheringTransport.over(cast("Any", wire), asyncio.get_running_loop())


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(test)


@given(st.lists(st.lists(st.binary(min_size=1), min_size=1)))
def test_every_turn_is_one_write_and_nothing_is_lost(turns: list[list[bytes]]) -> None:
    async def test() -> None:
        wire = Wire()
        transport = over(wire)
        for turn in turns:
            for data in turn:
                transport.write(data)
            assert transport.get_write_buffer_size() == 7 + sum(map(len, turn))
            await asyncio.sleep(0)
        assert wire.written == [b"".join(turn) for turn in turns]

    run(test())


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "HTTP_HELD_WRITE_MAX_BYTES", 10)

    async def test() -> None:
        wire = Wire()
        transport = over(wire)
        for _ in range(5):
            transport.write(b"1234")
        assert wire.written == [b"123412341234"]
        await asyncio.sleep(0)
        assert wire.written == [b"123412341234", b"12341234"]

    run(test())


def test_closing_writes_first_and_aborting_does_not() -> None:
    async def test() -> None:
        for end, written in (("close", [b"last"]), ("abort", [])):
            wire = Wire()
            transport = over(wire)
            transport.write(b"last")
            getattr(transport, end)()
            assert transport.is_closing()
            transport.write(b"too late")
            await asyncio.sleep(0)
            assert wire.written == written
            assert len(wire.ended) == 1

    run(test())


def test_the_rest_is_the_connections_own() -> None:
    async def test() -> None:
        wire = Wire()
        transport = over(wire)
        assert transport.get_extra_info("peername") == "peername"
        transport.pause_reading()
        transport.resume_reading()
        assert wire.written == [b"(paused)", b"(resumed)"]

    run(test())
