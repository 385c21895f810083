from __future__ import annotations

import gc

from latensgate_parent.heap import settle_heap


def test_what_stands_at_the_start_is_not_walked_over_again() -> None:
    before = gc.get_threshold()
    try:
        settle_heap()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[0] > before[0]
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1  # what is made later is still found
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
