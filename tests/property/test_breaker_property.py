"""Breaker and back-off as what they are, state machines over time: any event, in any order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from latensgate_enclave.breaker import Breaker, Permit
from latensgate_enclave.retry import Plan, backoff_ms
from latensgate_shared.limits import (
    BREAKER_FAILURES_COUNT,
    BREAKER_OPEN_MAX_MS,
    BREAKER_OPEN_MIN_MS,
    UPSTREAM_ATTEMPTS_MAX_COUNT,
    UPSTREAM_BACKOFF_MAX_MS,
    UPSTREAM_BACKOFF_MIN_MS,
    UPSTREAM_RETRY_AFTER_MAX_MS,
)


class BreakerMachine(RuleBasedStateMachine):
    """A breaker beside a slow and obvious model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now_ms = 0
        self.out: list[Permit] = []
        self.row = 0  # failures in a row of calls that were let through while it was closed
        self.open_until: int | None = None
        self.pause = BREAKER_OPEN_MIN_MS
        self.probe_out = False

    @rule(ms=st.integers(0, 2 * BREAKER_OPEN_MAX_MS))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule()
    def ask(self) -> None:
        permit = self.breaker.admit(self.now_ms)
        if self.open_until is None:
            assert permit == Permit(is_probe=False)
        elif self.probe_out or self.now_ms < self.open_until:
            assert permit is None
        else:
            assert permit == Permit(is_probe=True)
            self.probe_out = True
        if permit:
            self.out.append(permit)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        permit = self.take(data)
        self.breaker.succeeded(permit)
        if permit.is_probe or self.open_until is None:
            self.open_until, self.row, self.pause = None, 0, BREAKER_OPEN_MIN_MS
            self.probe_out = False

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        permit = self.take(data)
        self.breaker.failed(permit, self.now_ms)
        if permit.is_probe:
            self.opens()
        elif self.open_until is None:
            self.row += 1
            if self.row == BREAKER_FAILURES_COUNT:
                self.opens()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        permit = self.take(data)
        self.breaker.abandoned(permit)
        if permit.is_probe:
            self.probe_out = False

    def take(self, data: st.DataObject) -> Permit:
        return self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))

    def opens(self) -> None:
        self.open_until = self.now_ms + self.pause
        self.pause = min(2 * self.pause, BREAKER_OPEN_MAX_MS)
        self.row, self.probe_out = 0, False

    @invariant()
    def it_never_waits_for_longer_than_its_bound(self) -> None:
        wait_ms = self.breaker.wait_ms(self.now_ms)
        assert 0 <= wait_ms <= BREAKER_OPEN_MAX_MS
        if self.open_until is None:
            assert wait_ms == 0
        elif not self.probe_out:
            assert wait_ms == max(self.open_until - self.now_ms, 0)

    @invariant()
    def at_most_one_probe_is_out(self) -> None:
        assert sum(permit.is_probe for permit in self.out) <= 1


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def entropy(value: int) -> bytes:
    return value.to_bytes(2, "big")


@given(failures=st.integers(1, 10_000), random=st.integers(0, 65_535))
def test_pauses_double_up_to_their_bound_and_half_is_random(failures: int, random: int) -> None:
    longest = min(UPSTREAM_BACKOFF_MIN_MS * 2 ** (failures - 1), UPSTREAM_BACKOFF_MAX_MS)
    assert longest // 2 <= backoff_ms(failures, lambda _length: entropy(random)) <= longest
    lowest, highest = (backoff_ms(failures, lambda _length, v=v: entropy(v)) for v in (0, 65_535))
    assert highest - lowest >= longest // 2 - 1


PLACES = ["us-east-1", "us-west-2", "us-east-2"]


@settings(max_examples=200)
@given(
    places=st.lists(st.sampled_from(PLACES), min_size=1, unique=True),
    deadline_ms=st.integers(1, 200_000),
    steps=st.lists(
        st.tuples(
            st.none() | st.integers(0, 10**9),  # what the upstream asks for
            st.integers(0, 5_000),  # how long the attempt took
            st.sets(st.sampled_from(PLACES)),  # places that a breaker keeps closed
        ),
        max_size=2 * UPSTREAM_ATTEMPTS_MAX_COUNT,
    ),
)
def test_whatever_fails_attempts_are_bounded_in_number_place_and_time(
    places: list[str],
    deadline_ms: int,
    steps: list[tuple[int | None, int, set[str]]],
) -> None:
    now_ms, made = 0, list[str]()
    free_at = dict.fromkeys(places, 0)
    plan = Plan(places, deadline_ms, bytes)
    for asked_ms, took_ms, closed in steps:
        attempt = plan.next(now_ms, lambda place: place not in closed)  # noqa: B023  # called now
        if attempt is None:
            break
        assert attempt.place in places
        assert attempt.place not in closed
        assert now_ms + attempt.pause_ms < deadline_ms
        assert now_ms + attempt.pause_ms >= free_at[attempt.place]
        able = [free_at[place] for place in places if place not in closed]
        assert max(free_at[attempt.place], now_ms) == max(min(able), now_ms)
        made.append(attempt.place)
        now_ms += attempt.pause_ms + took_ms
        plan.failed(attempt.place, now_ms, asked_ms)
        free_at[attempt.place] = now_ms + min(asked_ms or 0, UPSTREAM_RETRY_AFTER_MAX_MS)
        # and the back-off on top: at least half of its longest
        free_at[attempt.place] = max(
            free_at[attempt.place], now_ms + backoff_ms(made.count(attempt.place), bytes)
        )
    assert len(made) <= UPSTREAM_ATTEMPTS_MAX_COUNT
    others = len(set(made[: len(places)]))
    if not any(closed for _, _, closed in steps) and len(made) >= len(places):
        assert others == min(
            len(places), len(made[: len(places)])
        )  # each place before a second time
