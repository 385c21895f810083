"""The policy over a streamed answer: pieces in, pieces out that may leave.

Text goes through windows (`pii.windowed`) where the policy could change it, and gets the caller's
own values back. The arguments of a tool call whose policy could change them leave when that call is
complete: only whole JSON has members to look at. Where the policy changes nothing, they pass, and
only values are put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.chat_answer import (
    ChatAnswer,
    Finished,
    NativeDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Usage,
)
from latensgate_enclave.chat_deltas import Collector, as_deltas
from latensgate_enclave.pii import Direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import ChatDelta
    from latensgate_enclave.pii import Budget
    from latensgate_enclave.pii.protection import Passage, Protection


class StreamGuard:
    """Passes one streamed answer of one model call.

    Args:
        protection: Of the request.
        budget: Of the whole answer.
    """

    __slots__ = (
        "_acts",
        "_budget",
        "_call",
        "_call_index",
        "_collected",
        "_protection",
        "_texts",
        "_thought",
        "_thought_told",
    )

    def __init__(self, protection: Protection, budget: Budget) -> None:
        self._protection = protection
        self._acts = protection.acts_on_answers()
        self._budget = budget
        self._texts: dict[type[TextDelta | ReasoningDelta], Passage] = {}
        self._thought: list[str] = []
        self._thought_told: list[str] = []
        self._call: Passage | None = None
        self._call_index: int | None = None
        self._collected: Collector | None = None

    def size(self, deltas: Sequence[ChatDelta] = ()) -> int:
        """Return how much text `push` walks over for these, or `end` for none.

        The arguments of a call that is held count, since what comes next may complete it.
        """
        if not self._acts:
            return 0
        held = 0 if self._collected is None else self._collected.size_bytes
        return held + sum([_size(delta) for delta in deltas])

    def push(self, deltas: Sequence[ChatDelta]) -> list[ChatDelta]:
        """Take pieces; return those that may leave.

        Raises:
            PIIHardFailError: A category was found that the policy refuses.
            LatensgateError: A scan could not be completed; arguments that are no JSON object.
        """
        told: list[ChatDelta] = []
        for delta in deltas:
            told += self._passed(delta)
        return told

    def end(self) -> list[ChatDelta]:
        """Return what was held back.

        Raises:
            LatensgateError: As `push`.
        """
        return [*self._texts_ended(), *self._call_ended()]

    def _passed(self, delta: ChatDelta) -> list[ChatDelta]:
        match delta:
            case TextDelta():
                return [*self._call_ended(), *self._text(delta)]
            case ReasoningDelta():
                return [*self._call_ended(), *self._reasoning(delta)]
            case ToolCallBegun():
                ended = self.end()
                return [*ended, *self._begun(delta)]
            case ToolCallDelta():
                return self._arguments(delta)
            case Finished():
                return [*self.end(), delta]
            case NativeDelta() | Usage():  # pragma: no branch  # the union is closed
                return [delta]  # the first is asked for only where the policy leaves answers alone

    # --- text ---

    def _passage(self, kind: type[TextDelta | ReasoningDelta]) -> Passage:
        found = self._texts.get(kind)
        if found is None:
            found = self._protection.stream(Direction.ANSWER, budget=self._budget)
            self._texts[kind] = found
        return found

    def _text(self, delta: TextDelta) -> list[ChatDelta]:
        told = self._passage(TextDelta).push(delta.text)
        return [TextDelta(told)] if told else []

    def _reasoning(self, delta: ReasoningDelta) -> list[ChatDelta]:
        passage = self._passage(ReasoningDelta)
        told = passage.push(delta.text)
        ends = delta.signature is not None or delta.redacted is not None
        if ends:
            told += passage.end()
            del self._texts[ReasoningDelta]
        self._thought.append(delta.text)
        self._thought_told.append(told)
        if not ends:
            return [ReasoningDelta(told)] if told else []
        signature = "" if delta.signature and self._thought_changed() else delta.signature
        self._thought.clear()
        self._thought_told.clear()
        return [ReasoningDelta(told, signature, delta.redacted)]

    def _thought_changed(self) -> bool:
        """Whether the block that ends is not what the provider signed, who would refuse it then."""
        return "".join(self._thought) != "".join(self._thought_told)

    def _texts_ended(self) -> list[ChatDelta]:
        told: list[ChatDelta] = []
        for kind, passage in self._texts.items():
            if rest := passage.end():
                told.append(kind(rest))
        self._texts.clear()
        self._thought.clear()
        self._thought_told.clear()
        return told

    # --- tool calls ---

    def _begun(self, begun: ToolCallBegun) -> list[ChatDelta]:
        self._call_index = begun.index
        if self._protection.changes(Direction.TOOL_ARGUMENTS):
            self._collected = Collector()
            self._collected.add([ToolCallBegun(0, begun.id, begun.name)])
            return [begun]
        self._call = self._protection.stream(
            Direction.TOOL_ARGUMENTS, budget=self._budget, json_text=True
        )
        return [begun]

    def _arguments(self, delta: ToolCallDelta) -> list[ChatDelta]:
        if delta.index != self._call_index:
            raise UpstreamError("Bedrock: two tool calls at once in a stream")
        if self._collected is not None:
            self._collected.add([ToolCallDelta(0, delta.arguments)])
            return []
        if not delta.arguments.isascii() and _has_lone_surrogate(delta.arguments):
            raise UpstreamError("Bedrock: the arguments of a tool call are no JSON object")
        told = "" if self._call is None else self._call.push(delta.arguments)
        return [ToolCallDelta(delta.index, told)] if told else []

    def _call_ended(self) -> list[ChatDelta]:
        """Return what is left of the tool call that is open."""
        index, self._call_index = self._call_index, None
        call, self._call = self._call, None
        collected, self._collected = self._collected, None
        if index is None:
            return []
        if collected is not None:
            whole = self._scanned(collected.answer())
            return [
                ToolCallDelta(index, each.arguments)
                for each in as_deltas(whole)
                if isinstance(each, ToolCallDelta)
            ]
        rest = "" if call is None else call.end()
        return [ToolCallDelta(index, rest)] if rest else []

    def _scanned(self, answer: ChatAnswer) -> ChatAnswer:
        parts = [each for each in answer.parts() if each.direction is Direction.TOOL_ARGUMENTS]
        scanned = self._protection.scan_part_of_answer(parts, budget=self._budget)
        texts = iter(scanned)
        return answer.with_texts(
            [
                next(texts) if each.direction is Direction.TOOL_ARGUMENTS else each.text
                for each in answer.parts()
            ]
        )


def _size(delta: ChatDelta) -> int:
    if isinstance(delta, TextDelta | ReasoningDelta):
        return len(delta.text)
    return len(delta.arguments) if isinstance(delta, ToolCallDelta) else 0


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
