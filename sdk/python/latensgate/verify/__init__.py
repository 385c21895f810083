"""The one verifier: attestation documents, manifests, receipts. No I/O, no clock."""

from __future__ import annotations

from latensgate.verify.attestation import inspect_document, verify_attestation, verify_document
from latensgate.verify.chain import ChainCache
from latensgate.verify.document import UntrustedDocument, parse_untrusted_document
from latensgate.verify.errors import KINDS, STEPS, ConfigurationError, VerificationError
from latensgate.verify.manifest import VerifiedManifest, verify_sealable
from latensgate.verify.policy import AppraisalPolicy, Measurements, Release
from latensgate.verify.receipt import (
    VerifiedAnswer,
    VerifiedChain,
    VerifiedPublicPart,
    VerifiedReceipt,
    VerifiedUsageTotals,
    verify_answer,
    verify_public_part,
    verify_receipt,
    verify_receipt_chain,
    verify_usage_totals,
)
from latensgate.verify.receipt_rules import SentRequest
from latensgate.verify.releases import parse_release_list
from latensgate.verify.results import UnappraisedDocument, VerifiedAttestation, VerifiedDocument

__all__ = [
    "KINDS",
    "STEPS",
    "AppraisalPolicy",
    "ChainCache",
    "ConfigurationError",
    "Measurements",
    "Release",
    "SentRequest",
    "UnappraisedDocument",
    "UntrustedDocument",
    "VerificationError",
    "VerifiedAnswer",
    "VerifiedAttestation",
    "VerifiedChain",
    "VerifiedDocument",
    "VerifiedManifest",
    "VerifiedPublicPart",
    "VerifiedReceipt",
    "VerifiedUsageTotals",
    "inspect_document",
    "parse_release_list",
    "parse_untrusted_document",
    "verify_answer",
    "verify_attestation",
    "verify_document",
    "verify_public_part",
    "verify_receipt",
    "verify_receipt_chain",
    "verify_sealable",
    "verify_usage_totals",
]
