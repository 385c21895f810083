"""The one verifier: attestation documents, manifests, receipts. No I/O, no clock."""

from __future__ import annotations

from latensgate.verify.attestation import inspect_document, verify_attestation, verify_document
from latensgate.verify.chain import ChainCache
from latensgate.verify.document import UntrustedDocument, parse_untrusted_document
from latensgate.verify.errors import KINDS, STEPS, ConfigurationError, VerificationError
from latensgate.verify.policy import AppraisalPolicy, Measurements, Release
from latensgate.verify.receipt import verify_public_part, verify_receipt, verify_receipt_chain
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
    "UnappraisedDocument",
    "UntrustedDocument",
    "VerificationError",
    "VerifiedAttestation",
    "VerifiedDocument",
    "inspect_document",
    "parse_release_list",
    "parse_untrusted_document",
    "verify_attestation",
    "verify_document",
    "verify_public_part",
    "verify_receipt",
    "verify_receipt_chain",
]
