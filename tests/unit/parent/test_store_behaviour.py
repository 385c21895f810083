"""One suite for every store: what is expected of the real one is expected of the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from latensgate_parent.limits import SETTINGS_VERSIONS_MAX_COUNT
from latensgate_parent.store.daily import DayCount
from latensgate_parent.store.interfaces import (
    ArchivedDocument,
    IdempotencyRecord,
    ReceiptQuery,
    Store,
    StoredReceipt,
    StoredSettings,
    StoredUsage,
    StoreError,
)
from latensgate_shared.errors import ErrorCode
from store_examples import (
    KINDS,
    ONE,
    TWO,
    answered,
    api_key,
    opened,
    receipt,
    running,
    start,
    tenant,
    unknown,
)

Scenario: TypeAlias = Callable[[Store], Awaitable[None]]
Run: TypeAlias = Callable[[Scenario], None]

NEAR = 1_800_000_000


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run a scenario on a store with two tenants."""

    async def in_store(scenario: Scenario) -> None:
        async with opened(str(request.param), tmp_path) as store:
            await store.insert_tenant(tenant(ONE, created_at_s=1_000))
            await store.insert_tenant(tenant(TWO, created_at_s=900))
            await scenario(store)

    return lambda scenario: asyncio.run(in_store(scenario))


def ids(found: tuple[StoredReceipt, ...]) -> list[int]:
    return [int(each.receipt_id.removeprefix("aud_"), 16) for each in found]


# --- tenants ---


def test_tenants_come_back_oldest_first(run: Run) -> None:
    async def scenario(store: Store) -> None:
        assert [each.tenant_id for each in await store.tenants()] == [TWO, ONE]
        assert await store.tenant(ONE) == tenant(ONE)
        assert await store.tenant("tnt_ffffffff") is None

    run(scenario)


def test_a_tenant_is_not_added_twice(run: Run) -> None:
    async def scenario(store: Store) -> None:
        with pytest.raises(StoreError) as refused:
            await store.insert_tenant(replace(tenant(ONE), name="thief"))
        assert refused.value.code is ErrorCode.ERR_STORE_UNAVAILABLE
        assert await store.tenant(ONE) == tenant(ONE)

    run(scenario)


def test_a_tenant_changes_but_not_its_age(run: Run) -> None:
    async def scenario(store: Store) -> None:
        changed = replace(tenant(ONE), name="new", requests_per_minute=9, disabled_at_s=5)
        assert await store.replace_tenant(replace(changed, created_at_s=7))
        assert await store.tenant(ONE) == changed
        assert await store.tenant(TWO) == tenant(TWO, created_at_s=900)
        assert not await store.replace_tenant(tenant("tnt_ffffffff"))

    run(scenario)


@pytest.mark.parametrize("between", [{"disabled_at_s": 5}, {"requests_per_minute": 9}])
def test_of_two_changes_at_one_moment_none_is_undone(run: Run, between: dict[str, int]) -> None:
    async def scenario(store: Store) -> None:
        was = await store.tenant(ONE)
        assert was is not None
        first = replace(was, **between)  # type: ignore[arg-type]  # members of a tenant
        assert await store.replace_tenant(first, was)
        assert not await store.replace_tenant(replace(was, name="second"), was)
        assert await store.tenant(ONE) == first
        assert await store.replace_tenant(replace(first, name="second"), first)

    run(scenario)


# --- keys ---


def test_keys_are_found_by_digest_and_listed_newest_first(run: Run) -> None:
    async def scenario(store: Store) -> None:
        first, second = api_key(1), api_key(2, expires_at_s=3_000)
        older = replace(api_key(3, created_at_s=1), scopes=())
        for key in (first, second, older, api_key(4, TWO)):
            await store.insert_key(key)
        assert list(await store.keys(ONE)) == [second, first, older]
        assert await store.authenticate(second.digest) == (second, tenant(ONE))
        assert await store.authenticate(bytes(32)) is None
        assert await store.key(ONE, older.key_id) == older

    run(scenario)


def test_the_same_digest_or_id_or_an_unknown_tenant_is_refused(run: Run) -> None:
    async def scenario(store: Store) -> None:
        await store.insert_key(api_key(1))
        for bad in (
            replace(api_key(2), digest=api_key(1).digest),
            replace(api_key(2, TWO), digest=api_key(1).digest),
            replace(api_key(2), key_id=api_key(1).key_id),
            api_key(2, "tnt_ffffffff"),
        ):
            with pytest.raises(StoreError):
                await store.insert_key(bad)
        assert list(await store.keys(ONE)) == [api_key(1)]
        assert list(await store.keys(TWO)) == []

    run(scenario)


