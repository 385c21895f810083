"""Fixtures of this folder: one enclave, a gateway in front of it, and clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

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
def make(gateway: Gateway, environment: Environment) -> Iterator[MakeClient]:
    """Make clients of the gateway."""
    made: list[Latensgate] = []

    def client(**options: object) -> Latensgate:
        given = {
            **trust(gateway.stack),
            "api_key": API_KEY,
            "base_url": BASE_URL,
            "http_client": gateway.client(),
            "_environment": environment,
            **options,
        }
        made.append(Latensgate(**given))  # type: ignore[arg-type]  # by the tests
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def make_async(gateway: Gateway, environment: Environment) -> MakeAsyncClient:
    """Make asynchronous clients of the gateway."""

    def client(**options: object) -> AsyncLatensgate:
        given = {
            **trust(gateway.stack),
            "api_key": API_KEY,
            "base_url": BASE_URL,
            "http_client": gateway.async_client(),
            "_environment": environment,
            **options,
        }
        return AsyncLatensgate(**given)  # type: ignore[arg-type]  # by the tests

    return client


@pytest.fixture
def lg(make: MakeClient) -> Latensgate:
    return make()
