"""Copies, garbage, forks, exits: what happens to a client besides requests."""

# pyright: reportPrivateUsage=false
# Locks and threads are seen from inside alone.

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from attack_tools import wait_for
from latensgate import AsyncLatensgate, ConfidentialChatCompletion, Latensgate, receipt_of
from latensgate.attested import AttestedCell
from latensgate.carrier import SyncCarrier
from latensgate.exchange_steps import NeedAttested
from latensgate.exchange_store import CallStore
from latensgate.transport import SyncTrust
from sdk_gateway import Asked, Gateway, Told, served
from stack import MODEL

MakeClient = Callable[..., Latensgate]
MakeAsyncClient = Callable[..., AsyncLatensgate]


def ask(lg: Latensgate, text: str = "Hi") -> ConfidentialChatCompletion:
    return lg.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])


def trust_of(lg: Latensgate) -> SyncTrust:
    shared: object = lg._shared
    return cast("SyncTrust", getattr(shared, "trust"))  # noqa: B009 -- private to the client


def test_a_copy_that_is_gone_takes_no_connection_with_it(
    make: MakeClient, gateway: Gateway
) -> None:
    with served(gateway) as base_url:
        lg = make(base_url=base_url, http_client=None)
        ask(lg.in_conversation("a"))
        gc.collect()
        assert receipt_of(ask(lg)).status == "simulated"
        lg.close()


@pytest.mark.parametrize("kind", ["conversation", "options", "address"])
def test_a_copy_outlives_its_original(
    arguments: dict[str, Any], gateway: Gateway, kind: str
) -> None:
    with served(gateway) as base_url:
        made: dict[str, Callable[[Latensgate], Latensgate]] = {
            "conversation": lambda lg: lg.in_conversation("a"),
            "options": lambda lg: lg.with_options(max_retries=0),
            "address": lambda lg: lg.with_options(base_url=f"{base_url}/t/tnt_a3f9c42b"),
        }
        anything: Any = Latensgate
        lg: Latensgate = anything(**arguments | {"base_url": base_url})
        other = made[kind](lg)
        del lg
        gc.collect()
        assert receipt_of(ask(other)).status == "simulated"
        other.close()
        with pytest.raises(RuntimeError, match="closed"):
            trust_of(other).client.get(base_url)


