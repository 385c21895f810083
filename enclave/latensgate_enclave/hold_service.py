"""What the parent may ask about a request that is held: decide it, show it (docs/spec/holds.md).

Whatever the parent brings is judged: the state by this enclave's own seal, the sealed request by
the state, the settings of that time by the state, the approver by the newest settings that this
enclave knows of. Only then is the decision taken, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from latensgate_enclave.chat_answer import ChatAnswer, estimated_usage
from latensgate_enclave.chat_deltas import Collector
from latensgate_enclave.opening import opened_again, unwrapped
from latensgate_enclave.operation import of_kind
from latensgate_enclave.operations import SERVED
from latensgate_enclave.pii import Budget
from latensgate_enclave.pipeline import LONG_BYTES
from latensgate_enclave.protect import protection_of
from latensgate_enclave.steps import Admitted, Answered, Sealed
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.hold import (
    ApprovalError,
    Decision,
    HoldLostError,
    SignedDecision,
    copied,
    decode_signed_decision,
    plan_digest,
)
from latensgate_shared.hold_view import HoldView, encode_view, seal_view
from latensgate_shared.limits import PII_ANSWER_MAX_CHARS
from latensgate_shared.messages import Outer
from latensgate_shared.settings import SettingsError, verify_settings

if TYPE_CHECKING:
    from latensgate_enclave.holds import PendingState
    from latensgate_enclave.operation import Forwarding, ModelAnswer
    from latensgate_enclave.pipeline import Pipeline
    from latensgate_enclave.record import Record
    from latensgate_enclave.steps import Forwarded, Opened, Sink
    from latensgate_shared.calls_hold import HoldDecideCall, HoldViewCall
    from latensgate_shared.settings import Approver
    from latensgate_shared.strict_json import JSONObject


class Shown(NamedTuple):
    """A view for an approver.

    Attributes:
        view: Signed; sealed if the approver has a key for it.
        sealed: Whether it is.
    """

    view: bytes
    sealed: bool


@dataclass(frozen=True, slots=True)
class _Held:
    """A held request that was presented, and is what it was."""

    state: PendingState
    sealed: Sealed
    approver: Approver
    settings: str = field(repr=False)


class HeldRequests:
    """Answers for the requests that this enclave holds."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._parts = pipeline.parts

    async def decide(self, call: HoldDecideCall, body: bytes, sink: Sink) -> None:
        """Do as an approver decided, once; the answer is sealed to the original caller.

        Raises:
            LatensgateError: Nothing was done: `ERR_HOLD_LOST`, `ERR_HOLD_EXPIRED`,
                `ERR_APPROVAL_REFUSED`, `ERR_OUTCOME_UNKNOWN` (it was decided before).
        """
        signed = decode_signed_decision(call.decision)
        held = self._presented(call, body, signed.approver)
        decision = self._verified(signed, held.state)
        opened = await self._opened(held)
        record = self._pipeline.new_record(opened)
        record.hold = _told(held, signed)
        if decision is Decision.DENY:
            record.settings = held.state.settings
            record.add_counts(held.state.counts)
        # Nothing is awaited from here on until it is spent.
        self._parts.holds.spend(held.state, self._parts.clock.now_s())
        outcome = await self._pipeline.guard(self._run(held, opened, record, sink, decision))
        content, released = self._pipeline.concluded(opened, record, outcome)
        sink.finish(released, content)
        await sink.drained()

    async def view(self, call: HoldViewCall, body: bytes) -> Shown:
        """Return what an approver may see.

        Raises:
            LatensgateError: As `decide`.
        """
        held = self._presented(call, body, call.approver)
        state, xwing = held.state, held.approver.xwing
        content: tuple[str, ...] | None = None
        if state.show_content and xwing is not None:
            opened = await self._opened(held)
            _, forwarded = await self._planned(held, opened, self._pipeline.new_record(opened))
            content = tuple([call.body.decode() for call in forwarded.calls])
        view = HoldView(
            pending_id=state.pending_id,
            plan_digest=state.plan_digest,
            tenant_id=state.tenant_id,
            model=state.model,
            operation=state.operation,
            expires_at=state.expires_at,
            counts=copied(state.counts),
            content=content,
        )
        encoded = encode_view(view, self._parts.keys.receipt_key.sign)
        if xwing is None:
            return Shown(encoded, sealed=False)
        return Shown(seal_view(encoded, xwing, pending=state.pending_id), sealed=True)

    # --- what was presented ---

    def _presented(self, call: HoldDecideCall | HoldViewCall, body: bytes, key: bytes) -> _Held:
        """Judge state, time and approver; the request itself is opened later."""
        state = self._parts.holds.open(call.state)
        if self._parts.clock.now_s() >= state.expires_at:
            raise LatensgateError("hold: nobody decided in time", code=ErrorCode.ERR_HOLD_EXPIRED)
        approver, told = self._approver(state, call.tenant_settings, key)
        settings, wire = call.cut(body)
        outer = Outer(
            state.attestation_hash, state.model, state.tenant_id, state.operation, state.stream
        )
        return _Held(state, Sealed(outer, wire, settings or None), approver, told)

    def _approver(self, state: PendingState, document: bytes, key: bytes) -> tuple[Approver, str]:
        """Return who this key is, by settings that are not older than any that were seen here."""
        try:
            settings = verify_settings(
                document,
                root=state.tenant_root,
                tenant_id=state.tenant_id,
                min_version=self._parts.holds.oldest_admitted(state),
            )
        except SettingsError as error:
            raise ApprovalError(f"approval: {error.detail}") from None
        self._parts.holds.seen(settings)
        for approver in settings.approvers:
            if approver.ed25519 == key:
                return approver, settings.told
        raise ApprovalError("approval: the tenant's settings name no such approver")

    def _verified(self, signed: SignedDecision, state: PendingState) -> Decision:
        decision = signed.verify()
        if decision.pending_id != state.pending_id or decision.plan_digest != state.plan_digest:
            raise ApprovalError("approval: it is for another request or another plan")
        if self._parts.clock.now_s() >= decision.expires_at:
            raise ApprovalError("approval: it has expired")
        return decision.decision

    async def _opened(self, held: _Held) -> Opened:
        """Open the request again.

        Raises:
            HoldLostError: It is not the one that was held.
        """
        pipeline, state, sealed = self._pipeline, held.state, held.sealed
        try:
            found = await pipeline.work(
                len(sealed.wire), state.tenant_id, opened_again, sealed, state.shared_secret
            )
        except LatensgateError:
            raise HoldLostError("hold: the sealed request is not the one that was held") from None
        return await unwrapped(pipeline, sealed, found, state.surrogate_secret)

    # --- what was decided ---

    async def _run(
        self, held: _Held, opened: Opened, record: Record, sink: Sink, decision: Decision
    ) -> bytes:
        """Run the plan if it was approved."""
        sink.begin(record.receipt_id)
        if decision is Decision.DENY:
            raise LatensgateError("an approver denied this request", code=ErrorCode.ERR_HOLD_DENIED)
        admitted, forwarded = await self._planned(held, opened, record)
        answered = await self._answered(forwarded, record)
        body = self._pipeline.render(opened, admitted, answered)
        record.hash_content("returned", body)
        return body

    async def _planned(
        self, held: _Held, opened: Opened, record: Record
    ) -> tuple[Admitted, Forwarded]:
        """Make the plan again, and see that it is the same to the last byte.

        Raises:
            HoldLostError: It is another: nothing is sent.
        """
        pipeline, state, size = self._pipeline, held.state, len(opened.body_bytes)
        protection = protection_of(self._parts, opened, record)
        if record.settings != state.settings:
            raise HoldLostError("hold: the settings are not those under which it was held")
        record.holding = None  # an approver has been asked
        operation = SERVED[opened.outer.operation]
        request = await pipeline.work(size, record.tenant_id, operation.parse, opened.body)
        admitted = Admitted(operation, request, protection, size)
        scanned = await pipeline.scan(admitted, record)
        forwarded = await pipeline.forward(scanned, record)
        bodies = [call.body for call in forwarded.calls]
        if plan_digest(state.plan_salt, bodies) != state.plan_digest:
            raise HoldLostError("hold: the plan is not the one that was held")
        return admitted, forwarded

    async def _answered(self, forwarded: Forwarded, record: Record) -> Answered:
        """Ask the model; what was to be streamed is collected, for it is fetched as a whole."""
        if not forwarded.scanned.request.stream:
            return await self._pipeline.answer(forwarded, record)
        budget = Budget(max_chars=PII_ANSWER_MAX_CHARS)
        answers: list[ModelAnswer] = []
        for call in forwarded.calls:
            answer = await self._collected(call, record)
            scanned = self._pipeline.scan_answer(forwarded.scanned, answer, budget, record)
            answers.append(await scanned)
        return Answered(tuple(answers))

    async def _collected(self, call: Forwarding, record: Record) -> ChatAnswer:
        upstream, collected = self._parts.upstream, Collector()
        if call.whole:
            answer = of_kind(await upstream.converse(call, record.witness), ChatAnswer)
            record.add_usage(answer.usage)
            return answer
        async with upstream.converse_stream(call, record.witness) as pieces:  # has a deadline
            try:
                async for deltas in pieces:
                    collected.add(deltas)
            finally:  # a stream that is cut has cost something, too, and some never tell what
                estimated = estimated_usage(len(call.body), collected.size_bytes)
                record.add_usage(collected.usage or estimated)
        return await self._pipeline.work(LONG_BYTES, record.tenant_id, collected.answer)


def _told(held: _Held, signed: SignedDecision) -> JSONObject:
    return {
        "pending_id": held.state.pending_id,
        "plan_digest": held.state.plan_digest,
        "decision": signed.decision.decision.value,
        "approver": signed.approver.hex(),
        "settings": held.settings,
    }
