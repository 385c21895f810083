"""Latensgate client: sealed requests to an attested enclave, and the one verifier.

The names below are loaded when they are used, so ``import latensgate.verify`` loads no HTTP client
and no OpenAI client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from latensgate.attested import AttestationProof
    from latensgate.client import AsyncLatensgate, Latensgate
    from latensgate.completion import (
        ConfidentialChatCompletion,
        ConfidentialEmbeddings,
        ConfidentialParsedChatCompletion,
        NoReceiptError,
        receipt_of,
    )
    from latensgate.completion_responses import (
        ConfidentialParsedResponse,
        ConfidentialResponse,
    )
    from latensgate.data_keys import Boto3DataKeys, DataKey, DataKeyProvider
    from latensgate.errors import HeldError, LatensgateClientError
    from latensgate.pii import PolicyDryRun
    from latensgate.receipts import AnswerReceipt
    from latensgate.verify import ConfigurationError, Measurements
    from latensgate_shared.stream_shape import StreamShape

_PLACES: Final = {
    "AnswerReceipt": "receipts",
    "AsyncLatensgate": "client",
    "AttestationProof": "attested",
    "Boto3DataKeys": "data_keys",
    "ConfidentialChatCompletion": "completion",
    "ConfidentialEmbeddings": "completion",
    "ConfidentialParsedChatCompletion": "completion",
    "ConfidentialParsedResponse": "completion_responses",
    "ConfidentialResponse": "completion_responses",
    "ConfigurationError": "verify",
    "DataKey": "data_keys",
    "DataKeyProvider": "data_keys",
    "Latensgate": "client",
    "LatensgateClientError": "errors",
    "Measurements": "verify",
    "NoReceiptError": "completion",
    "PolicyDryRun": "pii",
    "HeldError": "errors",
    "StreamShape": "client_trust",
    "receipt_of": "completion",
}

__all__ = [
    "AnswerReceipt",
    "AsyncLatensgate",
    "AttestationProof",
    "Boto3DataKeys",
    "ConfidentialChatCompletion",
    "ConfidentialEmbeddings",
    "ConfidentialParsedChatCompletion",
    "ConfidentialParsedResponse",
    "ConfidentialResponse",
    "ConfigurationError",
    "DataKey",
    "DataKeyProvider",
    "HeldError",
    "Latensgate",
    "LatensgateClientError",
    "Measurements",
    "NoReceiptError",
    "PolicyDryRun",
    "StreamShape",
    "receipt_of",
]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{place}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
