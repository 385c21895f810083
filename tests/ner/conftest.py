"""Fixtures of this folder."""

from __future__ import annotations

from e2e_fixtures import own_world, start_stack

__all__ = ["own_world", "start_stack"]
