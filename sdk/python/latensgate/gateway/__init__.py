"""A small typed client of the gateway's own routes: keys, audit, usage, attest, health, models.

Nothing that comes over these routes is believed: documents and receipts are given back as they
came, for ``latensgate.verify``. Prompts and answers do not pass here; they are sealed, and that is
the business of ``latensgate.Latensgate``.
"""

from __future__ import annotations

from latensgate.gateway.address import GatewayAddress
from latensgate.gateway.attestations import ArchivedDocument, UntrustedEvidence
from latensgate.gateway.audit import AuditEntry, AuditPage, AuditQuery
from latensgate.gateway.client import GatewayClient
from latensgate.gateway.errors import (
    GatewayAnswerMalformedError,
    GatewayClientError,
    GatewayRefusedError,
    GatewayUnreachableError,
)
from latensgate.gateway.keys import APIKeyInfo, NewAPIKey
from latensgate.gateway.reports import HealthReport, ModelInfo, UsageReport

__all__ = [
    "APIKeyInfo",
    "ArchivedDocument",
    "AuditEntry",
    "AuditPage",
    "AuditQuery",
    "GatewayAddress",
    "GatewayAnswerMalformedError",
    "GatewayClient",
    "GatewayClientError",
    "GatewayRefusedError",
    "GatewayUnreachableError",
    "HealthReport",
    "ModelInfo",
    "NewAPIKey",
    "UntrustedEvidence",
    "UsageReport",
]