def test_a_revoked_key_keeps_its_first_time(run: Run) -> None:
    async def scenario(store: Store) -> None:
        key = api_key(1)
        await store.insert_key(key)
        assert await store.revoke_key(TWO, key.key_id, 10) is None
        revoked = replace(key, revoked_at_s=20)
        assert await store.revoke_key(ONE, key.key_id, 20) == revoked
        assert await store.revoke_key(ONE, key.key_id, 30) == revoked
        assert await store.authenticate(key.digest) == (revoked, tenant(ONE))
        assert await store.revoke_key(ONE, "key_none", 30) is None

    run(scenario)


def test_rotation_ends_one_key_and_adds_the_other_or_does_neither(run: Run) -> None:
    async def scenario(store: Store) -> None:
        old = api_key(1)
        await store.insert_key(old)
        ended = replace(old, expires_at_s=50, name="names do not change here")
        with pytest.raises(StoreError):
            await store.rotate_key(ended, replace(api_key(2), digest=old.digest))
        assert list(await store.keys(ONE)) == [old]
        assert await store.rotate_key(ended, api_key(2))
        assert list(await store.keys(ONE)) == [api_key(2), replace(old, expires_at_s=50)]

    run(scenario)


def test_rotation_never_brings_a_revoked_key_back(run: Run) -> None:
    async def scenario(store: Store) -> None:
        old = api_key(1)
        await store.insert_key(old)
        await store.revoke_key(ONE, old.key_id, 20)
        assert not await store.rotate_key(replace(old, expires_at_s=50), api_key(2))
        assert not await store.rotate_key(api_key(9), api_key(2))
        assert list(await store.keys(ONE)) == [replace(old, revoked_at_s=20)]

    run(scenario)


def test_rotation_stays_with_its_tenant(run: Run) -> None:
    async def scenario(store: Store) -> None:
        await store.insert_key(api_key(1))
        with pytest.raises(StoreError):
            await store.rotate_key(api_key(1), api_key(2, TWO))
        assert not await store.rotate_key(api_key(1, TWO), api_key(2, TWO))
        assert list(await store.keys(ONE)) == [api_key(1)]

    run(scenario)


# --- receipts ---


def test_a_receipt_comes_back_as_it_was_and_to_its_tenant_only(run: Run) -> None:
    async def scenario(store: Store) -> None:
        plain, sealed = receipt(1), replace(receipt(2), private_sealed=b"\x00\xff sealed")
        await store.insert_receipt(plain)
        await store.insert_receipt(sealed)
        assert await store.receipt(ONE, plain.receipt_id) == plain
        assert await store.receipt(ONE, sealed.receipt_id) == sealed
        assert await store.receipt(TWO, plain.receipt_id) is None
        assert (await store.receipts(TWO, ReceiptQuery())).total == 0

    run(scenario)


def test_the_identical_receipt_twice_is_stored_once(run: Run) -> None:
    async def scenario(store: Store) -> None:
        await store.insert_receipt(replace(receipt(1), stored_at_ms=5))
        await store.insert_receipt(replace(receipt(1), stored_at_ms=9))
        page = await store.receipts(ONE, ReceiptQuery())
        assert page.entries == (replace(receipt(1), stored_at_ms=5),)

    run(scenario)


@pytest.mark.parametrize(
    "other",
    [
        receipt(1, public=b"{}"),
        receipt(1, outcome="refused"),
        replace(receipt(1), private_sealed=b""),
        replace(receipt(1), signature=b"\x01" * 64),
        replace(receipt(1), sequence=7),
    ],
)
def test_another_receipt_under_an_id_is_refused(run: Run, other: StoredReceipt) -> None:
    async def scenario(store: Store) -> None:
        record = running()
        await store.insert_receipt(receipt(1))
        await store.begin(record, 1)
        with pytest.raises(StoreError):
            await store.insert_receipt(other, answered(record))
        assert await store.receipt(ONE, receipt(1).receipt_id) == receipt(1)
        assert await store.begin(record, 1) == record

    run(scenario)


