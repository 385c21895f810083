"""Fixtures of the tests over real sockets: one world a test process, enclaves beside it.

Import them in a ``conftest.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e_client import Client
from latensgate_sim.models import Model
from latensgate_sim.world import ACCOUNT, SERVICE_ROLE, World, WorldConfig
from paths import REPOSITORY
from stack import DEPLOYMENT, Apart, ParentLink, Stack, running_stack

REGIONS = ("us-east-1", "eu-west-1")
TWO_REGIONS = DEPLOYMENT.replace('["us-east-1"]', '["us-east-1", "eu-west-1"]')
QUICK = {"CLOCK_REFRESH_S": 0.1, "IDENTITY_CHECK_S": 0.2, "KMS_GATE_CHECK_S": 0.2}
"""Timers of a process that a test watches while the world around it changes."""

NOTHING_HELD = (REPOSITORY / "enclave/policy.toml").read_text().replace('"mask"', '"flag"')
"""A floor that only flags: answers stream as they come."""

_numbers = itertools.count(1)


def apart(folder: Path, **how: object) -> Apart:
    """Say how an enclave process is started, under a name of its own."""
    number = next(_numbers)
    return Apart(folder / f"run{number}", f"enclave{number}", **how)  # type: ignore[arg-type]  # by the tests


def make_world(local: Model | None = None) -> World:
    """Make a world whose service role may also ask keys of tenants' accounts, as ours may."""
    made = World(WorldConfig(regions=REGIONS, local=local))
    may = ("kms:Decrypt",)
    made.service = made.identities.role_session(ACCOUNT, SERVICE_ROLE, iam_actions=may)
    return made


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A world that its users leave as they found it."""
    with make_world() as made:
        yield made


@pytest.fixture
def own_world() -> Iterator[World]:
    """A world to break."""
    with make_world() as made:
        yield made


@pytest.fixture(scope="session")
def stack(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An enclave that serves; its users leave it serving."""
    folder = tmp_path_factory.mktemp("stack")
    with running_stack(folder, world, apart(folder), deployment=TWO_REGIONS) as running:
        with running.link() as link:
            running.open_gate(link)
        yield running


@pytest.fixture
def link(stack: Stack) -> Iterator[ParentLink]:
    """A connection to ``stack`` of the test's own."""
    with stack.link() as made:
        yield made


@pytest.fixture
def client(stack: Stack, link: ParentLink) -> Client:
    """A client that has verified ``stack``."""
    return Client.attest(stack, link)


StartStack = Callable[..., Stack]


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[StartStack]:
    """Start enclaves of the test's own: ``start_stack(world, **how)`` as in ``Apart``."""
    with ExitStack() as running:

        def start(
            world: World,
            *,
            deployment: str = TWO_REGIONS,
            policy: str | None = None,
            **how: object,
        ) -> Stack:
            made = apart(tmp_path, **how)
            folder = tmp_path / f"config-{made.name}"
            started = running_stack(folder, world, made, deployment=deployment, policy=policy)
            return running.enter_context(started)

        yield start
