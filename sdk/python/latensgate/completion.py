"""The answer of ``chat.completions.create``, and how to get at its receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import httpx
from openai import BaseModel as OpenAIModel
from openai.types.chat import ChatCompletion, ParsedChatCompletion
from pydantic import PrivateAttr

from latensgate.errors import LatensgateClientError
from latensgate.transport_routes import CARRIED, Carried

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from latensgate.receipts import AnswerReceipt


ContentT = TypeVar("ContentT")


class _Checkable(OpenAIModel):
    """What an answer has besides OpenAI's members."""

    attestation_hash: str
    audit_receipt_id: str
    _receipt: object = PrivateAttr(default=None)  # an AnswerReceipt: pydantic resolves annotations

    def verified_receipt(self) -> AnswerReceipt | None:
        """Return the receipt that came with the answer; ``receipt_of`` is for everybody."""
        return cast("AnswerReceipt | None", self._receipt)

    def keep_receipt(self, receipt: AnswerReceipt | None) -> None:
        """Attach the receipt; for the client alone."""
        self._receipt = receipt


class ConfidentialChatCompletion(_Checkable, ChatCompletion):
    """An OpenAI answer that came out of an attested enclave, its receipt verified.

    Attributes:
        attestation_hash: ``sha384:…`` of the attestation document; verifiable at ``/verify``.
        audit_receipt_id: ``aud_`` and 16 hex digits.
    """


class ConfidentialParsedChatCompletion(
    _Checkable, ParsedChatCompletion[ContentT], Generic[ContentT]
):
    """The answer of ``chat.completions.parse``, checked like ``ConfidentialChatCompletion``."""

    @classmethod
    def of(cls, parsed: ParsedChatCompletion[Any], receipt: AnswerReceipt | None) -> Self:
        """Take over a parsed answer as it is; what was parsed in it keeps its type."""
        made = cls.construct(**vars(parsed), **(parsed.model_extra or {}))
        made.keep_receipt(receipt)
        return made


class NoReceiptError(LookupError):
    """There is no receipt here, or not yet: a stream has one after its end."""


def receipt_of(answer: object) -> AnswerReceipt:
    """Return the verified receipt of an answer.

    Args:
        answer: What ``chat.completions.create`` or ``parse`` returned, plain, raw or as a stream
            that was read to its end; what ``with chat.completions.stream(…) as …`` gave, read to
            its end; or an error that the enclave itself sealed.

    Raises:
        NoReceiptError: Nothing of these, or the stream has not ended.
    """
    found = _receipt(answer)
    if found is None:
        raise NoReceiptError("receipt_of: an answer of chat.completions, read to its end, expected")
    return found


def _receipt(answer: object) -> AnswerReceipt | None:
    if isinstance(answer, LatensgateClientError):
        return answer.receipt
    if isinstance(answer, _Checkable):
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


def keeping_receipt(parse: Callable[[object], object]) -> Callable[[object], object]:
    """Let what ``chat.completions.parse`` makes of an answer keep the answer's receipt."""

    def parsed(answer: object) -> object:
        made = parse(answer)
        if isinstance(answer, _Checkable) and isinstance(made, ParsedChatCompletion):
            typed = cast("ParsedChatCompletion[object]", made)
            return ConfidentialParsedChatCompletion[object].of(typed, answer.verified_receipt())
        return made

    return parsed


def with_receipt(completion: object, response: object) -> None:
    """Attach the receipt to an answer that was just parsed."""
    if isinstance(completion, ConfidentialChatCompletion):
        completion.keep_receipt(carried(response).receipt)
