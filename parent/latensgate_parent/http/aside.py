"""Long work beside the loop, so that one large request does not hold up all the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from latensgate_parent.limits import LONG_WORK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def aside(size_bytes: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return what ``work`` returns; if it is about many bytes, it runs in a thread."""
    if size_bytes <= LONG_WORK_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
