"""What the exchange asks of whoever does its input and output, and what it gets.

The exchange is a generator: it yields one of these and is sent the answer to it. So it can be
driven by threads, by an event loop, or by a test without either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from latensgate.attested import Attested
    from latensgate.data_keys import DataKey
    from latensgate.exchange_failure import Failure
    from latensgate.exchange_stream import StreamOpener
    from latensgate.receipts import AnswerReceipt

Headers: TypeAlias = "tuple[tuple[str, str], ...]"


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request to the gateway; answered by ``Received``.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Behind the gateway's root, with its query.
        headers: Names and values.
        body: Never plaintext.
        stream: Whether a 200 answer of type ``text/event-stream`` is left unread.
        max_bytes: Of the answer's body.
    """

    method: str
    path: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False, default=b"")
    stream: bool = False
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """An HTTP answer.

    Attributes:
        status: As it came.
        headers: By lower-case name.
        body: The whole body, at most one byte longer than ``Send.max_bytes``; empty of a stream.
        streaming: Whether the body is still to be read, by ``Streaming.opener``.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    streaming: bool = False


@dataclass(frozen=True, slots=True)
class NeedAttested:
    """Give an attestation that may be sealed to; attest if there is none.

    Attributes:
        stale: The one whose keys the gateway no longer knows, or None.
        headers: To be sent with the question; without authentication, since it is public.
    """

    stale: Attested | None = None
    headers: Headers = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class NeedDataKey:
    """Make a data key under the tenant's own KMS key; answered by ``DataKey``.

    Attributes:
        key_arn: Of the tenant's key.
        context: KMS encryption context.
    """

    key_arn: str
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class Answered:
    """A whole answer whose receipt was verified.

    Attributes:
        body: JSON as an OpenAI client reads it.
        headers: Of the gateway, those worth handing on.
        receipt: Verified; None of answers that are not the enclave's (lists of models).
    """

    body: bytes
    headers: Headers
    receipt: AnswerReceipt | None


@dataclass(frozen=True, slots=True, repr=False)
class Streaming:
    """A sealed stream began: read on and feed the opener.

    Attributes:
        opener: Takes the body's bytes, gives OpenAI events.
        headers: Of the gateway, those worth handing on.
    """

    opener: StreamOpener
    headers: Headers


Reply: TypeAlias = "Answered | Streaming | Failure"
Step: TypeAlias = "Send | NeedAttested | NeedDataKey"
Given: TypeAlias = "Received | Attested | DataKey"
Talk: TypeAlias = "Generator[Step, Given, Reply]"
