"""What the SDK keeps of requests that are held, and what it does with each answer about them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import pytest

from latensgate import exchange_held
from latensgate.errors import HeldError
from latensgate.exchange import Call
from latensgate.exchange_failure import Failure
from latensgate.exchange_held import (
    ASKED_ANEW_MAX_COUNT,
    HeldCall,
    HeldCalls,
    held_answer,
    pending_id_of,
)
from latensgate.exchange_steps import Received, Send
from latensgate.holds import INTERVAL_MAX_S, answer_kind, pauses, still_held
from latensgate_shared.error_answers import ErrorAnswer, WireError, encode_error_answer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.hold import HoldNotice

if TYPE_CHECKING:
    from latensgate.exchange import Exchange
    from latensgate.exchange_seal import SealedCall

DIGEST = "sha384:" + "ab" * 48


def name(number: int) -> str:
    return f"hld_{number:032x}"


@dataclass
class Outer:
    stream: bool = True


@dataclass
class Sent:
    outer: Outer = field(default_factory=Outer)


@dataclass
class Sealed:
    sent: Sent = field(default_factory=Sent)


def held(number: int = 1, body: bytes = b'{"model":"m"}', *, operation: str = "x") -> HeldCall:
    notice = HoldNotice(name(number), DIGEST, 1_800_000_000, {"US_SSN": {"prompt": 1}}, ("Ann",))
    call = Call(body, "key", (), lambda _: None, operation)
    return HeldCall(cast("SealedCall", Sealed()), call, notice)


@dataclass
class Asking:
    """An exchange whose gateway is a test's own."""

    reply: object = None
    held: HeldCalls = field(default_factory=HeldCalls)
    asked: list[Call] = field(default_factory=list[Call])

    def infer(self, call: Call) -> Generator[object, object, object]:
        self.asked.append(call)
        yield from ()
        if isinstance(self.reply, Failure) and self.reply.hold is not None:
            self.held.keep(replace(held(), call=call, notice=self.reply.hold))
        return self.reply


def told(asking: Asking, status: int, body: bytes, pending_id: str = name(1)) -> Any:  # noqa: ANN401
    """Poll once, with this answer of the gateway."""
    talk = cast("Generator[Any, Any, Any]", held_answer(cast("Exchange", asking), pending_id, ()))
    sent = next(talk)
    assert isinstance(sent, Send)
    assert sent.path == f"/api/holds/{pending_id}/answer"
    with pytest.raises(StopIteration) as ended:
        talk.send(Received(status, {}, body))
    return ended.value.value


def refusal(code: ErrorCode) -> bytes:
    return encode_error_answer(ErrorAnswer(WireError(code, "m"), "cor_0000"))


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_held, "HOLDS_MAX_COUNT", 2)
    calls = HeldCalls()
    for number in (1, 2, 3):
        calls.keep(held(number))
    assert [calls.find(name(number)) is not None for number in (1, 2, 3)] == [False, True, True]
    monkeypatch.setattr(exchange_held, "HOLDS_MAX_BYTES", 10)
    calls.keep(held(4, b"x" * 11))  # the newest stays however long it is
    assert [calls.find(name(number)) is not None for number in (2, 3, 4)] == [False, False, True]
    calls.drop(name(4))
    calls.drop(name(4))
    assert calls.find(name(4)) is None


def test_a_forked_process_takes_a_lock_of_its_own() -> None:
    lock = threading.Lock()
    calls = HeldCalls(_lock=lock)
    calls.keep(held())
    with mock.patch.object(threading, "Lock", side_effect=AssertionError):
        calls.in_this_process()  # the same process: the same lock
    with lock, mock.patch.object(os, "getpid", return_value=-1):  # a thread of the parent has it
        calls.in_this_process()
        assert calls.find(name(1)) is not None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/holds/{name(1)}", name(1)),
        (f"/holds/{name(1)}/answer", None),
        ("/holds/hld_..", None),
        (name(1), None),
        ("/models", None),
    ],
)
def test_paths_of_holds(path: str, found: str | None) -> None:
    assert pending_id_of(path) == found


def test_requests_are_never_printed() -> None:
    assert "model" not in repr(held())


def test_who_did_not_ask_is_told_so_without_a_question() -> None:
    talk = held_answer(cast("Exchange", Asking()), name(1), ())
    with pytest.raises(StopIteration) as ended:
        next(cast("Generator[Any, Any, Any]", talk))
    failure = ended.value.value
    assert (failure.code, failure.retry) == (ErrorCode.ERR_NOT_FOUND, False)


