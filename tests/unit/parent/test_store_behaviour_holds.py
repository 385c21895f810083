"""Held requests in every store: kept whole, claimed by one, ended once, seen by no other tenant."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from alembic import command

from latensgate_parent.store import sqlite
from latensgate_parent.store.held_forms import HoldState, StoredHold
from latensgate_parent.store.interfaces import Store, StoredAnswer, StoredSettings, StoreError
from latensgate_parent.store.migrate import configuration
from latensgate_parent.store.open import open_store
from paths import REPOSITORY
from store_examples import KINDS, ONE, TWO, opened, receipt, tenant

Scenario: TypeAlias = Callable[[Store], Awaitable[None]]
Run: TypeAlias = Callable[[Scenario], None]

ANSWER = StoredAnswer(200, "application/octet-stream", b"sealed answer")
ENDS = [HoldState.ANSWERED, HoldState.DENIED, HoldState.FAILED]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run a scenario on a store with two tenants."""

    async def in_store(scenario: Scenario) -> None:
        async with opened(str(request.param), tmp_path) as store:
            await store.insert_tenant(tenant(ONE))
            await store.insert_tenant(tenant(TWO))
            await scenario(store)

    return lambda scenario: asyncio.run(in_store(scenario))


def hold(number: int = 1, tenant_id: str = ONE, *, expires_at_s: int = 90) -> StoredHold:
    return StoredHold(
        pending_id=f"hld_{number:032x}",
        tenant_id=tenant_id,
        receipt_id=f"aud_{number:016x}",
        attestation_hash="sha384:" + "ab" * 48,
        model="m",
        operation="chat.completions",
        enclave="unix:/enclave-0",
        state=HoldState.PENDING,
        holder="",
        held_at_s=30,
        expires_at_s=expires_at_s,
        sealed_request=b"sealed %d" % number,
        settings=b"settings",
        pending_state=b"state",
    )


def bare(kept: StoredHold) -> StoredHold:
    """What is left of one without what is sealed."""
    return replace(kept, sealed_request=b"", settings=b"", pending_state=b"")


def ended(kept: StoredHold, state: HoldState, answer: StoredAnswer | None = None) -> StoredHold:
    return replace(bare(kept), state=state, holder="process 1", answer=answer)


async def claimed(store: Store, kept: StoredHold, holder: str = "process 1") -> bool:
    return await store.claim_hold(kept.tenant_id, kept.pending_id, holder)


def test_what_is_held_is_kept_whole_and_once(run: Run) -> None:
    async def scenario(store: Store) -> None:
        first, empty = hold(1), replace(hold(2), settings=b"")
        await store.insert_hold(first)
        await store.insert_hold(empty)
        await store.insert_hold(first)
        await store.insert_hold(replace(first, model="another"))  # the first stays
        assert await store.hold(ONE, first.pending_id) == first
        assert await store.hold(ONE, empty.pending_id) == empty
        assert list(await store.holds(ONE, 9)) == [bare(empty), bare(first)]
        assert await store.hold(ONE, hold(3).pending_id) is None
        with pytest.raises(StoreError):
            await store.insert_hold(hold(3, "tnt_00000000"))

    run(scenario)


def test_the_newest_are_told_first_and_so_many(run: Run) -> None:
    async def scenario(store: Store) -> None:
        every = [hold(number) for number in (5, 1, 4, 2, 3)]
        for each in every:
            await store.insert_hold(each)
        await claimed(store, every[4])
        await store.settle_hold(ONE, every[4].pending_id, HoldState.ANSWERED, ANSWER)
        newest = ended(every[4], HoldState.ANSWERED, replace(ANSWER, body=b""))
        assert list(await store.holds(ONE, 2)) == [newest, bare(every[3])]
        assert len(await store.holds(ONE, 100)) == 5

    run(scenario)


def test_of_another_tenant_nothing_is_seen_or_changed(run: Run) -> None:
    async def scenario(store: Store) -> None:
        mine, same = hold(1), hold(1, TWO)
        await store.insert_hold(mine)
        assert await store.hold(TWO, mine.pending_id) is None
        assert list(await store.holds(TWO, 9)) == []
        assert not await store.claim_hold(TWO, mine.pending_id, "process 1")
        await store.insert_hold(same)
        assert await claimed(store, mine)
        await store.settle_hold(TWO, mine.pending_id, HoldState.DENIED, ANSWER)
        assert await store.hold(TWO, mine.pending_id) == same
        found = await store.hold(ONE, mine.pending_id)
        assert found == replace(mine, state=HoldState.RUNNING, holder="process 1")

    run(scenario)


