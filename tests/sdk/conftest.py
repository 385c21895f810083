"""Fixtures of this folder: one enclave, a gateway in front of it, and clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e_fixtures import own_world, stack, start_stack, world
from latensgate import AsyncLatensgate, Latensgate
from latensgate.client_trust import Environment
from latensgate.config import Surroundings
from sdk_gateway import API_KEY, Gateway
from sdk_trust import BASE_URL, trust
from stack import Stack

__all__ = ["own_world", "stack", "start_stack", "world"]

MakeClient = Callable[..., Latensgate]
MakeAsyncClient = Callable[..., AsyncLatensgate]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries of the official client wait at least half a second; here they need not."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


@pytest.fixture
def gateway(stack: Stack) -> Gateway:
    return Gateway(stack)


@pytest.fixture
def environment(stack: Stack, tmp_path: Path) -> Environment:
    around = Surroundings({}, tmp_path / "config", tmp_path / "state")
    return Environment(clock=stack.world.clock.seconds, around=around)


@pytest.fixture
def arguments(gateway: Gateway, environment: Environment) -> dict[str, Any]:
    """What a client of the gateway is made with."""
    return {
        **trust(gateway.stack),
        "api_key": API_KEY,
        "base_url": BASE_URL,
        "_environment": environment,
    }


@pytest.fixture
def make(gateway: Gateway, arguments: dict[str, Any]) -> Iterator[MakeClient]:
    """Make clients of the gateway."""
    made: list[Latensgate] = []
    anything: Any = Latensgate

    def client(**options: object) -> Latensgate:
        made.append(anything(**arguments | {"http_client": gateway.client()} | options))
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def make_async(gateway: Gateway, arguments: dict[str, Any]) -> MakeAsyncClient:
    """Make asynchronous clients of the gateway."""

    def client(**options: object) -> AsyncLatensgate:
        anything: Any = AsyncLatensgate
        made: AsyncLatensgate = anything(
            **arguments | {"http_client": gateway.async_client()} | options
        )
        return made

    return client


@pytest.fixture
def lg(make: MakeClient) -> Latensgate:
    return make()
