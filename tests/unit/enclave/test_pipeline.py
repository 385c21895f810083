"""One request, top to bottom: answered, refused, failed, cancelled; always sealed and receipted."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast
from unittest import mock

import pytest

from enclave_client import EMAIL, ask, chat, fields, is_hash_of, open_told, run, tell, tool, uuid7
from enclave_doubles import (
    HOME,
    MODEL,
    PLAIN_MODEL,
    TENANT,
    Accident,
    Bench,
    Recording,
    bench,
    in_loop,
    nothing,
)
from latensgate.verify import verify_receipt_chain
from latensgate_enclave import chat_operation as operation_module
from latensgate_enclave import pipeline as pipeline_module
from latensgate_enclave.chat import RequestInvalidError
from latensgate_enclave.chat_answer import ChatAnswer, Usage
from latensgate_enclave.operations import SERVED
from latensgate_enclave.outcomes import outcome_of, wire_error
from latensgate_enclave.pii import PIIEngineError, Tier1Engine, parse_floor, parse_policy
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.steps import Sealed
from latensgate_enclave.upstream import Upstreams
from latensgate_shared.answer_records import encode_final_record
from latensgate_shared.error_answers import WireError
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.kms_envelope import encryption_context, seal_body
from latensgate_shared.limits import (
    IDENTITY_MAX_AGE_S,
    KEY_ROTATION_S,
    PII_TEXT_COST_CHARS,
    REQUEST_WINDOW_S,
)
from latensgate_shared.messages import OPERATIONS
from latensgate_shared.sealed_plaintext import KMSEnvelope
from latensgate_shared.strict_json import JSONObject, JSONValue
from latensgate_sim.faults import throttled
from latensgate_sim.world import ACCOUNT

CARD = "4111111111111111"


def rule(category: str, action: str, direction: str = "*") -> JSONObject:
    return {"rules": {category: {direction: {"action": action}}}}


def text_of(body: JSONObject) -> str:
    choices = body["choices"]
    assert isinstance(choices, list)
    assert isinstance(choices[0], dict)
    message = choices[0]["message"]
    assert isinstance(message, dict)
    return str(message["content"])


@in_loop
async def test_an_answer_is_sealed_with_a_receipt_of_all_that_happened() -> None:
    async with bench() as made:
        await made.open()
        asked = ask(made, chat(f"My mail is {EMAIL}", user="someone"))
        told = await tell(made, asked)
        assert (told.code, told.public.outcome) == (None, "answered")
        assert EMAIL in text_of(told.body)  # the floor flags and does not mask
        assert told.body["model"] == MODEL
        assert told.values.pii_detected
        assert told.values.usage == told.body["usage"]
        private = told.private
        assert is_hash_of(private["opened"], asked.body)
        assert is_hash_of(private["forwarded"], made.world.home.bedrock.seen[-1])
        assert is_hash_of(private["returned"], told.records[0].body)
        assert private["model_asked"] == MODEL
        assert str(private["model_served"]).startswith("us.anthropic.")
        assert private["fields_dropped"] == ["user"]
        pii = private["pii"]
        assert isinstance(pii, dict)
        assert pii["policy_digest"] == made.parts.floor_digest
        assert pii["counts"] == {"EMAIL_ADDRESS": {"prompt": 1, "answer": 1}}
        upstream = private["upstream"]
        assert isinstance(upstream, dict)
        assert upstream["host"] == f"bedrock-runtime.{HOME}.amazonaws.com"
        assert (upstream["account"], upstream["invocation_logging"]) == (ACCOUNT, "off")
        timings = private["timings_ms"]
        assert isinstance(timings, dict)
        assert {"validate", "scan", "translate", "model", "scan_answer"} <= timings.keys()
        assert made.parts.receipts.totals()[TENANT]["requests"] == 1


@in_loop
async def test_receipts_of_answers_and_refusals_are_one_chain() -> None:
    async with bench() as made:
        await made.open()
        again = ask(made)
        told = [await tell(made, again), await tell(made, again), await tell(made, ask(made))]
        assert [each.public.outcome for each in told] == ["answered", "refused", "answered"]
        assert [each.public.sequence for each in told] == [0, 1, 2]
        assert told[1].code is ErrorCode.ERR_REPLAY
        (chain,) = verify_receipt_chain(each.verified for each in told)
        assert (chain.first_sequence, chain.last_sequence) == (0, 2)


REFUSALS: dict[str, tuple[JSONObject, ErrorCode, str | None]] = {
    "no messages": ({"model": MODEL, "messages": []}, ErrorCode.ERR_REQUEST_INVALID, "messages"),
    "unsupported": (chat(logprobs=True), ErrorCode.ERR_UNSUPPORTED, "logprobs"),
    "stream inside": (chat(stream=True), ErrorCode.ERR_REQUEST_INVALID, "stream"),
    "unknown model": (chat() | {"model": "nope"}, ErrorCode.ERR_MODEL_UNKNOWN, None),
    "tools": (
        chat(tools=[tool()]) | {"model": PLAIN_MODEL},
        ErrorCode.ERR_UNSUPPORTED,
        "tools",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_request_that_cannot_be_honoured_is_refused_inside_the_seal(name: str) -> None:
    @in_loop
    async def scenario() -> None:
        body, code, param = REFUSALS[name]
        async with bench() as made:
            await made.open()
            told = await tell(made, ask(made, body))
            error = told.records[0].error
            assert error is not None
            assert (error.code, error.param) == (code, param)
            assert told.public.outcome == "refused"
            assert told.private["forwarded"] is None
            assert told.private["returned"] is None
            assert told.values.usage is None
            assert not made.world.home.bedrock.seen
            assert made.parts.receipts.totals()[TENANT]["requests"] == 0

    scenario()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"issued_at_ms": -REQUEST_WINDOW_S * 1000 - 1}, ErrorCode.ERR_REQUEST_AGE),
        ({"issued_at_ms": REQUEST_WINDOW_S * 1000 + 1}, ErrorCode.ERR_REQUEST_AGE),
        ({"tenant_root": bytes(32)}, ErrorCode.ERR_SETTINGS_REFUSED),
        ({"policy": {"rules": {"NOPE": {}}}}, ErrorCode.ERR_POLICY_INVALID),
        ({"policy": rule("EMAIL_ADDRESS", "fail")}, ErrorCode.ERR_PII_HARD_FAIL),
    ],
)
def test_what_is_sealed_beside_the_body_can_refuse_too(
    changes: dict[str, object], code: ErrorCode
) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            given = dict(changes)
            if "issued_at_ms" in given:
                given["issued_at_ms"] = made.clock.now_ms() + cast("int", given["issued_at_ms"])
            told = await tell(made, ask(made, chat(EMAIL), inside=fields(made, **given)))
            assert (told.code, told.public.outcome) == (code, "refused")
            assert not made.world.home.bedrock.seen
            refused = code is ErrorCode.ERR_PII_HARD_FAIL
            assert told.values.pii_detected == refused

    scenario()


def test_every_operation_is_answered() -> None:
    assert SERVED.keys() == OPERATIONS


@in_loop
async def test_a_masked_tool_name_fails_hard() -> None:
    async with bench() as made:
        await made.open()
        body = chat(tools=[tool(CARD)])
        inside = fields(made, policy=rule("CREDIT_CARD", "mask"))
        told = await tell(made, ask(made, body, inside=inside))
        assert told.code is ErrorCode.ERR_PII_HARD_FAIL
        pii = told.private["pii"]
        assert isinstance(pii, dict)
        assert pii["counts"] == {"CREDIT_CARD": {"prompt": 1}}
        assert not made.world.home.bedrock.seen


@in_loop
async def test_a_request_policy_masks_what_the_model_sees() -> None:
    async with bench() as made:
        await made.open()
        policy = rule("EMAIL_ADDRESS", "mask", "prompt")
        asked = ask(made, chat(f"I am {EMAIL}"), inside=fields(made, policy=policy))
        told = await tell(made, asked)
        assert told.code is None
        assert EMAIL.encode() not in made.world.home.bedrock.seen[-1]
        assert "<EMAIL_ADDRESS>" in text_of(told.body)
        pii = told.private["pii"]
        assert isinstance(pii, dict)
        assert pii["policy_digest"] == made.parts.floor.policy.joined(parse_policy(policy)).digest()


@in_loop
async def test_a_request_policy_cannot_loosen_the_floor() -> None:
    async with bench() as made:
        await made.open()
        inside = fields(made, policy=rule("EMAIL_ADDRESS", "allow"))
        told = await tell(made, ask(made, chat(EMAIL), inside=inside))
        assert told.values.pii_detected


@in_loop
async def test_an_answer_that_the_policy_refuses_is_paid_for_and_not_returned() -> None:
    async with bench() as made:
        await made.open()
        inside = fields(made, policy=rule("EMAIL_ADDRESS", "fail", "answer"))
        told = await tell(made, ask(made, chat(EMAIL), inside=inside))
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_PII_HARD_FAIL, "refused")
        assert EMAIL not in told.text
        assert told.private["returned"] is None
        assert told.values.usage is not None
        assert made.parts.receipts.totals()[TENANT]["requests"] == 1


@in_loop
async def test_a_long_text_is_scanned_all_the_same() -> None:
    async with bench() as made:
        await made.open()
        told = await tell(made, ask(made, chat("word " * 2_000 + EMAIL)))
        assert told.values.pii_detected


@in_loop
async def test_a_denial_stops_what_was_opened_before_it() -> None:
    def denied() -> None:
        raise LatensgateError("the KMS gate is not open", code=ErrorCode.ERR_KMS_DENIED)

    async with bench() as made:
        await made.open()
        told = await tell(made, ask(made), pipeline=Pipeline(made.parts, denied))
        assert told.code is ErrorCode.ERR_KMS_DENIED
        assert not made.world.home.bedrock.seen


class BrokenEngine:
    digest = ""

    def waits(self, _categories: object) -> bool:
        return False

    def scan(self, *_: object, **__: object) -> None:
        raise PIIEngineError("a pattern timed out")


@pytest.mark.parametrize("text", ["short", "long " * 2_000])
def test_a_scan_that_fails_forwards_nothing(text: str) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            engine = cast("Tier1Engine", BrokenEngine())
            pipeline = Pipeline(replace(made.parts, engine=engine), nothing)
            told = await tell(made, ask(made, chat(text)), pipeline=pipeline)
            assert told.code is ErrorCode.ERR_PII_ENGINE
            assert not made.world.home.bedrock.seen

    scenario()


class WaitingEngine(BrokenEngine):
    """Says where it was asked."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def waits(self, _categories: object) -> bool:
        return True

    def scan(self, *_: object, **__: object) -> None:
        self.threads.append(threading.current_thread().name)
        raise PIIEngineError("asked")


