"""Fixtures of this folder."""

from __future__ import annotations

from e2e_fixtures import client, link, own_world, stack, start_stack, world
from hostile_fixtures import (
    besieged,
    clients,
    gateway,
    kept_state,
    other_tenant,
    shared_gateway,
    victims,
)

__all__ = [
    "besieged",
    "client",
    "clients",
    "gateway",
    "kept_state",
    "link",
    "other_tenant",
    "own_world",
    "shared_gateway",
    "stack",
    "start_stack",
    "victims",
    "world",
]
