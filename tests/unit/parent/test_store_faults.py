"""The store that fails on demand, and that a retry after either failure ends well."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from latensgate_parent.store.interfaces import (
    DocumentStore,
    IdempotencyStore,
    ReceiptQuery,
    ReceiptStore,
    Store,
    StoreError,
    TenantStore,
)
from store_examples import ONE, answered, receipt, running, start, tenant
from store_faults import Fault, FaultyStore, always, never, once
from store_memory import MemoryStore


async def with_tenant() -> MemoryStore:
    store = MemoryStore()
    await store.insert_tenant(tenant(ONE))
    return store


def test_both_faults_look_alike_and_differ_in_what_is_stored() -> None:
    async def scenario() -> None:
        inner = await with_tenant()
        for number, fault in enumerate(Fault):
            faulty = FaultyStore(inner, always(fault, "insert_receipt"))
            with pytest.raises(StoreError, match="as the test planned"):
                await faulty.insert_receipt(receipt(number))
            found = await faulty.receipt(ONE, receipt(number).receipt_id)
            assert (found is not None) == (fault is Fault.STORED)

    asyncio.run(scenario())


def test_one_call_of_many_fails() -> None:
    async def scenario() -> None:
        faulty = FaultyStore(await with_tenant(), once(Fault.STORED, "check", 1))
        await faulty.check()
        with pytest.raises(StoreError):
            await faulty.check()
        await faulty.check()
        assert faulty.calls == {"check": 3}
        assert [name for name, _ in faulty.crossings()][:2] == [
            "check 0: failed, nothing stored",
            "check 0: failed, but stored",
        ]
        await faulty.aclose()

    asyncio.run(scenario())


def test_every_method_can_fail() -> None:
    async def scenario() -> None:
        faulty = FaultyStore(await with_tenant(), always(Fault.NOTHING_STORED))
        parts = (TenantStore, ReceiptStore, IdempotencyStore, DocumentStore)
        names = {name for part in parts for name in vars(part) if not name.startswith("_")}
        for name in names | {"check"}:
            method = getattr(faulty, name)
            count = sum(
                each.default is inspect.Parameter.empty
                for each in inspect.signature(method).parameters.values()
            )
            with pytest.raises(StoreError, match="as the test planned"):
                await method(*["x"] * count)
        assert len(faulty.calls) == len(names) + 1

    asyncio.run(scenario())


async def keyed_stream(store: Store) -> None:
    """Do what a parent does around one keyed, streamed request."""
    await store.begin(running(), 1)
    await store.insert_start(start(1))
    await store.insert_receipt(receipt(1), answered(running()))


def test_a_retry_after_any_failure_ends_in_the_same_state() -> None:
    async def scenario() -> None:
        healthy = FaultyStore(await with_tenant(), never)
        await keyed_stream(healthy)
        crossings = healthy.crossings()
        assert len(crossings) == 6
        for name, plan in crossings:
            inner = await with_tenant()
            with pytest.raises(StoreError):
                await keyed_stream(FaultyStore(inner, plan))
            await keyed_stream(inner)
            assert await inner.begin(running(), 1) == answered(running()), name
            assert (await inner.receipts(ONE, ReceiptQuery())).entries == (receipt(1),), name
            assert await inner.unfinished(ONE) == (), name

    asyncio.run(scenario())
