"""The base of the values that one step hands to the next."""

from __future__ import annotations

from msgspec import Struct


class Value(Struct, frozen=True):
    """A frozen value, printed as its name only: most hold what a caller wrote.

    It is made in C. A frozen dataclass calls `object.__setattr__` for each of its fields, and all
    these calls were a sixth of what a request costs in Python (ADR 0062).
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
