"""A real enclave process with the real model: its workers are killed, stopped and starved."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from e2e_fixtures import StartStack
from latensgate_enclave.ner.nest import worker_command
from latensgate_shared.errors import ErrorCode
from latensgate_sim.world import World
from ner_faults import NAMES_FLOOR, QUICK, Scene, children, scene

if os.environ.get("LATENSGATE_NER") != "1":
    pytest.skip("set LATENSGATE_NER=1 for tests with the model", allow_module_level=True)
if not worker_command():
    pytest.fail("LATENSGATE_NER=1, and requirements/ner.lock is not installed")

LONG = "Angela Merkel flew from Berlin to Lagos with the board of the bank. " * 50

COMING_BACK = {None, ErrorCode.ERR_PII_WORKER_LOST, ErrorCode.ERR_PII_DEADLINE}
"""While the model is loaded anew: some 2 s, and more on a busy machine."""


@pytest.fixture
def named(own_world: World, start_stack: StartStack) -> Iterator[Scene]:
    yield from scene(start_stack(own_world, policy=NAMES_FLOOR, limits=QUICK))


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        (Scene.kill, ErrorCode.ERR_PII_WORKER_LOST),
        (Scene.stop, ErrorCode.ERR_PII_DEADLINE),
        (Scene.starve, ErrorCode.ERR_PII_MEMORY),
    ],
    ids=["killed", "hung", "out of memory"],
)
def test_what_happens_to_a_worker_denies_and_service_goes_on(
    named: Scene, happens: Callable[[Scene], None], code: ErrorCode
) -> None:
    for _ in range(2):
        assert named.ask() is None
        before = len(named.stack.world.home.bedrock.seen)
        happens(named)
        assert named.ask(LONG) is code
        assert len(named.stack.world.home.bedrock.seen) == before  # nothing was forwarded
    assert named.ask() is None


def test_the_process_of_the_model_is_killed_and_comes_back(named: Scene) -> None:
    assert named.ask() is None
    loaded = named.nest
    os.kill(loaded, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (code := named.ask()) is not None or loaded in children(named.pid):
        assert code in COMING_BACK
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert named.nest != loaded


def test_no_worker_outlives_the_enclave(named: Scene) -> None:
    assert named.ask() is None
    left = [named.nest, named.worker]
    os.kill(named.pid, signal.SIGKILL)
    named.stack.process.process.wait()
    deadline = time.monotonic() + 20
    while any(_lives(process_id) for process_id in left):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
