"""THE request, top to bottom.

    Sealed → Opened → Scanned → Forwarded → Answered → Released

Each step takes one frozen value and returns the next type, so a skipped step does not type-check:

1. `open_sealed`  the seal opens under a key of this enclave and under what stands outside it; the
                  KMS envelope opens, too
2. `admit`        age and replay on enclave time
3. `admit`        the OpenAI request is checked in full
4. `scan`         every text part
5. `scan`         policy by category; fails closed
6. `forward`      translated for the model: exactly these bytes are hashed into the receipt
7. `answer`       the model's answer, scanned on its way back
8. `release`      receipt signed
9. `release`      answer sealed

Once a request has opened, a refusal is sealed to the caller and gets a receipt like an answer.
Before that there is nobody to seal to, and no receipt.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from latensgate_enclave.aside import Aside
from latensgate_enclave.chat import RequestInvalidError
from latensgate_enclave.chat_answer import CompletionHead
from latensgate_enclave.dry_run import dry_run
from latensgate_enclave.dry_run_operation import DryRunRequest
from latensgate_enclave.events import Event
from latensgate_enclave.model_calls import model_answers, translated
from latensgate_enclave.model_traits import ModelTraits
from latensgate_enclave.opening import opened_by_key, unwrapped
from latensgate_enclave.operations import SERVED
from latensgate_enclave.outcomes import outcome_of, wire_error
from latensgate_enclave.pii import Budget, PIIHardFailError
from latensgate_enclave.pii.attachments import judge_attachments
from latensgate_enclave.protect import judge_calls, prepare, protection_of, takes_long
from latensgate_enclave.receipt_book import CANONICAL, Facts
from latensgate_enclave.record import Record
from latensgate_enclave.steps import (
    Admitted,
    Answered,
    Forwarded,
    Opened,
    Parts,
    Released,
    Scanned,
    Sealed,
    Sink,
)
from latensgate_shared.answer_records import (
    AnswerValues,
    encode_content_record,
    encode_error_record,
    encode_final_record,
)
from latensgate_shared.audit_seal import seal_private_part
from latensgate_shared.error_answers import WireError
from latensgate_shared.errors import ErrorCode, LatensgateError, TooLargeError
from latensgate_shared.limits import (
    CHUNK_FRAMED_MAX_BYTES,
    PII_ANSWER_MAX_CHARS,
    PII_REQUEST_MAX_CHARS,
    SEALED_ANSWER_MAX_BYTES,
)
from latensgate_shared.sealed import AnswerSealer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from latensgate_enclave.operation import ModelAnswer, Operation
    from latensgate_enclave.pii import ScannedTexts, TextPart
    from latensgate_enclave.pii.protection import Scan

_Result = TypeVar("_Result")
_Input = ParamSpec("_Input")
_Answer = TypeVar("_Answer", bound="ModelAnswer")
_ASIDE_BYTES: Final = 8_192
"""Longer requests and answers are opened, checked, walked and translated, and longer texts scanned,
in a thread: they must not hold up everyone else's frames."""
LONG_BYTES: Final = _ASIDE_BYTES + 1
"""Said of work that may take long, whatever its size."""
CONTENT_MAX_BYTES: Final = SEALED_ANSWER_MAX_BYTES - 2 * CHUNK_FRAMED_MAX_BYTES
"""Of one answer, before it is sealed: nonce, framing and the final chunk need less than the rest,
and one more chunk is kept for an error."""


