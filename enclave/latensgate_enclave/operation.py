"""What the pipeline drives: requests, answers and renderers of any operation.

The pipeline knows no operation by name. An operation checks a body and yields a `ModelRequest`; the
request shows its texts to the scan and says what each model call is; the answers of those calls
show their texts, too; and the operation writes them as the caller expects. Streams pass through as
`ChatDelta`, the one form that all streaming operations share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar

from latensgate_enclave.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from latensgate_enclave.aws.eventstream import EventMessage
    from latensgate_enclave.chat_answer import ChatDelta, CompletionHead, Usage
    from latensgate_enclave.http1 import HttpResponse
    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.model_traits import ModelTraits
    from latensgate_enclave.pii import TextPart
    from latensgate_shared.error_answers import WireError
    from latensgate_shared.strict_json import JSONObject

Method: TypeAlias = Literal["converse", "invoke"]
"""Of Bedrock's runtime; `converse` is `converse-stream` where the answer is streamed."""


class ModelAnswer(Protocol):
    """The whole answer of one model call; frozen."""

    @property
    def usage(self) -> Usage:
        """What it cost."""
        ...

    @property
    def size_bytes(self) -> int:
        """Of what it was read from: whether walking over it would hold others up."""
        ...

    def parts(self) -> list[TextPart]:
        """Return every text that the answer would return."""
        ...

    def with_texts(self, texts: Sequence[str]) -> Self:
        """Return the answer with its texts replaced, in the order of `parts`."""
        ...


class StreamReader(Protocol):
    """Reads one streamed answer."""

    def receive(self, message: EventMessage) -> list[ChatDelta]:
        """Return what one message of the event stream says."""
        ...

    def close(self) -> None:
        """Say that the stream ended; raises if the answer did not."""
        ...


class AnswerReader(Protocol):
    """Reads what a model answers to one call."""

    def whole(self, response: HttpResponse) -> ModelAnswer:
        """Read an answer with status 200."""
        ...

    def stream(self) -> StreamReader:
        """Begin to read a streamed answer."""
        ...


class Forwarding(Value, frozen=True):
    """One model call.

    Attributes:
        route: Where to.
        body: Exactly these bytes are hashed into the receipt.
        reader: Of the answer.
        method: Which call of Bedrock's runtime it is.
        whole: The answer is asked for in one piece, also where the caller streams.
        dropped: Names of fields that this model is not sent, for the receipt.
        unscannable: Names of fields whose answers no policy can change.
    """

    route: ModelRoute
    body: bytes
    reader: AnswerReader
    method: Method = "converse"
    whole: bool = False
    dropped: tuple[str, ...] = ()
    unscannable: tuple[str, ...] = ()


class ModelRequest(Protocol):
    """A checked request; frozen, its texts visible to the scan."""

    @property
    def model(self) -> str:
        """The caller's name for a model."""
        ...

    @property
    def stream(self) -> bool:
        """Whether the answer comes in pieces."""
        ...

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of fields that are not forwarded, sorted."""
        ...

    def parts(self) -> list[TextPart]:
        """Return every text that the request would forward."""
        ...

    def attachments(self) -> int:
        """Count what goes on that no scan can look into."""
        ...

    def with_texts(self, texts: Sequence[str]) -> Self | None:
        """Return the request with its texts replaced; None where a masked name calls no tool."""
        ...

    def translate(self, route: ModelRoute, traits: ModelTraits) -> tuple[Forwarding, ...]:
        """Return the model calls that answer it, in the order of their answers."""
        ...


class StreamRenderer(Protocol):
    """Writes one streamed answer; each item is the JSON of one event."""

    def begin(self, choice: int) -> list[bytes]:
        """Begin the answer of the next call; calls count from 0."""
        ...

    def render(self, delta: ChatDelta) -> list[bytes]:
        """Write a piece; usage is never one."""
        ...

    def end(self, usage: Usage) -> list[bytes]:
        """End the stream, once, with the sum of all calls."""
        ...

    def fail(self, error: WireError) -> list[bytes]:
        """Say that it ends with an error; the sealed error follows in any case."""
        ...


class Operation(Protocol):
    """One operation of `outer.operation`."""

    @property
    def id_prefix(self) -> str:
        """Of the ids of its answers, as in ``chatcmpl-``."""
        ...

    def parse(self, body: JSONObject) -> ModelRequest:
        """Check a body."""
        ...

    def render(
        self, head: CompletionHead, request: ModelRequest, answers: Sequence[ModelAnswer]
    ) -> bytes:
        """Return the answer as JSON."""
        ...

    def stream_renderer(self, head: CompletionHead, request: ModelRequest) -> StreamRenderer:
        """Return what writes a streamed answer."""
        ...


_Kind = TypeVar("_Kind")


def of_kind(value: object, kind: type[_Kind]) -> _Kind:
    """Return a value that an operation made itself and gets back through the pipeline.

    Raises:
        TypeError: It is another operation's: a mistake of ours.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected")
    return value
