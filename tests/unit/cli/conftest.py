"""Fixtures of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_fixtures import FakeSDK, Machine, machine_of, with_sdk
from gateway_stand_in import StandIn, serving


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """A gateway that is none."""
    with serving(StandIn()) as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, stand_in: StandIn) -> Machine:
    """A machine whose configuration names it."""
    return machine_of(tmp_path, stand_in)


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> FakeSDK:
    """An SDK that is none."""
    return with_sdk(monkeypatch, stand_in)
