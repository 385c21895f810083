"""Requests that wait for an approver, in the enclave's parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enclave_client import chat, is_hash_of, open_told
from enclave_doubles import MODEL, TENANT, Accident, bench, in_loop
from hold_examples import (
    ANN,
    EMAIL,
    ROOT,
    Ann,
    held,
    hold_policy,
    models_asked,
    settings,
    told_of,
    with_xwing,
)
from hold_states import state
from latensgate_enclave.holds import Holds
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.hold import Decision, HoldLostError
from latensgate_shared.hold_view import open_view, verify_view
from latensgate_shared.strict_json import JSONObject
from settings_examples import Root


@in_loop
async def test_a_held_request_is_not_sent_and_its_caller_is_told() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        notice = kept.notice
        assert kept.told.code is ErrorCode.ERR_HELD
        assert kept.told.public.outcome == "held"
        assert notice.counts == {"EMAIL_ADDRESS": {"prompt": 1}}
        assert notice.approvers == ("Ann",)
        assert notice.expires_at == made.clock.now_s() + 86_400
        assert kept.told.private["forwarded"] is None
        assert kept.told.private["model_served"] is None
        assert kept.told.private["hold"] == {
            "pending_id": notice.pending_id,
            "plan_digest": notice.plan_digest,
        }
        assert kept.told.values.usage is None
        assert models_asked(made) == []
        assert kept.pending.pending_id == notice.pending_id
        assert EMAIL.encode() not in kept.pending.state


@in_loop
async def test_what_an_approver_approves_runs_once_and_its_caller_gets_it() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        signed = ANN.says(kept.notice)
        told = await kept.decide(signed)
        assert told.code is None
        assert told.public.outcome == "answered"
        assert told.body["object"] == "chat.completion"
        assert told.values.usage is not None
        assert told.private["hold"] == {
            "pending_id": kept.notice.pending_id,
            "plan_digest": kept.notice.plan_digest,
            "decision": "approve",
            "approver": ANN.public.hex(),
            "settings": kept.told.private["pii"]["settings"],  # type: ignore[call-overload,index]
        }
        assert told.private["request_id"] == kept.told.private["request_id"]
        assert len(models_asked(made)) == 1
        for again in (signed, ANN.says(kept.notice, Decision.DENY)):
            with pytest.raises(LatensgateError) as caught:
                await kept.decide(again)
            assert caught.value.code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert len(models_asked(made)) == 1


@in_loop
async def test_the_plan_is_what_is_forwarded() -> None:
    async with bench() as made:
        await made.open()
        masked = hold_policy(
            rules={"EMAIL_ADDRESS": {"prompt": {"action": "pseudonymise", "hold": True}}}
        )
        ann = with_xwing()
        document = settings(ann, policy=masked | {"hold": {"show_content": True}})
        kept = await held(made, chat(f"Write to {EMAIL}"), document=document)
        shown = await kept.view(ann)
        assert shown.sealed
        assert ann.xwing is not None
        plain = open_view(ann.xwing, shown.view, pending=kept.notice.pending_id)
        view = verify_view(plain, made.keys.receipt_key.public_key().public_bytes_raw())
        assert (view.model, view.operation, view.tenant_id) == (MODEL, "chat.completions", TENANT)
        assert view.counts == kept.notice.counts
        assert view.plan_digest == kept.notice.plan_digest
        assert view.content is not None
        assert EMAIL not in view.content[0]
        assert "[EMAIL_" in view.content[0]
        told = await kept.decide(ann.says(kept.notice))
        assert is_hash_of(told.private["forwarded"], view.content[0].encode())
        assert EMAIL in told.text  # echoed by the scripted model, and put back


@in_loop
async def test_a_view_without_a_key_to_seal_to_shows_counts_alone() -> None:
    async with bench() as made:
        await made.open()
        document = settings(policy=hold_policy(hold={"show_content": True, "expires_s": 60}))
        kept = await held(made, document=document)
        shown = await kept.view(ANN)
        receipt_key = made.keys.receipt_key.public_key().public_bytes_raw()
        view = verify_view(shown.view, receipt_key)
        assert not shown.sealed
        assert view.content is None
        assert EMAIL.encode() not in shown.view
        assert view.expires_at == made.clock.now_s() + 60
        ann = with_xwing()
        kept = await held(made, document=settings(ann))
        shown = await kept.view(ann)
        assert ann.xwing is not None
        plain = open_view(ann.xwing, shown.view, pending=kept.notice.pending_id)
        assert verify_view(plain, receipt_key).content is None
        with pytest.raises(LatensgateError):
            verify_view(plain, ANN.public)


@in_loop
async def test_a_denial_is_sealed_to_the_caller_and_final() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        told = await kept.decide(ANN.says(kept.notice, Decision.DENY))
        assert told.code is ErrorCode.ERR_HOLD_DENIED
        assert told.public.outcome == "refused"
        assert told.values.pii_detected
        with pytest.raises(LatensgateError) as caught:
            await kept.decide(ANN.says(kept.notice))
        assert caught.value.code is ErrorCode.ERR_OUTCOME_UNKNOWN
        assert models_asked(made) == []


@pytest.mark.parametrize("operation", ["chat.completions", "responses"])
@in_loop
async def test_a_stream_is_held_inside_it_and_fetched_as_a_whole(operation: str) -> None:
    async with bench() as made:
        await made.open()
        body: JSONObject = chat(f"Write to {EMAIL}")
        if operation == "responses":
            body = {"model": MODEL, "input": f"Write to {EMAIL}", "store": False}
        kept = await held(made, body, stream=True, operation=operation)
        assert kept.told.code is ErrorCode.ERR_HELD
        told = await kept.decide(ANN.says(kept.notice))
        assert told.code is None
        kind = {"chat.completions": "chat.completion", "responses": "response"}[operation]
        assert told.body["object"] == kind
        assert told.values.usage is not None
        assert len(models_asked(made)) == 1


@in_loop
async def test_nothing_found_means_nothing_held() -> None:
    async with bench() as made:
        await made.open()
        asked, sink = await told_of(made, chat("Hello"), document=settings())
        told = open_told(asked, sink)
        assert told.code is None
        assert sink.released is not None
        assert sink.released.pending is None


@in_loop
async def test_a_hold_that_nobody_could_end_is_refused() -> None:
    async with bench() as made:
        await made.open()
        asked, sink = await told_of(made, document=None, policy=hold_policy())
        told = open_told(asked, sink)
        assert told.code is ErrorCode.ERR_POLICY_INVALID
        document = ROOT.document(TENANT, policy=hold_policy())
        asked, sink = await told_of(made, document=document)
        told = open_told(asked, sink)
        assert told.code is ErrorCode.ERR_POLICY_INVALID
        assert told.records[-1].error is not None
        assert "approve" in told.records[-1].error.message
        assert models_asked(made) == []


@in_loop
async def test_the_request_may_ask_for_a_hold_itself() -> None:
    async with bench() as made:
        await made.open()
        document = settings(policy={})
        kept = await held(made, document=document, policy=hold_policy())
        assert (await kept.decide(ANN.says(kept.notice))).code is None


@in_loop
async def test_attachments_can_be_held() -> None:
    async with bench() as made:
        await made.open()
        rules: JSONObject = {"ATTACHMENT": {"prompt": {"action": "allow", "hold": True}}}
        png = (
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
            "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        )
        body: JSONObject = {
            "model": MODEL,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": png}},
                    ],
                }
            ],
        }
        kept = await held(made, body, document=settings(policy={"rules": rules}))
        assert kept.notice.counts == {"ATTACHMENT": {"prompt": 1}}
        assert (await kept.decide(ANN.says(kept.notice))).code is None


# --- a malicious parent ---


@in_loop
async def test_decisions_of_others_are_none() -> None:
    async with bench() as made:
        await made.open()
        kept, other = await held(made), await held(made)
        stranger, removed = Ann(), Ann(name="Rob")
        forged = replace(ANN.says(kept.notice), signature=bytes(64))
        notice = kept.notice
        refused = [
            stranger.says(notice),  # self-made: a key of one's own
            replace(stranger.says(notice), approver=ANN.public),  # ... under an approver's name
            forged,
            ANN.says(other.notice),  # for another request
            ANN.says(notice, plan_digest=other.notice.plan_digest),  # for another plan
            ANN.says(notice, pending_id=other.notice.pending_id),
            ANN.says(notice, expires_at=made.clock.now_s()),  # expired
            replace(ANN.says(notice, Decision.DENY), decision=ANN.says(notice).decision),
            removed.says(notice),
        ]
        for signed in refused:
            with pytest.raises(LatensgateError) as caught:
                await kept.decide(signed)
            assert caught.value.code is ErrorCode.ERR_APPROVAL_REFUSED
        assert models_asked(made) == []
        assert (await kept.decide(ANN.says(notice))).code is None  # nothing of it was spent


@in_loop
async def test_settings_that_name_an_approver_are_the_tenants_newest() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made, document=settings(version=3))
        signed = ANN.says(kept.notice)
        mine = Root()
        refused = [
            settings(version=2),  # older than those it was held under
            mine.document(TENANT, 9, approvers=[ANN.member()]),  # of another root
            ROOT.document("tnt_00000000", 9, approvers=[ANN.member()]),  # of another tenant
            settings(Ann(), version=4),  # removed meanwhile
            settings(version=3),  # ... and older ones do not bring the approver back
        ]
        for document in refused:
            with pytest.raises(LatensgateError) as caught:
                await kept.decide(signed, tenant_settings=document)
            assert caught.value.code is ErrorCode.ERR_APPROVAL_REFUSED
        assert models_asked(made) == []
        newest = settings(ANN, Ann(), version=5)
        assert (await kept.decide(signed, tenant_settings=newest)).code is None


@in_loop
async def test_settings_that_another_request_showed_count_too() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        await told_of(made, chat("Hello"), document=settings(Ann(), version=2))
        with pytest.raises(LatensgateError) as caught:
            await kept.decide(ANN.says(kept.notice))
        assert caught.value.code is ErrorCode.ERR_APPROVAL_REFUSED


@in_loop
async def test_what_is_presented_is_what_was_held() -> None:
    async with bench() as made:
        await made.open()
        kept, other = await held(made), await held(made, chat(f"Other {EMAIL}"))
        signed = ANN.says(kept.notice)
        looser = settings(version=2, policy={})
        flipped = kept.body[:-1] + bytes([kept.body[-1] ^ 1])
        for body in (flipped, kept.settings_then + other.asked.request.wire):
            with pytest.raises(HoldLostError):
                await kept.decide(signed, body=body)
        for state in (b"x", bytes(40), kept.pending.state[:-1] + b"x"):
            with pytest.raises(HoldLostError):
                await kept.decide(signed, state=state)
        with pytest.raises(LatensgateError) as caught:
            await kept.decide(signed, state=other.pending.state)
        assert caught.value.code is ErrorCode.ERR_APPROVAL_REFUSED
        assert models_asked(made) == []
        # Settings of that time are others: it is spent, and nothing is forwarded.
        wire = kept.asked.request.wire
        told = await kept.decide(
            signed, body=looser + wire, held_settings_bytes=len(looser), tenant_settings=looser
        )
        assert told.code is ErrorCode.ERR_HOLD_LOST
        assert models_asked(made) == []


@in_loop
async def test_a_plan_that_comes_out_otherwise_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        monkeypatch.setattr(
            "latensgate_enclave.hold_service.plan_digest", lambda _salt, _bodies: "sha384:00"
        )
        told = await kept.decide(ANN.says(kept.notice))
        assert told.code is ErrorCode.ERR_HOLD_LOST
        assert models_asked(made) == []


@in_loop
async def test_another_enclave_and_one_without_its_keys_hold_nothing() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        sealed = kept.pending.state
        with pytest.raises(HoldLostError):
            Holds().open(sealed)
        made.keys.drop()  # KMS has denied
        with pytest.raises(HoldLostError):
            made.parts.holds.open(sealed)


@in_loop
async def test_a_hold_ends() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made, document=settings(policy=hold_policy(hold={"expires_s": 60})))
        made.advance(60)
        await made.clock.refresh()
        for step in (kept.decide(ANN.says(kept.notice)), kept.view(ANN)):
            with pytest.raises(LatensgateError) as caught:
                await step
            assert caught.value.code is ErrorCode.ERR_HOLD_EXPIRED


@in_loop
async def test_a_model_that_fails_is_not_asked_again() -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        made.cloud.fail("converse", *[Accident.LOST] * 8)
        told = await kept.decide(ANN.says(kept.notice))
        assert told.public.outcome == "failed"
        with pytest.raises(LatensgateError) as caught:
            await kept.decide(ANN.says(kept.notice))
        assert caught.value.code is ErrorCode.ERR_OUTCOME_UNKNOWN


def test_only_so_many_decided_ones_are_remembered() -> None:
    holds = Holds(max_spent=2)
    holds.spend(state(1, expires_at=10), 0)
    holds.spend(state(2, expires_at=20), 0)
    with pytest.raises(LatensgateError) as caught:
        holds.spend(state(3, expires_at=30), 9)
    assert caught.value.code is ErrorCode.ERR_OVERLOADED
    holds.spend(state(3, expires_at=30), 10)
    with pytest.raises(LatensgateError) as caught:
        holds.spend(state(2, expires_at=20), 10)
    assert caught.value.code is ErrorCode.ERR_OUTCOME_UNKNOWN