def test_of_many_who_claim_at_once_one_gets_it(run: Run) -> None:
    async def scenario(store: Store) -> None:
        kept = hold()
        await store.insert_hold(kept)
        asked = [claimed(store, kept, f"process {number}") for number in range(8)]
        won = await asyncio.gather(*asked)
        assert won.count(True) == 1
        found = await store.hold(ONE, kept.pending_id)
        assert found is not None
        assert found.holder == f"process {won.index(True)}"
        assert found.sealed_request == kept.sealed_request
        assert not await claimed(store, hold(2))

    run(scenario)


@pytest.mark.parametrize("state", ENDS)
def test_what_ends_keeps_its_answer_and_nothing_that_was_sealed(run: Run, state: HoldState) -> None:
    async def scenario(store: Store) -> None:
        kept = hold()
        await store.insert_hold(kept)
        await claimed(store, kept)
        await store.settle_hold(ONE, kept.pending_id, state, ANSWER)
        expected = ended(kept, state, ANSWER)
        assert await store.hold(ONE, kept.pending_id) == expected
        assert not await claimed(store, kept)
        await store.settle_hold(ONE, kept.pending_id, HoldState.LOST)  # nothing runs
        await store.settle_hold(ONE, kept.pending_id, HoldState.PENDING)
        assert await store.hold(ONE, kept.pending_id) == expected

    run(scenario)


@pytest.mark.parametrize("state", [HoldState.LOST, HoldState.EXPIRED, HoldState.UNKNOWN])
def test_what_comes_to_nothing_has_no_answer(run: Run, state: HoldState) -> None:
    async def scenario(store: Store) -> None:
        kept = hold()
        await store.insert_hold(kept)
        await store.settle_hold(ONE, kept.pending_id, state)  # it does not run yet
        assert await store.hold(ONE, kept.pending_id) == kept
        await claimed(store, kept)
        await store.settle_hold(ONE, kept.pending_id, state)
        assert await store.hold(ONE, kept.pending_id) == ended(kept, state)

    run(scenario)


def test_what_was_not_taken_can_be_claimed_again(run: Run) -> None:
    async def scenario(store: Store) -> None:
        kept = hold()
        await store.insert_hold(kept)
        await claimed(store, kept)
        await store.settle_hold(ONE, kept.pending_id, HoldState.PENDING)
        found = await store.hold(ONE, kept.pending_id)
        assert found == replace(kept, holder="process 1")
        assert await claimed(store, kept, "process 2")

    run(scenario)


def test_what_lost_holders_ran_is_of_unknown_outcome(run: Run) -> None:
    async def scenario(store: Store) -> None:
        waits, mine, lost, foreign, done = (hold(number) for number in range(1, 6))
        foreign = replace(foreign, tenant_id=TWO)
        for each in (waits, mine, lost, foreign, done):
            await store.insert_hold(each)
        for each in (lost, foreign, done):
            assert await claimed(store, each)
        assert await claimed(store, mine, "process 2")
        await store.settle_hold(ONE, done.pending_id, HoldState.ANSWERED, ANSWER)
        assert await store.abandon_holds("process 2") == 2
        assert await store.abandon_holds("process 2") == 0
        states: list[HoldState | None] = []
        for each in (waits, mine, lost, foreign, done):
            found = await store.hold(each.tenant_id, each.pending_id)
            states.append(None if found is None else found.state)
        assert states == [
            HoldState.PENDING,
            HoldState.RUNNING,
            HoldState.UNKNOWN,
            HoldState.UNKNOWN,
            HoldState.ANSWERED,
        ]
        assert not await claimed(store, lost)  # it may have run
        await store.settle_hold(ONE, lost.pending_id, HoldState.ANSWERED, ANSWER)
        found = await store.hold(ONE, lost.pending_id)
        assert found is not None
        assert (found.state, found.answer) == (HoldState.UNKNOWN, None)

    run(scenario)


