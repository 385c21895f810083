"""What the garbage collector of a serving enclave looks at."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (10_000, 20, 20)
"""Containers made and not freed before the youngest are looked at (700 by default), and how often
that happens before older ones are. What a request makes is freed by reference counts; cycles come
from errors alone. 10,000 containers are some MB."""


def settle_heap() -> None:
    """Leave out of every later collection what was made until now, and collect more seldom.

    What is imported and built at the start, phone number tables and compiled patterns above all,
    stays until the end; to walk over it again and again only holds requests up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
