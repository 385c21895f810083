"""What a model's row lacks, done to its answer: one filter for whole answers and for streams.

* A schema that became a tool: that tool's arguments are the answer's text.
* A model that was only told to write JSON: its text is held and must be one JSON object.
* One call at a time where the model cannot be told so: the first one stays.
* Stop sequences that the provider refuses: the text ends before the first of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    Finished,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
)
from latensgate_enclave.chat_deltas import Collector, as_deltas
from latensgate_enclave.values import Value
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import BEDROCK_ANSWER_MAX_BYTES
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import ChatDelta, FinishReason

_FENCE: Final = "```"
_Fate: TypeAlias = int | Literal["text", "none"]
"""What becomes of a call: its number in the answer, the answer's text, or nothing."""


class Shape(Value, frozen=True):
    """What has to be done.

    Attributes:
        answer_tool: Name of the tool whose arguments are the text; None: there is none.
        single_call: All calls but the first are left out.
        check_json: The text must be one JSON object.
        stops: Where the text ends.
    """

    answer_tool: str | None = None
    single_call: bool = False
    check_json: bool = False
    stops: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether nothing has to be done."""
        return self == PLAIN

    def shaped(self, answer: ChatAnswer) -> ChatAnswer:
        """Return the answer as it has to be.

        Raises:
            UpstreamError: Not JSON where it must be.
        """
        if self.is_plain:
            return answer
        collector = Collector()
        collector.add(ShapedStream(self).receive(as_deltas(answer)))
        made = collector.answer()
        return ChatAnswer(
            tuple(text for text in made.text if text),
            made.tool_calls,
            made.finish_reason,
            answer.usage,
            answer.size_bytes,
            answer.reasoning,
        )


PLAIN: Final = Shape()
"""Nothing has to be done."""


class ShapedStream:
    """Does it to a stream; however the stream is cut, the result is the same.

    Args:
        shape: What has to be done.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._fates: dict[int, _Fate] = {}
        self._calls = 0
        self._held = ""
        self._json: list[str] = []
        self._stopped = False

    def receive(self, deltas: Sequence[ChatDelta]) -> list[ChatDelta]:
        """Return what becomes of some pieces.

        Raises:
            UpstreamError: Not JSON where it must be.
        """
        return [made for delta in deltas for made in self._made(delta)]

    def _made(self, delta: ChatDelta) -> list[ChatDelta]:
        if isinstance(delta, TextDelta):
            return [] if self._shape.answer_tool else self._text(delta.text)
        if isinstance(delta, ToolCallBegun):
            return self._begin(delta)
        if isinstance(delta, ToolCallDelta):
            fate = self._fates[delta.index]
            if isinstance(fate, int):
                return [ToolCallDelta(fate, delta.arguments)]
            return self._text(delta.arguments) if fate == "text" else []
        return self._end(delta.finish_reason) if isinstance(delta, Finished) else [delta]

    def _begin(self, delta: ToolCallBegun) -> list[ChatDelta]:
        if delta.name == self._shape.answer_tool:
            self._fates[delta.index] = "none" if "text" in self._fates.values() else "text"
            return []
        if self._stopped or (self._shape.single_call and self._calls):
            self._fates[delta.index] = "none"
            return []
        self._fates[delta.index] = self._calls
        self._calls += 1
        return [ToolCallBegun(self._calls - 1, delta.id, delta.name)]

    def _text(self, text: str) -> list[ChatDelta]:
        if self._stopped:
            return []
        if self._shape.check_json:
            self._json.append(text)  # all of it, so it is put together once
            return []
        self._held += text
        places = [self._held.find(stop) for stop in self._shape.stops]
        found = [place for place in places if place >= 0]
        if found:
            self._stopped = True
            sure, self._held = self._held[: min(found)], ""
        else:
            sure = self._held[: len(self._held) - self._undecided()]
            self._held = self._held[len(sure) :]
        return [TextDelta(sure)] if sure else []

    def _undecided(self) -> int:
        """Return how many characters at the end may begin a stop sequence: the most, no more."""
        longest = max((len(stop) for stop in self._shape.stops), default=1) - 1
        for count in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-count:]) for stop in self._shape.stops):
                return count
        return 0

    def _end(self, reason: FinishReason) -> list[ChatDelta]:
        if self._shape.check_json:
            self._held = _json_text("".join(self._json), must=reason == "stop")
        last: list[ChatDelta] = [TextDelta(self._held)] if self._held else []
        self._held = ""
        no_call = reason == "tool_calls" and not self._calls
        return [*last, Finished("stop" if self._stopped or no_call else reason)]


def _json_text(text: str, *, must: bool) -> str:
    """Return the JSON object of a text, without the fence that models like to put around it."""
    inner = text.strip()
    if inner.startswith(_FENCE) and inner.endswith(_FENCE):
        inner = inner[len(_FENCE) : -len(_FENCE)].removeprefix("json").strip()
    try:
        parse_json_object(
            inner.encode("utf-8", "surrogatepass"), max_bytes=BEDROCK_ANSWER_MAX_BYTES
        )
    except MalformedError:
        if must:
            raise UpstreamError("the model did not answer with a JSON object") from None
        return text
    return inner