@in_loop
async def test_names_are_looked_for_in_a_thread() -> None:
    async with bench() as made:
        await made.open()
        waiting = WaitingEngine()
        engine = cast("Tier1Engine", waiting)
        pipeline = Pipeline(replace(made.parts, engine=engine), nothing)
        told = await tell(made, ask(made, chat("short")), pipeline=pipeline)
        assert told.code is ErrorCode.ERR_PII_ENGINE
        assert all(name.startswith("long-work") for name in waiting.threads)


@pytest.mark.parametrize("accident", list(Accident))
def test_a_lost_model_call_is_a_failure_and_is_not_repeated(accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            made.cloud.fail("converse", accident)
            told = await tell(made, ask(made))
            assert (told.code, told.public.outcome) == (ErrorCode.ERR_UPSTREAM, "failed")
            assert len(made.world.home.bedrock.seen) == (accident is Accident.LOST)
            assert told.private["forwarded"] is not None

    scenario()


async def throttle(made: Bench) -> None:
    made.world.home.bedrock.faults.on(throttled(times=None))


async def age(made: Bench) -> None:
    made.advance(IDENTITY_MAX_AGE_S + 1)


async def log_invocations(made: Bench) -> None:
    made.world.home.control.logging_accounts.add(ACCOUNT)
    await made.identity.recheck()


@pytest.mark.parametrize(
    ("disturb", "code"),
    [
        (throttle, ErrorCode.ERR_UPSTREAM_THROTTLED),
        (age, ErrorCode.ERR_UPSTREAM_IDENTITY),
        (log_invocations, ErrorCode.ERR_UPSTREAM_LOGGING),
    ],
)
def test_failures_behind_the_enclave_have_their_own_outcome(
    disturb: Callable[[Bench], Awaitable[None]], code: ErrorCode
) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            await disturb(made)
            told = await tell(made, ask(made))
            assert (told.code, told.public.outcome) == (code, "failed")

    scenario()


class BrokenUpstream:
    async def converse(self, *_: object) -> None:
        raise KeyError("a secret of the caller")


@in_loop
async def test_an_unexpected_exception_is_sealed_without_its_text() -> None:
    async with bench() as made:
        await made.open()
        upstream = cast("Upstreams", BrokenUpstream())
        pipeline = Pipeline(replace(made.parts, upstream=upstream), nothing)
        told = await tell(made, ask(made), pipeline=pipeline)
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_INTERNAL, "failed")
        assert "secret" not in told.text
        assert "event=INTERNAL\n" in made.log.getvalue()
        assert "secret" not in made.log.getvalue()


