"""A streamed answer: the steps of `pipeline`, with the answer leaving in pieces.

Where the policy only flags what an answer holds, pieces leave as they come and the whole text is
counted at the end. Where it masks or refuses, pieces leave as soon as nothing that follows can
change them (`stream_guard`): a piece that has left cannot be taken back. Where floor or request ask
for it, all leave on the ticks of a clock and in records of one length (`stream_ticks`). Whatever
goes wrong is told inside the seal, and every stream ends with its receipt, also one that its caller
left.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, ParamSpec

from latensgate_enclave.chat_answer import (
    ChatAnswer,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    estimated_usage,
)
from latensgate_enclave.chat_deltas import Collector, as_deltas
from latensgate_enclave.operation import of_kind
from latensgate_enclave.pii import Budget
from latensgate_enclave.pipeline import LONG_BYTES
from latensgate_enclave.stream_guard import StreamGuard
from latensgate_enclave.stream_ticks import Ticks, on_ticks
from latensgate_shared.answer_records import encode_error_record
from latensgate_shared.errors import TooLargeError
from latensgate_shared.limits import (
    CALL_BODY_MAX_BYTES,
    CHUNK_FRAMED_MAX_BYTES,
    PII_ANSWER_MAX_CHARS,
    SEALED_ANSWER_CHUNKS_MAX_COUNT,
)
from latensgate_shared.sealed import AnswerSealer
from latensgate_shared.stream_records import encode_stream_records

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from latensgate_enclave.chat_answer import ChatDelta
    from latensgate_enclave.operation import Forwarding, StreamRenderer
    from latensgate_enclave.pipeline import Pipeline
    from latensgate_enclave.record import Record, StreamedHash
    from latensgate_enclave.steps import Opened, Released, Scanned, Sealed, Sink
    from latensgate_shared.error_answers import WireError

_Given = ParamSpec("_Given")
_PIECE_MAX_CHARS = 8_000
"""Characters of one content chunk: escaped in JSON at most 48 KB, so it fits into 64 KiB."""
_CHUNK_OVERHEAD_BYTES = 64
"""Response nonce, length and tag: more than any content chunk has."""
_STREAM_MAX_BYTES = CALL_BODY_MAX_BYTES - 2 * CHUNK_FRAMED_MAX_BYTES
_STREAM_MAX_CHUNKS = SEALED_ANSWER_CHUNKS_MAX_COUNT - 2
"""Of the content; the rest is kept for an error, so that each stream can end with its receipt."""


async def run_stream(pipeline: Pipeline, sealed: Sealed, sink: Sink) -> None:
    """Answer one streamed request.

    Raises:
        LatensgateError: It did not open (nothing was sealed, no receipt), or the parent is gone.
    """
    opened = await pipeline.open_sealed(sealed)
    record = pipeline.new_record(opened)
    answer = _StreamedAnswer(pipeline, opened, record, sink)
    answer.conclude(await pipeline.guard(answer.run()))
    await sink.drained()


class _StreamedAnswer:
    """One answer on its way."""

    def __init__(self, pipeline: Pipeline, opened: Opened, record: Record, sink: Sink) -> None:
        self._sealer = AnswerSealer(opened.answer_secret)
        floor = pipeline.parts.configuration.policy.stream
        shape = floor.joined(opened.plaintext.fields.stream)
        self._step_bytes = shape.step_bytes
        self._ticks = Ticks(shape.coalesce_ms) if shape.coalesce_ms else None
        self._returned: StreamedHash | None = None
        self._pipeline = pipeline
        self._opened = opened
        self._record = record
        self._sink = sink
        self._bytes_left = _STREAM_MAX_BYTES
        self._chunks_left = _STREAM_MAX_CHUNKS
        self._unsent = b""
        self._is_answering = False
        self._renderer: StreamRenderer | None = None

    async def run(self) -> None:
        """Send every content chunk but an error."""
        pipeline, record = self._pipeline, self._record
        self._sink.begin(record.receipt_id)
        admitted = await pipeline.admit(self._opened, record)
        scanned = await pipeline.scan(admitted, record)
        forwarded = await pipeline.forward(scanned, record)
        head = pipeline.completion_head(self._opened, admitted.operation)
        self._renderer = renderer = admitted.operation.stream_renderer(head, scanned.request)
        budget = Budget(max_chars=PII_ANSWER_MAX_CHARS)
        try:
            for choice, call in enumerate(forwarded.calls):
                await self._send_all(renderer.begin(choice))
                await self._pass_on(call, scanned, renderer, budget)
        finally:
            record.add_counts(scanned.protection.tally.counts())
        await self._send_all(renderer.end(record.usage or Usage(0, 0)))

    async def _pass_on(
        self, call: Forwarding, scanned: Scanned, renderer: StreamRenderer, budget: Budget
    ) -> None:
        """Send what the model says to one call."""
        pipeline, record = self._pipeline, self._record
        collected = Collector()
        pieces = self._guarded_pieces(call, scanned, budget, collected)
        if self._ticks is not None:
            pieces = on_ticks(pieces, self._ticks)
        try:
            async with aclosing(pieces) as passed:
                async for told in passed:
                    await self._render_all(renderer, told)
        finally:  # a stream that is cut has cost something, too
            if collected.usage is not None:
                record.add_usage(collected.usage)
            elif self._is_answering:
                record.add_usage(estimated_usage(len(call.body), collected.size_bytes))
            self._is_answering = False
        record.lap("model")
        whole = await pipeline.work(collected.size_bytes, record.tenant_id, collected.answer)
        parts = await pipeline.work(collected.size_bytes, record.tenant_id, whole.parts)
        left = scanned.protection.left_to_count(parts)
        if left:  # it left as it came: the policy only flags there
            await pipeline.scan_parts(left, scanned.protection.count_answer, budget, record)
        record.lap("scan_answer")

    async def _guarded_pieces(
        self, call: Forwarding, scanned: Scanned, budget: Budget, collected: Collector
    ) -> AsyncGenerator[Sequence[ChatDelta]]:
        """Yield what may leave; all that came is collected before."""
        guard = StreamGuard(scanned.protection, budget)
        # In a thread where the scan may wait for another process, or goes over much at once.
        least = LONG_BYTES if scanned.protection.waits() else 0
        async with aclosing(self._pieces(call)) as pieces:
            async for deltas in pieces:
                collected.add(deltas)
                size = max(least, guard.size(deltas))
                yield await self._guarded(size, guard.push, deltas)
        yield await self._guarded(max(least, guard.size()), guard.end)

    async def _guarded(
        self,
        size: int,
        step: Callable[_Given, list[ChatDelta]],
        *given: _Given.args,
        **more: _Given.kwargs,
    ) -> list[ChatDelta]:
        """Apply the policy to pieces."""
        return await self._pipeline.work(size, self._record.tenant_id, step, *given, **more)

    async def _pieces(self, call: Forwarding) -> AsyncGenerator[Sequence[ChatDelta]]:
        """Call the model; one that cannot stream this is asked for the whole answer."""
        upstream, witness = self._pipeline.parts.upstream, self._record.witness
        if call.whole:
            yield as_deltas(of_kind(await upstream.converse(call, witness), ChatAnswer))
            return
        async with upstream.converse_stream(call, witness) as pieces:
            self._is_answering = True
            async for deltas in pieces:
                yield deltas

    def conclude(self, outcome: WireError | None) -> None:
        """Send the error, if there is one, and the final chunk. Nothing is awaited in between."""
        if outcome is not None and self._renderer is not None:
            with suppress(TooLargeError):  # the sealed error tells it in any case
                for event in self._renderer.fail(outcome):
                    self._send(event)
        if self._returned is not None:
            self._record.hash_streamed("returned", self._returned)
        self._record.lap("stream")
        try:
            released = self._released(outcome)
        except Exception as error:  # noqa: BLE001  # the model has run: there must be a receipt
            released = self._released(self._pipeline.told(error))
        self._sink.finish(released, self._unsent)

    def _released(self, outcome: WireError | None) -> Released:
        if outcome is not None:
            told = encode_error_record(outcome, pad=True, step_bytes=self._step_bytes)
            self._unsent += self._sealer.content(told)
        return self._pipeline.release(
            self._opened, self._record, self._sealer, outcome, step_bytes=self._step_bytes
        )

    async def _render_all(self, renderer: StreamRenderer, deltas: Sequence[ChatDelta]) -> None:
        for delta in deltas:
            if not isinstance(delta, Usage):
                for piece in _cut(delta):
                    await self._send_all(renderer.render(piece))

    async def _send_all(self, events: Sequence[bytes]) -> None:
        for event in events:
            self._send(event)
            await self._sink.drained()

    def _send(self, body: bytes) -> None:
        for content in encode_stream_records(body, pad=True, step_bytes=self._step_bytes):
            self._bytes_left -= len(content) + _CHUNK_OVERHEAD_BYTES
            self._chunks_left -= 1
            if self._bytes_left < 0 or self._chunks_left < 0:
                # Before it is sealed: what is sealed and not sent would count in the answer's hash.
                raise TooLargeError("the answer is longer than a stream may be")
            self._sink.content(self._sealer.content(content))
        if self._returned is None:
            self._returned = self._record.begin_hash()
        self._returned.update(body)


def _cut(delta: ChatDelta) -> Sequence[ChatDelta]:
    """Cut what is too long for one content chunk."""
    if isinstance(delta, TextDelta) and len(delta.text) > _PIECE_MAX_CHARS:
        return [TextDelta(piece) for piece in _pieces(delta.text)]
    if isinstance(delta, ReasoningDelta) and len(delta.text) > _PIECE_MAX_CHARS:
        texts = [ReasoningDelta(piece) for piece in _pieces(delta.text)]
        return texts if delta.signature is None else [*texts, ReasoningDelta("", delta.signature)]
    if isinstance(delta, ToolCallDelta) and len(delta.arguments) > _PIECE_MAX_CHARS:
        return [ToolCallDelta(delta.index, piece) for piece in _pieces(delta.arguments)]
    return (delta,)


def _pieces(text: str) -> list[str]:
    return [
        text[start : start + _PIECE_MAX_CHARS] for start in range(0, len(text), _PIECE_MAX_CHARS)
    ]
