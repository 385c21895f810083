"""Whose credentials they are, whether that account logs, and how old the answer is."""

from __future__ import annotations

import asyncio

import pytest

from enclave_doubles import HOME, OTHER, Accident, Bench, bench, credentials, in_loop
from latensgate_enclave.aws import sigv4
from latensgate_enclave.aws.sts import IdentityError
from latensgate_enclave.identity import CheckedIdentity, IdentityRefusedError
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import IDENTITY_MAX_AGE_S
from latensgate_sim.http_server import Request, Response
from latensgate_sim.identity import Credentials
from latensgate_sim.world import ACCOUNT

FOREIGN = "999988887777"


def foreign(made: Bench) -> Credentials:
    return made.world.identities.role_session(FOREIGN, "Elsewhere", iam_actions=("*",))


def refused(made: Bench, region: str = HOME) -> ErrorCode:
    with pytest.raises(IdentityRefusedError) as caught:
        made.identity.for_region(region)
    return caught.value.code


@in_loop
async def test_credentials_of_the_measured_account_are_used() -> None:
    async with bench() as made:
        given = credentials(made.world.service)
        await made.identity.accept(given)
        checked = made.identity.for_region(HOME)
        assert checked.credentials is made.identity.credentials() is given
        assert checked.account == ACCOUNT
        assert checked.logging == {HOME: False, OTHER: False}
        assert checked.checked_at_s == made.clock.now_s()
        assert made.identity.is_fresh
        assert made.identity.held is checked
        assert given.secret_access_key not in repr(checked)
        assert made.cloud.happened == ["sts", "logging", "logging"]


@in_loop
async def test_without_credentials_nothing_is_called() -> None:
    async with bench() as made:
        assert refused(made) is ErrorCode.ERR_UPSTREAM_IDENTITY
        with pytest.raises(IdentityRefusedError, match="no credentials have passed"):
            made.identity.credentials()
        assert made.identity.held is None
        assert not made.identity.is_fresh
        await made.identity.recheck()
        assert made.cloud.happened == []


@in_loop
async def test_foreign_credentials_are_refused_and_the_old_ones_stay() -> None:
    async with bench() as made:
        with pytest.raises(IdentityRefusedError, match="another account"):
            await made.identity.accept(credentials(foreign(made)))
        assert made.identity.held is None
        own = credentials(made.world.service)
        await made.identity.accept(own)
        with pytest.raises(IdentityRefusedError, match="another account"):
            await made.identity.accept(credentials(foreign(made)))
        assert made.identity.credentials() is own


@in_loop
async def test_credentials_that_sts_does_not_know_are_refused() -> None:
    async with bench() as made:
        made.world.identities.revoke(made.world.service.access_key_id)
        with pytest.raises(IdentityError) as caught:
            await made.identity.accept(credentials(made.world.service))
        assert caught.value.code is ErrorCode.ERR_UPSTREAM_IDENTITY


