"""A malicious parent and requests that wait for an approver: nothing runs that nobody approved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from enclave_client import chat
from enclave_doubles import TENANT, bench, in_loop
from hold_examples import ANN, EMAIL, ROOT, Ann, held, hold_policy, models_asked, settings, told_of
from latensgate_enclave.holds import Holds
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.hold import Decision, HoldLostError
from settings_examples import Root

if TYPE_CHECKING:
    from hold_examples import Held
    from latensgate_shared.hold import SignedDecision


async def refused(kept: Held, signed: SignedDecision, **changes: object) -> ErrorCode:
    """Present a decision that must not be taken; which code it gets."""
    with pytest.raises(LatensgateError) as caught:
        await kept.decide(signed, **changes)  # type: ignore[arg-type]  # by the tests
    assert models_asked(kept.made) == []
    return caught.value.code


@in_loop
async def test_what_is_held_is_not_sent() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        assert kept.told.code is ErrorCode.ERR_HELD
        assert models_asked(made) == []
        assert EMAIL.encode() not in kept.pending.state


@in_loop
async def test_a_self_made_approval_is_none() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        stranger = Ann()
        code = await refused(kept, stranger.says(kept.notice))
        assert code is ErrorCode.ERR_APPROVAL_REFUSED


@in_loop
async def test_a_forged_signature_is_none() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        for signed in (
            replace(ANN.says(kept.notice), signature=bytes(64)),
            replace(Ann().says(kept.notice), approver=ANN.public),
            replace(ANN.says(kept.notice, Decision.DENY), decision=ANN.says(kept.notice).decision),
        ):
            assert await refused(kept, signed) is ErrorCode.ERR_APPROVAL_REFUSED
        assert (await kept.decide(ANN.says(kept.notice))).code is None  # nothing was spent


@in_loop
async def test_an_approval_for_another_request_or_plan_is_none() -> None:
    async with bench() as made:
        await made.open()
        kept, other = await held(made), await held(made)
        for signed in (
            ANN.says(other.notice),
            ANN.says(kept.notice, plan_digest=other.notice.plan_digest),
            ANN.says(kept.notice, pending_id=other.notice.pending_id),
        ):
            assert await refused(kept, signed) is ErrorCode.ERR_APPROVAL_REFUSED
        code = await refused(kept, ANN.says(kept.notice), state=other.pending.state)
        assert code is ErrorCode.ERR_APPROVAL_REFUSED


@in_loop
async def test_an_approval_that_has_expired_is_none() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        late = ANN.says(kept.notice, expires_at=made.clock.now_s())
        assert await refused(kept, late) is ErrorCode.ERR_APPROVAL_REFUSED


@in_loop
async def test_a_hold_that_has_expired_is_decided_by_nobody() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made, document=settings(policy=hold_policy(hold={"expires_s": 60})))
        signed = ANN.says(kept.notice, expires_at=made.clock.now_s() + 86_400)
        made.advance(60)
        await made.clock.refresh()
        assert await refused(kept, signed) is ErrorCode.ERR_HOLD_EXPIRED
        with pytest.raises(LatensgateError) as caught:
            await kept.view(ANN)
        assert caught.value.code is ErrorCode.ERR_HOLD_EXPIRED


@in_loop
async def test_settings_of_others_name_no_approver() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made, document=settings(version=3))
        for document in (
            settings(version=2),  # older than those it was held under
            Root().document(TENANT, 9, approvers=[ANN.member()]),
            ROOT.document("tnt_00000000", 9, approvers=[ANN.member()]),
            b"{}",
        ):
            code = await refused(kept, ANN.says(kept.notice), tenant_settings=document)
            assert code is ErrorCode.ERR_APPROVAL_REFUSED
        newest = settings(ANN, Ann(), version=5)
        assert (await kept.decide(ANN.says(kept.notice), tenant_settings=newest)).code is None


@in_loop
async def test_an_approver_who_was_removed_does_not_come_back() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made, document=settings(version=3))
        signed = ANN.says(kept.notice)
        for document in (settings(Ann(), version=4), settings(version=3)):
            code = await refused(kept, signed, tenant_settings=document)
            assert code is ErrorCode.ERR_APPROVAL_REFUSED


@in_loop
async def test_settings_that_any_request_brought_count() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        await told_of(made, {"model": "none", "messages": []}, document=settings(Ann(), version=2))
        code = await refused(kept, ANN.says(kept.notice))
        assert code is ErrorCode.ERR_APPROVAL_REFUSED


@in_loop
async def test_a_replayed_approval_runs_nothing() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        signed = ANN.says(kept.notice)
        assert (await kept.decide(signed)).code is None
        for again in (signed, ANN.says(kept.notice, Decision.DENY)):
            with pytest.raises(LatensgateError) as caught:
                await kept.decide(again)
            assert caught.value.code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert len(models_asked(made)) == 1


@in_loop
async def test_another_request_in_its_place_is_not_sent() -> None:
    async with bench() as made:
        await made.open()
        kept, other = await held(made), await held(made, chat(f"Other {EMAIL}"))
        flipped = kept.body[:-1] + bytes([kept.body[-1] ^ 1])
        for body in (flipped, kept.settings_then + other.asked.request.wire):
            code = await refused(kept, ANN.says(kept.notice), body=body)
            assert code is ErrorCode.ERR_HOLD_LOST


@in_loop
async def test_other_settings_in_the_place_of_those_are_not_applied() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        looser = settings(version=2, policy={})
        told = await kept.decide(
            ANN.says(kept.notice),
            body=looser + kept.asked.request.wire,
            held_settings_bytes=len(looser),
            tenant_settings=looser,
        )
        assert told.code is ErrorCode.ERR_HOLD_LOST
        assert models_asked(made) == []


@in_loop
async def test_a_plan_that_comes_out_otherwise_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        other = "sha384:" + "00" * 48

        def otherwise(*_: object) -> str:
            return other

        monkeypatch.setattr("latensgate_enclave.hold_service.plan_digest", otherwise)
        told = await kept.decide(ANN.says(kept.notice))
        assert told.code is ErrorCode.ERR_HOLD_LOST
        assert models_asked(made) == []


@in_loop
async def test_a_state_that_is_not_this_enclaves_is_worth_nothing() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        foreign = Holds().seal(made.parts.holds.open(kept.pending.state))
        for state in (b"x", bytes(40), kept.pending.state[:-1] + b"x", foreign):
            code = await refused(kept, ANN.says(kept.notice), state=state)
            assert code is ErrorCode.ERR_HOLD_LOST


@in_loop
async def test_a_denial_of_kms_forgets_what_waits() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        made.keys.drop()
        with pytest.raises(HoldLostError):
            made.parts.holds.open(kept.pending.state)
