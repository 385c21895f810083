"""Attestation over a client's life: judged whole, renewed in time, kept, never overridden."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from e2e_fixtures import StartStack
from latensgate import AsyncLatensgate, Latensgate, errors, receipt_of
from latensgate.attested import Attested
from latensgate.client_trust import Environment, SyncShared
from latensgate.exchange_steps import NeedAttested
from latensgate.transport import SyncTrust
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_shared.manifest import parse_manifest
from latensgate_sim.world import World
from sdk_gateway import Asked, Gateway, Told, refusal
from stack import MODEL, Stack

MakeClient = Callable[..., Latensgate]
MakeAsyncClient = Callable[..., AsyncLatensgate]


@dataclass
class Clock:
    """The client's clock: the enclave's, and as much off as a test says."""

    stack: Stack
    off_s: float = 0.0

    def __call__(self) -> float:
        return self.stack.world.clock.seconds() + self.off_s


def ask(lg: Latensgate) -> object:
    return lg.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])


async def ask_async(lg: AsyncLatensgate) -> object:
    return await lg.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}]
    )


@pytest.fixture
def clock(stack: Stack) -> Clock:
    return Clock(stack)


@pytest.fixture
def environment(environment: Environment, clock: Clock) -> Environment:
    return replace(environment, clock=clock)


def on_attestation(change: Callable[[Told], Told]) -> Callable[[Asked, Told], Told]:
    return lambda asked, told: change(told) if asked.attestation else told


def replaying() -> Callable[[Asked, Told], Told]:
    """Give the first attestation again and again."""
    kept: list[Told] = []

    def twist(asked: Asked, told: Told) -> Told:
        if not asked.attestation:
            return told
        kept.append(told)
        return kept[0]

    return twist


CHANGES: dict[str, Callable[[Told], Told]] = {
    "another hash": lambda told: told.changed(attestation_hash="sha384:" + "0" * 96),
    "no nonce document": lambda told: told.changed(nonce_document=""),
    "the published one in its place": lambda told: told.changed(
        nonce_document=told.json["document"]
    ),
    "the fresh one as published": lambda told: told.changed(document=told.json["nonce_document"]),
    "another manifest": lambda told: told.changed(
        manifest=base64.b64encode(b'{"hpke":1}').decode()
    ),
    "bad base64": lambda told: told.changed(document="!"),
    "a member more": lambda told: told.changed(extra=1),
    "no JSON": lambda told: replace(told, body=b"{"),
    "a list": lambda told: replace(told, body=b"[]"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_attestation_that_does_not_hold_together(
    make: MakeClient, gateway: Gateway, name: str
) -> None:
    gateway.twist = on_attestation(CHANGES[name])
    with pytest.raises(errors.AttestationError) as caught:
        ask(make())
    assert caught.value.error_code is ErrorCode.ERR_ATTESTATION_INVALID
    assert not caught.value.retryable
    assert gateway.inferences == []
    assert len(gateway.attestations) == 1


def test_an_old_proof_is_refused(make: MakeClient, gateway: Gateway) -> None:
    gateway.twist = replaying()
    ask(make())
    with pytest.raises(errors.AttestationError, match="challenge"):
        ask(make(post_quantum_only=True))  # which has a state file of its own
    assert len(gateway.inferences) == 1


def test_a_nonce_that_was_seen_before_gives_no_freshness(
    make: MakeClient, gateway: Gateway, environment: Environment, clock: Clock
) -> None:
    """The clock decides even where the challenge is the same."""
    same = replace(environment, nonce=lambda: bytes(32))
    gateway.twist = replaying()
    ask(make(_environment=same))
    clock.off_s = 400
    with pytest.raises(errors.ClockSkewError):
        ask(make(_environment=same, post_quantum_only=True))


def test_other_measurements_are_refused(make: MakeClient, gateway: Gateway) -> None:
    other = {f"PCR{index}": "ab" * 48 for index in range(3)}
    with pytest.raises(errors.AttestationError, match="PCR0, PCR1, PCR2 differ"):
        ask(make(measurements=[other]))
    assert gateway.inferences == []


def test_a_foreign_root_is_refused(make: MakeClient, gateway: Gateway) -> None:
    with pytest.raises(errors.AttestationError):
        ask(make(simulated=False))  # the AWS root
    with pytest.raises(errors.AttestationError):
        ask(make(simulated_root_sha256="ab" * 32))
    assert gateway.inferences == []


def test_a_debug_enclave_is_refused(
    own_world: World, start_stack: StartStack, make: MakeClient, gateway: Gateway
) -> None:
    debug = start_stack(own_world, debug=True)
    measured = debug.process.device.measurements.hex()
    gateway.stack = debug
    with pytest.raises(errors.LatensgateClientError):
        ask(make(measurements=[measured], max_retries=0))  # it has no keys: KMS gives it nothing
    assert gateway.inferences == []


@pytest.mark.parametrize("off_s", [-400.0, 400.0])
def test_a_wrong_clock_names_both_times(
    make: MakeClient, gateway: Gateway, clock: Clock, off_s: float
) -> None:
    clock.off_s = off_s
    with pytest.raises(errors.ClockSkewError) as caught:
        ask(make())
    error = caught.value
    assert error.client_time is not None
    assert error.enclave_time is not None
    apart_s = (error.client_time - error.enclave_time).total_seconds()
    assert abs(apart_s - off_s) < 60
    for moment in (error.client_time, error.enclave_time):
        assert moment.isoformat(timespec="seconds") in str(error)
    assert not error.retryable
    assert gateway.inferences == []


def test_a_clock_that_is_set_later_is_told_by_the_enclave(make: MakeClient, clock: Clock) -> None:
    lg = make()
    ask(lg)
    clock.off_s = 400
    with pytest.raises(errors.ClockSkewError) as caught:
        ask(lg)
    assert caught.value.receipt is not None
    assert caught.value.client_time is None


def test_a_refused_attestation_is_the_callers(make: MakeClient, gateway: Gateway) -> None:
    gateway.twist = on_attestation(lambda _: refusal(ErrorCode.ERR_ENCLAVE_UNAVAILABLE))
    with pytest.raises(errors.Unavailable) as caught:
        ask(make(max_retries=1))
    assert caught.value.retryable
    assert len(gateway.attestations) == 2
    gateway.twist = on_attestation(lambda _: Told(502, b"<html>"))
    with pytest.raises(errors.GatewayFailure):
        ask(make(max_retries=0))


def trust_of(lg: Latensgate) -> SyncTrust:
    """Look inside."""
    shared: SyncShared = vars(lg)["_shared"]
    return shared.trust


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_keys_are_due_after_50_minutes_and_too_old_after_70(make: MakeClient, clock: Clock) -> None:
    lg = make()
    ask(lg)
    cell = trust_of(lg).exchange.cell
    held = cell.peek()
    assert held is not None
    later = clock.stack.world.clock.seconds
    assert not held.due(at(later() + 2_900))
    assert held.due(at(later() + 3_100))
    assert held.sealable(at(later() + 4_100))
    assert not held.sealable(at(later() + 4_300))


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.fixture
def aged(stack: Stack, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let keys be due 10 s from now, rotated after 40 and too old after 55; move the client."""
    with stack.link() as link:
        manifest = parse_manifest(
            calls.AttestationAnswer.from_head(link.call(calls.AttestationCall()).head).manifest
        )
    age_s = int(clock() - manifest.not_before)
    monkeypatch.setattr("latensgate.verify.manifest.SDK_RENEW_AFTER_S", age_s + 10)
    monkeypatch.setattr("latensgate.verify.manifest.SDK_STOP_AFTER_S", age_s + 55)
    monkeypatch.setattr("latensgate.attested.RENEWAL_PAUSE_S", 3)
    monkeypatch.setattr("latensgate_shared.limits.KEY_ROTATION_S", age_s + 40)

    def move(seconds: float) -> None:
        clock.off_s = seconds

    return move


