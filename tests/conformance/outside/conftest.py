"""One stack and one proxy for all suites of a worker."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from gateway_stack import gateway_stack
from latensgate_sim.dev_stack import StackOptions
from outside_stack import ALIASES, OPENAI_ALIASES, OPENAI_ROW
from outside_words import RUNS, Words
from proxy_process import ProxyProcess, proxy_process


@pytest.fixture(scope="session")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Generator[ProxyProcess]:
    folder = tmp_path_factory.mktemp("outside")
    options = StackOptions(
        model="scripted",
        port=0,
        enclaves=1,
        aliases=ALIASES,
        openai_aliases=OPENAI_ALIASES,
        openai_capabilities=OPENAI_ROW,
        requests_per_minute=100_000,
    )
    with (
        gateway_stack(folder, options) as stack,
        proxy_process(stack.environment) as running,
    ):
        yield running


@pytest.fixture(scope="session", params=RUNS, ids=lambda words: words.name)
def words(request: pytest.FixtureRequest) -> Words:
    found = request.param
    assert isinstance(found, Words)
    return found
