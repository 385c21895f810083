"""Fixtures of this folder."""

from __future__ import annotations

from e2e_fixtures import client, link, own_world, stack, start_stack, world

__all__ = ["client", "link", "own_world", "stack", "start_stack", "world"]
