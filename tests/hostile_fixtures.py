"""A whole stack, a malicious gateway in front of it, and the victims: clients of the real SDK.

Import the fixtures in a ``conftest.py``.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from rich.console import Console

from capture import search
from gateway_stack import GatewayStack
from latensgate import AsyncLatensgate, Latensgate, receipt_of
from latensgate.client_trust import Environment
from latensgate.config import Surroundings
from latensgate.receipts import AnswerReceipt
from latensgate_sim.dev_stack import DevStack, StackOptions
from latensgate_sim.gateway import FirstTenant, create_tenant
from malicious_gateway import Asked, Attack, Honest, MaliciousGateway, Told, malicious

PROMPT = "Zanzibar prompt of the victim \u00fc 4711"
ANSWER = f"You said: {PROMPT}"
MAIL = "sherlock.holmes@detective.example"
MODEL = "claude-3.5-sonnet"
HARD_FAIL: dict[str, object] = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}}
UNARY = ("unary", "async unary")
STREAMS = ("stream", "async stream")
WAYS = (*UNARY, *STREAMS)
PLENTY = 1_000_000
PATIENCE_S = 20.0


def said(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def words(chunk: ChatCompletionChunk) -> str:
    return "".join(each.delta.content or "" for each in chunk.choices)


@dataclass
class Got:
    """What a caller has in the end.

    Attributes:
        text: All that it was given.
        error: What was raised, or None.
        receipt: Of the answer.
        took_s: How long it waited.
    """

    text: str = ""
    error: Exception | None = None
    receipt: AnswerReceipt | None = None
    took_s: float = 0.0


@dataclass
class Victims:
    """Makes clients whose only way is through the malicious gateway.

    Attributes:
        stack: Behind it.
        gateway: In the way.
        other: A second tenant.
        state: What clients keep; shared, since freshness proofs are limited.
        clients: Made so far, by their options; whoever brings the table closes them.
    """

    stack: GatewayStack
    gateway: MaliciousGateway
    other: FirstTenant
    state: Path
    clients: dict[str, Latensgate]

    def trust(self, **options: object) -> dict[str, object]:
        dev = self.stack.dev
        around = Surroundings({}, self.state / "config", self.state)
        return {
            "base_url": self.gateway.url,
            "tenant": self.stack.tenant_id,
            "api_key": self.stack.api_key,
            "measurements": [dev.deployed.measurements],
            "simulated": True,
            "simulated_root_sha256": dev.world.nitro_root_sha256,
            "max_retries": 1,
            "timeout": PATIENCE_S,
            "_environment": Environment(clock=dev.world.clock.seconds, around=around),
            **options,
        }

    def ask(self, way: str, text: str = PROMPT, **options: object) -> Got:
        """Ask once, as an application does."""
        got, began = Got(), time.monotonic()
        stream = way in STREAMS
        try:
            if way.startswith("async"):
                asyncio.run(self._ask_async(got, text, stream=stream, options=options))
            else:
                self._ask(got, text, stream=stream, options=options)
        except Exception as error:  # noqa: BLE001 -- judged by the tests
            got.error = error
        got.took_s = time.monotonic() - began
        return got

    def _ask(self, got: Got, text: str, *, stream: bool, options: dict[str, object]) -> None:
        client = self.client(options)
        if stream:
            events = client.chat.completions.create(model=MODEL, messages=said(text), stream=True)
            for chunk in events:
                got.text += words(chunk)
            got.receipt = receipt_of(events)
        else:
            answer = client.chat.completions.create(model=MODEL, messages=said(text))
            got.text = answer.choices[0].message.content or ""
            got.receipt = receipt_of(answer)

    def client(self, options: dict[str, object]) -> Latensgate:
        """Return a client of these options; the same one again, as applications use it."""
        name = repr((self.state, sorted(options.items())))
        if name not in self.clients:
            self.clients[name] = Latensgate(**self.trust(**options))  # type: ignore[arg-type]  # by the tests
        return self.clients[name]

    async def _ask_async(
        self, got: Got, text: str, *, stream: bool, options: dict[str, object]
    ) -> None:
        async with AsyncLatensgate(**self.trust(**options)) as client:  # type: ignore[arg-type]  # by the tests
            if stream:
                events = await client.chat.completions.create(
                    model=MODEL, messages=said(text), stream=True
                )
                async for chunk in events:
                    got.text += words(chunk)
                got.receipt = receipt_of(events)
            else:
                answer = await client.chat.completions.create(model=MODEL, messages=said(text))
                got.text = answer.choices[0].message.content or ""
                got.receipt = receipt_of(answer)

    def overheard(self, way: str, text: str = PROMPT, **options: object) -> Told:
        """Let a call through and return what the true parent answered to it."""
        kept: list[Told] = []

        def listen(asked: Asked, honest: Honest) -> Told:
            told = honest(asked)
            if asked.inference:
                kept.append(told)
            return told

        before, self.gateway.attack = self.gateway.attack, listen
        self.ask(way, text, **options)
        self.gateway.attack = before
        return kept[-1]

    def suffer(self, attack: Attack, way: str, text: str = PROMPT, **options: object) -> Got:
        """Ask under an attack; whatever came of it, nothing went out in plain."""
        self.gateway.asked.clear()
        self.gateway.attack = attack
        got = self.ask(way, text, **options)
        self.assert_nothing_seen()
        assert ANSWER.startswith(got.text), "something forged was given to the caller"
        assert PROMPT not in repr(got.error) + str(got.error)
        return got

    def assert_nothing_seen(self) -> None:
        seen = {"what the gateway was sent": self.gateway.seen}
        assert not search(seen, [PROMPT, ANSWER, MAIL])


@pytest.fixture(scope="session")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    """A stack that all of these tests share; they leave it as they found it."""
    folder = tmp_path_factory.mktemp("besieged")
    # Only while it starts: what runs beside these tests must not see this environment.
    dev = DevStack(
        StackOptions(model="scripted", port=0, requests_per_minute=PLENTY),
        Console(file=io.StringIO()),
    )
    with mock.patch.dict(os.environ, {"LATENSGATE_CONFIG_DIR": str(folder)}):
        dev.__enter__()
    try:
        yield GatewayStack(dev, folder)
    finally:
        dev.__exit__(None, None, None)


@pytest.fixture(scope="session")
def other_tenant(besieged: GatewayStack) -> FirstTenant:
    return create_tenant(besieged.dev.plan, "other", requests_per_minute=PLENTY)


@pytest.fixture(scope="session")
def shared_gateway(besieged: GatewayStack) -> Iterator[MaliciousGateway]:
    """One for all: its address names the state that clients keep."""
    with malicious(besieged.url) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway: MaliciousGateway) -> Iterator[MaliciousGateway]:
    yield shared_gateway
    shared_gateway.attack = None
    shared_gateway.asked.clear()
    shared_gateway.written = 0


@pytest.fixture(scope="session")
def kept_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@contextmanager
def closing_clients() -> Generator[dict[str, Latensgate]]:
    """Close them at the end: a garbage collector might take a socket before its owner."""
    made: dict[str, Latensgate] = {}
    try:
        yield made
    finally:
        for client in made.values():
            client.close()


@pytest.fixture(scope="session")
def clients() -> Iterator[dict[str, Latensgate]]:
    with closing_clients() as made:
        yield made


@pytest.fixture
def victims(  # noqa: PLR0913, PLR0917 -- each is a fixture of its own life
    besieged: GatewayStack,
    gateway: MaliciousGateway,
    other_tenant: FirstTenant,
    kept_state: Path,
    clients: dict[str, Latensgate],
    monkeypatch: pytest.MonkeyPatch,
) -> Victims:
    """Clients that wait little between tries."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    return Victims(besieged, gateway, other_tenant, kept_state, clients)


def in_turn(table: Iterable[str], ways: Sequence[str]) -> list[tuple[str, str]]:
    """Go through a table of attacks, the synchronous and the asynchronous client in turn."""
    return [(name, ways[number % 2]) for number, name in enumerate(table)]
