"""Fit to serve or closed: denial, grace, rotation, and who may overtake whom."""

from __future__ import annotations

import asyncio
import json

import pytest

from enclave_doubles import Accident, Bench, bench, credentials, in_loop
from latensgate_enclave import supervisor as supervisor_module
from latensgate_enclave.gate import OpenGate
from latensgate_enclave.nitro.nsm import NSMError
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.kms_policy import render_key_policy_text
from latensgate_shared.limits import (
    IDENTITY_MAX_AGE_S,
    KEY_ROTATION_S,
    KMS_GATE_CHECK_S,
    KMS_GATE_GRACE_S,
)
from latensgate_shared.sealed import KeyStaleError
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.world import ACCOUNT


def closed(made: Bench) -> ErrorCode:
    """Return why service is closed; no key may be left then."""
    with pytest.raises(LatensgateError) as caught:
        made.supervisor.require_open()
    assert caught.value.code is made.supervisor.closed_because
    assert made.keys.opening_keys() == {}
    return caught.value.code


def deny(made: Bench) -> None:
    error = AWSError(400, "AccessDeniedException", "denied")
    made.world.home.kms.faults.on(Fault(FaultKind.ERROR, error, operation="Decrypt", times=None))


def loosen(made: Bench, key_arn: str) -> None:
    policy = json.loads(render_key_policy_text(made.policy_parameters()))
    policy["Statement"].pop()
    made.world.set_policy(key_arn, json.dumps(policy))


async def pass_time(made: Bench, seconds: float) -> None:
    """Let time pass with the credentials kept fresh, and recheck the gate."""
    made.advance(seconds)
    await made.identity.recheck()
    await made.supervisor.recheck_gate()


def is_open(made: Bench) -> bool:
    if made.supervisor.closed_because is None:
        made.supervisor.require_open()
        made.keys.current()
        return True
    return False


@in_loop
async def test_service_begins_closed_and_opens_with_the_gate() -> None:
    async with bench() as made:
        assert closed(made) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        await made.supervisor.recheck_gate()  # nothing to recheck yet
        await made.supervisor.rotate_if_due()
        assert closed(made) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        await made.open()
        assert is_open(made)
        assert "event=CREDENTIALS_ACCEPTED\nevent=KEYS_ROTATED\n" in made.log.getvalue()


@in_loop
async def test_a_gate_that_does_not_open_says_why() -> None:
    async with bench() as made:
        await made.supervisor.accept_credentials(credentials(made.world.service))
        key_arn = made.create_key()
        loosen(made, key_arn)
        with pytest.raises(LatensgateError):
            await made.supervisor.configure_kms(key_arn, None)
        assert closed(made) is ErrorCode.ERR_KMS_KEY_UNFIT
        assert "event=KMS_GATE_DENIED code=302" in made.log.getvalue()


@in_loop
async def test_refused_credentials_leave_the_old_ones_and_the_gate() -> None:
    async with bench() as made:
        await made.open()
        held = made.identity.credentials()
        foreign = made.world.identities.role_session("999988887777", "Elsewhere")
        with pytest.raises(LatensgateError):
            await made.supervisor.accept_credentials(credentials(foreign))
        assert made.identity.credentials() is held
        assert is_open(made)
        assert "event=CREDENTIALS_REFUSED code=604" in made.log.getvalue()


@pytest.mark.parametrize("how", ["denied", "looser", "disabled"])
def test_a_judgement_against_us_closes_at_once_and_drops_every_key(how: str) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            key_arn = await made.open()
            await pass_time(made, KMS_GATE_CHECK_S)
            assert is_open(made)
            if how == "denied":
                deny(made)
            elif how == "looser":
                loosen(made, key_arn)
            else:
                made.world.home.kms.keys.resolve(key_arn, ACCOUNT).key_state = "Disabled"
            await pass_time(made, KMS_GATE_CHECK_S)
            expected = ErrorCode.ERR_KMS_DENIED if how == "denied" else ErrorCode.ERR_KMS_KEY_UNFIT
            assert closed(made) is expected
            with pytest.raises(KeyStaleError):
                made.keys.current()

    scenario()