def test_the_same_id_in_two_tenants_is_two_receipts(run: Run) -> None:
    async def scenario(store: Store) -> None:
        mine, theirs = receipt(1), receipt(1, TWO, public=b"theirs")
        await store.insert_receipt(mine)
        await store.insert_receipt(theirs)
        assert await store.receipt(ONE, mine.receipt_id) == mine
        assert await store.receipt(TWO, mine.receipt_id) == theirs

    run(scenario)


def test_a_receipt_of_no_tenant_is_refused(run: Run) -> None:
    async def scenario(store: Store) -> None:
        for call in (
            store.insert_receipt(receipt(1, "tnt_ffffffff")),
            store.insert_start(start(1, "tnt_ffffffff")),
        ):
            with pytest.raises(StoreError):
                await call

    run(scenario)


def test_receipts_are_counted_by_day_and_outcome(run: Run) -> None:
    async def scenario(store: Store) -> None:
        day = NEAR // 86_400 * 86_400
        await store.insert_receipt(receipt(1, issued_at_s=day))
        await store.insert_receipt(receipt(2, issued_at_s=day + 86_340, outcome="refused"))
        sealed = replace(receipt(3, issued_at_s=day + 86_400), private_sealed=b"sealed")
        await store.insert_receipt(sealed)
        await store.insert_receipt(receipt(4, issued_at_s=day + 86_460))
        await store.insert_receipt(receipt(5, TWO, issued_at_s=day))
        first = day // 86_400
        found = await store.daily_counts(ONE, None, None)
        assert found == (
            DayCount(first + 1, "answered", 2, 1),
            DayCount(first, "answered", 1, 0),
            DayCount(first, "refused", 1, 0),
        )
        assert await store.daily_counts(ONE, day + 60, day + 86_400) == (found[2],)
        assert await store.daily_counts(TWO, None, None) == (found[1],)

    run(scenario)


def test_pages_are_newest_first_and_counted(run: Run) -> None:
    async def scenario(store: Store) -> None:
        for number in range(1, 8):
            await store.insert_receipt(receipt(number))
        for page, expected in ((1, [7, 6, 5]), (2, [4, 3, 2]), (3, [1]), (4, []), (10**19, [])):
            found = await store.receipts(ONE, ReceiptQuery(page=page, limit=3))
            assert (ids(found.entries), found.total) == (expected, 7)
        assert len((await store.receipts(ONE, ReceiptQuery(limit=10**19))).entries) == 7

    run(scenario)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (ReceiptQuery(), [4, 3, 2, 1]),
        (ReceiptQuery(outcome="refused"), [2]),
        (ReceiptQuery(key_id="ffff"), [3]),
        (ReceiptQuery(attestation_hash=receipt().attestation_hash), [3, 2, 1]),
        (ReceiptQuery(since_s=NEAR + 60), [4, 3, 2]),
        (ReceiptQuery(until_s=NEAR + 60), [1]),
        (ReceiptQuery(since_s=NEAR + 60, until_s=NEAR + 180, outcome="answered"), [3]),
        (ReceiptQuery(outcome=""), []),
    ],
)
def test_filters(run: Run, query: ReceiptQuery, expected: list[int]) -> None:
    async def scenario(store: Store) -> None:
        await store.insert_receipt(receipt(1, issued_at_s=NEAR))
        await store.insert_receipt(receipt(2, issued_at_s=NEAR + 60, outcome="refused"))
        await store.insert_receipt(replace(receipt(3, issued_at_s=NEAR + 120), key_id="ffff"))
        other = replace(receipt(4, issued_at_s=NEAR + 180), attestation_hash="sha384:00")
        await store.insert_receipt(other)
        await store.insert_receipt(receipt(5, TWO))
        found = await store.receipts(ONE, query)
        assert (ids(found.entries), found.total) == (expected, len(expected))

    run(scenario)


def test_what_began_and_did_not_end_is_told(run: Run) -> None:
    async def scenario(store: Store) -> None:
        await store.insert_start(start(1, started_at_ms=9))
        await store.insert_start(start(2, started_at_ms=7))
        await store.insert_start(start(2, started_at_ms=7))
        await store.insert_start(start(3, TWO))
        with pytest.raises(StoreError):
            await store.insert_start(start(2, started_at_ms=8))
        assert list(await store.unfinished(ONE)) == [
            start(2, started_at_ms=7),
            start(1, started_at_ms=9),
        ]
        await store.insert_receipt(receipt(2))
        await store.insert_receipt(receipt(3))
        await store.insert_start(start(3))
        assert list(await store.unfinished(ONE)) == [start(1, started_at_ms=9)]
        assert list(await store.unfinished(TWO)) == [start(3, TWO)]

    run(scenario)


