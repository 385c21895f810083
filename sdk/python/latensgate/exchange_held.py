"""Requests of this process that wait for an approver: asked for again until there is an answer.

Only who sealed a request can open its answer, so the secret stays here, in memory. If the enclave
that held it is gone, the request is sealed and asked anew; an approver then decides anew, too.
"""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from latensgate.exchange_answer import judge_error, judge_unary
from latensgate.exchange_failure import (
    ERROR_STATUS,
    Failure,
    failure_of,
    outside_failure,
    parse_refusal,
)
from latensgate.exchange_steps import Received, Send
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import MIB, SEALED_BODY_MAX_BYTES
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from latensgate.exchange import Call, Exchange
    from latensgate.exchange_seal import SealedCall
    from latensgate.exchange_steps import Answered, Headers, Talk
    from latensgate_shared.hold import HoldNotice

HELD_STATUS: Final = 202
HOLDS_MAX_COUNT: Final = 1_024
"""Held requests of one process: more than people decide in a day; the oldest are forgotten."""
HOLDS_MAX_BYTES: Final = 64 * MIB
"""Of their bodies together."""
ASKED_ANEW_MAX_COUNT: Final = 3
"""How often a request that was lost is asked anew: whoever says so is not authenticated."""
_PENDING_ID: Final = re.compile(r"hld_[0-9a-f]{32}")
_OF_STREAMS: Final = ("stream", "stream_options")
_ENDS: Final = frozenset(
    {
        ErrorCode.ERR_HOLD_EXPIRED,
        ErrorCode.ERR_HOLD_LOST,
        ErrorCode.ERR_NOT_FOUND,
        ErrorCode.ERR_OUTCOME_UNKNOWN,
    }
)
"""What the gateway says of requests that have no answer any more."""


@dataclass(frozen=True, slots=True, repr=False)
class HeldCall:
    """A request that is held; never printed.

    Attributes:
        sealed: What was sealed, and what opens the answer.
        call: To ask anew.
        notice: What the enclave told.
        anew: How often it was asked anew.
    """

    sealed: SealedCall
    call: Call
    notice: HoldNotice
    anew: int = 0

    @property
    def operation(self) -> str:
        """What was asked for."""
        return self.call.operation


@dataclass(slots=True)
class HeldCalls:
    """Held requests by pending id. Bounded; shared by threads and tasks."""

    _calls: OrderedDict[str, HeldCall] = field(default_factory=OrderedDict[str, HeldCall])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pid: int = field(default_factory=os.getpid)

    def in_this_process(self) -> None:
        """Take a new lock in a forked process: who held it is not there."""
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()

    def keep(self, held: HeldCall) -> None:
        """Remember a request until it is answered."""
        with self._lock:
            self._calls[held.notice.pending_id] = held
            size = sum(len(each.call.body) for each in self._calls.values())
            while len(self._calls) > 1 and (
                len(self._calls) > HOLDS_MAX_COUNT or size > HOLDS_MAX_BYTES
            ):
                size -= len(self._calls.popitem(last=False)[1].call.body)

    def find(self, pending_id: str) -> HeldCall | None:
        """Return a request that is remembered."""
        with self._lock:
            return self._calls.get(pending_id)

    def drop(self, pending_id: str) -> None:
        """Forget a request: it came to its end."""
        with self._lock:
            self._calls.pop(pending_id, None)


def pending_id_of(path: str) -> str | None:
    """Return the id in ``/holds/<id>``."""
    name = path.removeprefix("/holds/")
    return name if name != path and _PENDING_ID.fullmatch(name) else None


def held_answer(exchange: Exchange, pending_id: str, headers: Headers) -> Talk:
    """Ask for the answer of a held request. Faults come back as ``Failure``.

    A ``Failure`` of ``ERR_HELD`` says that it still waits; if its notice names another id, it was
    lost and asked anew.
    """
    held = exchange.held.find(pending_id)
    if held is None:
        code = ErrorCode.ERR_NOT_FOUND
        return Failure(
            code=code,
            message="pending_id: no request of this process waits under it; only who asked can open"
            " the answer",
            status=code.http_status,
            retry=False,
        )
    path = f"/api/holds/{pending_id}/answer"
    received = yield Send("GET", path, headers, max_bytes=SEALED_BODY_MAX_BYTES)
    if not isinstance(received, Received):
        raise TypeError("a Received expected")
    reply = _judged(held, received)
    if isinstance(reply, Failure):
        if reply.code is ErrorCode.ERR_HELD:
            return replace(reply, hold=held.notice)
        if reply.code is ErrorCode.ERR_HOLD_LOST and held.anew < ASKED_ANEW_MAX_COUNT:
            return (yield from _asked_anew(exchange, held, headers))
        if not reply.sealed and reply.code not in _ENDS:
            return reply  # of the way, not of the request: its secret is still worth something
        reply = replace(reply, retry=False)  # asking for it again would find nothing
    exchange.held.drop(pending_id)
    return reply


def _judged(held: HeldCall, received: Received) -> Failure | Answered:
    outer = replace(held.sealed.sent.outer, stream=False)  # it comes as a whole
    whole = replace(held.sealed, sent=replace(held.sealed.sent, outer=outer))
    try:
        if received.status == HELD_STATUS:
            refusal = parse_refusal(received)
            return refusal if isinstance(refusal, Failure) else outside_failure(received, refusal)
        judge = judge_error if received.status >= ERROR_STATUS else judge_unary
        return judge(whole, received)
    except LatensgateError as error:
        return failure_of(error)


def _asked_anew(exchange: Exchange, held: HeldCall, headers: Headers) -> Talk:
    """Seal the same request anew and ask; it is not streamed any more."""
    call = replace(
        held.call, body=_whole(held.call.body), key=f"lg-{uuid.uuid4()}", headers=headers
    )
    reply = yield from exchange.infer(call)
    exchange.held.drop(held.notice.pending_id)
    if isinstance(reply, Failure) and reply.hold is not None:
        again = exchange.held.find(reply.hold.pending_id)
        if again is not None:
            exchange.held.keep(replace(again, anew=held.anew + 1))
    return reply


def _whole(body: bytes) -> bytes:
    """Return a request that asks for one whole answer; one that does so is not written anew."""
    value = parse_json_object(body, max_bytes=len(body))
    if not value.get("stream"):
        return body
    kept = {name: each for name, each in value.items() if name not in _OF_STREAMS}
    return json.dumps(kept, ensure_ascii=False).encode()
