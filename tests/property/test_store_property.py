"""Tenants do not see one another: what one observes does not depend on what another does.

A sequence of calls of two tenants, who choose from the same few ids, is made once as it is and once
without the second tenant's calls. The first must see the same in both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import astuple, is_dataclass, replace
from itertools import count
from pathlib import Path
from typing import TypeAlias, cast

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from latensgate_parent.store import sqlite
from latensgate_parent.store.interfaces import (
    APIKey,
    IdempotencyRecord,
    IdempotencyState,
    ReceiptQuery,
    StartRecord,
    Store,
    StoredAnswer,
    StoredReceipt,
    StoreError,
)
from store_examples import KINDS, opened, receipt, start, tenant

Call: TypeAlias = "tuple[str, int, int]"
Calls: TypeAlias = "list[tuple[bool, Call]]"
Observed: TypeAlias = "list[str]"

NEW_TENANTS = count(1)
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # it takes minutes on a disk
NUMBERS = st.integers(0, 1)  # few, so that two tenants meet


class Tenant:
    """One tenant's hand: every value that it stores holds its name, every id is a common one."""

    def __init__(self, store: Store, tenant_id: str) -> None:
        self.store = store
        self.tenant_id = tenant_id

    def key(self, number: int, variant: int) -> APIKey:
        digest = f"{self.tenant_id}{number:019d}{variant}".encode()
        name = f"{self.tenant_id} {variant}"
        return APIKey(f"key_{number}", self.tenant_id, name, digest, "hint", ("admin",), 5)

    def receipt(self, number: int, variant: int) -> StoredReceipt:
        return receipt(number, self.tenant_id, public=f"{self.tenant_id} {variant}".encode())

    def start(self, number: int, variant: int) -> StartRecord:
        return replace(start(number, self.tenant_id), request_hash=f"{self.tenant_id} {variant}")

    def record(self, number: int, variant: int) -> IdempotencyRecord:
        digest = f"{self.tenant_id} {variant}".encode()
        state = IdempotencyState.RUNNING
        return IdempotencyRecord(self.tenant_id, f"key {number}", digest, state, "holder", 100)

    def answered(self, number: int, variant: int) -> IdempotencyRecord:
        answer = StoredAnswer(200, "text", f"for {self.tenant_id} {number}".encode())
        record = self.record(number, variant)
        return replace(record, state=IdempotencyState.ANSWERED, answer=answer)

    def query(self, number: int, variant: int) -> ReceiptQuery:
        return ReceiptQuery(page=1 + number, limit=1 + variant)

    async def observe(self, call: Call) -> str:
        """Make a call and return what it showed, without the tenant's own name."""
        name, number, variant = call
        try:
            shown = await CALLS[name](self, number, variant)
        except StoreError as error:
            shown = error.detail
        whole = [plain(each) for each in flat(shown)]
        return f"{name} {whole}".replace(self.tenant_id, "ME")


def flat(shown: object) -> list[object]:
    """Return the values of a sequence of sequences."""
    if not isinstance(shown, tuple):
        return [shown]
    return [part for each in cast("tuple[object, ...]", shown) for part in flat(each)]


def plain(value: object) -> object:
    """Return every field of a frozen value, also those that its repr leaves out."""
    return astuple(value) if is_dataclass(value) and not isinstance(value, type) else value


CALLS: dict[str, Callable[[Tenant, int, int], Awaitable[object]]] = {
    "insert_key": lambda me, n, v: me.store.insert_key(me.key(n, v)),
    "keys": lambda me, _n, _v: me.store.keys(me.tenant_id),
    "key": lambda me, n, _v: me.store.key(me.tenant_id, f"key_{n}"),
    "authenticate": lambda me, n, v: me.store.authenticate(me.key(n, v).digest),
    "revoke_key": lambda me, n, v: me.store.revoke_key(me.tenant_id, f"key_{n}", v),
    "rotate_key": lambda me, n, v: me.store.rotate_key(me.key(n, v), me.key(v, n)),
    "insert_start": lambda me, n, v: me.store.insert_start(me.start(n, v)),
    "insert_receipt": lambda me, n, v: me.store.insert_receipt(me.receipt(n, v)),
    "answer": lambda me, n, v: me.store.insert_receipt(me.receipt(n, v), me.answered(n, v)),
    "receipt": lambda me, n, _v: me.store.receipt(me.tenant_id, me.receipt(n, 0).receipt_id),
    "receipts": lambda me, n, v: me.store.receipts(me.tenant_id, me.query(n, v)),
    "unfinished": lambda me, _n, _v: me.store.unfinished(me.tenant_id),
    "begin": lambda me, n, v: me.store.begin(me.record(n, v), 1),
    "settle": lambda me, n, v: me.store.settle(me.answered(n, v)),
    "forget": lambda me, n, _v: me.store.forget(me.tenant_id, f"key {n}"),
    "rename": lambda me, n, _v: me.store.replace_tenant(
        replace(tenant(me.tenant_id), name=f"{me.tenant_id} {n}")
    ),
    "tenant": lambda me, _n, _v: me.store.tenant(me.tenant_id),
}


async def make(store: Store, calls: Calls) -> Observed:
    """Make the calls with two fresh tenants; return what the first saw."""
    first, second = [Tenant(store, f"tnt_{next(NEW_TENANTS):08x}") for _ in range(2)]
    for each in (first, second):
        await store.insert_tenant(tenant(each.tenant_id))
    seen: Observed = []
    for is_first, call in calls:
        shown = await (first if is_first else second).observe(call)
        assert first.tenant_id not in shown or is_first
        assert (second if is_first else first).tenant_id not in shown
        if is_first:
            seen.append(shown)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_tenant_s_calls_show_nothing_of_another(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = tuple(each for each in sqlite.SETTINGS if "synchronous" not in each)
    monkeypatch.setattr(sqlite, "SETTINGS", (*fast, "synchronous=OFF"))
    calls = st.lists(
        st.tuples(st.booleans(), st.tuples(st.sampled_from(sorted(CALLS)), NUMBERS, NUMBERS)),
        min_size=20,
        max_size=60,
    )

    with asyncio.Runner() as runner:
        context = opened(kind, tmp_path)
        store = runner.run(context.__aenter__())

        @settings(max_examples=120, deadline=None, phases=NO_SHRINKING)
        @given(calls)
        def holds(made: Calls) -> None:
            alone = [each for each in made if each[0]]
            assert runner.run(make(store, made)) == runner.run(make(store, alone))

        holds()
        runner.run(context.__aexit__(None, None, None))