def test_keys_are_renewed_in_the_background(
    make: MakeClient, gateway: Gateway, aged: Callable[[float], None]
) -> None:
    lg = make()

    def settled(attestations: int) -> None:
        wait_for(lambda: len(gateway.attestations) == attestations)
        wait_for(lambda: not trust_of(lg).exchange.cell.renewing)
        time.sleep(0.05)
        assert len(gateway.attestations) == attestations

    ask(lg)
    aged(2)
    ask(lg)
    settled(1)
    gateway.twist = on_attestation(lambda _: refusal(ErrorCode.ERR_OVERLOADED))
    aged(12)
    ask(lg)  # under the keys that it has; the renewal fails, and nobody is harmed
    settled(2)
    ask(lg)
    settled(2)  # not at once again
    gateway.twist = None
    aged(20)
    ask(lg)
    settled(3)
    aged(25)
    ask(lg)
    settled(3)  # the same keys: no use in asking before the enclave rotates them
    aged(44)
    ask(lg)
    settled(4)
    assert len(gateway.inferences) == 7


def test_keys_are_renewed_beside_tasks(
    make_async: MakeAsyncClient, gateway: Gateway, aged: Callable[[float], None]
) -> None:
    async def run() -> None:
        async with make_async() as lg:
            await ask_async(lg)
            gateway.twist = on_attestation(lambda _: refusal(ErrorCode.ERR_OVERLOADED))
            aged(12)
            await ask_async(lg)
            await asyncio.sleep(0.05)
            assert len(gateway.attestations) == 2
            gateway.twist = None
            aged(20)
            await ask_async(lg)
            await asyncio.sleep(0.05)
            assert len(gateway.attestations) == 3

    asyncio.run(run())


