"""``policy.dry_run`` as an operation: texts, or a chat request, for which no model is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_operation import ChatModelRequest
from latensgate_enclave.chat_values import RequestInvalidError
from latensgate_enclave.pii import Direction, PIITooLargeError, TextPart
from latensgate_shared.limits import NAME_MAX_CHARS, PII_REQUEST_MAX_CHARS, PII_TEXT_COST_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.chat_answer import CompletionHead
    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_enclave.operation import Forwarding, ModelAnswer, ModelRequest
    from latensgate_shared.strict_json import JSONObject, JSONValue

_DIRECTIONS = {each.value: each for each in Direction}
_TEXTS_MAX_COUNT = PII_REQUEST_MAX_CHARS // PII_TEXT_COST_CHARS


@dataclass(frozen=True, slots=True)
class DryRunRequest:
    """What a policy is tried on.

    Attributes:
        model: The caller's name for a model; it need not exist.
        given: Texts, where texts are given.
        chat: A chat request, where one is given.
    """

    model: str
    given: tuple[TextPart, ...] = field(default=(), repr=False)
    chat: ChatModelRequest | None = field(default=None, repr=False)

    @property
    def stream(self) -> bool:
        """Whether the answer comes in pieces: never."""
        return False

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of fields that are not forwarded: nothing is."""
        return ()

    def parts(self) -> list[TextPart]:
        """Return every text that would be forwarded."""
        return [*self.given] if self.chat is None else self.chat.parts()

    def attachments(self) -> int:
        """Count what would go on that no scan can look into."""
        return 0 if self.chat is None else self.chat.attachments()

    def with_texts(self, texts: Sequence[str]) -> DryRunRequest | None:
        """Return the request as it would go on; None where a masked name calls no tool."""
        if self.chat is None:
            return self
        chat = self.chat.with_texts(texts)
        return None if chat is None else DryRunRequest(self.model, chat=chat)

    def translate(self, route: ModelRoute, traits: ModelTraits) -> tuple[Forwarding, ...]:
        """Return the model calls that answer it: none."""
        del route, traits
        return ()


@dataclass(frozen=True, slots=True)
class DryRunOperation:
    """``policy.dry_run``.

    Attributes:
        id_prefix: Explanations have no id.
    """

    id_prefix: str = ""

    def parse(self, body: JSONObject) -> DryRunRequest:
        """Check a body: ``{"model", "texts"}``, or that of a chat request.

        Raises:
            RequestInvalidError: ``param`` names what is wrong.
            PIITooLargeError: More texts than one scan takes on.
        """
        model = str(body["model"])  # equal to the visible one, so a text
        if "texts" not in body:
            chat = ChatModelRequest(parse_chat_request(body))
            if chat.stream:
                raise RequestInvalidError("a dry run does not stream", param="stream")
            return DryRunRequest(model, chat=chat)
        for name in body.keys() - {"model", "texts"}:
            raise RequestInvalidError("texts stand alone", param=name)
        return DryRunRequest(model, _texts(body["texts"]))

    def render(
        self,
        head: CompletionHead,  # noqa: ARG002 -- never asked for
        request: ModelRequest,  # noqa: ARG002 -- never asked for
        answers: Sequence[ModelAnswer],  # noqa: ARG002 -- never asked for
    ) -> NoReturn:
        """Render no answer: ``dry_run`` has written it.

        Raises:
            TypeError: Always.
        """
        raise TypeError("no model answers a dry run")

    def stream_renderer(
        self,
        head: CompletionHead,  # noqa: ARG002 -- never asked for
        request: ModelRequest,  # noqa: ARG002 -- never asked for
    ) -> NoReturn:
        """Dry runs do not stream.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a dry run does not stream")


def _texts(value: JSONValue) -> tuple[TextPart, ...]:
    if not isinstance(value, list) or not value:
        raise RequestInvalidError("an array of at least one text expected", param="texts")
    if len(value) > _TEXTS_MAX_COUNT:
        raise PIITooLargeError("the request holds more texts than one scan takes on")
    return tuple([_text(each, f"texts[{index}]") for index, each in enumerate(value)])


def _text(value: JSONValue, place: str) -> TextPart:
    if not isinstance(value, dict) or not {"text"} <= value.keys() <= {"text", "direction", "hint"}:
        raise RequestInvalidError("text, and direction and hint at most, expected", param=place)
    text, hint = value["text"], value.get("hint", "")
    if not isinstance(text, str):
        raise RequestInvalidError("a text expected", param=f"{place}.text")
    if not isinstance(hint, str) or len(hint) > NAME_MAX_CHARS:
        problem = f"a text of at most {NAME_MAX_CHARS} characters expected"
        raise RequestInvalidError(problem, param=f"{place}.hint")
    direction = _DIRECTIONS.get(str(value.get("direction", Direction.PROMPT.value)))
    if direction is None:
        problem = f"one of {', '.join(_DIRECTIONS)} expected"
        raise RequestInvalidError(problem, param=f"{place}.direction")
    return TextPart(text, direction, hint)
