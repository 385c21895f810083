"""What the parent may call about held requests: the service, open, shut and draining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from enclave_client import ask, chat, fields
from enclave_doubles import Bench, bench, in_loop
from hold_examples import ANN, EMAIL, ROOT, Held, held, models_asked, settings
from latensgate_enclave.service import Service
from latensgate_enclave.session import Room
from latensgate_shared.calls import Call, DrainCall, InferenceCall, InferenceEnd, request_frame
from latensgate_shared.calls_hold import HoldViewAnswer, HoldViewCall
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.frames import HeadMap
from latensgate_shared.hold import Decision
from latensgate_shared.hold_view import verify_view
from latensgate_shared.sealed import open_answer


@dataclass
class Heard:
    """The answer to one call."""

    head_fields: HeadMap | None = None
    pieces: list[bytes] = field(default_factory=list[bytes])
    end_fields: HeadMap | None = None

    def head(self, fields: HeadMap) -> None:
        self.head_fields = fields

    def body(self, data: bytes) -> None:
        self.pieces.append(data)

    def end(self, fields: HeadMap, body: bytes = b"") -> None:
        self.pieces += [body] if body else []
        self.end_fields = fields

    async def drained(self) -> None:
        await asyncio.sleep(0)

    @property
    def wire(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Served:
    """An enclave's service and a request that it holds."""

    made: Bench
    service: Service
    kept: Held
    room: Room

    async def call(self, call: Call) -> Heard:
        heard = Heard()
        await self.service(request_frame(1, call), self.kept.body, heard)
        return heard

    async def refusal(self, call: Call) -> ErrorCode:
        with pytest.raises(LatensgateError) as caught:
            await self.call(call)
        return caught.value.code

    def view_call(self) -> HoldViewCall:
        document = self.kept.settings_then
        return HoldViewCall(self.kept.pending.state, document, len(document), ANN.public)


@asynccontextmanager
async def served() -> AsyncGenerator[Served]:
    async with bench() as made:
        await made.open()
        room = Room(4)
        service = Service(made.pipeline, made.supervisor, made.identity, room)
        yield Served(made, service, await held(made), room)


@in_loop
async def test_what_is_held_is_told_to_the_parent_at_the_end_of_the_call() -> None:
    async with served() as it:
        asked = ask(
            it.made, chat(f"Write to {EMAIL}"), inside=fields(it.made, tenant_root=ROOT.public)
        )
        outer = asked.outer
        call = InferenceCall(
            outer.attestation_hash,
            outer.model,
            outer.tenant_id,
            outer.operation,
            stream=False,
            tenant_settings=settings(),
        )
        heard = Heard()
        await it.service(request_frame(1, call), asked.request.wire, heard)
        assert heard.end_fields is not None
        end = InferenceEnd.from_head(heard.end_fields)
        assert (end.code, end.http_status) == ("ERR_HELD", 202)
        assert end.pending_state is not None
        state = it.made.parts.holds.open(end.pending_state)
        assert (end.pending_id, end.pending_until) == (state.pending_id, state.expires_at)


@pytest.mark.parametrize("decision", list(Decision))
def test_a_decision_is_answered_as_an_inference(decision: Decision) -> None:
    @in_loop
    async def scenario() -> None:
        async with served() as it:
            heard = await it.call(it.kept.decide_call(ANN.says(it.kept.notice, decision)))
            assert heard.end_fields is not None
            end = InferenceEnd.from_head(heard.end_fields)
            denied = decision is Decision.DENY
            assert end.code == ("ERR_HOLD_DENIED" if denied else None)
            assert end.pending_id is None  # it is not held again
            answer = open_answer(it.kept.asked.request.answer_secret, heard.wire + end.final_chunk)
            assert (EMAIL.encode() in answer.content) is not denied
            assert len(models_asked(it.made)) == (0 if denied else 1)

    scenario()


@in_loop
async def test_a_view_is_the_body_of_its_answer() -> None:
    async with served() as it:
        heard = await it.call(it.view_call())
        assert heard.head_fields is not None
        assert HoldViewAnswer.from_head(heard.head_fields) == HoldViewAnswer(sealed=False)
        receipt_key = it.made.keys.receipt_key.public_key().public_bytes_raw()
        assert verify_view(heard.wire, receipt_key).pending_id == it.kept.notice.pending_id


@in_loop
async def test_an_enclave_that_drains_holds_nothing_any_more() -> None:
    async with served() as it:
        it.room.take_call()
        await it.call(DrainCall())
        signed = ANN.says(it.kept.notice)
        assert await it.refusal(it.kept.decide_call(signed)) is ErrorCode.ERR_HOLD_LOST
        assert await it.refusal(it.view_call()) is ErrorCode.ERR_HOLD_LOST
        assert models_asked(it.made) == []


@in_loop
async def test_before_the_gate_is_open_nothing_is_decided_or_shown() -> None:
    async with served() as it, bench() as locked:
        service = Service(locked.pipeline, locked.supervisor, locked.identity, Room(4))
        shut = replace(it, service=service)
        for call in (it.kept.decide_call(ANN.says(it.kept.notice)), it.view_call()):
            assert await shut.refusal(call) is ErrorCode.ERR_ENCLAVE_UNAVAILABLE