def test_what_waits_is_kept_and_told_with_its_notice() -> None:
    asking = Asking()
    asking.held.keep(held())
    for _ in range(2):
        failure = told(asking, 202, refusal(ErrorCode.ERR_HELD))
        assert failure.code is ErrorCode.ERR_HELD
        assert failure.hold == held().notice
    assert asking.asked == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, b"<html>"),
        (503, b"<html>"),
        (404, b"<html>"),
        (202, b"{}"),
        (401, refusal(ErrorCode.ERR_UNAUTHENTICATED)),
        (429, refusal(ErrorCode.ERR_RATE_LIMITED)),
    ],
)
def test_a_fault_of_the_way_forgets_nothing(status: int, body: bytes) -> None:
    """The secret is only here: a proxy's page or a key that ended must not be the answer's end."""
    asking = Asking()
    asking.held.keep(held())
    assert isinstance(told(asking, status, body), Failure)
    assert asking.held.find(name(1)) is not None
    failure = told(asking, 202, refusal(ErrorCode.ERR_HELD))
    assert failure.hold == held().notice


@pytest.mark.parametrize("code", [ErrorCode.ERR_HOLD_EXPIRED, ErrorCode.ERR_OUTCOME_UNKNOWN])
def test_what_came_to_its_end_is_forgotten_and_not_asked_for_again(code: ErrorCode) -> None:
    asking = Asking()
    asking.held.keep(held())
    failure = told(asking, code.http_status, refusal(code))
    assert (failure.code, failure.retry) == (code, False)
    assert asking.held.find(name(1)) is None
    assert asking.asked == []


def test_a_strange_answer_under_202_is_no_wait() -> None:
    asking = Asking()
    asking.held.keep(held())
    failure = told(asking, 202, b"{}")
    assert failure.code is ErrorCode.ERR_MALFORMED
    assert failure.hold is None


def test_what_was_lost_is_asked_anew_whole_and_so_often() -> None:
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
    asking = Asking()
    asking.held.keep(held(1, body))
    for number in range(1, ASKED_ANEW_MAX_COUNT + 1):
        notice = replace(held().notice, pending_id=name(number + 1))
        code = ErrorCode.ERR_HELD
        asking.reply = Failure(code=code, message="", status=403, retry=False, hold=notice)
        failure = told(asking, 409, refusal(ErrorCode.ERR_HOLD_LOST), name(number))
        assert failure.hold == notice
        assert asking.held.find(name(number)) is None
        assert json.loads(asking.asked[-1].body) == {"model": "m"}
    keys = {call.key for call in asking.asked}
    assert len(keys) == ASKED_ANEW_MAX_COUNT  # each is another request
    last = name(ASKED_ANEW_MAX_COUNT + 1)
    failure = told(asking, 409, refusal(ErrorCode.ERR_HOLD_LOST), last)
    assert (failure.code, failure.retry) == (ErrorCode.ERR_HOLD_LOST, False)
    assert asking.held.find(last) is None
    assert len(asking.asked) == ASKED_ANEW_MAX_COUNT


def test_a_whole_request_is_asked_anew_as_it_was_written() -> None:
    body = b'{ "model": "m" }'
    asking = Asking(reply="an answer")
    asking.held.keep(held(1, body))
    assert told(asking, 409, refusal(ErrorCode.ERR_HOLD_LOST)) == "an answer"
    assert [call.body for call in asking.asked] == [body]


# --- waiting ---


def test_pauses_grow_and_are_bounded() -> None:
    short = pauses(2.0)
    found = [next(short) for _ in range(9)]
    assert found[0] == 2.0
    assert found == sorted(found)
    assert found[-1] == INTERVAL_MAX_S
    long = pauses(60.0)
    assert [next(long) for _ in range(2)] == [60.0, 60.0]


def test_answers_are_read_as_what_was_asked() -> None:
    calls = HeldCalls()
    for number, operation in enumerate(("chat.completions", "embeddings", "responses"), 1):
        calls.keep(held(number, operation=operation))
    kinds = [answer_kind(calls, name(number)).__name__ for number in (1, 2, 3, 4)]
    assert kinds == ["ChatCompletion", "CreateEmbeddingResponse", "Response", "ChatCompletion"]


def test_what_says_that_nobody_decided() -> None:
    calls = HeldCalls()
    calls.keep(held())
    error = HeldError.__new__(HeldError)
    assert still_held(error, calls) is error
    assert "expires later" in str(still_held(name(1), calls))
    assert "expires later" not in str(still_held(name(2), calls))