def test_a_client_closed_meanwhile_renews_nothing(
    make: MakeClient, aged: Callable[[float], None]
) -> None:
    lg = make()
    ask(lg)
    trust = trust_of(lg)
    aged(12)
    assert trust.begins_renewal()
    trust.client.close()
    trust.renew(NeedAttested(), None)
    assert not trust.exchange.cell.renewing


def test_nothing_is_sealed_to_old_keys(
    make: MakeClient, gateway: Gateway, aged: Callable[[float], None]
) -> None:
    lg = make()
    ask(lg)
    aged(57)
    with pytest.raises(errors.KeyStale, match="too old"):
        ask(lg)  # attested anew, but the enclave still shows the same manifest
    gateway.twist = on_attestation(lambda _: refusal(ErrorCode.ERR_FORBIDDEN))
    with pytest.raises(errors.Forbidden):
        ask(lg)
    assert len(gateway.inferences) == 1


def state_files(environment: Environment) -> list[Path]:
    assert environment.around is not None
    return sorted((environment.around.state_dir / "attestations").glob("*"))


def test_a_later_process_uses_what_was_verified(
    make: MakeClient, gateway: Gateway, environment: Environment
) -> None:
    ask(make())
    (path,) = state_files(environment)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert receipt_of(ask(make())).status == "simulated"
    assert len(gateway.attestations) == 1


def test_what_is_kept_is_verified_again(
    make: MakeClient, gateway: Gateway, environment: Environment, clock: Clock
) -> None:
    ask(make())
    (path,) = state_files(environment)
    good = path.read_bytes()
    damaged = [b"", b"{}", good[:-20], good.replace(b'"version": 1', b'"version": 2'), b"\xff"]
    damaged += [good.replace(good[40:60], b"A" * 20)]
    for number, data in enumerate(damaged, 2):
        path.write_bytes(data)
        ask(make())
        assert len(gateway.attestations) == number
        assert len(path.read_bytes()) == len(good)
    clock.off_s = 4_300
    with pytest.raises(errors.ClockSkewError):
        ask(make())  # too old to be used: it is attested again, and the clock is found wrong


def test_links_are_not_followed(
    make: MakeClient, gateway: Gateway, environment: Environment, tmp_path: Path
) -> None:
    ask(make())
    (path,) = state_files(environment)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    ask(make())
    assert len(gateway.attestations) == 2
    assert not path.is_symlink()


def test_any_of_the_enclaves_that_are_known_is_taken(
    make: MakeClient, gateway: Gateway, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(make())
    (path,) = state_files(environment)
    other = path.with_name(path.name.rpartition("-")[0] + "-0000000000000000.json")
    orders: list[int] = []

    def backwards(found: list[Path]) -> None:
        found.sort(reverse=True)
        orders.append(len(found))

    monkeypatch.setattr("latensgate.state.random.shuffle", backwards)
    for damaged, good in ((path, other), (other, path)):
        good.write_bytes(path.read_bytes())
        good.chmod(0o600)
        damaged.write_bytes(b"{}")
        ask(make())  # whichever comes first
        path.write_bytes(other.read_bytes() if damaged is path else path.read_bytes())
    assert orders == [2, 2]
    assert len(gateway.attestations) == 1


def test_what_was_found_stale_is_kept_no_longer(make: MakeClient, environment: Environment) -> None:
    ask(make())
    (path,) = state_files(environment)
    trust = trust_of(make())
    attested = trust.restored(NeedAttested())
    assert attested is not None
    document = SimpleNamespace(module_id="i-0-enc1")
    moved = SimpleNamespace(
        attestation=SimpleNamespace(document=document), evidence=attested.evidence
    )
    trust.kept(cast("Attested", moved), attested)
    assert [each != path for each in state_files(environment)] == [True]
    trust.kept(attested, None)
    assert len(state_files(environment)) == 2


def test_another_trust_has_another_file(make: MakeClient, gateway: Gateway) -> None:
    ask(make())
    other = {f"PCR{index}": "ab" * 48 for index in range(3)}
    with pytest.raises(errors.AttestationError):
        ask(make(measurements=[other]))
    assert len(gateway.attestations) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_costs_an_attestation(
    make: MakeClient, gateway: Gateway, environment: Environment
) -> None:
    assert environment.around is not None
    environment.around.state_dir.mkdir(mode=0o500)
    ask(make())
    ask(make())
    assert len(gateway.attestations) == 2


def test_a_folder_that_is_a_file_costs_an_attestation(
    make: MakeClient, gateway: Gateway, environment: Environment
) -> None:
    assert environment.around is not None
    environment.around.state_dir.write_text("not a folder")
    ask(make())
    ask(make())
    assert len(gateway.attestations) == 2


def test_a_suite_that_is_not_admitted_is_not_used(
    make: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latensgate.client_trust._POST_QUANTUM", "none-such")
    with pytest.raises(errors.AttestationError, match="no key of none-such"):
        ask(make(post_quantum_only=True))