def test_expired_ones_are_removed(run: Run) -> None:
    async def scenario(store: Store) -> None:
        for number in (1, 2, 3):
            await store.insert_hold(hold(number, expires_at_s=100 + number))
        await claimed(store, hold(1))
        assert await store.expire_holds(100) == 0
        assert await store.expire_holds(102) == 2
        assert [each.pending_id for each in await store.holds(ONE, 9)] == [hold(3).pending_id]
        assert await store.hold(ONE, hold(1).pending_id) is None

    run(scenario)


def test_a_closed_store_refuses_holds(run: Run) -> None:
    async def scenario(store: Store) -> None:
        await store.aclose()
        for call in (
            store.insert_hold(hold()),
            store.hold(ONE, "hld_"),
            store.holds(ONE, 1),
            store.claim_hold(ONE, "hld_", "p"),
            store.settle_hold(ONE, "hld_", HoldState.LOST),
            store.abandon_holds("p"),
            store.expire_holds(1),
        ):
            with pytest.raises(StoreError):
                await call

    run(scenario)


# --- the database ---


def test_two_connections_that_claim_at_once_never_both_get_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened("sqlite", tmp_path) as one, opened("sqlite", tmp_path) as two:
            await one.insert_tenant(tenant(ONE))
            for number in range(25):
                kept = hold(number)
                await one.insert_hold(kept)
                won = await asyncio.gather(
                    claimed(one, kept, "process 1"), claimed(two, kept, "process 2")
                )
                assert won.count(True) == 1
                found = await two.hold(ONE, kept.pending_id)
                assert found is not None
                assert found.holder == f"process {won.index(True) + 1}"

    asyncio.run(scenario())


KILLED = """
import asyncio, os, signal, sys
from latensgate_parent.store.open import open_store
from store_examples import ONE

async def main():
    store = await open_store(sys.argv[1], alone=True)
    assert await store.claim_hold(ONE, sys.argv[2], "process 1")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_parent_that_is_killed_between_claim_and_end_leaves_it_unknown(tmp_path: Path) -> None:
    """What it claimed may have run: it is claimed by nobody again, and nobody waits for ever."""

    async def before() -> None:
        async with opened("sqlite", tmp_path) as store:
            await store.insert_tenant(tenant(ONE))
            await store.insert_hold(hold(1))
            await store.insert_hold(hold(2))

    async def after() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/store.db", alone=True)
        found = await store.hold(ONE, hold(1).pending_id)
        assert found == replace(hold(1), state=HoldState.RUNNING, holder="process 1")
        assert not await claimed(store, hold(1), "process 2")
        assert await store.abandon_holds("process 2") == 1
        assert not await claimed(store, hold(1), "process 2")
        assert await store.hold(ONE, hold(2).pending_id) == hold(2)
        await store.aclose()

    asyncio.run(before())
    url = f"sqlite:///{tmp_path}/store.db"
    arguments = [sys.executable, "-c", KILLED, url, hold(1).pending_id]
    done = subprocess.run(arguments, cwd=REPOSITORY / "tests", check=False, timeout=60)
    assert done.returncode == -9
    asyncio.run(after())


def test_a_database_of_the_release_before_gets_the_table_and_keeps_its_data(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    engine = sqlite.writing_engine(path)
    config = configuration()
    with engine.begin() as changing:
        config.attributes["connection"] = changing
        command.upgrade(config, "0002")
    engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO tenants (tenant_id, name, requests_per_minute, created_at_s)"
            " VALUES (?, 'a', 60, 5)",
            (ONE,),
        )
        connection.execute(
            "INSERT INTO tenant_settings (tenant_id, version, document, stored_at_s)"
            " VALUES (?, 4, ?, 5)",
            (ONE, b"signed"),
        )
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "held_requests" not in tables
    kept = StoredSettings(ONE, 4, b"signed", 5)

    async def upgraded() -> None:
        async with opened("sqlite", tmp_path) as store:
            assert [each.tenant_id for each in await store.tenants()] == [ONE]
            assert await store.settings(ONE) == kept
            await store.insert_receipt(receipt(1))
            await store.insert_hold(hold())
        async with opened("sqlite", tmp_path) as store:
            assert await store.settings(ONE) == kept
            assert await store.hold(ONE, hold().pending_id) == hold()

    asyncio.run(upgraded())
