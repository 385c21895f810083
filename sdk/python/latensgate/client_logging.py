"""Keep prompts out of the OpenAI client's own debug log.

openai 1.x and 2.x log a request's options, body included, at level DEBUG while they build it. The
records of that one moment are dropped, for our clients alone: other OpenAI clients of the process
log as they did.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

_building: Final[ContextVar[bool]] = ContextVar("latensgate_building_request", default=False)
_LOGGER: Final = "openai._base_client"


class _BuildingFilter(logging.Filter):
    """Drops what is logged while one of our clients builds a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        del record
        return not _building.get()


@contextmanager
def keep_bodies_out_of_logs() -> Generator[None]:
    """Log nothing of the OpenAI client's within this block."""
    logger = logging.getLogger(_LOGGER)
    if not any(isinstance(each, _BuildingFilter) for each in logger.filters):
        logger.addFilter(_BuildingFilter())
    token = _building.set(True)
    try:
        yield
    finally:
        _building.reset(token)
