"""Generated answers of several topics, and what somebody who watches the connection sees of them.

Nothing of a real model: each topic has a vocabulary of its own, with a distribution of the lengths
of its words, a tempo, and a distribution of how many words an answer has. What is done to them is
real: rendered, joined on ticks, padded and sealed by the code of the enclave. Time is a clock that
jumps from one event to the next.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_answer import ChatDelta, CompletionHead, Finished, TextDelta
from latensgate_enclave.chat_render import ChunkRenderer
from latensgate_enclave.stream_ticks import Ticks, on_ticks
from latensgate_shared.sealed import AnswerSealer, AnswerSecret
from latensgate_shared.stream_records import encode_stream_records
from latensgate_shared.stream_shape import StreamShape
from latensgate_shared.strict_json import JSONObject

_HEAD: Final = CompletionHead("chatcmpl-" + "0" * 32, 1_790_000_000, "m")
_SECRET: Final = AnswerSecret(bytes(32), bytes(32))
_WORDS_MIN_COUNT: Final = 8
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Topic:
    """What answers about one thing look like.

    Attributes:
        name: Of it.
        letters: Mean length of a word.
        spread: Standard deviation of that.
        words: Mean number of words of an answer.
        gap_ms: Median pause before a word.
        pause: Share of words that the model thinks ten times as long about.
    """

    name: str
    letters: float
    spread: float
    words: int
    gap_ms: float
    pause: float


TOPICS: Final = (
    Topic("medicine", 8.0, 3.5, 95, 24, 0.010),
    Topic("law", 7.0, 3.0, 130, 27, 0.020),
    Topic("small talk", 4.0, 1.5, 45, 18, 0.005),
    Topic("code", 5.5, 4.0, 110, 16, 0.030),
    Topic("arithmetic", 3.0, 1.2, 60, 21, 0.060),
    Topic("poetry", 4.8, 1.8, 80, 30, 0.015),
    Topic("chemistry", 9.5, 4.5, 90, 26, 0.025),
    Topic("travel", 5.2, 2.2, 100, 20, 0.008),
    Topic("finance", 6.2, 2.6, 85, 22, 0.012),
    Topic("religion", 5.8, 2.4, 120, 25, 0.018),
)


@dataclass(frozen=True)
class Way:
    """How streams leave."""

    name: str
    shape: StreamShape
    pad: bool = True
    obfuscate: bool = True


WAYS: Final = (
    Way("no padding at all", StreamShape(), pad=False, obfuscate=False),
    Way("default: Padmé and filler, each piece as it comes", StreamShape()),
    Way("`fixed`, each piece as it comes", StreamShape("fixed")),
    Way("`fixed` on ticks of 200 ms", StreamShape("fixed", 200)),
    Way("`fixed` on ticks of 1,000 ms", StreamShape("fixed", 1_000)),
)
DEFAULT: Final = WAYS[1]
SHAPED: Final = WAYS[3]


@dataclass(frozen=True)
class Seen:
    """What an observer has of one stream: when each sealed record left, and how long it is."""

    at_ms: tuple[int, ...]
    size_bytes: tuple[int, ...]


@dataclass(frozen=True)
class Word:
    """One piece as a model gives it."""

    text: str
    gap_s: float


def answer_of(topic: Topic, vocabulary: Sequence[str], chance: random.Random) -> list[Word]:
    """Make one answer."""
    count = max(_WORDS_MIN_COUNT, round(chance.gauss(topic.words, topic.words / 3)))
    tempo = chance.lognormvariate(0, 0.15)  # of the day, and of whoever else asks
    return [
        Word(
            " " + chance.choice(vocabulary),
            topic.gap_ms
            / 1_000
            * tempo
            * chance.lognormvariate(0, 0.5)
            * (10 if chance.random() < topic.pause else 1),
        )
        for _ in range(count)
    ]


def vocabulary_of(topic: Topic, chance: random.Random) -> list[str]:
    """Make the words of a topic."""
    lengths = [max(1, round(chance.gauss(topic.letters, topic.spread))) for _ in range(400)]
    return ["".join(chance.choices(_LETTERS, k=length)) for length in lengths]


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing, and says how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += max(timeout or 0.0, 0.0)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while everybody waits."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the time that was jumped to, seconds."""
        return self._jumping.now_s


async def _said(words: Sequence[Word]) -> AsyncGenerator[Sequence[ChatDelta]]:
    for word in words:
        await asyncio.sleep(word.gap_s)
        yield [TextDelta(word.text)]
    yield [Finished("stop")]


async def seen(words: Sequence[Word], way: Way) -> Seen:
    """Stream one answer as the enclave does, and note what leaves."""
    loop = asyncio.get_running_loop()
    asked: JSONObject = {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
        "stream_options": {"include_obfuscation": way.obfuscate},
    }
    request = parse_chat_request(asked)
    renderer, sealer = ChunkRenderer(_HEAD, request), AnswerSealer(_SECRET)
    at_ms: list[int] = []
    sizes: list[int] = []

    def leave(events: Sequence[bytes]) -> None:
        for event in events:
            step = way.shape.step_bytes
            for record in encode_stream_records(event, pad=way.pad, step_bytes=step):
                sizes.append(len(sealer.content(record)))
                at_ms.append(round(loop.time() * 1_000))

    leave(renderer.begin(0))
    pieces = _said(words)
    if way.shape.coalesce_ms:
        pieces = on_ticks(pieces, Ticks(way.shape.coalesce_ms))
    async for deltas in pieces:
        for delta in deltas:
            leave(renderer.render(delta))
    return Seen(tuple(at_ms), tuple(sizes))


def watched(way: Way, answers: Sequence[Sequence[Word]]) -> list[Seen]:
    """Return what an observer sees of answers that leave in one way."""

    async def all_of_them() -> list[Seen]:
        return [await _since_then(each, way) for each in answers]

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(all_of_them())


async def _since_then(words: Sequence[Word], way: Way) -> Seen:
    began_ms = round(asyncio.get_running_loop().time() * 1_000)
    found = await seen(words, way)
    return Seen(tuple([each - began_ms for each in found.at_ms]), found.size_bytes)
