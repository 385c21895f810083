"""Sealed request in, answer out, receipt verified by the one verifier; a real enclave process."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast

import pytest

from e2e_client import Client, chat, sealed_refusal, tenant_key
from latensgate.verify import verify_receipt_chain, verify_usage_totals
from latensgate_shared import calls
from latensgate_shared.ed25519 import verify_ed25519
from latensgate_shared.errors import ErrorCode
from latensgate_shared.receipts import salted_hash
from latensgate_shared.sealed import AnswerInvalidError
from latensgate_sim.world import World
from stack import MODEL, Answer, ParentLink, Stack

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def test_unary_answer_has_a_verified_receipt(client: Client, link: ParentLink) -> None:
    opened = client.ask(link, chat("Tell me of the sea"))
    assert opened.text == "You said: Tell me of the sea"
    assert opened.receipt.signed.public.outcome == "answered"
    assert opened.final.values.audit_receipt_id == opened.receipt.signed.public.receipt_id
    assert opened.receipt.private["usage"] == opened.usage == opened.body["usage"]
    assert opened.receipt.private["model_asked"] == MODEL


def test_streamed_answer_has_a_verified_receipt(client: Client, link: ParentLink) -> None:
    opened = client.ask(link, chat("Tell me of the sea", stream=True))
    assert len(opened.records) >= 3
    assert opened.text == "You said: Tell me of the sea"
    assert opened.receipt.signed.public.outcome == "answered"
    assert opened.usage["total_tokens"] == sum(
        opened.usage[name] for name in ("prompt_tokens", "completion_tokens")
    )


@pytest.mark.parametrize("stream", [False, True])
def test_two_prompts_have_two_answers(client: Client, link: ParentLink, *, stream: bool) -> None:
    one, other = (
        client.ask(link, chat(text, stream=stream)) for text in ("Apples, please", "Pears, please")
    )
    assert (one.text, other.text) == ("You said: Apples, please", "You said: Pears, please")
    assert one.receipt.signed.public.request_hash != other.receipt.signed.public.request_hash


def test_receipt_hashes_are_over_what_was_opened_forwarded_and_returned(
    client: Client, link: ParentLink, world: World
) -> None:
    body = chat("Hash this")
    before = len(world.home.bedrock.seen)
    opened = client.ask(link, body)
    held = {
        "opened": json.dumps(body).encode(),
        "forwarded": world.home.bedrock.seen[before],
        "returned": opened.records[0].body,
    }
    for step, content in held.items():
        told = cast("dict[str, str]", opened.receipt.private[step])
        assert told == salted_hash(bytes.fromhex(told["salt"]), content)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_is_called_and_its_result_is_answered(
    client: Client, link: ParentLink, *, stream: bool
) -> None:
    forced = {"type": "function", "function": {"name": "get_weather"}}
    asked = chat("How is it in Oslo", tools=[WEATHER], tool_choice=forced, stream=stream)
    opened = client.ask(link, asked)
    call = _stream_call(opened.deltas) if stream else _unary_call(opened.message)
    assert call["name"] == "get_weather"
    assert json.loads(str(call["arguments"])) == {"city": "How is it in Oslo"}
    function = {"name": call["name"], "arguments": call["arguments"]}
    turns: list[object] = [
        {"role": "user", "content": "How is it in Oslo"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call["id"], "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call["id"], "content": "rain"},
    ]
    after = client.ask(link, {"model": MODEL, "messages": turns, "tools": [WEATHER]})
    assert after.text == "Tool result: rain"


def _unary_call(message: dict[str, object]) -> dict[str, object]:
    (call,) = cast("list[dict[str, dict[str, object]]]", message["tool_calls"])
    return {"id": call["id"], **call["function"]}


def _stream_call(deltas: list[dict[str, object]]) -> dict[str, object]:
    pieces = [
        cast("dict[str, dict[str, object]]", piece)
        for delta in deltas
        for piece in cast("list[object]", delta.get("tool_calls") or [])
    ]
    arguments = "".join(str(piece["function"].get("arguments") or "") for piece in pieces)
    first = pieces[0]
    return {"id": first["id"], "name": first["function"]["name"], "arguments": arguments}


def test_other_suite_opens_too(client: Client, link: ParentLink) -> None:
    opened = replace(client, suite=1).ask(link, chat("Classical"))
    key = client.attestation.manifest.hpke_keys[1]
    assert opened.receipt.signed.public.key_id == key.key_id


def test_receipts_chain_per_tenant_refusals_included(client: Client, link: ParentLink) -> None:
    mine = replace(client, tenant_id="tnt_0c4a1001")
    other = replace(client, tenant_id="tnt_0c4a1002")
    opened = [mine.ask(link, chat("one")), other.ask(link, chat("two"))]
    wrong = mine.seal(chat("three", logprobs=True))
    answer = link.call(wrong.call, wrong.wire)
    opened.append(mine.open(wrong, answer))
    opened.append(mine.ask(link, chat("four", stream=True)))
    chains = verify_receipt_chain(each.receipt.signed for each in opened)
    assert [(chain.tenant_id, chain.last_sequence) for chain in chains] == [
        ("tnt_0c4a1001", 2),
        ("tnt_0c4a1002", 0),
    ]


def test_refusal_is_sealed_and_receipted(client: Client, link: ParentLink) -> None:
    sealed = client.seal(chat("x", logprobs=True))
    assert client.refusal(link, sealed) == sealed_refusal(ErrorCode.ERR_UNSUPPORTED)


def test_mask_keeps_personal_data_from_the_model(
    client: Client, link: ParentLink, world: World
) -> None:
    rule = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}}}
    before = len(world.home.bedrock.seen)
    sealed = client.seal(chat("Write to bob@example.com"), client.fields(policy=rule))
    opened = client.send(link, sealed)
    assert opened.final.values.pii_detected
    assert b"bob@example.com" not in b"".join(list(world.home.bedrock.seen)[before:])
    assert "bob@example.com" not in opened.text


def test_usage_totals_are_signed_and_count(client: Client, link: ParentLink) -> None:
    tenant = replace(client, tenant_id="tnt_0c4a1003")
    used = [tenant.ask(link, chat(text)).usage for text in ("a", "b c d")]
    answer = link.call(calls.UsageCall())
    signature = cast("bytes", answer.head["signature"])
    key = client.attestation.manifest.receipt_public_key
    verify_ed25519(key, b"latensgate/1 usage\x00" + answer.body, signature)
    verified = verify_usage_totals(answer.body, signature, attestation=client.attestation)
    assert verified.status == "simulated"
    assert verified.totals.tenants["tnt_0c4a1003"] == {
        "requests": 2,
        "prompt_tokens": sum(each["prompt_tokens"] for each in used),
        "completion_tokens": sum(each["completion_tokens"] for each in used),
    }


def test_calls_of_one_connection_run_side_by_side(client: Client, link: ParentLink) -> None:
    sealed = [client.seal(chat(f"Number {number}")) for number in range(8)]
    ids = [link.start(each.call, each.wire) for each in sealed]
    answers = link.finish_all(ids)
    for number, (each, call_id) in enumerate(zip(sealed, ids, strict=True)):
        assert (
            client.open(each, cast("Answer", answers[call_id])).text == f"You said: Number {number}"
        )


# --- the tenant's own KMS key ---


@pytest.mark.parametrize("stream", [False, True])
def test_tenant_key_opens_the_body_and_joins_the_answer(
    client: Client, link: ParentLink, stack: Stack, *, stream: bool
) -> None:
    sealed = client.seal_enveloped(chat("Twice locked", stream=stream), tenant_key(stack))
    answer = link.call(sealed.call, sealed.wire)
    assert client.open(sealed, answer).text == "You said: Twice locked"
    assert sealed.hpke_secret is not None
    with pytest.raises(AnswerInvalidError):  # HPKE alone is not enough: the data key joins in
        client.open(replace(sealed, secret=sealed.hpke_secret), answer)
