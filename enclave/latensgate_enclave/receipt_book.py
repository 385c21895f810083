"""Issues receipts: signs them and chains them per tenant, in this enclave's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_enclave.values import Value
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import RECEIPT_TENANTS_MAX_COUNT
from latensgate_shared.receipts import (
    PrivatePart,
    PublicPart,
    Receipt,
    coarse_time,
    receipt_hash,
    sign_receipt,
)
from latensgate_shared.usage import TenantUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_enclave.chat_answer import Usage
    from latensgate_enclave.environment import Entropy
    from latensgate_enclave.keys import KeyRing
    from latensgate_shared.strict_json import JSONObject

_ID_BYTES: Final = 8
CANONICAL: Final = msgspec.json.Encoder(order="deterministic")
"""Of a private part or a usage that `record` made this is its JCS, in a tenth of the time: names
are ASCII, values are texts, integers and booleans. A test holds the two against each other."""


class Facts(Value, frozen=True):
    """What one receipt says in public.

    Attributes:
        receipt_id: From `new_id`.
        tenant_id: Whose request.
        key_id: 16 hex digits: the HPKE key it was sealed to.
        attestation_hash: The publication of that key.
        outcome: One of the closed set of docs/spec/receipts.md.
        request_hash: Of the sealed request.
        response_hash: Of the sealed answer.
        issued_at_s: Enclave time; only its minute is told.
    """

    receipt_id: str
    tenant_id: str
    key_id: str
    attestation_hash: str
    outcome: str
    request_hash: str
    response_hash: str
    issued_at_s: int


@dataclass(slots=True)
class _Account:
    """One tenant's place in the chain, and what it has used since the enclave started."""

    sequence: int = 0
    previous_hash: str | None = None
    issued_at: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ReceiptBook:
    """Signs and numbers receipts. No `await` stands between numbering and chaining."""

    def __init__(self, keys: KeyRing, entropy: Entropy) -> None:
        self._keys = keys
        self._entropy = entropy
        self._accounts: dict[str, _Account] = {}

    def new_id(self, tenant_id: str) -> str:
        """Return the id of a receipt that will be issued: `aud_` and 16 hex digits.

        Raises:
            LatensgateError: `ERR_OVERLOADED`: there is no room for this tenant's receipts, so
                nothing may be run for it.
        """
        self._account(tenant_id)
        return "aud_" + self._entropy(_ID_BYTES).hex()

    def issue(self, facts: Facts, private: JSONObject) -> Receipt:
        """Issue the next receipt of a tenant.

        Raises:
            LatensgateError: `ERR_OVERLOADED`: more tenants than this enclave remembers.
        """
        account = self._account(facts.tenant_id)
        part = PrivatePart(CANONICAL.encode(private))
        # Time taken anew may lie up to a second back; within a chain it never runs backwards.
        issued_at = max(coarse_time(facts.issued_at_s), account.issued_at)
        public = PublicPart(
            receipt_id=facts.receipt_id,
            tenant_id=facts.tenant_id,
            key_id=facts.key_id,
            sequence=account.sequence,
            previous_receipt_hash=account.previous_hash,
            issued_at=issued_at,
            outcome=facts.outcome,
            request_hash=facts.request_hash,
            response_hash=facts.response_hash,
            attestation_hash=facts.attestation_hash,
            private_digest=part.digest,
        )
        receipt = sign_receipt(public, part, self._keys.receipt_key.sign)
        account.sequence += 1
        account.issued_at = issued_at
        account.previous_hash = receipt_hash(public)
        return receipt

    def book(self, tenant_id: str, usage: Usage) -> None:
        """Add to what a tenant has used."""
        account = self._account(tenant_id)
        account.requests += 1
        account.prompt_tokens += usage.prompt_tokens
        account.completion_tokens += usage.completion_tokens

    def totals(self) -> Mapping[str, TenantUsage]:
        """Return what each tenant has used since the enclave started."""
        return {
            tenant_id: TenantUsage(
                requests=account.requests,
                prompt_tokens=account.prompt_tokens,
                completion_tokens=account.completion_tokens,
            )
            for tenant_id, account in self._accounts.items()
        }

    def _account(self, tenant_id: str) -> _Account:
        account = self._accounts.get(tenant_id)
        if account is None:
            if len(self._accounts) >= RECEIPT_TENANTS_MAX_COUNT:
                raise LatensgateError(
                    f"{RECEIPT_TENANTS_MAX_COUNT} tenants are remembered and none is forgotten",
                    code=ErrorCode.ERR_OVERLOADED,
                )
            account = self._accounts[tenant_id] = _Account()
        return account
