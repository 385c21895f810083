"""A parent that plays with the chunks of streams, of every operation that streams; to the real SDK.

`test_malicious_parent_answers.py` has more of it for chat. Here each way to play is tried on chat,
on responses, and on streams of one length, whose chunks nobody tells apart by their size. Whatever
is done, the caller gets a typed error, nothing forged, and never a short answer without an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hostile_fixtures import ANSWER, MODEL, PROMPT, Got, Victims
from latensgate import AsyncLatensgate, StreamShape, errors, receipt_of
from malicious_gateway import Asked, Attack, Honest, Told, answers, cut, instead

Chunks = list[bytes]
SHAPE = StreamShape("fixed", coalesce_ms=1)


@dataclass(frozen=True)
class Way:
    """One operation, asked by one client."""

    operation: str
    asynchronous: bool = False
    shape: StreamShape | None = None

    def __str__(self) -> str:
        kind = "async " if self.asynchronous else ""
        return f"{kind}{self.operation}{' of one length' if self.shape else ''}"


WAYS = (
    Way("chat"),
    Way("responses"),
    Way("responses", asynchronous=True),
    Way("chat", asynchronous=True, shape=SHAPE),
    Way("responses", shape=SHAPE),
)


def ask(victims: Victims, way: Way, text: str = PROMPT) -> Got:
    """Ask once, as an application does that reads to the end."""
    if way.operation == "chat":
        return victims.ask("async stream" if way.asynchronous else "stream", text, **_options(way))
    got = Got()
    try:
        if way.asynchronous:
            asyncio.run(_responses_async(victims, way, text, got))
        else:
            _responses(victims, way, text, got)
    except Exception as error:  # noqa: BLE001 -- judged by the tests
        got.error = error
    return got


def _options(way: Way) -> dict[str, object]:
    return {} if way.shape is None else {"stream_shape": way.shape}


def _responses(victims: Victims, way: Way, text: str, got: Got) -> None:
    client = victims.client(_options(way))
    events = client.responses.create(model=MODEL, input=text, stream=True)
    for event in events:
        if event.type == "response.output_text.delta":
            got.text += event.delta
    got.receipt = receipt_of(events)


async def _responses_async(victims: Victims, way: Way, text: str, got: Got) -> None:
    async with AsyncLatensgate(**victims.trust(**_options(way))) as client:  # type: ignore[arg-type]  # by the tests
        events = await client.responses.create(model=MODEL, input=text, stream=True)
        async for event in events:
            if event.type == "response.output_text.delta":
                got.text += event.delta
        got.receipt = receipt_of(events)


def suffer(victims: Victims, attack: Attack, way: Way) -> Got:
    """Ask under an attack; whatever came of it, nothing went out in plain and nothing is forged."""
    victims.gateway.asked.clear()
    victims.gateway.attack = attack
    got = ask(victims, way)
    victims.assert_nothing_seen()
    assert ANSWER.startswith(got.text), "something forged was given to the caller"
    assert isinstance(got.error, errors.AnswerInvalid), got
    assert got.receipt is None
    assert PROMPT not in repr(got.error) + str(got.error)
    assert len({asked.body for asked in victims.gateway.inferences}) == 1, "sealed anew"
    return got


def overheard(victims: Victims, way: Way) -> Told:
    """Let a call through and return what the true parent answered to it."""
    kept: list[Told] = []

    def listen(asked: Asked, honest: Honest) -> Told:
        told = honest(asked)
        if asked.inference:
            kept.append(told)
        return told

    victims.gateway.attack = listen
    assert ask(victims, way).error is None
    victims.gateway.attack = None
    return kept[-1]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_honest_stream_is_no_attack(victims: Victims, way: Way) -> None:
    """Everything below differs from this in one thing; and there are chunks to play with."""
    nonce, chunks = cut(overheard(victims, way).sealed)
    assert len(nonce) > 0
    assert len(chunks) >= 4
    if way.operation == "chat" and way.shape is not None:
        assert len({len(each) for each in chunks[:-1]}) == 1
    got = ask(victims, way)
    assert (got.text, got.error) == (ANSWER, None)
    assert got.receipt is not None


PLAYS: dict[str, Callable[[Chunks], Chunks]] = {
    "reorder the first two": lambda chunks: [chunks[1], chunks[0], *chunks[2:]],
    "reorder the last two": lambda chunks: [*chunks[:-3], chunks[-2], chunks[-3], chunks[-1]],
    "reverse": lambda chunks: [*chunks[-2::-1], chunks[-1]],
    "drop the first": lambda chunks: chunks[1:],
    "drop one in the middle": lambda chunks: [*chunks[:2], *chunks[3:]],
    "drop the last": lambda chunks: [*chunks[:-2], chunks[-1]],
    "duplicate the first": lambda chunks: [chunks[0], *chunks],
    "duplicate the last": lambda chunks: [*chunks[:-1], *chunks[-2:]],
    "replay an early one at the end": lambda chunks: [*chunks[:-1], chunks[0], chunks[-1]],
    "one in the place of its neighbour": lambda chunks: [chunks[0], chunks[0], *chunks[2:]],
}


@pytest.mark.parametrize("name", PLAYS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_chunks_played_with(victims: Victims, way: Way, name: str) -> None:
    """Defence: the number of each chunk is in its nonce, and the end in the AAD of the last."""
    got = suffer(victims, answers(lambda told: told.with_chunks(PLAYS[name])), way)
    assert not isinstance(got.error, errors.AnswerTruncated)


CUTS: dict[str, Callable[[Chunks], Chunks]] = {
    "nothing behind the first": lambda chunks: chunks[:1],
    "half of the chunks": lambda chunks: chunks[: len(chunks) // 2],
    "all but the final one": lambda chunks: chunks[:-1],
    "half a chunk at the end": lambda chunks: [*chunks[:-2], chunks[-2][: len(chunks[-2]) // 2]],
    "nothing at all": lambda _: [],
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_stream_cut_short_is_never_a_short_answer(victims: Victims, way: Way, name: str) -> None:
    """Defence: AnswerOpener.finish, and `[DONE]` only behind a verified receipt."""
    got = suffer(victims, answers(lambda told: told.with_chunks(CUTS[name])), way)
    assert isinstance(got.error, errors.AnswerTruncated), got


SPLICES: dict[str, Callable[[Chunks, Chunks], Chunks]] = {
    "one chunk in its place": lambda mine, theirs: [mine[0], theirs[1], *mine[2:]],
    "one chunk more": lambda mine, theirs: [*mine[:-1], theirs[0], mine[-1]],
    "the second half": lambda mine, theirs: [*mine[:2], *theirs[2:]],
    "the end": lambda mine, theirs: [*mine[:-1], theirs[-1]],
    "all but the end": lambda mine, theirs: [*theirs[:-1], mine[-1]],
}


@pytest.mark.parametrize("name", SPLICES)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_chunks_of_another_stream_spliced_in(victims: Victims, way: Way, name: str) -> None:
    """Of the same client, to the same words, in the same place. Defence: the key of each answer."""
    theirs = cut(overheard(victims, way).sealed)[1]
    suffer(
        victims,
        answers(lambda told: told.with_chunks(lambda mine: SPLICES[name](mine, theirs))),
        way,
    )


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_earlier_stream_replayed(victims: Victims, way: Way) -> None:
    """Whole and true, to the same words. Defence: the secret of each request."""
    earlier = overheard(victims, way)
    assert suffer(victims, instead(lambda: earlier), way).text == ""


@pytest.mark.parametrize(("asked", "told"), [("chat", "responses"), ("responses", "chat")])
def test_a_stream_of_another_operation(victims: Victims, asked: str, told: str) -> None:
    other = overheard(victims, Way(told))
    assert suffer(victims, instead(lambda: other), Way(asked)).text == ""
