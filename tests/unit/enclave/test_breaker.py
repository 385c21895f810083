from __future__ import annotations

from latensgate_enclave.breaker import Breaker, Permit
from latensgate_shared.limits import BREAKER_FAILURES_COUNT, BREAKER_OPEN_MIN_MS

CALL = Permit(is_probe=False)


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(BREAKER_FAILURES_COUNT):
        assert breaker.wait_ms(0) == 0
        breaker.failed(CALL, 0)
    assert breaker.wait_ms(0) == BREAKER_OPEN_MIN_MS
    return breaker


def test_a_call_from_before_it_opened_neither_closes_it_nor_keeps_it_open() -> None:
    breaker = opened()
    breaker.succeeded(CALL)
    breaker.failed(CALL, 1)
    assert breaker.wait_ms(1) == BREAKER_OPEN_MIN_MS - 1
    assert breaker.admit(BREAKER_OPEN_MIN_MS) == Permit(is_probe=True)


def test_a_success_forgets_the_failures_before_it() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(BREAKER_FAILURES_COUNT - 1):
            breaker.failed(CALL, 0)
        breaker.succeeded(CALL)
    assert breaker.wait_ms(0) == 0


def test_a_probe_that_fails_opens_it_for_longer() -> None:
    breaker = opened()
    probe = breaker.admit(BREAKER_OPEN_MIN_MS)
    assert probe == Permit(is_probe=True)
    assert probe is not None
    breaker.failed(probe, BREAKER_OPEN_MIN_MS)
    assert breaker.wait_ms(BREAKER_OPEN_MIN_MS) > BREAKER_OPEN_MIN_MS
