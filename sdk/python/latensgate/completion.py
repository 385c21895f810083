"""The answers of the client's operations, and how to get at their receipts."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import httpx
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ParsedChatCompletion

from latensgate.checkable import Checkable
from latensgate.errors import LatensgateClientError
from latensgate.transport_routes import CARRIED, Carried

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from latensgate.receipts import AnswerReceipt


ContentT = TypeVar("ContentT")


class ConfidentialChatCompletion(Checkable, ChatCompletion):
    """An OpenAI answer that came out of an attested enclave, its receipt verified.

    Attributes:
        attestation_hash: ``sha384:…`` of the attestation document; verifiable at ``/verify``.
        audit_receipt_id: ``aud_`` and 16 hex digits.
    """


class ConfidentialParsedChatCompletion(
    Checkable, ParsedChatCompletion[ContentT], Generic[ContentT]
):
    """The answer of ``chat.completions.parse``, checked like ``ConfidentialChatCompletion``."""

    @classmethod
    def of(cls, parsed: ParsedChatCompletion[Any], receipt: AnswerReceipt | None) -> Self:
        """Take over a parsed answer as it is; what was parsed in it keeps its type."""
        made = cls.construct(**vars(parsed), **(parsed.model_extra or {}))
        made.keep_receipt(receipt)
        return made


class ConfidentialEmbeddings(Checkable, CreateEmbeddingResponse):
    """OpenAI embeddings that came out of an attested enclave, checked like the others."""


class NoReceiptError(LookupError):
    """There is no receipt here, or not yet: a stream has one after its end."""


def receipt_of(answer: object) -> AnswerReceipt:
    """Return the verified receipt of an answer.

    Args:
        answer: What ``create`` or ``parse`` of ``chat.completions``, ``responses`` or
            ``embeddings`` returned, plain, raw or as a stream that was read to its end; what
            ``with ….stream(…) as …`` gave, read to its end; or an error that the enclave itself
            sealed.

    Raises:
        NoReceiptError: Nothing of these, or the stream has not ended.
    """
    found = _receipt(answer)
    if found is None:
        raise NoReceiptError("receipt_of: an answer of the enclave, read to its end, expected")
    return found


def _receipt(answer: object) -> AnswerReceipt | None:
    if isinstance(answer, LatensgateClientError):
        return answer.receipt
    if isinstance(answer, Checkable):
        return answer.verified_receipt()
    response = answer
    for name in ("http_response", "response", "_response"):  # raw responses; streams; stream()
        response = getattr(answer, name, response)
    return carried(response).verified()


def carried(response: object) -> Carried:
    """Return what travelled beside a response; nothing, if none of ours made it."""
    if not isinstance(response, httpx.Response):
        return Carried()
    extensions = cast("Mapping[str, object]", response.extensions)
    found = extensions.get(CARRIED)
    return found if isinstance(found, Carried) else Carried()


@cache
def _responses() -> Any:  # noqa: ANN401 -- a module that openai 1.60 cannot load
    """Return `completion_responses`, or None where the OpenAI client knows no responses."""
    known = find_spec("openai.types.responses") is not None
    return import_module("latensgate.completion_responses") if known else None


def sealed_type(cast_to: Any, data: object) -> Any:  # noqa: ANN401 -- whatever type the OpenAI client parses into
    """Parse answers that came out of an enclave into the type that says so."""
    if not isinstance(data, dict) or "audit_receipt_id" not in data:
        return cast_to
    if cast_to is ChatCompletion:
        return ConfidentialChatCompletion
    if cast_to is CreateEmbeddingResponse:
        return ConfidentialEmbeddings
    responses = _responses()
    if responses is not None and cast_to is responses.Response:
        return responses.ConfidentialResponse
    return cast_to


def keeping_receipt(parse: Callable[[object], object]) -> Callable[[object], object]:
    """Let what ``parse`` makes of an answer keep the answer's receipt."""

    def parsed(answer: object) -> object:
        made, responses = parse(answer), _responses()
        if not isinstance(answer, Checkable):
            return made
        receipt = answer.verified_receipt()
        if isinstance(made, ParsedChatCompletion):
            typed = cast("ParsedChatCompletion[object]", made)
            return ConfidentialParsedChatCompletion[object].of(typed, receipt)
        if responses is not None and isinstance(made, responses.ParsedResponse):
            return responses.ConfidentialParsedResponse[object].of(made, receipt)
        return made

    return parsed


def with_receipt(answer: object, response: object) -> None:
    """Attach the receipt to an answer that was just parsed."""
    if isinstance(answer, Checkable):
        answer.keep_receipt(carried(response).receipt)
