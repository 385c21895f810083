"""The answers of ``lg.responses``. The OpenAI client has them since 1.66; never imported before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from openai.types.responses import ParsedResponse, Response

from latensgate.checkable import Checkable

if TYPE_CHECKING:
    from typing import Self

    from latensgate.receipts import AnswerReceipt

ContentT = TypeVar("ContentT")


class ConfidentialResponse(Checkable, Response):
    """An OpenAI response that came out of an attested enclave, its receipt verified.

    Attributes:
        attestation_hash: ``sha384:…`` of the attestation document; verifiable at ``/verify``.
        audit_receipt_id: ``aud_`` and 16 hex digits.
    """


class ConfidentialParsedResponse(Checkable, ParsedResponse[ContentT], Generic[ContentT]):
    """The answer of ``responses.parse``, checked like ``ConfidentialResponse``."""

    if not TYPE_CHECKING:  # each item is written as what it is; pydantic would warn of each of them
        output: list[Any]

    @classmethod
    def of(cls, parsed: ParsedResponse[Any], receipt: AnswerReceipt | None) -> Self:
        """Take over a parsed answer as it is; what was parsed in it keeps its type."""
        made = cls.construct(**vars(parsed), **(parsed.model_extra or {}))
        made.output = parsed.output
        made.keep_receipt(receipt)
        return made
