"""The parent's link with real enclaves: from nothing to an answer, and back after every loss."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from e2e_client import Client, Sealed, appraisal_policy, chat, parsed
from e2e_fixtures import QUICK, StartStack
from latensgate.verify import verify_attestation
from latensgate_parent.link.address import UnixAddress, parse_enclave_address
from latensgate_parent.link.credentials import FileCredentials
from latensgate_parent.link.destinations import Destinations, Endpoint
from latensgate_parent.link.egress import Egress
from latensgate_parent.link.events import LinkEvent, LinkEventKind
from latensgate_parent.link.fleet import EnclaveFleet, FleetSettings
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError, InferenceReply
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_shared.receipts import parse_public_part
from latensgate_shared.usage import parse_usage_totals
from latensgate_sim.world import World
from stack import Answer, Stack
from store_memory import MemoryStore

Main = Callable[[], Coroutine[None, None, None]]


def run(main: Main) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(asyncio.wait_for(main(), 90))


class Parent:
    """What stands between a client and an enclave, without HTTP."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.credentials_file = folder / "credentials.json"
        self.deliver()
        self.store = MemoryStore()
        self.events: list[LinkEvent] = []
        self.orphans: list[calls.InferenceEnd] = []
        digest = hashlib.sha384((stack.config / "deployment.toml").read_bytes()).hexdigest()
        address = parse_enclave_address(f"unix:{stack.process.listen}")
        self.fleet = EnclaveFleet(
            FleetSettings([address], stack.key_arn, f"sha384:{digest}"),
            store=self.store,
            credentials=FileCredentials(self.credentials_file),
            on_orphan=lambda end, _receipt_id: self.orphans.append(end),
            events=self.events.append,
        )

    def deliver(self) -> None:
        held = self.stack.world.service
        values = {
            "AccessKeyId": held.access_key_id,
            "SecretAccessKey": held.secret_access_key,
            "Token": held.session_token,
        }
        fresh = self.credentials_file.with_suffix(".new")
        fresh.write_text(json.dumps(values))
        fresh.rename(self.credentials_file)

    async def ready(self) -> None:
        async with asyncio.timeout(30):
            await self.fleet.wait_ready()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110  # looked at from outside
                await asyncio.sleep(0.01)

    def saw(self, kind: LinkEventKind) -> int:
        return sum(event.kind is kind for event in self.events)

    async def attest(self) -> Client:
        """Do what an SDK does with what the parent gives."""
        nonce = os.urandom(32)
        told = await self.fleet.ready().attestation(calls.AttestationCall(nonce))
        assert told.nonce_document is not None
        policy, at = appraisal_policy(self.stack), self.stack.world.clock.now()
        fresh = verify_attestation(
            told.nonce_document, told.manifest, policy=policy, at=at, nonce=nonce
        )
        published = verify_attestation(told.document, told.manifest, policy=policy, at=at)
        assert fresh.manifest == published.manifest
        return Client(self.stack.world, published)

    async def send(self, sealed: Sealed) -> InferenceReply:
        """Route by key id alone."""
        key_id = sealed.wire[1:9].hex()
        return await self.fleet.holder_of(key_id).infer(sealed.call, sealed.wire)


@asynccontextmanager
async def parent_of(stack: Stack, folder: Path) -> AsyncGenerator[Parent]:
    made = Parent(stack, folder)
    made.fleet.start()
    try:
        yield made
    finally:
        await made.fleet.aclose()
        await asyncio.sleep(0.01)
    assert made.stack.world.service.secret_access_key not in repr(made.events)


def as_answer(reply: InferenceReply) -> Answer:
    head = calls.InferenceHead(reply.receipt_id).to_head()
    return Answer(head, reply.content, reply.end.to_head())


