"""Dry runs: what a policy would do, and why; sealed, with a receipt, and no model is called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import cast
from unittest import mock

import pytest

from enclave_client import EMAIL, Told, ask, chat, fields, is_hash_of, tell, tool
from enclave_doubles import MODEL, TENANT, Bench, bench, in_loop
from latensgate_enclave.chat_answer import CompletionHead
from latensgate_enclave.chat_values import RequestInvalidError
from latensgate_enclave.dry_run_operation import DryRunOperation, DryRunRequest
from latensgate_enclave.model_traits import ModelTraits
from latensgate_enclave.pii import (
    Budget,
    Category,
    Direction,
    Finding,
    PIITooLargeError,
    TextPart,
    parse_floor,
    parse_policy,
)
from latensgate_enclave.pii.evidence import Evidence, evidence_of
from latensgate_enclave.pii.explain import explain_texts
from latensgate_enclave.pii.protection import Protection
from latensgate_enclave.pii.scanner import Scanner
from latensgate_enclave.pipeline import Pipeline
from latensgate_shared.errors import ErrorCode
from latensgate_shared.messages import DRY_RUN
from latensgate_shared.strict_json import JSONObject, JSONValue
from settings_examples import Root

CARD = "4111111111111111"
SSN = "my ssn is 536-90-4399"


def mask(**categories: str) -> JSONObject:
    rules: JSONObject = {name: {"*": {"action": action}} for name, action in categories.items()}
    return {"rules": rules}


def texts(*given: str, **more: JSONValue) -> JSONObject:
    return {"model": "any", "texts": [{"text": each, **more} for each in given]}


async def run_dry(made: Bench, body: JSONObject, policy: JSONObject | None = None) -> Told:
    inside = fields(made, policy=policy)
    return await tell(made, ask(made, body, operation=DRY_RUN, inside=inside))


def explained(told: Told) -> list[JSONObject]:
    found = told.body["texts"]
    assert isinstance(found, list)
    return cast("list[JSONObject]", found)


def findings(text: Mapping[str, JSONValue]) -> list[JSONObject]:
    found = text["findings"]
    assert isinstance(found, list)
    return cast("list[JSONObject]", found)


@in_loop
async def test_texts_are_explained_and_no_model_is_called() -> None:
    async with bench() as made:
        await made.open()
        body = texts(f"Write to {EMAIL}", SSN, "nothing here")
        told = await run_dry(made, body, mask(EMAIL_ADDRESS="mask", US_SSN="pseudonymise"))
        assert (told.code, told.public.outcome) == (None, "dry_run")
        assert not made.world.home.bedrock.seen
        assert (told.values.usage, told.private["usage"]) == (None, {})
        assert TENANT not in made.parts.receipts.totals() or (
            made.parts.receipts.totals()[TENANT]["requests"] == 0
        )
        assert told.private["forwarded"] is None
        assert is_hash_of(told.private["returned"], told.records[0].body)
        first, second, third = explained(told)
        assert (first["original"], first["forwarded"]) == (
            f"Write to {EMAIL}",
            "Write to <EMAIL_ADDRESS>",
        )
        (email,) = findings(first)
        assert (email["category"], email["offset"], email["length"]) == (
            "EMAIL_ADDRESS",
            9,
            len(EMAIL),
        )
        assert (email["action"], email["fate"], email["decided_by"]) == (
            "mask",
            "acted",
            ["request"],
        )
        assert str(second["forwarded"]).startswith("my ssn is [SSN_")
        assert (third["findings"], third["forwarded"]) == ([], "nothing here")
        assert told.body["surrogates"] == 1
        assert told.body["refused"] is False
        pii = told.private["pii"]
        assert isinstance(pii, dict)
        assert pii["counts"] == told.body["counts"]
        assert pii["policy_digest"] == told.body["policy_digest"]


@in_loop
async def test_the_reason_names_pattern_validator_context_and_distance() -> None:
    async with bench() as made:
        await made.open()
        told = await run_dry(made, texts(SSN, f"card {CARD}"), mask(US_SSN="mask"))
        (ssn,) = findings(explained(told)[0])
        reasons = ssn["evidence"]
        assert isinstance(reasons, list)
        best = reasons[0]
        assert isinstance(best, dict)
        assert best["context"] == [{"word": "ssn", "distance": 2}]
        assert best["recognizer"] == ssn["recognizer"]
        assert best["score"] == ssn["score"]
        assert cast("float", best["score"]) > cast("float", best["pattern_score"])
        assert best["pattern"]
        assert (best["source"], best["reading"]) == ("tier1", "plain")
        (card,) = [
            each for each in findings(explained(told)[1]) if each["category"] == "CREDIT_CARD"
        ]
        assert (card["score"], card["decided_by"]) == (1.0, ["floor"])  # it flags
        reasons = card["evidence"]
        assert isinstance(reasons, list)
        assert isinstance(reasons[0], dict)
        assert reasons[0]["validated_score"] == 1.0


@in_loop
async def test_layers_tell_who_asked_for_what() -> None:
    root = Root()
    policy = mask(EMAIL_ADDRESS="mask")
    policy["lists"] = {"allow": [EMAIL]}
    settings = root.document(TENANT, policy=policy)
    async with bench() as made:
        await made.open()
        inside = fields(made, tenant_root=root.public, policy=mask(EMAIL_ADDRESS="pseudonymise"))
        asked = ask(made, texts(f"{EMAIL} and x@example.org"), operation=DRY_RUN, inside=inside)
        told = await tell(made, replace(asked, tenant_settings=settings))
        mine, other = findings(explained(told)[0])
        assert (mine["action"], mine["decided_by"]) == ("pseudonymise", ["request"])
        assert (other["action"], other["decided_by"]) == ("mask", ["settings"])
        layers = {each["layer"]: each for each in cast("list[JSONObject]", mine["layers"])}
        assert layers.keys() == {"floor", "settings", "request"}
        assert (layers["settings"]["allow_listed"], layers["settings"]["decides"]) == (True, False)
        assert layers["floor"]["action"] == "flag"


@in_loop
async def test_what_is_not_acted_on_is_told_with_the_reason() -> None:
    policy: JSONObject = {
        "rules": {
            "EMAIL_ADDRESS": {"prompt": {"action": "mask"}},
            "PHONE_NUMBER": {"prompt": {"action": "mask", "threshold": 0.95}},
        },
        "lists": {"allow": [EMAIL]},
    }
    async with bench() as made:
        await made.open()
        pipeline = Pipeline(replace(made.parts, floor=parse_floor({})), lambda: None)
        inside = fields(made, policy=policy)
        body = texts(f"{EMAIL}, +1 212 555 0187")
        asked = ask(made, body, operation=DRY_RUN, inside=inside)
        told = await tell(made, asked, pipeline=pipeline)
        fates = {each["category"]: each["fate"] for each in findings(explained(told)[0])}
        assert fates == {"EMAIL_ADDRESS": "allow_listed", "PHONE_NUMBER": "below_threshold"}
        assert explained(told)[0]["forwarded"] == explained(told)[0]["original"]
        assert (told.body["counts"], told.values.pii_detected) == ({}, False)


@in_loop
async def test_a_weaker_reading_under_a_certain_one_is_covered() -> None:
    async with bench() as made:
        await made.open()
        told = await run_dry(
            made, texts(f"account number {CARD}"), mask(CREDIT_CARD="mask", US_BANK_NUMBER="mask")
        )
        fates = {each["category"]: each["fate"] for each in findings(explained(told)[0])}
        assert fates["CREDIT_CARD"] == "acted"
        assert fates["US_BANK_NUMBER"] == "covered"


@in_loop
async def test_what_would_be_refused_is_told_and_nothing_is_forwarded() -> None:
    async with bench() as made:
        await made.open()
        told = await run_dry(made, texts(SSN), mask(US_SSN="fail"))
        assert (told.code, told.public.outcome) == (None, "dry_run")
        assert (told.body["refused"], told.body["refusals"]) == (True, ["US_SSN in prompt: 1"])
        assert explained(told)[0]["forwarded"] is None
        assert findings(explained(told)[0])[0]["action"] == "fail"


@in_loop
async def test_a_chat_request_is_explained_text_by_text() -> None:
    async with bench() as made:
        await made.open()
        call: JSONObject = {
            "id": "call_1",
            "type": "function",
            "function": {"name": "look_up", "arguments": json.dumps({"mail": EMAIL})},
        }
        messages: list[JSONValue] = [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "card 4111 1111"},
                    {"type": "text", "text": " 1111 1111"},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": SSN},
        ]
        body: JSONObject = {"model": MODEL, "messages": messages, "tools": [tool()]}
        policy = mask(EMAIL_ADDRESS="mask", US_SSN="mask", CREDIT_CARD="mask")
        told = await run_dry(made, body, policy)
        by_text = {str(each["original"]): each for each in explained(told)}
        assert by_text[EMAIL]["direction"] == "tool_arguments"
        assert by_text[EMAIL]["hint"] == "mail"
        assert by_text[SSN]["direction"] == "tool_results"
        (half,) = [each for each in findings(by_text["card 4111 1111"]) if each["fate"] == "across"]
        assert (half["category"], half["offset"], half["evidence"]) == ("CREDIT_CARD", 5, [])
        assert by_text["card 4111 1111"]["forwarded"] == "card <CREDIT_CARD>"
        assert told.private["model_served"] is None


@in_loop
async def test_masked_tool_names_and_attachments_are_told() -> None:
    async with bench() as made:
        await made.open()
        url = "data:image/png;base64,iVBORw0KGgo="
        content: list[JSONValue] = [{"type": "image_url", "image_url": {"url": url}}]
        body: JSONObject = {
            "model": MODEL,
            "messages": [{"role": "user", "content": content}],
            "tools": [tool(CARD)],
        }
        told = await run_dry(made, body, mask(CREDIT_CARD="mask", ATTACHMENT="mask"))
        assert told.body["attachments"] == {
            "count": 1,
            "action": "mask",
            "refused": True,
            "hold": False,
        }
        assert told.body["refusals"] == [
            "ATTACHMENT in prompt: 1",
            "a masked tool name calls no tool",
        ]
        pipeline = Pipeline(replace(made.parts, floor=parse_floor({})), lambda: None)
        asked = ask(made, body, operation=DRY_RUN)
        told = await tell(made, asked, pipeline=pipeline)
        assert told.body["attachments"] == {
            "count": 1,
            "action": "allow",
            "refused": False,
            "hold": False,
        }
        assert told.body["counts"] == {}


@in_loop
async def test_lists_recognizers_and_encodings_are_reasons_too() -> None:
    policy: JSONObject = {
        "lists": {"deny": ["Bluebird"]},
        "recognizers": [
            {"name": "staff", "pattern": "EMP-[0-9]{3}", "score": 0.5, "context": ["employee"]},
            {"name": "kin", "pattern": "KIN-[0-9]{3}", "score": 0.5},
            {"name": "mails", "pattern": "MX[0-9]", "category": "EMAIL_ADDRESS"},
        ],
        "rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}},
    }
    given = "bluebird; employee EMP-123 KIN-456; bob&#64;example.com Ym9iQGV4YW1wbGUuY29t"
    async with bench() as made:
        await made.open()
        told = await run_dry(made, texts(given), policy)
        reasons = {
            (found["category"], reason["source"], reason["reading"]): reason
            for found in findings(explained(told)[0])
            for reason in cast("list[JSONObject]", found["evidence"])
        }
        assert ("DENY_LISTED", "deny_list", "plain") in reasons
        assert ("EMAIL_ADDRESS", "tier1", "escaped") in reasons
        assert ("EMAIL_ADDRESS", "tier1", "base64") in reasons
        staff = [
            reason
            for found in findings(explained(told)[0])
            for reason in cast("list[JSONObject]", found["evidence"])
            if reason["source"] == "custom"
        ]
        told_words = {str(each["recognizer"]): each["context"] for each in staff}
        assert told_words == {"staff": [{"word": "employee", "distance": 1}], "kin": []}
        nothing = await run_dry(made, texts("no address"), {"recognizers": policy["recognizers"]})
        assert findings(explained(nothing)[0]) == []


@in_loop
async def test_a_dry_run_never_streams() -> None:
    async with bench() as made:
        await made.open()
        told = await tell(made, ask(made, texts("x"), operation=DRY_RUN, stream=True))
        assert told.code is ErrorCode.ERR_REQUEST_INVALID
        told = await run_dry(made, chat(stream=True))
        assert told.code is ErrorCode.ERR_REQUEST_INVALID


BAD: dict[str, tuple[JSONValue, str]] = {
    "no array": ("text", "texts"),
    "empty": ([], "texts"),
    "a text alone": (["text"], "texts[0]"),
    "no text": ([{"direction": "prompt"}], "texts[0]"),
    "another member": ([{"text": "a", "more": 1}], "texts[0]"),
    "a number": ([{"text": "a"}, {"text": 1}], "texts[1].text"),
    "a direction": ([{"text": "a", "direction": "up"}], "texts[0].direction"),
    "a hint": ([{"text": "a", "hint": 1}], "texts[0].hint"),
    "a long hint": ([{"text": "a", "hint": "h" * 257}], "texts[0].hint"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_of_the_body_is_named(name: str) -> None:
    given, param = BAD[name]
    with pytest.raises(RequestInvalidError) as refused:
        DryRunOperation().parse({"model": "m", "texts": given})
    assert refused.value.param == param


def test_texts_stand_alone_and_are_not_too_many() -> None:
    with pytest.raises(RequestInvalidError) as refused:
        DryRunOperation().parse({"model": "m", "texts": [{"text": "a"}], "messages": []})
    assert refused.value.param == "messages"
    many: list[JSONValue] = [{"text": ""}] * 65_537
    with pytest.raises(PIITooLargeError):
        DryRunOperation().parse({"model": "m", "texts": many})


def test_no_step_after_the_scan_can_be_taken() -> None:
    operation, request = DryRunOperation(), DryRunRequest("m")
    assert request.translate(mock.Mock(), ModelTraits(frozenset())) == ()
    assert request.dropped == ()
    head = CompletionHead("", 0, "m")
    with pytest.raises(TypeError):
        operation.render(head, request, [])
    with pytest.raises(TypeError):
        operation.stream_renderer(head, request)


@in_loop
async def test_more_findings_than_one_answer_can_explain_are_refused() -> None:
    async with bench() as made:
        await made.open()
        with mock.patch("latensgate_enclave.dry_run.PII_EXPLAINED_MAX_COUNT", 2):
            told = await run_dry(made, texts("a@b.example c@d.example e@f.example"))
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_TOO_LARGE, "refused")


class Odd:
    """A scanner whose reasons lie elsewhere than its findings."""

    digest = "sha384:" + "00" * 48

    def waits(self, categories: frozenset[Category]) -> bool:
        del categories
        return False

    def scan(
        self, text: str, *, categories: frozenset[Category] = frozenset(), hint: str = ""
    ) -> tuple[Finding, ...]:
        del text, categories, hint
        return (Finding(Category.URL, 2, 4, 0.5, "odd"),)

    def evidence(
        self, text: str, *, categories: frozenset[Category], hint: str = ""
    ) -> tuple[Evidence, ...]:
        del text, categories, hint
        places = ((Category.URL, 0, 1), (Category.URL, 3, 9), (Category.UUID, 2, 4))
        return tuple(Evidence(category, start, end, 0.5, "odd") for category, start, end in places)


def test_reasons_that_lie_elsewhere_are_no_reasons() -> None:
    policy = parse_policy({"rules": {"URL": {"*": {"action": "flag"}}}})
    protection = Protection.under(policy, Odd(), TENANT, bytes(32))
    told = explain_texts(protection, [TextPart("abcdefghij", Direction.PROMPT)], Budget())
    assert [each["evidence"] for each in told.findings[0]] == [[]]
    assert told.findings[0][0]["layers"] == []


def test_a_scanner_that_cannot_explain_is_no_fault() -> None:
    scanner = cast("Scanner", SimpleNamespace())
    assert tuple(evidence_of(scanner, "x", categories=frozenset(), hint="")) == ()
