"""Load on the whole product while its processes are killed; what must hold whatever happens.

* Every answer that a client accepted has its receipt in the store.
* No request ran twice: each asks about a marker of its own, and the model counts markers.
* A retry with the same sealed bytes and key gets the same sealed answer.
* Whoever gets no answer gets a typed error, and nobody waits for ever.
* Once everything runs again, everyone is answered.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from gateway_stack import GatewayStack
from latensgate import Latensgate
from latensgate_sim.gateway import GatewayNotStartedError

LANES = 6
CALL_TIMEOUT_S = 30.0
PATIENCE_S = 60.0
"""A call with its retries ends within this."""


@dataclass(frozen=True)
class Sent:
    """One sealed request as it went out."""

    key: str
    url: str
    headers: httpx.Headers
    body: bytes


@dataclass
class Recorder(httpx.BaseTransport):
    """Keeps what went over the wire, and what came back."""

    inner: httpx.HTTPTransport = field(default_factory=httpx.HTTPTransport)
    sent: dict[str, Sent] = field(default_factory=dict[str, Sent])
    answers: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return response
        body = response.read()
        self.sent[key] = Sent(key, str(request.url), request.headers, request.content)
        if response.is_success:
            self.answers.append((key, body))
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    def close(self) -> None:
        self.inner.close()


@dataclass
class Outcome:
    """What became of all calls.

    Attributes:
        receipts: Of accepted answers.
        errors: By type and code.
        slowest_s: The longest that a call took.
        faults: What must not be.
    """

    receipts: list[str] = field(default_factory=list[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list[str])


@dataclass
class Load:
    """Clients that ask and ask."""

    stack: GatewayStack
    outcome: Outcome = field(default_factory=Outcome)
    recorders: list[Recorder] = field(default_factory=list[Recorder])
    ended: threading.Event = field(default_factory=threading.Event)

    def lane(self, recorder: Recorder) -> None:
        with (
            httpx.Client(transport=recorder, trust_env=False) as carrier,
            Latensgate(
                base_url=self.stack.url,
                simulated=True,
                max_retries=4,
                timeout=CALL_TIMEOUT_S,
                http_client=carrier,
            ) as client,
        ):
            while not self.ended.is_set():
                began = time.monotonic()
                self.ask(client)
                took = time.monotonic() - began
                self.outcome.slowest_s = max(self.outcome.slowest_s, took)
            if not self.ask(client):
                self.outcome.faults.append("a client is not answered once everything runs again")

    def ask(self, client: Latensgate) -> bool:
        """Ask once about a marker of its own; say whether it was answered."""
        marker = f"marker {uuid.uuid4().hex} end"
        try:
            answer = client.chat.completions.create(
                model="claude-3.5-sonnet", messages=[{"role": "user", "content": marker}]
            )
        except Exception as error:  # noqa: BLE001 -- every kind is judged here
            code = getattr(error, "code", None)
            if type(error).__module__.split(".")[0] not in {"latensgate", "openai"}:
                self.outcome.faults.append(f"an untyped error: {error!r}")
            self.outcome.errors[f"{type(error).__name__} {code}"] += 1
            return False
        self.outcome.receipts.append(str(answer.audit_receipt_id))
        return True


@contextmanager
def load_on(stack: GatewayStack, lanes: int = LANES) -> Generator[Load]:
    """Keep the stack busy; leaves when every lane has ended its last call."""
    load = Load(stack)
    threads: list[threading.Thread] = []
    for _ in range(lanes):
        recorder = Recorder()
        load.recorders.append(recorder)
        threads.append(threading.Thread(target=load.lane, args=(recorder,), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.ended.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    if any(thread.is_alive() for thread in threads):
        load.outcome.faults.append(f"a call still hangs after {PATIENCE_S} s")


def kill_something(stack: GatewayStack, chance: random.Random) -> str:
    """Kill -9 the parent, an enclave, or both, and start them again; say which."""
    victims = chance.choice([["parent"], ["enclave"], ["parent", "enclave"]])
    number = chance.randrange(len(stack.dev.enclaves))
    if "parent" in victims:
        stack.kill_parent()
    if "enclave" in victims:
        stack.kill_enclave(number)
        stack.dev.restart_enclave(number)
    if "parent" in victims:
        stack.dev.start_parent()
    return "+".join(victims)


def run_rounds(
    stack: GatewayStack, rounds: int, seed: int, told: Callable[[int, str], None]
) -> Outcome:
    """Kill so often under load; then check everything that must hold."""
    chance = random.Random(seed)  # noqa: S311 -- a test's own dice
    with load_on(stack) as load:
        for number in range(rounds):
            time.sleep(chance.uniform(0.05, 1.0))
            try:
                victims = kill_something(stack, chance)
            except GatewayNotStartedError as error:
                load.outcome.faults.append(f"round {number}: {error}")
                return load.outcome
            told(number, victims)
    check(stack, load)
    return load.outcome


def check(stack: GatewayStack, load: Load) -> None:
    """Add to the faults whatever does not hold."""
    faults = load.outcome.faults
    stored = {row[0] for row in stack.rows("SELECT receipt_id FROM receipts")}
    faults += [
        f"no receipt {each} in the store" for each in load.outcome.receipts if each not in stored
    ]
    if len(set(load.outcome.receipts)) != len(load.outcome.receipts):
        faults.append("two answers under one receipt")
    ran = Counter(bytes(body) for body in stack.dev.world.home.bedrock.seen)
    faults += ["a request ran twice" for count in ran.values() if count > 1]
    for recorder in load.recorders:
        faults += check_replays(recorder)


def check_replays(recorder: Recorder) -> list[str]:
    """Send the latest answered request again, byte for byte."""
    faults: list[str] = []
    first: dict[str, bytes] = {}
    for key, body in recorder.answers:
        if first.setdefault(key, body) != body:
            faults.append("two answers to one key")
    if not recorder.answers:
        return [*faults, "a lane that was never answered"]
    key, body = recorder.answers[-1]
    sent = recorder.sent[key]
    with httpx.Client(trust_env=False) as client:
        again = client.post(sent.url, headers=sent.headers, content=sent.body)
    if again.content != body:
        faults.append(f"a replay gave other bytes: {again.status_code} {again.text[:200]}")
    return faults