def test_what_is_for_this_machine_passes_no_proxy(
    make: MakeClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API key travels to 127.0.0.1 without TLS: a proxy would read it."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with served(gateway) as base_url:
        lg = make(base_url=base_url, http_client=None, max_retries=0)
        assert receipt_of(ask(lg)).status == "simulated"
        lg.close()


def test_it_passes_none_from_a_loop_either(
    make_async: MakeAsyncClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def run(base_url: str) -> None:
        async with make_async(base_url=base_url, http_client=None, max_retries=0) as lg:
            messages = [{"role": "user", "content": "Hi"}]
            answer = await lg.chat.completions.create(model=MODEL, messages=messages)  # type: ignore[arg-type]  # one message
            assert receipt_of(answer).status == "simulated"

    with served(gateway) as base_url:
        asyncio.run(run(base_url))


def test_a_thread_that_cannot_start_harms_no_request(
    lg: Latensgate, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is at the exit of an interpreter, and where threads are used up."""
    ask(lg)
    trust = trust_of(lg)
    monkeypatch.setattr(trust, "begins_renewal", lambda: True)

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert receipt_of(ask(lg)).status == "simulated"
    assert not trust.exchange.cell.renewing
    assert len(gateway.attestations) == 1


def test_a_renewal_that_was_cancelled_has_failed(
    make_async: MakeAsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> list[object]:
        async with make_async() as lg:
            trust = lg._shared.trust
            told: list[object] = []
            monkeypatch.setattr(trust, "end_renewal", told.append)

            async def never(*_: object) -> None:
                await asyncio.sleep(60)

            monkeypatch.setattr(trust, "_attest", never)
            task = asyncio.create_task(trust.renew(NeedAttested(), None))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return told

    (failed,) = asyncio.run(run())
    assert failed is not None


def test_a_client_that_closes_while_it_renews_leaves_no_connection(
    make: MakeClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was connecting when it was closed: nobody else would have closed what it connected."""
    connecting, closed = threading.Event(), threading.Event()
    made: list[socket.socket] = []
    connect = socket.create_connection

    def slow(
        address: tuple[str, int], timeout: float, source_address: tuple[str, int] | None
    ) -> socket.socket:
        connecting.set()
        assert closed.wait(10)
        made.append(connect(address, timeout, source_address))
        return made[-1]

    with served(gateway) as base_url:
        lg = make(base_url=base_url, http_client=None)
        trust = trust_of(lg)
        monkeypatch.setattr(socket, "create_connection", slow)
        trust._begin(NeedAttested(), None)
        assert connecting.wait(10)
        lg.close()
        closed.set()
        wait_for(lambda: trust.carrier.client.is_closed)
        assert [each.fileno() for each in made] == [-1]


def test_an_async_client_that_closes_ends_its_renewal(
    make_async: MakeAsyncClient, gateway: Gateway
) -> None:
    asked, closed = threading.Event(), threading.Event()

    def late(_: Asked, answer: Told) -> Told:
        asked.set()
        assert closed.wait(10)
        return answer

    async def run(base_url: str) -> None:
        lg = make_async(base_url=base_url, http_client=None)
        trust = lg._shared.trust
        gateway.twist = late
        await trust._begin(trust.renew(NeedAttested(), None))
        await asyncio.to_thread(asked.wait, 10)
        await lg.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert trust.carrier.client.is_closed
        closed.set()

    with served(gateway) as base_url:
        asyncio.run(run(base_url))


def test_a_renewal_that_has_not_begun_gives_its_claim_back_all_the_same(
    make_async: MakeAsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        lg = make_async(http_client=None)
        trust = lg._shared.trust
        told: list[object] = []
        monkeypatch.setattr(trust, "end_renewal", told.append)
        await trust._begin(trust.renew(NeedAttested(), None))
        await lg.close()
        assert len(told) == 1
        assert trust.carrier.client.is_closed

    asyncio.run(run())


def test_who_renews_may_close(make_async: MakeAsyncClient) -> None:
    """A hook of the application's does, for example."""

    async def run() -> None:
        lg = make_async(http_client=None)
        carrier = lg._shared.trust.carrier
        carrier.run_beside(carrier.aclose())
        async with asyncio.timeout(10):
            while not carrier.client.is_closed:  # noqa: ASYNC110  # seen from outside alone
                await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_close_that_is_cancelled_closes(make_async: MakeAsyncClient) -> None:
    async def slow_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)

    async def run() -> None:
        lg = make_async(http_client=None)
        carrier = lg._shared.trust.carrier
        carrier.run_beside(slow_end())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(carrier.aclose(), 0.01)
        assert carrier.client.is_closed

    asyncio.run(run())


def test_a_client_that_was_closed_before_a_fork_lives_in_the_child() -> None:
    carrier = SyncCarrier.own("http://127.0.0.1:9")
    carrier.close()

    def child() -> None:
        mine = carrier.client
        with carrier.borrowed():
            pass
        assert not mine.is_closed

    assert forked(child) == 0


def forked(work: Callable[[], None]) -> int:
    """Run something in a child process; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.mark.timeout(20)
def test_locks_of_other_threads_do_not_survive_a_fork(lg: Latensgate) -> None:
    ask(lg)
    trust = trust_of(lg)
    cell, store = trust.exchange.cell, trust.exchange.store

    def child() -> None:
        trust.in_this_process()
        assert not cell.renewing
        assert trust.held(NeedAttested()) is not None
        with trust._attesting:
            store.begin("k", b"d", trust.exchange.attester.now())

    cell._renewing = True
    with cell._lock, store._lock, trust._attesting:
        assert forked(child) == 0
    cell._renewing = False
    assert len(store) == 0


def test_a_child_has_connections_of_its_own() -> None:
    carrier = SyncCarrier.own("http://127.0.0.1:9")
    mine = carrier.client

    def child() -> None:
        assert carrier.client is not mine
        assert carrier.client is carrier.client

    assert forked(child) == 0
    assert carrier.client is mine
    carrier.close()


def test_cells_and_stores_forget_nothing_in_the_same_process() -> None:
    cell, store = AttestedCell(), CallStore(lambda _: None)  # type: ignore[arg-type, return-value]  # never asked
    locks = cell._lock, store._lock
    cell.in_this_process()
    store.in_this_process()
    assert (cell._lock, store._lock) == locks