class Pipeline:
    """Runs requests.

    Args:
        parts: What the steps work with.
        require_open: Raises while the KMS gate is closed; asked again before a prompt leaves.
    """

    def __init__(self, parts: Parts, require_open: Callable[[], None]) -> None:
        self.parts = parts
        self._require_open = require_open
        self._aside = Aside()
        parts.keys.on_drop = parts.holds.drop

    async def run(self, sealed: Sealed, sink: Sink) -> None:
        """Answer one unary request.

        Raises:
            LatensgateError: It did not open; nothing was sealed and no receipt exists.
        """
        opened = await self.open_sealed(sealed)
        record = self.new_record(opened)
        outcome = await self.guard(self._answer(opened, record, sink))
        # Nothing is awaited until all is written: a cancel comes before or after, never between.
        content, released = self.concluded(opened, record, outcome)
        sink.finish(released, content)
        await sink.drained()

    def concluded(
        self, opened: Opened, record: Record, outcome: bytes | WireError
    ) -> tuple[bytes, Released]:
        """Seal the outcome; what cannot be sealed becomes a sealed error with a receipt, too."""
        try:
            return self._sealed(opened, record, outcome)
        except Exception as error:  # noqa: BLE001  # the model has run: there must be a receipt
            record.hashes.pop("returned", None)
            return self._sealed(opened, record, self.told(error))

    def _sealed(
        self, opened: Opened, record: Record, outcome: bytes | WireError
    ) -> tuple[bytes, Released]:
        sealer = AnswerSealer(opened.answer_secret)
        error = outcome if isinstance(outcome, WireError) else None
        content = (
            encode_error_record(outcome, pad=True)
            if isinstance(outcome, WireError)
            else encode_content_record(outcome, pad=True)
        )
        if len(content) > CONTENT_MAX_BYTES:
            raise TooLargeError("the answer is longer than a sealed answer may be")
        framed = sealer.whole_content(content)
        return framed, self.release(opened, record, sealer, error)

    async def _answer(self, opened: Opened, record: Record, sink: Sink) -> bytes:
        sink.begin(record.receipt_id)
        admitted = await self.admit(opened, record)
        request, protection = admitted.request, admitted.protection
        if isinstance(request, DryRunRequest):  # no step that follows is taken
            body = await self.work(
                LONG_BYTES, record.tenant_id, dry_run, request, protection, record
            )
        else:
            scanned = await self.scan(admitted, record)
            forwarded = await self.forward(scanned, record)
            answered = await self.answer(forwarded, record)
            body = self.render(opened, admitted, answered)
        record.hash_content("returned", body)
        return body

    async def guard(self, step: Coroutine[None, None, _Result]) -> _Result | WireError:
        """Run what may fail after the seal has opened: every failure becomes a sealed error."""
        try:
            return await step
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # see `told`
            return self.told(error)

    def told(self, error: BaseException) -> WireError:
        """Return what the caller is told of a failure; of an unexpected one no text is told."""
        if isinstance(error, LatensgateError):
            return wire_error(error)
        if isinstance(error, asyncio.CancelledError):
            return WireError(ErrorCode.ERR_CANCELLED, "the caller went away")
        self.parts.environment.events.emit(Event.INTERNAL)
        return WireError(ErrorCode.ERR_INTERNAL, ErrorCode.ERR_INTERNAL.hint)

    async def open_sealed(self, sealed: Sealed) -> Opened:
        """Step 1: open the seal, and the KMS envelope inside it if there is one.

        Raises:
            LatensgateError: It is not ours to open, or not what it says it is.
        """
        keys, outer = self.parts.keys, sealed.outer
        found = await self.work(
            len(sealed.wire), outer.tenant_id, opened_by_key, sealed, keys.opening_keys()
        )
        publication = keys.find(found.opened.key_id).publication
        if publication.attestation_hash != outer.attestation_hash:
            raise LatensgateError(
                "the attestation that the client verified is not the one of this key",
                code=ErrorCode.ERR_OUTER_MISMATCH,
            )
        return await unwrapped(self, sealed, found)

    def new_record(self, opened: Opened) -> Record:
        """Begin the private part of the receipt."""
        environment = self.parts.environment
        tenant_id = opened.outer.tenant_id
        record = Record(
            self.parts.receipts.new_id(tenant_id),
            tenant_id,
            opened.plaintext.fields.request_id,
            opened.outer.model,
            environment.entropy,
            environment.monotonic_ns,
        )
        record.hash_content("opened", opened.body_bytes)
        return record

    async def admit(self, opened: Opened, record: Record) -> Admitted:
        """Steps 2 and 3: age and replay, then the OpenAI request.

        Raises:
            LatensgateError: `ERR_REQUEST_AGE`, `ERR_REPLAY`, or what is wrong with the request.
        """
        fields = opened.plaintext.fields
        self.parts.replay.admit(
            fields.request_id, issued_at_ms=fields.issued_at_ms, now_ms=self.parts.clock.now_ms()
        )
        if takes_long(self.parts, opened):
            await self.work(LONG_BYTES, record.tenant_id, prepare, self.parts, opened)
        protection = protection_of(self.parts, opened, record)
        operation = SERVED[opened.outer.operation]  # there is no other: `Outer` has refused it
        size = len(opened.body_bytes)
        request = await self.work(size, record.tenant_id, operation.parse, opened.body)
        if request.stream != opened.outer.stream:
            raise RequestInvalidError("differs from the visible stream flag", param="stream")
        record.fields_dropped = request.dropped
        record.lap("validate")
        return Admitted(operation, request, protection, size)

    async def scan(self, admitted: Admitted, record: Record) -> Scanned:
        """Steps 4 and 5: find personal data in every text part and apply the policy.

        Raises:
            LatensgateError: `ERR_PII_HARD_FAIL`, `ERR_PII_ENGINE` or `ERR_TOO_LARGE`.
        """
        request, size = admitted.request, admitted.size_bytes
        judge_attachments(request.attachments(), admitted.protection.policy, record.add_counts)
        parts = await self.work(size, record.tenant_id, request.parts)
        budget = Budget(max_chars=PII_REQUEST_MAX_CHARS)
        protection = admitted.protection
        scanned = await self.scan_parts(parts, protection.scan_request, budget, record)
        if scanned.changed:
            masked = await self.work(size, record.tenant_id, request.with_texts, scanned.texts)
            if masked is None:
                raise PIIHardFailError(scanned.verdict.counts)  # a masked tool name calls no tool
            request = masked
        record.lap("scan")
        return Scanned(request, protection, size)

    async def scan_parts(
        self, parts: list[TextPart], scan: Scan, budget: Budget, record: Record
    ) -> ScannedTexts:
        """Scan, in a thread if it takes long; count what was found, also where it refuses."""
        size = sum([len(part.text) for part in parts])
        if record.protection is not None and record.protection.waits():
            size = max(size, _ASIDE_BYTES + 1)  # names are looked for in another process
        try:
            scanned = await self.work(size, record.tenant_id, scan, parts, budget=budget)
        except PIIHardFailError as error:
            record.add_counts(error.counts)
            raise
        record.add_counts(scanned.verdict.counts)
        return scanned

    async def forward(self, scanned: Scanned, record: Record) -> Forwarded:
        """Step 6: translate for the model.

        Raises:
            LatensgateError: No such model, or it cannot honour the request.
        """
        self._require_open()  # a denial stops what was opened before it, too
        configuration = self.parts.configuration
        route = configuration.deployment.models.get(scanned.request.model)
        if route is None:
            raise LatensgateError(
                "no model of this name is deployed", code=ErrorCode.ERR_MODEL_UNKNOWN
            )
        traits = ModelTraits(configuration.policy.capabilities[route.capabilities])
        size, request = scanned.size_bytes, scanned.request
        calls = await self.work(size, record.tenant_id, translated, request, route, traits, record)
        judge_calls(calls, record, scanned.protection)
        record.model_served = route.model_id
        record.lap("translate")
        return Forwarded(scanned, calls)

    async def answer(self, forwarded: Forwarded, record: Record) -> Answered:
        """Step 7: call the model; scan what it says.

        Raises:
            LatensgateError: The call failed, or the policy refuses the answer.
        """
        deadline_ms = self.parts.configuration.policy.calls.model_timeout_ms
        answers = await model_answers(self.parts.upstream, forwarded.calls, record, deadline_ms)
        record.lap("model")
        budget = Budget(max_chars=PII_ANSWER_MAX_CHARS)
        scan = self.scan_answer
        return Answered(
            tuple([await scan(forwarded.scanned, each, budget, record) for each in answers])
        )

    async def scan_answer(
        self, scanned: Scanned, answer: _Answer, budget: Budget, record: Record
    ) -> _Answer:
        """Apply the policy to one answer."""
        size, tenant_id = answer.size_bytes, record.tenant_id
        parts = await self.work(size, tenant_id, answer.parts)
        found = await self.scan_parts(parts, scanned.protection.scan_answer, budget, record)
        if found.changed:
            answer = await self.work(size, tenant_id, answer.with_texts, found.texts)
        record.lap("scan_answer")
        return answer

    async def work(
        self,
        size: int,
        tenant_id: str,
        work: Callable[_Input, _Result],
        *arguments: _Input.args,
        **options: _Input.kwargs,
    ) -> _Result:
        """Do work here, or in a thread if what it goes over is long."""
        if size > _ASIDE_BYTES:
            return await self._aside.run(tenant_id, work, *arguments, **options)
        return work(*arguments, **options)

    def completion_head(self, opened: Opened, operation: Operation) -> CompletionHead:
        """Return what all objects of an answer repeat."""
        identifier = operation.id_prefix + opened.plaintext.fields.request_id.replace("-", "")
        return CompletionHead(identifier, self.parts.clock.now_s(), opened.outer.model)

    def render(self, opened: Opened, admitted: Admitted, answered: Answered) -> bytes:
        """Return the answer as JSON."""
        head = self.completion_head(opened, admitted.operation)
        return admitted.operation.render(head, admitted.request, answered.answers)

    def release(
        self,
        opened: Opened,
        record: Record,
        sealer: AnswerSealer,
        error: WireError | None,
        *,
        step_bytes: int = 0,
    ) -> Released:
        """Steps 8 and 9: sign the receipt over the sealed content, seal both in the final chunk."""
        facts = Facts(
            receipt_id=record.receipt_id,
            tenant_id=opened.outer.tenant_id,
            key_id=opened.key_id,
            attestation_hash=opened.outer.attestation_hash,  # which is that of the key
            outcome=outcome_of(error, dry_run=record.dry_run),
            request_hash=opened.request_hash,
            response_hash=sealer.response_hash,
            issued_at_s=self.parts.clock.now_s(),
        )
        receipt = self.parts.receipts.issue(facts, record.private_part())
        if record.usage is not None:
            self.parts.receipts.book(facts.tenant_id, record.usage)
        values = AnswerValues(
            audit_receipt_id=receipt.public.receipt_id,
            attestation_hash=facts.attestation_hash,
            latency_ms=record.latency_ms(),
            pii_detected=record.pii_detected,
            usage=record.usage_object(),
        )
        usage = CANONICAL.encode(values.usage)
        told = encode_final_record(receipt, values, usage=usage, step_bytes=step_bytes)
        final = sealer.final(told)
        key, code = record.audit_key, error.code if error else None
        private = None if key is None else seal_private_part(key, receipt)
        return Released(final, receipt, values, code, record.pending, private)