@in_loop
async def test_a_gate_that_was_closed_opens_again_with_new_keys() -> None:
    async with bench() as made:
        await made.open()
        before = made.keys.opening_keys().keys()
        deny(made)
        await pass_time(made, KMS_GATE_CHECK_S)
        assert closed(made) is ErrorCode.ERR_KMS_DENIED
        made.world.home.kms.faults.clear()
        await pass_time(made, KMS_GATE_CHECK_S)
        assert is_open(made)
        assert not before & made.keys.opening_keys().keys()


@pytest.mark.parametrize("accident", list(Accident))
def test_an_unreachable_kms_is_borne_for_the_grace_and_no_longer(accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            made.cloud.fail("Decrypt", *[accident] * 5)
            for _ in range(KMS_GATE_GRACE_S // KMS_GATE_CHECK_S):
                await pass_time(made, KMS_GATE_CHECK_S)
                assert is_open(made)
            await pass_time(made, 1)
            assert closed(made) is ErrorCode.ERR_KMS_UNREACHABLE

    scenario()


@in_loop
async def test_one_good_answer_renews_the_grace() -> None:
    async with bench() as made:
        await made.open()
        made.cloud.fail("Decrypt", Accident.LOST)
        await pass_time(made, KMS_GATE_GRACE_S)
        await pass_time(made, KMS_GATE_CHECK_S)  # answered
        made.cloud.fail("Decrypt", Accident.LOST)
        await pass_time(made, KMS_GATE_GRACE_S)
        assert is_open(made)


@in_loop
async def test_stale_credentials_are_borne_like_an_unreachable_kms() -> None:
    async with bench() as made:
        await made.open()
        made.advance(IDENTITY_MAX_AGE_S + 1)
        await made.supervisor.recheck_gate()
        assert is_open(made)
        made.advance(KMS_GATE_GRACE_S)
        await made.supervisor.recheck_gate()
        assert closed(made) is ErrorCode.ERR_UPSTREAM_IDENTITY


@in_loop
async def test_another_key_that_does_not_pass_leaves_the_gate_open() -> None:
    async with bench() as made:
        await made.open()
        unfit = made.create_key(multi_region=True)
        with pytest.raises(LatensgateError):
            await made.supervisor.configure_kms(unfit, None)
        assert is_open(made)
        await pass_time(made, KMS_GATE_CHECK_S)  # the old key is asked
        assert is_open(made)


@in_loop
async def test_the_wrapped_secret_of_another_enclave_opens_the_gate() -> None:
    async with bench() as made:
        await made.supervisor.accept_credentials(credentials(made.world.service))
        key_arn = made.create_key()
        wrapped = await made.supervisor.configure_kms(key_arn, None)
        keys = made.parts.keys.opening_keys()
        assert await made.supervisor.configure_kms(key_arn, wrapped) == wrapped
        assert made.parts.keys.opening_keys() == keys  # told the same, it makes no new ones
        await made.supervisor.configure_kms(made.create_key(), None)
        assert made.parts.keys.opening_keys() != keys


@in_loop
async def test_keys_rotate_once_an_hour() -> None:
    async with bench() as made:
        await made.open()
        first = made.keys.current()
        made.advance(KEY_ROTATION_S - 1)
        await made.supervisor.rotate_if_due()
        assert made.keys.current() is first
        made.advance(1)
        await made.supervisor.rotate_if_due()
        second = made.keys.current()
        assert second is not first
        await made.supervisor.rotate_if_due()
        assert made.keys.current() is second


@pytest.mark.parametrize("accident", list(Accident))
def test_a_rotation_that_fails_is_tried_again(accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            first = made.keys.current()
            made.advance(KEY_ROTATION_S)
            made.nsm.accidents.append(accident)
            with pytest.raises(NSMError):
                await made.supervisor.rotate_if_due()
            assert made.keys.current() is first
            await made.supervisor.rotate_if_due()
            assert made.keys.current() is not first

    scenario()


@pytest.mark.parametrize("accident", list(Accident))
def test_a_gate_without_keys_is_not_open(accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.supervisor.accept_credentials(credentials(made.world.service))
            key_arn = made.create_key()
            await made.recipient.document()  # so that the NSM fails at the rotation
            made.nsm.accidents.append(accident)
            with pytest.raises(NSMError):
                await made.supervisor.configure_kms(key_arn, None)
            assert closed(made) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE

    scenario()


@in_loop
async def test_no_rotation_overtakes_a_denial() -> None:
    async with bench() as made:
        await made.open()
        made.advance(KEY_ROTATION_S)
        await made.identity.recheck()
        deny(made)
        made.cloud.hold.clear()
        made.cloud.reached.clear()
        judging = asyncio.create_task(made.supervisor.recheck_gate())
        await made.cloud.reached.wait()
        rotating = asyncio.create_task(made.supervisor.rotate_if_due())
        await asyncio.sleep(0.01)
        assert not rotating.done()
        made.cloud.hold.set()
        await asyncio.gather(judging, rotating)
        assert closed(made) is ErrorCode.ERR_KMS_DENIED


@in_loop
async def test_stop_drops_every_key() -> None:
    async with bench() as made:
        await made.open()
        made.supervisor.stop()
        assert closed(made) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE


def test_the_timers_go_on_after_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    for period in ("CLOCK_REFRESH_S", "IDENTITY_CHECK_S", "KMS_GATE_CHECK_S"):
        monkeypatch.setattr(supervisor_module, period, 0.005)

    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            made.cloud.happened.clear()
            before = made.nsm.documents
            made.cloud.fail("sts", Accident.REFUSED)
            timers = asyncio.create_task(made.supervisor.run())
            await asyncio.sleep(0.3)
            timers.cancel()
            with pytest.raises(asyncio.CancelledError):
                await timers
            assert made.cloud.happened.count("sts") > 1
            assert "Decrypt" in made.cloud.happened
            assert made.nsm.documents > before + 1
            assert "event=CHECK_FAILED code=600" in made.log.getvalue()

    scenario()


def test_a_check_that_breaks_ends_the_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "KMS_GATE_CHECK_S", 0)

    @in_loop
    async def scenario() -> None:
        async with bench() as made:

            async def broken() -> None:
                raise KeyError("a bug")

            monkeypatch.setattr(made.supervisor, "recheck_gate", broken)
            with pytest.raises(ExceptionGroup):
                await asyncio.wait_for(made.supervisor.run(), 5)

    scenario()


@in_loop
async def test_a_parent_that_holds_the_check_up_does_not_lengthen_the_grace() -> None:
    async with bench() as made:
        key_arn = await made.open()
        made.cloud.reached.clear()
        made.cloud.hold.clear()
        asking = asyncio.create_task(made.supervisor.configure_kms(key_arn, None))
        await made.cloud.reached.wait()
        checking = asyncio.create_task(made.supervisor.recheck_gate())
        made.advance(KMS_GATE_GRACE_S)
        assert is_open(made)
        made.advance(1)
        assert closed(made) is ErrorCode.ERR_KMS_UNREACHABLE
        for task in (asking, checking):
            task.cancel()
        await asyncio.gather(asking, checking, return_exceptions=True)


@in_loop
async def test_the_service_secret_is_wiped_when_the_gate_closes() -> None:
    async with bench() as made:
        await made.open()
        held = made.supervisor._opened  # pyright: ignore[reportPrivateUsage]  # the secret itself
        assert held is not None
        assert any(held.service_secret)
        deny(made)
        await pass_time(made, KMS_GATE_CHECK_S)
        assert not is_open(made)
        assert held.service_secret == bytes(32)


@in_loop
async def test_a_secret_that_only_confirms_is_wiped_and_the_one_in_use_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bench() as made:
        released: list[OpenGate] = []
        judge = made.gate.open

        async def noting(key_arn: str, wrapped: bytes | None) -> OpenGate:
            released.append(await judge(key_arn, wrapped))
            return released[-1]

        monkeypatch.setattr(made.gate, "open", noting)
        key_arn = await made.open()
        await pass_time(made, KMS_GATE_CHECK_S)
        await made.supervisor.configure_kms(key_arn, released[0].wrapped_secret)
        assert [any(each.service_secret) for each in released] == [True, False, False]
        other = made.create_key()
        await made.supervisor.configure_kms(other, None)
        assert [any(each.service_secret) for each in released] == [False, False, False, True]


@in_loop
async def test_a_gate_that_closes_while_keys_rotate_stays_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bench() as made:
        await made.open()
        made.advance(KEY_ROTATION_S)
        attest = made.nsm.attest

        async def closing(
            *, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None
        ) -> bytes:
            made.supervisor.stop()
            return await attest(user_data=user_data, nonce=nonce, public_key=public_key)

        monkeypatch.setattr(made.nsm, "attest", closing)
        with pytest.raises(LatensgateError, match="closed meanwhile"):
            await made.supervisor.rotate_if_due()
        assert closed(made) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