@in_loop
async def test_a_cancelled_request_ends_in_a_sealed_answer_with_a_receipt() -> None:
    async with bench() as made:
        await made.open()
        made.cloud.hold.clear()
        made.cloud.reached.clear()
        asked, sink = ask(made), Recording()
        running = asyncio.create_task(run(made.pipeline, asked, sink))
        await made.cloud.reached.wait()
        running.cancel()
        await running
        told = open_told(asked, sink)
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_CANCELLED, "cancelled")


class SlowSink(Recording):
    """Lets a test in while the parent is slow, after so many pieces."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.slow_after = pieces
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def drained(self) -> None:
        if len(self.pieces) == self.slow_after:
            self.reached.set()
            await self.go.wait()


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancel_loses_no_receipt_while_the_parent_is_slow(*, stream: bool) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            pipeline = Pipeline(replace(made.parts, floor=parse_floor({})), nothing)
            asked, sink = ask(made, stream=stream), SlowSink(2 if stream else 1)
            running = asyncio.create_task(run(pipeline, asked, sink))
            await sink.reached.wait()
            running.cancel()
            if stream:
                sink.slow_after = 0
                await running
            else:
                with pytest.raises(asyncio.CancelledError):
                    await running
            told = open_told(asked, sink)
            assert told.public.outcome == ("cancelled" if stream else "answered")
            assert (await tell(made, ask(made))).public.sequence == 1

    scenario()


async def not_opened(made: Bench, sealed: Sealed) -> ErrorCode:
    """Run what must not open: nothing leaves and no receipt is made."""
    sink = Recording()
    with pytest.raises(LatensgateError) as caught:
        await made.pipeline.run(sealed, sink)
    assert (sink.begun, sink.pieces, sink.released) == (None, [], None)
    assert made.parts.receipts.totals() == {}
    return caught.value.code


@in_loop
async def test_what_does_not_open_is_neither_sealed_nor_receipted() -> None:
    async with bench() as made:
        await made.open()
        asked = ask(made)
        outer, wire = asked.outer, asked.request.wire
        assert await not_opened(made, Sealed(outer, b"")) is ErrorCode.ERR_MALFORMED
        changed = wire[:-1] + bytes([wire[-1] ^ 1])
        assert await not_opened(made, Sealed(outer, changed)) is ErrorCode.ERR_OPEN_FAILED
        for other in (
            replace(outer, model="other"),
            replace(outer, tenant_id="tnt_00000000"),
            replace(outer, stream=True),
        ):
            assert await not_opened(made, Sealed(other, wire)) is ErrorCode.ERR_OPEN_FAILED
        made.keys.drop()
        assert await not_opened(made, asked.sealed) is ErrorCode.ERR_KEY_STALE


@in_loop
async def test_the_attestation_of_another_key_is_refused() -> None:
    async with bench() as made:
        await made.open()
        first = made.keys.current()
        made.advance(KEY_ROTATION_S)
        await made.supervisor.rotate_if_due()
        other = made.keys.current().attestation_hash
        asked = ask(made, publication=first, attestation_hash=other)
        assert await not_opened(made, asked.sealed) is ErrorCode.ERR_OUTER_MISMATCH
        await made.identity.recheck()
        await made.supervisor.recheck_gate()
        assert (await tell(made, ask(made, publication=first))).code is None


@in_loop
async def test_another_model_inside_is_refused() -> None:
    async with bench() as made:
        await made.open()
        asked = ask(made, model="other")
        assert await not_opened(made, asked.sealed) is ErrorCode.ERR_OUTER_MISMATCH


@in_loop
async def test_a_body_under_the_tenants_key_is_answered_under_it_too() -> None:
    async with bench() as made:
        await made.open()
        envelope, data_key = tenant_key(made)
        request_id = uuid7(made.clock.now_ms())
        body = json.dumps(chat("Hello")).encode()
        inside = fields(made, request_id=request_id, kms_envelope=envelope)
        asked = ask(made, seal_body(data_key, request_id, body), inside=inside)
        secret = asked.request.answer_secret.with_data_key(data_key)
        asked = replace(asked, request=replace(asked.request, answer_secret=secret))
        told = await tell(made, asked)
        assert text_of(told.body) == "You said: Hello"
        assert is_hash_of(told.private["opened"], body)


@in_loop
async def test_a_body_that_is_not_under_the_data_key_is_refused() -> None:
    async with bench() as made:
        await made.open()
        envelope, data_key = tenant_key(made)
        request_id = uuid7(made.clock.now_ms())
        inside = fields(made, request_id=request_id, kms_envelope=envelope)
        for data_key_used, body, code in (
            (bytes(32), json.dumps(chat()).encode(), ErrorCode.ERR_KMS_ENVELOPE),
            (data_key, b"[]", ErrorCode.ERR_MALFORMED),
            (data_key, b"{}", ErrorCode.ERR_OUTER_MISMATCH),
        ):
            sealed_body = seal_body(data_key_used, request_id, body)
            asked = ask(made, sealed_body, inside=inside)
            assert await not_opened(made, asked.sealed) is code


def tenant_key(made: Bench) -> tuple[KMSEnvelope, bytes]:
    """Make a key that the service role may use, and a data key under it."""
    statement = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    key_arn = made.world.create_key(policy)
    answer = made.world.home.kms.call(
        made.world.admin.identity,
        "GenerateDataKey",
        {
            "KeyId": key_arn,
            "KeySpec": "AES_256",
            "EncryptionContext": encryption_context(TENANT),
        },
    )
    plain, wrapped = (
        base64.b64decode(str(answer[name])) for name in ("Plaintext", "CiphertextBlob")
    )
    return KMSEnvelope(key_arn, wrapped), plain


@pytest.mark.parametrize("code", list(ErrorCode))
def test_outcomes_follow_from_the_block_of_the_code(code: ErrorCode) -> None:
    outcome = outcome_of(WireError(code, "x"))
    named = {ErrorCode.ERR_CANCELLED: "cancelled", ErrorCode.ERR_HELD: "held"}
    if code in named:
        assert outcome == named[code]
    else:
        behind = code.number // 100 in {6, 9}
        assert outcome == ("failed" if behind else "refused")


def test_an_answer_of_a_dry_run_is_named_so() -> None:
    assert (outcome_of(None), outcome_of(None, dry_run=True)) == ("answered", "dry_run")
    assert outcome_of(WireError(ErrorCode.ERR_TOO_LARGE, "x"), dry_run=True) == "refused"


def test_a_wire_error_names_the_field_only_where_there_is_one() -> None:
    assert wire_error(RequestInvalidError("bad", param="messages[0]")).param == "messages[0]"
    assert wire_error(RequestInvalidError("bad", param="")).param is None
    long = wire_error(LatensgateError("x" * 10_000))
    assert (len(long.message), long.param, long.code) == (4_096, None, ErrorCode.ERR_INTERNAL)


def test_a_long_request_is_checked_and_walked_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller's long request must not stop the frames of all others."""
    on_loop: dict[str, bool] = {}

    def watch(name: str) -> None:
        work = getattr(operation_module, name)

        def watched(*arguments: object, **options: object) -> object:
            on_loop[name] = threading.current_thread() is threading.main_thread()
            return work(*arguments, **options)

        monkeypatch.setattr(operation_module, name, watched)

    steps = ("parse_chat_request", "request_parts", "with_request_texts", "build_converse_body")
    for name in steps:
        watch(name)

    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            inside = fields(made, policy=rule("EMAIL_ADDRESS", "mask"))
            assert (await tell(made, ask(made, chat(EMAIL), inside=inside))).code is None
            assert on_loop == dict.fromkeys(steps, True)
            inside = fields(made, policy=rule("EMAIL_ADDRESS", "mask"))
            long = chat("word " * 2_000 + EMAIL)
            assert (await tell(made, ask(made, long, inside=inside))).code is None
            assert on_loop == dict.fromkeys(steps, False)

    scenario()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("accident", list(Accident))