@pytest.mark.parametrize("accident", list(Accident))
@pytest.mark.parametrize("operation", ["sts", "logging"])
def test_a_check_that_fails_accepts_nothing(operation: str, accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            made.cloud.fail(operation, accident)
            with pytest.raises(LatensgateError) as caught:
                await made.identity.accept(credentials(made.world.service))
            assert caught.value.code is ErrorCode.ERR_UPSTREAM
            assert made.identity.held is None
            await made.identity.accept(credentials(made.world.service))
            assert made.identity.is_fresh

    scenario()


@in_loop
async def test_credentials_swapped_for_foreign_ones_between_two_checks_are_forgotten() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        elsewhere = foreign(made)

        async def swapped(_request: Request) -> Response:
            text = (
                "<GetCallerIdentityResponse><GetCallerIdentityResult>"
                f"<Arn>{elsewhere.identity.caller_arn}</Arn><UserId>x</UserId>"
                f"<Account>{FOREIGN}</Account>"
                "</GetCallerIdentityResult></GetCallerIdentityResponse>"
            )
            return Response(200, {}, text.encode())

        made.cloud.instead["sts"] = swapped
        with pytest.raises(IdentityRefusedError, match="another account"):
            await made.identity.recheck()
        assert made.identity.held is None
        assert refused(made) is ErrorCode.ERR_UPSTREAM_IDENTITY


@pytest.mark.parametrize("replaced_by_then", [False, True])
@pytest.mark.parametrize("passes", [False, True])
def test_a_recheck_never_overtakes_newer_credentials(
    *, passes: bool, replaced_by_then: bool
) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.identity.accept(credentials(made.world.service))
            asked, go = asyncio.Event(), asyncio.Event()
            sts = made.world.regions[HOME].sts

            async def slow(request: Request) -> Response:
                del made.cloud.instead["sts"]
                asked.set()
                await go.wait()
                return await sts.handle(request) if passes else Response(403, {}, b"")

            made.cloud.instead["sts"] = slow
            checking = asyncio.create_task(made.identity.recheck())
            await asked.wait()
            newer = credentials(made.world.admin)
            if replaced_by_then:
                await made.identity.accept(newer)
            go.set()
            await asyncio.gather(checking, return_exceptions=True)
            if replaced_by_then:
                assert made.identity.credentials() is newer
            else:
                assert (made.identity.held is not None) == passes

    scenario()


@in_loop
async def test_logging_refuses_its_own_region_only() -> None:
    async with bench() as made:
        made.world.regions[OTHER].control.logging_accounts.add(ACCOUNT)
        await made.identity.accept(credentials(made.world.service))
        assert refused(made, OTHER) is ErrorCode.ERR_UPSTREAM_LOGGING
        assert made.identity.for_region(HOME).logging == {HOME: False, OTHER: True}
        made.identity.credentials()  # KMS is asked all the same


@in_loop
async def test_logging_switched_on_while_running_is_seen() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.identity.for_region(HOME)
        made.world.regions[HOME].control.logging_accounts.add(ACCOUNT)
        await made.identity.recheck()
        assert refused(made) is ErrorCode.ERR_UPSTREAM_LOGGING


@in_loop
async def test_logging_is_flagged_where_the_measured_deployment_says_so() -> None:
    async with bench(invocation_logging="flag") as made:
        made.world.regions[HOME].control.logging_accounts.add(ACCOUNT)
        await made.identity.accept(credentials(made.world.service))
        assert made.identity.for_region(HOME).logging[HOME] is True


@in_loop
async def test_an_old_check_refuses_until_it_is_renewed() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.advance(IDENTITY_MAX_AGE_S)
        made.identity.for_region(HOME)
        made.advance(1)
        assert refused(made) is ErrorCode.ERR_UPSTREAM_IDENTITY
        assert not made.identity.is_fresh
        assert made.identity.held is not None
        await made.identity.recheck()
        made.identity.for_region(HOME)


@in_loop
async def test_a_failed_recheck_lets_what_is_known_age() -> None:
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.advance(100)
        made.cloud.fail("logging", Accident.REFUSED)
        with pytest.raises(LatensgateError):
            await made.identity.recheck()
        made.identity.for_region(HOME)
        made.advance(21)
        assert refused(made) is ErrorCode.ERR_UPSTREAM_IDENTITY


@in_loop
async def test_the_credentials_delivered_last_are_used_whichever_check_ends_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bench() as made:
        first, last = credentials(made.world.service), credentials(made.world.service)
        slow = asyncio.Event()
        check = made.identity._check  # pyright: ignore[reportPrivateUsage]  # to order two checks

        async def ordered(given: sigv4.Credentials) -> CheckedIdentity:
            checked = await check(given)
            if given is first:
                await slow.wait()
            return checked

        monkeypatch.setattr(made.identity, "_check", ordered)
        begun_first = asyncio.create_task(made.identity.accept(first))
        await asyncio.sleep(0)
        await made.identity.accept(last)
        slow.set()
        await begun_first
        assert made.identity.credentials() is last


@in_loop
async def test_later_credentials_that_fail_leave_the_earlier_ones() -> None:
    async with bench() as made:
        own = credentials(made.world.service)
        made.cloud.hold.clear()
        made.cloud.reached.clear()
        slow = asyncio.create_task(made.identity.accept(own))
        await made.cloud.reached.wait()
        made.cloud.hold.set()
        with pytest.raises(IdentityRefusedError):
            await made.identity.accept(credentials(foreign(made)))
        await slow
        assert made.identity.credentials() is own
