"""The exchange: attest, seal, send, open, verify. No input or output, no clock of its own.

``Exchange.infer`` and ``Exchange.models`` are generators over ``exchange_steps``: threads and event
loops drive the same ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from latensgate.attested import Attested, AttestedCell, Attester, until
from latensgate.data_keys import DataKey
from latensgate.exchange_answer import handed_on, judge_error, judge_unary
from latensgate.exchange_failure import (
    ERROR_STATUS,
    Failure,
    failure_of,
    invalid_answer,
    outside_failure,
    parse_refusal,
    strange_answer,
)
from latensgate.exchange_held import HELD_STATUS, HeldCall, HeldCalls
from latensgate.exchange_seal import ChatRequest, SealedCall, Sealer, parse_request
from latensgate.exchange_steps import (
    Answered,
    NeedAttested,
    NeedDataKey,
    Received,
    Send,
    Streaming,
)
from latensgate.exchange_store import CallStore, OpenCall
from latensgate.exchange_stream import StreamOpener
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.kms_envelope import encryption_context
from latensgate_shared.limits import SEALED_BODY_MAX_BYTES
from latensgate_shared.messages import DEFAULT_OPERATION
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime

    from latensgate.exchange_steps import Given, Headers, Reply, Step, Talk
    from latensgate_shared.hold import HoldNotice

_OK: Final = 200
_EVENT_STREAM: Final = "text/event-stream"
AUTHORIZATION: Final = "Authorization"
RESENT_AFTER_S: Final = 60
"""Bytes that were sealed so long ago, or by a clock that was set since, are a retry's; a clock that
is wrong now shows with bytes that are sealed now."""
KEPT_MAX_S: Final = 3_600
"""After their keys ended, sealed bytes are kept so long: three attempts of ten minutes, the OpenAI
client's longest by default, are then over, and the gateway's stored answer may still come."""
MODELS_MAX_BYTES: Final = 1 << 20
"""A list of models: some hundreds of entries of 200 bytes."""


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """One attempt, as an OpenAI client made it; never printed.

    Attributes:
        body: The request in plain.
        key: Idempotency key.
        headers: To be sent outside the seal: authentication and what the application added.
        conversation: Makes the conversation secret of a request, or None.
        operation: What is asked for.
    """

    body: bytes
    key: str
    headers: Headers
    conversation: Callable[[ChatRequest], bytes | None]
    operation: str = DEFAULT_OPERATION


@dataclass(frozen=True, slots=True)
class Exchange:
    """The exchanges of one client and its copies.

    Attributes:
        attester: How it attests.
        sealer: How it seals.
        cell: The attestation that it holds.
        store: What is sealed and not answered yet.
        held: What waits for an approver.
    """

    attester: Attester
    sealer: Sealer
    cell: AttestedCell = field(default_factory=AttestedCell)
    store: CallStore = field(default_factory=lambda: CallStore(_worth_keeping_until), repr=False)
    held: HeldCalls = field(default_factory=HeldCalls, repr=False)

    def infer(self, call: Call) -> Talk:
        """Exchange one request. Faults come back as ``Failure``; nothing typed is raised.

        A key that the gateway no longer knows leads to one new attestation and one new seal. No
        error leads to anything weaker.
        """
        try:
            chat = parse_request(call.body, call.operation)
        except LatensgateError as error:
            return failure_of(error)
        held = self.store.begin(call.key, chat.digest, self.attester.now())
        sealed: SealedCall | None = None
        try:
            sealed = held.sealed or (yield from self._seal(call, chat, held))
            reply = yield from self._send(call, held, sealed)
            if isinstance(reply, Failure) and self._outlived(sealed, reply):
                stale = None if reply.sealed else sealed.attested
                self.store.unseal(held, sealed, spent=reply.sealed)
                sealed = yield from self._seal(call, chat, held, stale)
                reply = yield from self._send(call, held, sealed)
        except LatensgateError as error:
            reply = failure_of(error)
        self._settle(held, sealed, reply)
        return reply

    def _outlived(self, sealed: SealedCall, reply: Failure) -> bool:
        """Whether nothing is wrong but the age of the keys, or of bytes that are sent again."""
        if reply.code is ErrorCode.ERR_REQUEST_AGE and reply.sealed:
            return abs(self.attester.clock() - sealed.sealed_at_s) > RESENT_AFTER_S
        return reply.code is ErrorCode.ERR_KEY_STALE

    def _send(self, call: Call, held: OpenCall, sealed: SealedCall) -> Talk:
        received = yield Send(
            "POST",
            "/api/inference",
            (*call.headers, *sealed.headers, ("Idempotency-Key", held.wire_key)),
            sealed.body,
            stream=sealed.sent.outer.stream,
            max_bytes=SEALED_BODY_MAX_BYTES,
        )
        if not isinstance(received, Received):
            raise TypeError("a Received expected")
        reply = self._judge(sealed, received, held)
        if isinstance(reply, Streaming):
            reply.opener.on_held = partial(self._keep, sealed, call)
        elif isinstance(reply, Failure) and reply.hold is not None and reply.sealed:
            self._keep(sealed, call, reply.hold)
        return reply

    def _keep(self, sealed: SealedCall, call: Call, notice: HoldNotice) -> None:
        """Remember a request that waits for an approver."""
        self.held.keep(HeldCall(sealed, call, notice))

    def _judge(self, sealed: SealedCall, received: Received, held: OpenCall) -> Reply:
        is_error = received.status >= ERROR_STATUS or received.status == HELD_STATUS
        if not sealed.sent.outer.stream or is_error:
            return judge_error(sealed, received) if is_error else judge_unary(sealed, received)
        if not received.streaming:
            return strange_answer(received)
        correlation_id = received.headers.get("latensgate-correlation-id")
        opener = StreamOpener(sealed, correlation_id, lambda: self.store.end(held))
        return Streaming(opener, handed_on(received.headers))

    def _seal(
        self, call: Call, chat: ChatRequest, held: OpenCall, stale: Attested | None = None
    ) -> Generator[Step, Given, SealedCall]:
        public = tuple(header for header in call.headers if header[0] != AUTHORIZATION)
        attested = yield NeedAttested(stale, public)
        if not isinstance(attested, Attested):
            raise TypeError("an Attested expected")
        data_key = yield from self._data_key()
        made = self.sealer.seal(
            chat,
            attested,
            now_s=self.attester.clock(),
            conversation=call.conversation(chat),
            data_key=data_key,
        )
        return self.store.sealed(held, made)

    def _data_key(self) -> Generator[Step, Given, DataKey | None]:
        arn = self.sealer.options.kms_key_arn
        if arn is None:
            return None
        data_key = yield NeedDataKey(arn, encryption_context(self.sealer.tenant))
        if not isinstance(data_key, DataKey):
            raise TypeError("a DataKey expected")
        return data_key

    def _settle(self, held: OpenCall, sealed: SealedCall | None, reply: Reply) -> None:
        """Forget what is answered; keep the bytes of what may be sent again."""
        if isinstance(reply, Streaming):
            return  # its opener settles
        if isinstance(reply, Failure) and reply.retry:
            if reply.sealed:  # its request_id is spent: the next attempt is another request
                self.store.unseal(held, sealed, spent=True)
            return
        self.store.end(held)

    def models(self, headers: Headers, model: str | None = None) -> Talk:
        """List the models as the gateway names them, or look one up. Nothing of it is sealed."""
        received = yield Send("GET", "/api/models", headers, max_bytes=MODELS_MAX_BYTES)
        if not isinstance(received, Received):
            raise TypeError("a Received expected")
        if received.status >= ERROR_STATUS:
            answer = parse_refusal(received)
            return answer if isinstance(answer, Failure) else outside_failure(received, answer)
        if received.status != _OK:
            return strange_answer(received)
        try:
            listed = parse_json_object(received.body, max_bytes=MODELS_MAX_BYTES)
        except JSONError as error:
            return invalid_answer(f"models: {error.detail}")
        if model is None:
            return Answered(received.body, handed_on(received.headers), None)
        return _find_model(listed.get("data"), model)


def _worth_keeping_until(call: SealedCall) -> datetime:
    return until(call.attested) + timedelta(seconds=KEPT_MAX_S)


def _find_model(entries: object, model: str) -> Answered | Failure:
    for entry in cast("list[object]", entries) if isinstance(entries, list) else []:
        if isinstance(entry, dict) and cast("dict[str, object]", entry).get("id") == model:
            return Answered(json.dumps(entry).encode(), (), None)
    code = ErrorCode.ERR_MODEL_UNKNOWN
    return Failure(
        code=code, message="models: no model of this name", status=code.http_status, retry=False
    )


def is_event_stream(content_type: str) -> bool:
    """Whether an answer of this ``Content-Type`` is a stream."""
    return content_type.partition(";")[0].strip().lower() == _EVENT_STREAM