# --- idempotency ---


def test_a_key_is_taken_once_and_shows_what_stands_there(run: Run) -> None:
    async def scenario(store: Store) -> None:
        record = running()
        assert await store.begin(record, 1) is None
        other = running(digest=b"\x02" * 48, holder="process 2")
        assert await store.begin(other, 1) == record
        assert await store.begin(running(tenant_id=TWO), 1) is None
        assert await store.begin(running("another"), 1) is None

    run(scenario)


def test_exactly_one_of_many_begins(run: Run) -> None:
    async def scenario(store: Store) -> None:
        records = [running(digest=bytes([number]) * 48) for number in range(40)]
        found = await asyncio.gather(*(store.begin(record, 1) for record in records))
        assert found.count(None) == 1
        winner = records[found.index(None)]
        assert [each for each in found if each] == [winner] * 39

    run(scenario)


def test_the_answer_is_replayed_with_its_receipt(run: Run) -> None:
    async def scenario(store: Store) -> None:
        record = running()
        await store.begin(record, 1)
        await store.insert_receipt(receipt(1), answered(record))
        await store.insert_receipt(receipt(1), answered(record))
        assert await store.begin(record, 1) == answered(record)

    run(scenario)


def test_what_is_settled_stays(run: Run) -> None:
    async def scenario(store: Store) -> None:
        record = running()
        await store.begin(record, 1)
        await store.settle(unknown(record))
        await store.settle(answered(record))
        await store.forget(ONE, record.idempotency_key)
        assert await store.begin(record, 1) == unknown(record)

    run(scenario)


def test_only_the_running_record_of_the_same_bytes_is_settled(run: Run) -> None:
    async def scenario(store: Store) -> None:
        record = running()
        await store.settle(answered(record))
        await store.begin(record, 1)
        await store.settle(answered(running(digest=b"\x02" * 48)))
        await store.settle(answered(running(tenant_id=TWO)))
        assert await store.begin(record, 1) == record
        await store.insert_receipt(receipt(1), answered(running("absent")))
        assert await store.begin(running("absent"), 1) is None

    run(scenario)


def test_what_is_settled_expires_when_it_began_to_and_is_its_first_holders(run: Run) -> None:
    async def scenario(store: Store) -> None:
        record = running()
        await store.begin(record, 1)
        later = replace(record, holder="another", expires_at_s=record.expires_at_s + 1)
        await store.settle(answered(later))
        assert await store.begin(record, 1) == answered(record)

    run(scenario)


def test_an_empty_answer_is_an_answer(run: Run) -> None:
    async def scenario(store: Store) -> None:
        record = running()
        await store.begin(record, 1)
        await store.settle(answered(record, b""))
        assert await store.begin(record, 1) == answered(record, b"")

    run(scenario)


@pytest.mark.parametrize(
    "bad",
    [
        running(),
        replace(unknown(running()), answer=answered(running()).answer),
        replace(answered(running()), answer=None),
    ],
)
def test_records_that_make_no_sense_are_refused(run: Run, bad: IdempotencyRecord) -> None:
    async def scenario(store: Store) -> None:
        await store.begin(running(), 1)
        for call in (store.settle(bad), store.insert_receipt(receipt(1), bad)):
            with pytest.raises(StoreError):
                await call
        assert await store.receipt(ONE, receipt(1).receipt_id) is None
        for unfit in (answered(running("x")), unknown(running("x"))):
            with pytest.raises(StoreError):
                await store.begin(unfit, 1)
        with pytest.raises(StoreError):
            await store.begin(running(tenant_id="tnt_ffffffff"), 1)

    run(scenario)


def test_a_forgotten_key_is_free_for_other_bytes(run: Run) -> None:
    async def scenario(store: Store) -> None:
        record, other = running(), running(digest=b"\x02" * 48)
        await store.begin(record, 1)
        await store.forget(TWO, record.idempotency_key)
        assert await store.begin(other, 1) == record
        await store.forget(ONE, record.idempotency_key)
        assert await store.begin(other, 1) is None

    run(scenario)


def test_an_expired_record_gives_way(run: Run) -> None:
    async def scenario(store: Store) -> None:
        record, later = running(expires_at_s=100), running(digest=b"\x02" * 48, expires_at_s=300)
        await store.begin(record, 1)
        await store.settle(answered(record))
        assert await store.begin(later, 99) == answered(record)
        assert await store.begin(later, 100) is None
        assert await store.begin(record, 101) == later

    run(scenario)


