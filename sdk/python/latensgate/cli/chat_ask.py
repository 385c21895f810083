"""One turn with the SDK: ask, show the answer as it comes, keep the receipt.

Everything of the SDK's client is imported when a chat begins: the other commands start faster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

import httpx

from latensgate.cli.exit_codes import ExitCode
from latensgate.cli.failures import Failure, exit_code_of
from latensgate.cli.text import printable
from latensgate.gateway.connection import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import openai
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

    from latensgate.attested import AttestationProof
    from latensgate.config import Wanted
    from latensgate.receipts import AnswerReceipt


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked besides the messages.

    Attributes:
        model: Operator's model name.
        max_tokens: Most tokens of the answer; None: the model's own limit.
        stream: Whether the answer comes piece by piece.
    """

    model: str
    max_tokens: int | None = None
    stream: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer whose receipt the SDK verified."""

    text: str = field(repr=False)
    receipt: AnswerReceipt
    finish_reason: str


class AskError(Exception):
    """The SDK refused, or was refused.

    Attributes:
        failure: How it is told.
        receipt: Signed proof, if the enclave itself refused.
    """

    def __init__(self, failure: Failure, receipt: AnswerReceipt | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.receipt = receipt


class Asker(Protocol):
    """What holds a conversation."""

    def prove(self) -> AttestationProof:
        """Attest now.

        Raises:
            AskError: The enclave was not proven to be one that is accepted.
        """
        ...

    def ask(
        self, messages: list[ChatCompletionMessageParam], ask: Ask, show: Callable[[str], None]
    ) -> Turn:
        """Ask, hand on the text as it comes, and return the whole.

        Raises:
            AskError: No answer that may be believed.
        """
        ...


class SealedAsker:
    """The SDK.

    Raises:
        ConfigurationError: Something is missing or of another form.
    """

    def __init__(self, wanted: Wanted) -> None:
        from latensgate import Latensgate  # noqa: PLC0415 - see above

        self._carrier = None
        if wanted.ca_file is not None:
            self._carrier = httpx.Client(verify=tls_context(wanted.ca_file))
        self._client = Latensgate(
            api_key=wanted.api_key,
            tenant=wanted.tenant,
            base_url=wanted.base_url,
            simulated=wanted.simulated,
            http_client=self._carrier,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if self._carrier is not None:
            self._carrier.close()

    def prove(self) -> AttestationProof:
        """Attest now; what is asked next is sealed to the enclave that was proven.

        Raises:
            AskError: It was not proven to be one that is accepted.
        """
        import openai  # noqa: PLC0415 - see above

        try:
            return self._client.attest()
        except openai.OpenAIError as error:
            raise AskError(*told(error)) from None

    def ask(
        self, messages: list[ChatCompletionMessageParam], ask: Ask, show: Callable[[str], None]
    ) -> Turn:
        """Ask one turn; see ``Asker``."""
        import openai  # noqa: PLC0415 - see above

        from latensgate.exchange_failure import failure_of  # noqa: PLC0415 - see above
        from latensgate_shared.errors import LatensgateError  # noqa: PLC0415 - see above

        try:
            return self._stream(messages, ask, show) if ask.stream else self._whole(messages, ask)
        except openai.OpenAIError as error:
            raise AskError(*told(error)) from None
        except LatensgateError as error:
            failed = failure_of(error)
            code = failed.code
            raise AskError(
                Failure(exit_code_of(code), printable(failed.message), code.hint, code.name)
            ) from None

    def _whole(self, messages: list[ChatCompletionMessageParam], ask: Ask) -> Turn:
        from latensgate import receipt_of  # noqa: PLC0415 - see above

        answer = self._client.chat.completions.create(
            model=ask.model, messages=messages, max_tokens=ask.max_tokens
        )
        choice = answer.choices[0]
        return Turn(choice.message.content or "", receipt_of(answer), choice.finish_reason)

    def _stream(
        self, messages: list[ChatCompletionMessageParam], ask: Ask, show: Callable[[str], None]
    ) -> Turn:
        from latensgate import receipt_of  # noqa: PLC0415 - see above

        parts: list[str] = []
        reason = "stop"
        stream = self._client.chat.completions.create(
            model=ask.model, messages=messages, max_tokens=ask.max_tokens, stream=True
        )
        for text, finished in _deltas(stream):
            reason = finished or reason
            if text:
                parts.append(text)
                show(text)
        return Turn("".join(parts), receipt_of(stream), reason)


def _deltas(
    stream: Iterable[ChatCompletionChunk],
) -> Iterator[tuple[str, str | None]]:
    for chunk in stream:
        for choice in chunk.choices:
            yield choice.delta.content or "", choice.finish_reason


def told(error: openai.OpenAIError) -> tuple[Failure, AnswerReceipt | None]:
    """Say what an error of the SDK means here."""
    import openai  # noqa: PLC0415 - see above

    from latensgate.errors import LatensgateClientError  # noqa: PLC0415 - see above

    if isinstance(error, LatensgateClientError):
        code = error.error_code
        quoted = error.correlation_id and printable(error.correlation_id)
        text = printable(error.message.removeprefix(f"{code.name}: "))  # it has a place of its own
        return Failure(exit_code_of(code), text, error.hint, code.name, quoted), error.receipt
    if isinstance(error, openai.APIConnectionError):
        hint = "Check the address and the network; latensgate doctor goes the whole way."
        return Failure(ExitCode.UNREACHABLE, _connection_words(error), hint), None
    return Failure(ExitCode.REFUSED, printable(str(error))), None


def _connection_words(error: openai.APIConnectionError) -> str:
    cause = error.__cause__
    told = f"{type(cause).__name__}" if cause is not None else "no connection"
    return f"the gateway does not answer ({told})"


def message(role: str, text: str) -> ChatCompletionMessageParam:
    """Return one message of a conversation."""
    return cast("ChatCompletionMessageParam", {"role": role, "content": text})
