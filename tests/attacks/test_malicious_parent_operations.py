"""A malicious parent against responses and embeddings: the whole stack, as for chat."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from functools import partial

import pytest

from hostile_chunks import CHUNKS, MORE_CHUNKS, SPLICES
from hostile_fixtures import ANSWER, MODEL, PROMPT, Got, Victims, in_turn
from latensgate import Latensgate, errors, receipt_of
from latensgate_shared.errors import ErrorCode
from malicious_gateway import Asked, Told, answers, cut, instead, requests

EMBEDDER = "titan-embed-text-v2"
DIMENSIONS = 256
WHOLE = ("responses", "embeddings")
STREAMED = ("responses stream",)
ALL = (*WHOLE, *STREAMED)
LAST = "response.completed"


@dataclass
class Askers(Victims):
    """Victims that ask for responses and embeddings, too.

    Attributes:
        kinds: Types of the events that the last stream gave.
    """

    kinds: list[str] = field(default_factory=list[str])

    def ask(self, way: str, text: str = PROMPT, **options: object) -> Got:
        if way not in ALL:
            return super().ask(way, text, **options)
        got = Got()
        self.kinds.clear()
        client = self.client(options)
        try:
            if way == "embeddings":
                _embed(client, got, text)
            elif way == "responses":
                _respond(client, got, text)
            else:
                self._stream(client, got, text)
        except Exception as error:  # noqa: BLE001 -- judged by the tests
            got.error = error
        return got

    def _stream(self, client: Latensgate, got: Got, text: str) -> None:
        stream = client.responses.create(model=MODEL, input=text, stream=True)
        for event in stream:
            self.kinds.append(event.type)
            if event.type == "response.output_text.delta":
                got.text += event.delta
        got.receipt = receipt_of(stream)


def _respond(client: Latensgate, got: Got, text: str) -> None:
    answer = client.responses.create(model=MODEL, input=text)
    got.text, got.receipt = answer.output_text, receipt_of(answer)


def _embed(client: Latensgate, got: Got, text: str) -> None:
    answer = client.embeddings.create(model=EMBEDDER, input=text, dimensions=DIMENSIONS)
    got.text = ANSWER if len(answer.data[0].embedding) == DIMENSIONS else "?"
    got.receipt = receipt_of(answer)


@pytest.fixture
def askers(victims: Victims) -> Askers:
    return Askers(**{each.name: getattr(victims, each.name) for each in fields(Victims)})


@pytest.mark.parametrize("way", ALL)
def test_honest_gateway_is_no_attack_here_either(askers: Askers, way: str) -> None:
    """Everything below differs from this in one thing."""
    got = askers.ask(way)
    assert (got.text, got.error) == (ANSWER, None)
    assert got.receipt is not None
    assert (askers.kinds[-1:] == [LAST]) == (way in STREAMED)
    askers.assert_nothing_seen()


def refused(askers: Askers, got: Got, way: str) -> None:
    assert isinstance(got.error, errors.AnswerInvalid), got
    assert way in STREAMED or got.text == ""
    assert LAST not in askers.kinds


@pytest.mark.parametrize("way", ALL)
def test_answer_of_another_request_of_this_kind(askers: Askers, way: str) -> None:
    other = askers.overheard(way)
    refused(askers, askers.suffer(instead(lambda: other), way), way)


@pytest.mark.parametrize("way", ALL)
def test_answer_of_another_tenant_of_this_kind(askers: Askers, way: str) -> None:
    theirs = {"tenant": askers.other.tenant_id, "api_key": askers.other.api_key}
    other = askers.overheard(way, **theirs)
    refused(askers, askers.suffer(instead(lambda: other), way), way)


@pytest.mark.parametrize(("name", "way"), [*in_turn(CHUNKS, WHOLE), *in_turn(CHUNKS, STREAMED * 2)])
def test_chunks_of_this_kind_changed(askers: Askers, name: str, way: str) -> None:
    attack = answers(lambda told: told.with_chunks(CHUNKS[name]))
    refused(askers, askers.suffer(attack, way), way)


@pytest.mark.parametrize("name", MORE_CHUNKS)
def test_chunks_of_a_stream_of_responses_changed(askers: Askers, name: str) -> None:
    (way,) = STREAMED
    attack = answers(lambda told: told.with_chunks(MORE_CHUNKS[name]))
    refused(askers, askers.suffer(attack, way), way)


@pytest.mark.parametrize(
    ("name", "way"), [*in_turn(SPLICES, WHOLE), *in_turn(SPLICES, STREAMED * 2)]
)
def test_chunks_of_this_kind_spliced(askers: Askers, name: str, way: str) -> None:
    theirs = cut(askers.overheard(way).sealed)[1]
    attack = answers(lambda told: told.with_chunks(lambda mine: SPLICES[name](mine, theirs)))
    refused(askers, askers.suffer(attack, way), way)


@pytest.mark.parametrize(
    ("way", "operation"),
    [("responses", "chat.completions"), ("embeddings", "responses"), ("responses", "embeddings"),
     ("responses stream", "chat.completions"), ("unary", "responses"), ("stream", "responses")],
)  # fmt: skip
def test_asked_for_as_something_else(askers: Askers, way: str, operation: str) -> None:
    """Defence: what stands outside is bound into the seal, the operation too."""

    def renamed(asked: Asked) -> Asked:
        body = json.loads(asked.body)
        body["operation"] = operation
        return replace(asked, body=json.dumps(body).encode())

    got = askers.suffer(requests(renamed), way)
    assert isinstance(got.error, errors.LatensgateClientError), got
    assert got.error.error_code in {ErrorCode.ERR_OPEN_FAILED, ErrorCode.ERR_OUTER_MISMATCH}
    assert got.text == ""


@pytest.mark.parametrize("way", ALL)
def test_parent_that_answers_these_itself(askers: Askers, way: str) -> None:
    """With OpenAI's own form, in plain; and with nothing of a receipt."""
    plain: dict[str, object] = {"object": "response", "output": [], "data": [], "model": MODEL}
    forged = b"data: " + json.dumps({"type": LAST, "response": plain}).encode() + b"\n\n"
    stream = way in STREAMED
    kind = "text/event-stream" if stream else "application/json"
    body = forged if stream else json.dumps(plain).encode()
    got = askers.suffer(instead(partial(Told, 200, body, {"content-type": kind})), way)
    assert isinstance(got.error, errors.LatensgateClientError), got
    assert (got.text, askers.kinds) == ("", [])


@pytest.mark.parametrize("way", WHOLE)
def test_request_of_this_kind_that_is_sent_twice(askers: Askers, way: str) -> None:
    """Defence: the enclave remembers request ids; the second answer is no answer of it."""
    kept: list[Asked] = []

    def keep(asked: Asked) -> Asked:
        kept.append(asked)
        return asked

    assert askers.suffer(requests(keep), way).error is None
    headers = {name: value for name, value in kept[0].headers.items() if name != "idempotency-key"}
    again = askers.gateway.honest(replace(kept[0], headers=headers))
    assert again.status == ErrorCode.ERR_REPLAY.http_status
    assert json.loads(again.body)["error"]["code"] == ErrorCode.ERR_REPLAY.name
