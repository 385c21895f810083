"""What every answer of ours has besides OpenAI's members."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from openai import BaseModel as OpenAIModel
from pydantic import PrivateAttr

if TYPE_CHECKING:
    from latensgate.receipts import AnswerReceipt


class Checkable(OpenAIModel):
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