def test_expired_records_are_removed(run: Run) -> None:
    async def scenario(store: Store) -> None:
        begun = [running(str(number), expires_at_s=number) for number in range(300)]
        await asyncio.gather(*(store.begin(record, -1) for record in begun))
        assert await store.expire(279) == 280
        assert await store.expire(279) == 0
        assert await store.begin(begun[280], 0) == begun[280]

    run(scenario)


def test_records_of_lost_holders_become_unknown(run: Run) -> None:
    async def scenario(store: Store) -> None:
        mine, lost = running("mine", holder="process 2"), running("lost")
        done = running("done")
        for record in (mine, lost, done):
            await store.begin(record, 1)
        await store.settle(answered(done))
        assert await store.abandon("process 2") == 1
        assert await store.begin(mine, 1) == mine
        assert await store.begin(lost, 1) == unknown(lost)
        assert await store.begin(done, 1) == answered(done)

    run(scenario)


# --- documents ---


def test_the_first_document_under_a_hash_stays(run: Run) -> None:
    async def scenario(store: Store) -> None:
        first = ArchivedDocument("sha384:ab", b"\xd2doc", b"{}", 10)
        await store.archive(first)
        await store.archive(replace(first, archived_at_s=20))
        assert await store.document("sha384:ab") == first
        assert await store.document("sha384:cd") is None

    run(scenario)


def test_the_first_wrapped_secret_wins(run: Run) -> None:
    async def scenario(store: Store) -> None:
        assert await store.wrapped_secret("arn", "digest") is None
        assert await store.insert_wrapped_secret("arn", "digest", b"one") == b"one"
        assert await store.insert_wrapped_secret("arn", "digest", b"two") == b"one"
        assert await store.insert_wrapped_secret("arn", "other", b"two") == b"two"
        assert await store.wrapped_secret("arn", "digest") == b"one"

    run(scenario)


def test_settings_only_go_forward_and_belong_to_a_tenant(run: Run) -> None:
    async def scenario(store: Store) -> None:
        assert await store.settings(ONE) is None
        first, third = (StoredSettings(ONE, number, b"%d" % number, 5) for number in (1, 3))
        assert await store.insert_settings(first)
        assert await store.insert_settings(third)
        for older in (first, third, StoredSettings(ONE, 2, b"2", 6)):
            assert not await store.insert_settings(older)
        assert await store.settings(ONE) == third
        assert await store.settings(TWO) is None
        with pytest.raises(StoreError):
            await store.insert_settings(StoredSettings("tnt_00000000", 1, b"1", 5))
        assert await store.forget_settings(ONE) > 0
        assert await store.settings(ONE) is None
        assert await store.forget_settings(ONE) == 0
        assert await store.insert_settings(first)

    run(scenario)


def test_old_settings_are_dropped(run: Run) -> None:
    async def scenario(store: Store) -> None:
        for number in range(1, SETTINGS_VERSIONS_MAX_COUNT + 9):
            assert await store.insert_settings(StoredSettings(ONE, number, b"%d" % number, 5))
        newest = await store.settings(ONE)
        assert newest is not None
        assert newest.version == SETTINGS_VERSIONS_MAX_COUNT + 8
        assert await store.forget_settings(ONE) == SETTINGS_VERSIONS_MAX_COUNT

    run(scenario)


def test_later_totals_replace_earlier_ones(run: Run) -> None:
    async def scenario(store: Store) -> None:
        second = StoredUsage("aa", 20, b"second", b"s")
        other = StoredUsage("bb", 1, b"other", b"s")
        for usage in (
            StoredUsage("aa", 10, b"first", b"s"),
            other,
            second,
            StoredUsage("aa", 15, b"late", b"s"),
        ):
            await store.store_usage(usage)
        assert list(await store.usages()) == [second, other]
        again = StoredUsage("aa", 20, b"a moment later in the same second", b"s")
        await store.store_usage(again)
        assert list(await store.usages()) == [again, other]

    run(scenario)


# --- all ---


def test_a_closed_store_refuses(run: Run) -> None:
    async def scenario(store: Store) -> None:
        await store.check()
        await store.aclose()
        await store.aclose()
        for call in (store.check(), store.insert_receipt(receipt(1)), store.tenants()):
            with pytest.raises(StoreError):
                await call

    run(scenario)
