"""What the OpenAPI document says of the sealed route, which is served without a framework."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from latensgate_shared.limits import IDEMPOTENCY_KEY_MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Mapping

_DESCRIPTION: Final = """\
Submit a sealed prompt for inference inside the enclave.

The SDK seals, opens and checks; an answer is released by the gateway only after its receipt is
durable. All members of the answer but `response_ciphertext` are hints that the SDK compares with
what is sealed. With `"stream": true` the answer is `text/event-stream`: each event is
`data: {"chunk":"<base64>"}`, and the decoded chunks, joined, are the sealed answer.

An error may carry `response_ciphertext` and `audit_receipt_id`: then it happened inside the
enclave, and the sealed error is the one that counts.

With an `Idempotency-Key` the same sealed bytes get the same sealed answer for 24 hours, and never
run twice.
"""

_CODES: Final = (
    "ERR_MALFORMED",
    "ERR_TOO_LARGE",
    "ERR_VERSION",
    "ERR_KEY_STALE",
    "ERR_OPEN_FAILED",
    "ERR_REPLAY",
    "ERR_REQUEST_AGE",
    "ERR_PLAINTEXT_REFUSED",
    "ERR_OUTER_MISMATCH",
    "ERR_KMS_DENIED",
    "ERR_KMS_UNREACHABLE",
    "ERR_KMS_KEY_UNFIT",
    "ERR_KMS_ENVELOPE",
    "ERR_REQUEST_INVALID",
    "ERR_UNSUPPORTED",
    "ERR_MODEL_UNKNOWN",
    "ERR_NOT_FOUND",
    "ERR_PII_HARD_FAIL",
    "ERR_PII_ENGINE",
    "ERR_POLICY_INVALID",
    "ERR_UPSTREAM",
    "ERR_UPSTREAM_THROTTLED",
    "ERR_UPSTREAM_TIMEOUT",
    "ERR_UPSTREAM_REFUSED",
    "ERR_UPSTREAM_IDENTITY",
    "ERR_UPSTREAM_LOGGING",
    "ERR_UNAUTHENTICATED",
    "ERR_FORBIDDEN",
    "ERR_RATE_LIMITED",
    "ERR_IDEMPOTENCY_MISMATCH",
    "ERR_IDEMPOTENCY_RUNNING",
    "ERR_OUTCOME_UNKNOWN",
    "ERR_ENCLAVE_TIMEOUT",
    "ERR_ENCLAVE_UNAVAILABLE",
    "ERR_OVERLOADED",
    "ERR_STORE_UNAVAILABLE",
    "ERR_INTERNAL",
)
"""Every code that this route may answer with; ``describe`` turns them into answers."""

INFERENCE: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "tags": ["inference"],
        "summary": "Sealed inference",
        "description": _DESCRIPTION,
        "operationId": "post_inference",
        "x-error-codes": list(_CODES),
        "parameters": [
            {
                "name": "Latensgate-Attestation",
                "in": "header",
                "required": True,
                "description": "Hash of the document whose key the request is sealed to.",
                "schema": {"type": "string", "pattern": "^sha384:[0-9a-f]{96}$"},
            },
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Visible ASCII characters; the same for each try of one request.",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": IDEMPOTENCY_KEY_MAX_CHARS,
                    "pattern": "^[!-~]+$",
                },
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/InferenceRequest"},
                    "examples": {
                        "chat": {
                            "value": {
                                "prompt_ciphertext": "AQAAAAAA",
                                "model": "claude-3.5-sonnet",
                                "tenant_id": "tnt_a3f9c42b",
                            }
                        }
                    },
                }
            },
        },
        "responses": {
            "200": {
                "description": "A sealed answer, or the stream of one.",
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/InferenceAnswer"}
                    },
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            }
        },
    }
)
