# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate_parent.link import fleet as fleet_module
from latensgate_parent.link import member as member_module
from latensgate_parent.link import supervisor as supervisor_module
from latensgate_parent.link.events import LinkEvent, LinkEventKind
from latensgate_parent.link.fleet import EnclaveFleet, FleetSettings
from latensgate_parent.link.interfaces import EnclaveError, EnclaveLostError
from latensgate_parent.link.supervisor import Duty, pause_s
from latensgate_parent.store.interfaces import ArchivedDocument, StoreError
from latensgate_shared import calls
from latensgate_shared.call_forms import Operation
from latensgate_shared.errors import ErrorCode
from link_doubles import CONTENT, inference_call
from link_fleet import (
    DIGEST,
    KEY_ARN,
    StandInCredentials,
    StandInHost,
    attestation_of,
    make_document,
    make_manifest,
)
from store_memory import MemoryStore


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same timers, only shorter."""
    for module, name, value in (
        (fleet_module, "LINK_RECONNECT_MIN_MS", 5),
        (fleet_module, "LINK_RECONNECT_MAX_MS", 20),
        (supervisor_module, "HEALTH_POLL_MS", 10),
        (supervisor_module, "CREDENTIALS_POLL_MS", 30),
        (supervisor_module, "ATTESTATION_POLL_MS", 20),
        (supervisor_module, "USAGE_POLL_MS", 50),
        (supervisor_module, "CONTROL_RETRY_MIN_MS", 10),
        (supervisor_module, "CONTROL_RETRY_MAX_MS", 30),
    ):
        monkeypatch.setattr(module, name, value)


class Scene:
    """A fleet, its stand-ins and its store."""

    def __init__(self, hosts: list[StandInHost]) -> None:
        self.hosts = hosts
        self.store = MemoryStore()
        self.credentials = StandInCredentials()
        self.events: list[LinkEvent] = []
        self.orphans: list[str] = []
        self.now_ms = 1_700_000_000_000
        self.fleet = EnclaveFleet(
            FleetSettings([host.address for host in hosts], KEY_ARN, DIGEST),
            store=self.store,
            credentials=self.credentials,
            on_orphan=lambda _end, receipt_id: self.orphans.append(receipt_id),
            events=self.events.append,
            now_ms=lambda: self.now_ms,
        )

    def kinds(self) -> list[LinkEventKind]:
        return [event.kind for event in self.events]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110  # looked at from outside
                await asyncio.sleep(0.002)

    async def ready(self, count: int | None = None) -> None:
        wanted = len(self.hosts) if count is None else count
        members = self.fleet._members
        await self.until(lambda: sum(member.is_ready for member in members) >= wanted)

    def routes(self, key_id: str) -> bool:
        try:
            self.fleet.holder_of(key_id)
        except EnclaveError as error:
            if error.code is ErrorCode.ERR_KEY_STALE:
                return False
            raise
        return True


@asynccontextmanager
async def scene(tmp_path: Path, count: int = 1) -> AsyncGenerator[Scene]:
    made = Scene([StandInHost(tmp_path / f"{number}.sock") for number in range(count)])
    for host in made.hosts:
        await host.start()
    made.fleet.start()
    try:
        yield made
    finally:
        await made.fleet.aclose()
        for host in made.hosts:
            await host.stop()
        await asyncio.sleep(0.01)
    assert "secret-value" not in repr(made.events)
    assert "token-1" not in repr(made.events)


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 20))


def test_an_enclave_is_made_ready_and_its_key_routed(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            (status,) = at.fleet.statuses()
            assert (status.name, status.connected, status.health) == (host.name, False, None)
            with pytest.raises(EnclaveError) as none_yet:
                at.fleet.ready()
            assert none_yet.value.code is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
            async with asyncio.timeout(5):
                await at.fleet.wait_ready()
            assert at.fleet.ready().name == host.name
            enclave = at.fleet.holder_of(host.key_id)
            assert (await enclave.infer(inference_call(), b"sealed")).content == CONTENT
            stream = await enclave.stream(inference_call(stream=True), b"sealed")
            assert [piece async for piece in stream.pieces()] == [CONTENT]
            await stream.end()
            await stream.aclose()
            (status,) = at.fleet.statuses()
            assert status.connected
            assert status.health == host.health()
            assert status.checked_at_ms == at.now_ms
            first = [LinkEventKind.CONNECTED, LinkEventKind.STATE]
            assert at.kinds()[:3] == [*first, LinkEventKind.CREDENTIALS_DELIVERED]
            await at.until(lambda: LinkEventKind.USAGE_STORED in at.kinds())
            (usage,) = await at.store.usages()
            assert usage.receipt_key == host.receipt_key.public_key().public_bytes_raw().hex()

    run(main)


def test_a_document_is_archived_before_its_key_is_routed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            go_on = asyncio.Event()
            archive = at.store.archive

            async def slow(document: ArchivedDocument) -> None:
                await go_on.wait()
                await archive(document)

            monkeypatch.setattr(at.store, "archive", slow)
            (host,) = at.hosts
            await at.until(lambda: host.asked_for(Operation.ATTESTATION))
            await asyncio.sleep(0.05)
            assert not at.routes(host.key_id)
            with pytest.raises(EnclaveError):
                at.fleet.ready()
            go_on.set()
            await at.ready()
            assert at.routes(host.key_id)
            name = attestation_of(host.generations[0]).attestation_hash
            assert await at.store.document(name) is not None

    run(main)


def test_a_store_that_fails_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            calls_of: dict[str, int] = {}

            def failing_twice(name: str) -> None:
                true = getattr(at.store, name)

                async def fails(*arguments: object) -> object:
                    calls_of[name] = calls_of.get(name, 0) + 1
                    if calls_of[name] <= 2:
                        raise StoreError("not now")
                    return await true(*arguments)

                monkeypatch.setattr(at.store, name, fails)

            names = ("archive", "wrapped_secret", "insert_wrapped_secret", "store_usage")
            for name in names:
                failing_twice(name)
            await at.ready()
            await at.until(lambda: LinkEventKind.USAGE_STORED in at.kinds())
            assert all(calls_of[name] > 2 for name in names)
            codes = {event.code for event in at.events}
            assert ErrorCode.ERR_STORE_UNAVAILABLE in codes

    run(main)


def test_the_first_wrapped_secret_wins_and_the_loser_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            insert = at.store.insert_wrapped_secret

            async def other_was_first(key_arn: str, digest: str, _: bytes) -> bytes:
                return await insert(key_arn, digest, b"the winner's")

            monkeypatch.setattr(at.store, "insert_wrapped_secret", other_was_first)
            await at.ready()
            asked = host.asked_for(Operation.CONFIGURE_KMS)
            assert [getattr(call, "wrapped_secret", 0) for call in asked] == [
                None,
                b"the winner's",
            ]
            await host.restart()
            await at.until(lambda: len(host.asked_for(Operation.CONFIGURE_KMS)) > 2)
            again = host.asked_for(Operation.CONFIGURE_KMS)[2]
            assert again == calls.ConfigureKMSCall(KEY_ARN, b"the winner's")

    run(main)


def test_requests_go_by_key_id_and_in_turn(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path, 3) as at:
            await at.ready()
            for host in at.hosts:
                assert at.fleet.holder_of(host.key_id).name == host.name
            names = [at.fleet.ready().name for _ in range(6)]
            assert set(names[:3]) == set(names[3:]) == {host.name for host in at.hosts}
            assert not at.routes("0" * 16)
            at.hosts[0].refusals[Operation.CREDENTIALS] = ErrorCode.ERR_UPSTREAM
            at.hosts[0].bedrock_down = True
            states = at.fleet._members[0]
            await at.until(
                lambda: states.health and states.health.bedrock is calls.BedrockState.UNREACHABLE
            )
            assert at.hosts[0].name not in {at.fleet.ready().name for _ in range(6)}
            at.hosts[1].draining = True
            await at.hosts[2].stop()
            await at.until(
                lambda: [member.is_ready for member in at.fleet._members] == [True, False, False]
            )
            assert at.fleet.ready().name == at.hosts[0].name, "better than none"

    run(main)


def test_keys_rotate_and_old_ones_are_kept_until_their_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            start = at.now_ms // 1_000
            host.rotate(make_manifest(host.receipt_key, not_before=start))
            await at.ready()
            old = host.key_id
            host.rotate(make_manifest(host.receipt_key, not_before=start + 3_600))
            await at.until(lambda: at.routes(host.key_id))
            assert at.routes(old)
            at.now_ms += 1_000 * 4_900  # its end, and what the enclave's clock may lag behind
            newer = make_manifest(host.receipt_key, not_before=start + 7_200)
            host.rotate(newer)
            await at.until(lambda: at.routes(host.key_id))
            assert not at.routes(old)
            at.now_ms += 1_000 * 100_000
            assert at.routes(host.key_id), "its newest key is the enclave's to judge"

    run(main)


def test_an_older_manifest_that_was_asked_for_is_not_the_newest(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            (member,) = at.fleet._members
            newest = at.fleet._registry.newest(member)
            assert newest is not None
            older = make_manifest(host.receipt_key, not_before=newest.not_before - 3_600)
            at.now_ms = 1_000 * newest.not_before
            await at.fleet._registry.learn(member, attestation_of(older))
            assert at.fleet._registry.newest(member) == newest
            assert at.routes(older.hpke_keys[0].key_id)

    run(main)


def test_a_key_that_clients_are_given_is_routed_before_they_have_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            host.rotate()
            answer = await at.fleet.ready().attestation(calls.AttestationCall())
            assert answer == attestation_of(host.generations[-1])
            assert at.routes(host.key_id)
            assert await at.store.document(answer.attestation_hash) is not None

    run(main)


def test_a_document_under_another_name_is_not_archived(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            await at.ready()
            (member,) = at.fleet._members
            key = Ed25519PrivateKey.generate()
            true = attestation_of(make_manifest(key))
            name, _ = make_document(b"another")
            for forged in (
                calls.AttestationAnswer(name, true.document, true.manifest),
                calls.AttestationAnswer(true.attestation_hash, b"no document", true.manifest),
                calls.AttestationAnswer(true.attestation_hash, true.document, b"{}"),
            ):
                with pytest.raises(EnclaveLostError):
                    await at.fleet._registry.learn(member, forged)
                assert await at.store.document(forged.attestation_hash) is None

    run(main)


def test_an_enclave_cannot_take_another_ones_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path, 2) as at:
            await at.ready()
            victim, thief = at.hosts
            stolen = victim.generations[-1].hpke_keys[0]
            forged = make_manifest(thief.receipt_key, key=stolen.public_key)
            await at.fleet._registry.learn(at.fleet._members[1], attestation_of(forged))
            assert at.fleet.holder_of(stolen.key_id).name == victim.name
            thief.rotate(forged)
            asked = len(thief.asked_for(Operation.ATTESTATION))
            await at.until(lambda: len(thief.asked_for(Operation.ATTESTATION)) > asked + 1)
            assert at.kinds().count(LinkEventKind.PUBLISHED) == 3, "told once, like every other"
            assert at.fleet.holder_of(stolen.key_id).name == victim.name

    run(main)


def test_an_enclave_that_restarts_is_made_ready_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            old = host.key_id
            holder = at.fleet.holder_of(old)
            await host.stop()
            await at.until(lambda: not at.fleet.statuses()[0].connected)
            assert at.fleet.statuses()[0].health is not None
            with pytest.raises(EnclaveError) as gone:
                await holder.infer(inference_call(), b"sealed")
            assert gone.value.code is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
            await asyncio.sleep(0.1)
            assert at.kinds().count(LinkEventKind.CONNECT_FAILED) == 1, "told once"
            await host.restart()
            await at.ready()
            await at.until(lambda: host.generations and at.routes(host.key_id))
            assert not at.routes(old), "the keys of the process before are gone"
            assert (await holder.infer(inference_call(), b"sealed")).content == CONTENT

    run(main)


def test_the_word_of_a_process_that_is_gone_makes_the_next_one_not_ready(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            (member,) = at.fleet._members
            await host.stop()
            host.silent.add(Operation.HEALTH)
            await host.restart()
            await at.until(lambda: member.links == 2)
            assert member.health is not None
            assert member.health.enclave is calls.EnclaveState.READY
            assert not member.is_ready
            with pytest.raises(EnclaveError):
                at.fleet.ready()

    run(main)


def test_an_enclave_whose_connection_alone_broke_keeps_its_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            host.connections[0].transport.abort()
            await at.until(lambda: len(host.connections) == 2)
            await at.ready()
            assert at.routes(host.key_id)
            assert len(host.generations) == 1

    run(main)


def test_kms_that_denies_and_then_allows_needs_no_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            host.refusals[Operation.CONFIGURE_KMS] = ErrorCode.ERR_KMS_DENIED
            await at.until(lambda: at.kinds().count(LinkEventKind.GATE_FAILED) >= 3)
            failed = [each for each in at.events if each.kind is LinkEventKind.GATE_FAILED]
            assert {each.code for each in failed} == {ErrorCode.ERR_KMS_DENIED}
            host.refusals.clear()
            await at.ready()
            host.gate = calls.KMSState.DENIED  # found by the enclave itself
            opened = at.kinds().count(LinkEventKind.GATE_OPENED)
            await at.until(lambda: at.kinds().count(LinkEventKind.GATE_OPENED) > opened)
            await at.ready()
            assert any("stopped" in each.detail for each in at.events)

    run(main)


def test_a_draining_enclave_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            assert await at.fleet.drain(host.name) == 2
            assert (await at.store.usages())[0].receipt_key
            host.gate = calls.KMSState.UNCONFIGURED
            asked = len(host.asked_for(Operation.CONFIGURE_KMS))
            before = len(host.asked_for(Operation.HEALTH))
            await at.until(lambda: len(host.asked_for(Operation.HEALTH)) > before + 3)
            assert len(host.asked_for(Operation.CONFIGURE_KMS)) == asked
            with pytest.raises(EnclaveError) as unknown:
                await at.fleet.drain("unix:/nowhere")
            assert unknown.value.code is ErrorCode.ERR_NOT_FOUND

    run(main)


def test_credentials_are_renewed_and_delivered_anew_where_they_are_missed(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            at.credentials.token = None
            await at.until(lambda: LinkEventKind.CREDENTIALS_FAILED in at.kinds())
            assert host.credentials is None
            at.credentials.token = "token-1"  # noqa: S105  # no secret
            await at.ready()
            delivered = len(host.asked_for(Operation.CREDENTIALS))
            await asyncio.sleep(0.1)
            assert len(host.asked_for(Operation.CREDENTIALS)) == delivered, "the same: once"
            at.credentials.token = "token-2"  # noqa: S105  # no secret
            await at.until(lambda: host.credentials == "token-2")
            host.bedrock_down = True  # they have expired over there, for example
            await at.until(lambda: not host.bedrock_down)
            await at.ready()

    run(main)


def test_an_enclave_that_says_nothing_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_module, "HEALTH_STALE_MS", 40)
    monkeypatch.setattr("latensgate_parent.link.enclave.HEALTH_TIMEOUT_MS", 30)

    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            host.silent.add(Operation.HEALTH)
            await at.until(lambda: not any(member.is_ready for member in at.fleet._members))
            assert at.fleet.statuses()[0].connected
            await at.until(lambda: LinkEventKind.HEALTH_FAILED in at.kinds())
            host.silent.clear()
            await at.ready()

    run(main)


def test_usage_that_the_receipt_key_did_not_sign_is_not_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            await at.until(lambda: LinkEventKind.USAGE_STORED in at.kinds())
            true, host.receipt_key = host.receipt_key, Ed25519PrivateKey.generate()
            at.events.clear()
            await at.fleet.collect_usage()
            assert LinkEventKind.USAGE_FAILED in at.kinds()
            (stored,) = await at.store.usages()
            assert stored.receipt_key == true.public_key().public_bytes_raw().hex()
            await host.stop()
            await at.until(lambda: not at.fleet.statuses()[0].connected)
            await at.fleet.collect_usage()  # nobody to ask

    run(main)


def test_usage_waits_for_a_manifest(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            host.refusals[Operation.ATTESTATION] = ErrorCode.ERR_INTERNAL
            await at.until(lambda: at.kinds().count(LinkEventKind.PUBLISH_FAILED) >= 2)
            assert not host.asked_for(Operation.USAGE)
            host.refusals.clear()
            await at.until(lambda: LinkEventKind.USAGE_STORED in at.kinds())

    run(main)


def test_a_fault_of_our_own_does_not_leave_an_enclave_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            faults = 2
            true = at.credentials.credentials

            async def faulty() -> object:
                nonlocal faults
                if faults:
                    faults -= 1
                    raise RuntimeError("secret-value")
                return await true()

            monkeypatch.setattr(at.credentials, "credentials", faulty)
            await at.ready()
            internal = [each for each in at.events if each.kind is LinkEventKind.INTERNAL]
            assert [each.detail for each in internal] == ["RuntimeError"] * 2

    run(main)


def test_an_orphaned_receipt_reaches_the_hook(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            (host,) = at.hosts
            await at.ready()
            host.silent.add(Operation.INFERENCE)
            task = asyncio.create_task(
                at.fleet.holder_of(host.key_id).infer(inference_call(), b"sealed")
            )
            link = host.connections[0]
            await at.until(lambda: host.asked_for(Operation.INFERENCE))
            task.cancel()
            call_id = max(link.received)
            await link.cancel_came(call_id)
            link.answer_inference(call_id)
            await at.until(lambda: at.orphans)

    run(main)


# --- pauses ---


def test_pauses_double_up_to_a_bound_and_half_is_random() -> None:
    for failures in (0, 1, 5, 40, 10_000):
        longest = min(5_000, 100 * 2 ** min(failures, 40)) / 1_000
        pauses = {pause_s(failures, 100, 5_000) for _ in range(50)}
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 1


def test_a_duty_that_is_needed_sooner_keeps_its_pause_after_failures() -> None:
    duty = Duty(60_000)
    assert duty.is_due(0)
    duty.done(100.0)
    assert not duty.is_due(159.9)
    duty.hurry()
    assert duty.is_due(100.01)
    duty.failed(101.0)
    before = duty._next_at
    duty.hurry()
    assert duty._next_at == before
    duty.again()
    assert duty.is_due(0)
