"""Enclaves that die, start again and drain while clients are at work: nothing hangs.

``LATENSGATE_SLOW=1`` runs more rounds.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from attack_tools import wait_for
from e2e_client import Client, Refusal, chat, outer_refusal
from e2e_fixtures import NOTHING_HELD, StartStack
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.world import World
from stack import Answer, CallFailedError, ParentLink, Stack

ROUNDS = 12 if "LATENSGATE_SLOW" in os.environ else 3
CLIENTS = 20
DRAIN_EXIT_S = 20.0
EXPECTED_CODES = {ErrorCode.ERR_KEY_STALE, ErrorCode.ERR_ENCLAVE_UNAVAILABLE}


@dataclass
class Worker:
    """One client that asks again and again, as the one parent of its own connection."""

    stack: Stack
    stop: threading.Event
    answered: int = 0
    lost: int = 0
    codes: list[ErrorCode] = field(default_factory=list[ErrorCode])

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with ParentLink.connect(self.stack.process.listen) as link:
                    link.peer.settimeout(10)
                    self._ask(link)
            except OSError:  # connection lost, or a listener that is not there yet
                self.lost += 1
                time.sleep(0.02)

    def _ask(self, link: ParentLink) -> None:
        try:
            client = Client.attest(self.stack, link)
            while not self.stop.is_set():
                stream = self.answered % 2 == 1
                text = client.ask(link, chat("Are you there", stream=stream)).text
                assert text == "You said: Are you there"
                self.answered += 1
        except CallFailedError as error:
            self.codes.append(error.code)
            time.sleep(0.05)


def test_kill_and_restart_under_load(own_world: World, start_stack: StartStack) -> None:
    """Twenty calls at once, killed at random moments: typed errors or a lost connection."""
    stack = start_stack(own_world)
    with stack.link() as link:
        link.call(stack.credentials())
        wrapped = stack.configured(link)
        old = Client.attest(stack, link)
    sealed_to_old_keys = old.seal(chat("to whom"))
    stop = threading.Event()
    workers = [Worker(stack, stop) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(worker.run) for worker in workers]
        try:
            for _ in range(ROUNDS):
                _await_answers(workers)
                time.sleep(random.uniform(0.0, 0.3))  # noqa: S311  # any moment will do
                stack.process.process.send_signal(signal.SIGKILL)
                stack.process.process.wait()
                stack.restart()
                with stack.link() as link:
                    link.call(stack.credentials())
                    stack.configured(link, wrapped_secret=wrapped)
                    found = old.refusal(link, sealed_to_old_keys)
                    assert found == outer_refusal(ErrorCode.ERR_KEY_STALE)
            _await_answers(workers)
        finally:
            stop.set()
        for each in running:
            each.result(timeout=60)
    assert sum(worker.lost for worker in workers) > 0
    assert {code for worker in workers for code in worker.codes} <= EXPECTED_CODES


def _await_answers(workers: list[Worker]) -> None:
    before = [worker.answered for worker in workers]
    deadline = time.monotonic() + 60
    while sum(w.answered for w in workers) < sum(before) + CLIENTS:
        assert time.monotonic() < deadline, "nobody is answered any more"
        time.sleep(0.02)


@pytest.fixture
def busy(own_world: World, start_stack: StartStack) -> tuple[Stack, Client, ParentLink]:
    """A stack whose model takes a second in the middle of a stream."""
    stack = start_stack(own_world, policy=NOTHING_HELD)
    link = stack.link()
    stack.open_gate(link)
    slow = Fault(FaultKind.SLOW, seconds=1, after_events=3, times=None)
    own_world.home.bedrock.faults.on(slow)
    return stack, Client.attest(stack, link), link


def test_sigterm_finishes_open_calls_and_takes_no_more(
    busy: tuple[Stack, Client, ParentLink],
) -> None:
    stack, client, link = busy
    with link:
        sealed = [client.seal(chat(f"call {number}", stream=True)) for number in range(5)]
        ids = [link.start(each.call, each.wire) for each in sealed]
        wait_for(lambda: len(stack.world.home.bedrock.seen) == len(ids))
        stack.process.process.send_signal(signal.SIGTERM)
        while not stack.event_count("DRAINING"):
            time.sleep(0.01)
        late = client.seal(chat("late"))
        late_id = link.start(late.call, late.wire)
        answers = link.finish_all([*ids, late_id])
        assert answers.pop(late_id) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        for number, (each, call_id) in enumerate(zip(sealed, ids, strict=True)):
            answer = answers[call_id]
            assert isinstance(answer, Answer)
            assert client.open(each, answer).text == f"You said: call {number}"
        assert stack.process.process.wait(DRAIN_EXIT_S) == 0
    assert stack.event_count("STOPPED") == 1


def test_drain_call_takes_no_further_requests_but_answers_about_itself(
    own_world: World, start_stack: StartStack
) -> None:
    stack = start_stack(own_world)
    with stack.link() as link:
        stack.open_gate(link)
        client = Client.attest(stack, link)
        link.call(calls.DrainCall())
        found = client.refusal(link, client.seal(chat("late")))
        assert found == Refusal(ErrorCode.ERR_ENCLAVE_UNAVAILABLE, sealed=False)
        health = calls.HealthAnswer.from_head(link.call(calls.HealthCall()).head)
        assert health.enclave is calls.EnclaveState.DRAINING
        assert link.call(calls.UsageCall()).body.startswith(b"{")


def test_calls_that_never_end_do_not_keep_an_enclave_from_stopping(
    own_world: World, start_stack: StartStack
) -> None:
    stack = start_stack(own_world, limits={"DRAIN_TIMEOUT_MS": 500})
    with stack.link() as link:
        stack.open_gate(link)
        client = Client.attest(stack, link)
        own_world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=60, times=None))
        sealed = client.seal(chat("slow"))
        link.start(sealed.call, sealed.wire)
        link.next_event()
        stack.process.process.send_signal(signal.SIGTERM)
        assert stack.process.process.wait(DRAIN_EXIT_S) == 0
