from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latensgate_enclave.replay import ReplayRefusedError, ReplayWindow
from latensgate_shared.errors import ErrorCode

WINDOW_MS = 300_000
NOW_MS = 1_790_000_000_000
BUCKET_MS = 10_000


def uuid(name: str) -> str:
    return f"01a2008e-e7c7-7bf2-9d2d-17dbf60ab{ord(name):03x}"


def test_the_same_id_is_admitted_once() -> None:
    window = ReplayWindow()
    window.admit(uuid("a"), issued_at_ms=NOW_MS, now_ms=NOW_MS)
    window.admit(uuid("b"), issued_at_ms=NOW_MS, now_ms=NOW_MS)
    with pytest.raises(ReplayRefusedError) as caught:
        window.admit(uuid("a"), issued_at_ms=NOW_MS, now_ms=NOW_MS + 1)
    assert caught.value.code is ErrorCode.ERR_REPLAY


@pytest.mark.parametrize("off_ms", [-WINDOW_MS, 0, WINDOW_MS])
def test_the_window_is_inclusive(off_ms: int) -> None:
    ReplayWindow().admit(uuid("a"), issued_at_ms=NOW_MS + off_ms, now_ms=NOW_MS)


@pytest.mark.parametrize("off_ms", [-WINDOW_MS - 1, WINDOW_MS + 1])
def test_outside_the_window_is_refused_and_names_both_times(off_ms: int) -> None:
    with pytest.raises(ReplayRefusedError, match=f"{NOW_MS + off_ms}.*{NOW_MS}") as caught:
        ReplayWindow().admit(uuid("a"), issued_at_ms=NOW_MS + off_ms, now_ms=NOW_MS)
    assert caught.value.code is ErrorCode.ERR_REQUEST_AGE


def test_full_memory_refuses_and_recovers_when_ids_expire() -> None:
    window = ReplayWindow(max_ids=2)
    window.admit(uuid("a"), issued_at_ms=NOW_MS, now_ms=NOW_MS)
    window.admit(uuid("b"), issued_at_ms=NOW_MS, now_ms=NOW_MS)
    with pytest.raises(ReplayRefusedError) as caught:
        window.admit(uuid("c"), issued_at_ms=NOW_MS, now_ms=NOW_MS)
    assert caught.value.code is ErrorCode.ERR_OVERLOADED
    later_ms = NOW_MS + 2 * WINDOW_MS + BUCKET_MS + 1
    window.admit(uuid("c"), issued_at_ms=later_ms, now_ms=later_ms)


def test_an_id_is_remembered_for_twice_the_window_whenever_its_bucket_began() -> None:
    for at_ms in (0, 1, BUCKET_MS - 1, BUCKET_MS, BUCKET_MS + 1):
        window = ReplayWindow()
        window.admit(uuid("a"), issued_at_ms=NOW_MS, now_ms=NOW_MS)
        seen_ms = NOW_MS + at_ms
        window.admit(uuid("b"), issued_at_ms=seen_ms + WINDOW_MS, now_ms=seen_ms)
        last_ms = seen_ms + 2 * WINDOW_MS
        with pytest.raises(ReplayRefusedError) as caught:
            window.admit(uuid("b"), issued_at_ms=seen_ms + WINDOW_MS, now_ms=last_ms)
        assert caught.value.code is ErrorCode.ERR_REPLAY


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(-WINDOW_MS, WINDOW_MS), st.integers(0, WINDOW_MS)
        ),
        max_size=40,
    )
)
def test_no_order_of_events_admits_one_stamp_twice(steps: list[tuple[str, int, int]]) -> None:
    window, now_ms, admitted = ReplayWindow(), NOW_MS, set[tuple[str, int]]()
    for name, off_ms, passed_ms in steps:
        now_ms += passed_ms
        stamped = (name, now_ms + off_ms)
        try:
            window.admit(uuid(name), issued_at_ms=stamped[1], now_ms=now_ms)
        except ReplayRefusedError:
            continue
        assert stamped not in admitted
        admitted.add(stamped)
        for _, issued_at_ms in [entry for entry in admitted if entry[0] == name]:
            if abs(issued_at_ms - now_ms) <= WINDOW_MS:
                with pytest.raises(ReplayRefusedError):
                    window.admit(uuid(name), issued_at_ms=issued_at_ms, now_ms=now_ms)