def test_from_nothing_to_a_verified_answer_and_again_after_kill(
    own_world: World, start_stack: StartStack, tmp_path: Path
) -> None:
    stack = start_stack(own_world)

    async def main() -> None:
        async with parent_of(stack, tmp_path) as parent:
            await parent.ready()
            client = await parent.attest()
            sealed = client.seal(chat("What is the capital of France?"))
            opened = client.open(sealed, as_answer(await parent.send(sealed)))
            assert opened.text
            assert await parent.store.document(sealed.call.attestation_hash) is not None
            await asyncio.sleep(1)  # of totals of one second the first ones stand
            await parent.fleet.collect_usage()
            (usage,) = await parent.store.usages()
            totals = parse_usage_totals(usage.totals)
            assert totals.tenants[client.tenant_id]["requests"] == 1

            stack.process.process.kill()
            await asyncio.to_thread(stack.process.process.wait)
            lost = client.seal(chat("Is anybody there?"))
            with pytest.raises((EnclaveError, EnclaveLostError)) as caught:
                await parent.send(lost)
            assert caught.value.code in {
                ErrorCode.ERR_ENCLAVE_UNAVAILABLE,
                ErrorCode.ERR_OUTCOME_UNKNOWN,
            }
            await asyncio.to_thread(stack.restart)
            await parent.until(lambda: parent.saw(LinkEventKind.PUBLISHED) == 2)
            await parent.ready()
            with pytest.raises(EnclaveError) as stale:
                await parent.send(lost)
            assert stale.value.code is ErrorCode.ERR_KEY_STALE
            client = await parent.attest()
            sealed = client.seal(chat("And of Italy?"))
            assert client.open(sealed, as_answer(await parent.send(sealed))).text
            assert parent.saw(LinkEventKind.WRAPPED_SECRET_STORED) == 1, "the stored one is used"

    run(main)


def test_kms_that_denies_and_allows_again(
    own_world: World, start_stack: StartStack, tmp_path: Path
) -> None:
    stack = start_stack(own_world, limits=QUICK)

    async def main() -> None:
        async with parent_of(stack, tmp_path) as parent:
            await parent.ready()
            key = own_world.home.kms.keys.resolve(stack.key_arn, stack.key_arn.split(":")[4])
            true = key.policy
            own_world.set_policy(stack.key_arn, true.replace("kms:Decrypt", "kms:DescribeKey"))
            await parent.until(lambda: parent.saw(LinkEventKind.GATE_FAILED))
            with pytest.raises(EnclaveError):
                parent.fleet.ready()
            own_world.set_policy(stack.key_arn, true)
            await parent.ready()
            client = await parent.attest()
            sealed = client.seal(chat("Are you there again?"))
            assert client.open(sealed, as_answer(await parent.send(sealed))).text

    run(main)


def test_a_caller_that_leaves_leaves_its_receipt(
    own_world: World, start_stack: StartStack, tmp_path: Path
) -> None:
    stack = start_stack(own_world)

    async def main() -> None:
        async with parent_of(stack, tmp_path) as parent:
            await parent.ready()
            client = await parent.attest()
            sealed = client.seal(chat("Tell me a long story.", stream=True))
            enclave = parent.fleet.holder_of(sealed.wire[1:9].hex())
            stream = await enclave.stream(sealed.call, sealed.wire)
            async for _ in stream.pieces():
                break
            await stream.aclose()
            await parent.until(lambda: parent.orphans)
            public = parse_public_part(parsed(parent.orphans[0].receipt_public))
            assert public.receipt_id == stream.receipt_id

    run(main)


def test_the_enclave_reaches_aws_through_the_parents_own_egress(
    own_world: World, start_stack: StartStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same enclave process, with the parent's tunnel where the simulator's was."""
    path = tmp_path / "egress.sock"
    monkeypatch.setattr(own_world.tunnel, "path", path)
    stack = start_stack(own_world)

    async def main() -> None:
        routes = {
            f"{host}:443": Endpoint("127.0.0.1", port) for host, port in own_world.ports.items()
        }
        events: list[LinkEvent] = []
        places = Destinations(frozenset(routes), routes)
        egress = Egress(UnixAddress(str(path)), places, events.append)
        egress.start()
        async with parent_of(stack, tmp_path) as parent:
            await parent.ready()
            client = await parent.attest()
            for _ in range(3):
                sealed = client.seal(chat("What is the capital of France?"))
                assert client.open(sealed, as_answer(await parent.send(sealed))).text
            assert egress.counters.opened >= 3
            assert egress.counters.bytes_up > 3_000
            assert egress.counters.bytes_down > 3_000
            assert not events
        await egress.aclose()

    run(main)
