"""Requests that wait for an approver, in the enclave's parts."""

from __future__ import annotations

import msgspec
import pytest

from enclave_client import chat, is_hash_of, open_told
from enclave_doubles import MODEL, TENANT, Accident, bench, in_loop
from hold_examples import (
    ANN,
    EMAIL,
    ROOT,
    held,
    hold_policy,
    models_asked,
    settings,
    told_of,
    with_xwing,
)
from hold_states import state
from latensgate_enclave.holds import Holds, PendingState
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.hold import Decision
from latensgate_shared.hold_view import open_view, verify_view
from latensgate_shared.settings import parse_settings
from latensgate_shared.strict_json import JSONObject, JSONValue


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
        document = settings(ann, policy={**masked, "hold": {"show_content": True}})
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


@in_loop
async def test_a_request_that_is_too_long_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latensgate_enclave.holding.HOLD_REQUEST_MAX_BYTES", 10)
    async with bench() as made:
        await made.open()
        asked, sink = await told_of(made, document=settings())
        assert open_told(asked, sink).code is ErrorCode.ERR_TOO_LARGE
        assert models_asked(made) == []


@in_loop
async def test_what_lies_across_two_texts_is_held_too() -> None:
    async with bench() as made:
        await made.open()
        content: list[JSONValue] = [
            {"type": "text", "text": "Write to bob@exa"},
            {"type": "text", "text": "mple.com"},
        ]
        body: JSONObject = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
        kept = await held(made, body)
        assert kept.told.code is ErrorCode.ERR_HELD
        assert (await kept.decide(ANN.says(kept.notice))).code is None


@in_loop
async def test_a_stream_that_takes_too_long_ends() -> None:
    async with bench(model_timeout_ms=300) as made:
        await made.open()
        kept = await held(made, stream=True)
        made.cloud.hold.clear()
        told = await kept.decide(ANN.says(kept.notice))
        made.cloud.hold.set()
        assert told.code is ErrorCode.ERR_UPSTREAM_TIMEOUT


def test_settings_of_so_many_tenants_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latensgate_enclave.holds.RECEIPT_TENANTS_MAX_COUNT", 1)
    holds, one = Holds(), state(1, expires_at=9)
    for name in ("tnt_00000000", "tnt_00000001"):
        document = ROOT.document(name, 7, approvers=[ANN.member()])
        holds.seen(parse_settings(document))
    assert holds.oldest_admitted(replace_root(one, "tnt_00000000")) == 1  # forgotten
    assert holds.oldest_admitted(replace_root(one, "tnt_00000001")) == 7
    assert repr(one) == f"<PendingState {one.pending_id}>"


def replace_root(one: PendingState, tenant_id: str) -> PendingState:
    return msgspec.structs.replace(one, tenant_root=ROOT.public, tenant_id=tenant_id)


@in_loop
async def test_what_is_found_and_not_held_is_not_counted_as_held() -> None:
    async with bench() as made:
        await made.open()
        rules: JSONObject = {
            "EMAIL_ADDRESS": {"prompt": {"action": "allow", "hold": True}},
            "IP_ADDRESS": {"prompt": {"action": "flag"}},
        }
        kept = await held(
            made, chat(f"{EMAIL} at 192.0.2.17"), document=settings(policy={"rules": rules})
        )
        assert kept.notice.counts == {"EMAIL_ADDRESS": {"prompt": 1}}