def test_who_was_asked_is_told_also_where_no_answer_came(
    accident: Accident, *, stream: bool
) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            made.cloud.fail("converse-stream" if stream else "converse", accident)
            told = await tell(made, ask(made, stream=stream))
            assert (told.code, told.public.outcome) == (ErrorCode.ERR_UPSTREAM, "failed")
            upstream = told.private["upstream"]
            assert isinstance(upstream, dict)
            assert (upstream["account"], upstream["region"]) == (ACCOUNT, HOME)
            assert len(str(upstream["leaf_certificate_sha256"])) == 64

    scenario()


class TalkativeUpstream:
    """Answers with a text of any length."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def converse(self, _: object, witness: Callable[[JSONObject], None]) -> ChatAnswer:
        witness({"host": "scripted"})
        return ChatAnswer((self.text,), (), "stop", Usage(1, 2), len(self.text))


def talking(made: Bench, text: str) -> Pipeline:
    upstream = cast("Upstreams", TalkativeUpstream(text))
    return Pipeline(replace(made.parts, upstream=upstream), nothing)


@in_loop
async def test_an_answer_too_long_to_seal_leaves_a_sealed_refusal_and_a_receipt() -> None:
    async with bench() as made:
        await made.open()
        with mock.patch.object(pipeline_module, "CONTENT_MAX_BYTES", 10_000):
            told = await tell(made, ask(made), pipeline=talking(made, "x" * 10_000))
            assert (told.code, told.public.outcome) == (ErrorCode.ERR_TOO_LARGE, "refused")
            assert told.private["returned"] is None
            assert told.private["upstream"] == {"host": "scripted"}
            assert made.parts.receipts.totals()[TENANT]["requests"] == 1
            assert (await tell(made, ask(made), pipeline=talking(made, "x" * 9_000))).code is None


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_of_sealing_leaves_a_receipt(*, stream: bool) -> None:

    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            failing_once = mock.Mock(
                side_effect=[KeyError("a secret"), mock.DEFAULT], wraps=encode_final_record
            )
            with mock.patch.object(pipeline_module, "encode_final_record", failing_once):
                told = await tell(made, ask(made, stream=stream))
            assert (told.code, told.public.outcome) == (ErrorCode.ERR_INTERNAL, "failed")
            assert (told.private["returned"] is None) is not stream
            assert "secret" not in told.text

    scenario()


@in_loop
async def test_a_request_of_full_length_leaves_the_answer_its_own_scan() -> None:
    async with bench() as made:
        await made.open()
        long, longer = "x" * (200 - PII_TEXT_COST_CHARS), "x" * (201 - PII_TEXT_COST_CHARS)
        with (
            mock.patch.object(pipeline_module, "PII_REQUEST_MAX_CHARS", 200),
            mock.patch.object(pipeline_module, "PII_ANSWER_MAX_CHARS", 200),
        ):
            for asked, answer, code in (
                (long, long, None),
                (longer, long, ErrorCode.ERR_TOO_LARGE),
                (long, longer, ErrorCode.ERR_TOO_LARGE),
            ):
                told = await tell(made, ask(made, chat(asked)), pipeline=talking(made, answer))
                assert told.code is code


@in_loop
async def test_a_number_split_over_two_parts_of_a_message_is_masked() -> None:
    async with bench() as made:
        await made.open()
        split: list[JSONValue] = [{"type": "text", "text": text} for text in (CARD[:7], CARD[7:])]
        message: JSONObject = {"role": "user", "content": split}
        body: JSONObject = {**chat(), "messages": [message]}
        told = await tell(
            made, ask(made, body, inside=fields(made, policy=rule("CREDIT_CARD", "mask")))
        )
        assert told.code is None
        seen = made.world.home.bedrock.seen[-1]
        assert CARD[:7].encode() not in seen
        assert CARD[7:].encode() not in seen


@in_loop
async def test_what_only_the_answer_may_not_say_is_masked_there() -> None:
    policy = rule("EMAIL_ADDRESS", "mask", "answer")
    async with bench() as made:
        await made.open()
        asked = ask(made, chat(f"write to {EMAIL}"), inside=fields(made, policy=policy))
        told = await tell(made, asked)
        assert told.code is None
        assert EMAIL not in told.text
        assert "<EMAIL_ADDRESS>" in told.text
        assert EMAIL.encode() in made.world.home.bedrock.seen[-1]
