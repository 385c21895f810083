"""Operations on evidence: manifests, attestation documents, receipts, key policies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from latensgate.verify.attestation import verify_attestation, verify_document
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.policy import AppraisalPolicy, Measurements
from latensgate.verify.receipt import verify_receipt
from latensgate_shared.kms_policy import KeyPolicyParameters, verify_key_policy
from latensgate_shared.manifest import (
    aci_keyset,
    aci_keyset_digest,
    aci_report_data,
    build_user_data,
    parse_manifest,
)
from latensgate_shared.receipts import receipt_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate.conformance.case import Arguments
    from latensgate.verify.results import VerifiedDocument
    from latensgate_shared.manifest import Manifest
    from latensgate_shared.strict_json import JSONObject


def _parse_manifest(arguments: Arguments) -> JSONObject:
    data = arguments.base64("manifest_base64")
    manifest = parse_manifest(data)
    return {
        "manifest_hash": f"sha384:{hashlib.sha384(data).hexdigest()}",
        "key_ids": [key.key_id for key in manifest.hpke_keys],
        "receipt_public_key": manifest.receipt_public_key.hex(),
        "not_before": manifest.not_before,
        "not_after": manifest.not_after,
    }


def _user_data(arguments: Arguments) -> JSONObject:
    data = arguments.base64("manifest_base64")
    return {
        "keyset_digest": aci_keyset_digest(aci_keyset(parse_manifest(data))),
        "user_data_hex": build_user_data(data, arguments.optional_hex("nonce_hex")).hex(),
    }


def _aci_report_data(arguments: Arguments) -> JSONObject:
    digest = arguments.text("keyset_digest")
    return {"report_data_hex": aci_report_data(digest, arguments.optional_hex("nonce_hex")).hex()}


def _policy(arguments: Arguments) -> AppraisalPolicy:
    pcrs = arguments.object("policy")
    measurements = Measurements.from_hex(pcrs.text("pcr0"), pcrs.text("pcr1"), pcrs.text("pcr2"))
    root = arguments.text("root_sha256") if arguments.has("root_sha256") else None
    return AppraisalPolicy(measurements=(measurements,), unsafe_accept_simulated_root_sha256=root)


def _at(arguments: Arguments) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=arguments.integer("at"))


def _facts(document: bytes, verified: VerifiedDocument) -> JSONObject:
    return {
        "attestation_hash": verified.attestation_hash,
        "module_id": verified.module_id,
        "timestamp_ms": parse_untrusted_document(document).timestamp_ms,
    }


def _verify_document(arguments: Arguments) -> JSONObject:
    document = arguments.base64("document_base64")
    verified = verify_document(
        document,
        policy=_policy(arguments),
        at=_at(arguments),
        nonce=arguments.optional_hex("nonce_hex"),
    )
    return _facts(document, verified)


def _verify_attestation(arguments: Arguments) -> JSONObject:
    document = arguments.base64("document_base64")
    verified = verify_attestation(
        document,
        arguments.base64("manifest_base64"),
        policy=_policy(arguments),
        at=_at(arguments),
        nonce=arguments.optional_hex("nonce_hex"),
    )
    return _facts(document, verified.document)


@dataclass(frozen=True, slots=True)
class _Stated:
    """An attestation that the case states as verified: receipts are judged by it."""

    attestation_hash: str
    manifest: Manifest


def _verify_receipt(arguments: Arguments) -> JSONObject:
    stated = _Stated(
        arguments.text("attestation_hash"), parse_manifest(arguments.base64("manifest_base64"))
    )
    verified = verify_receipt(
        arguments.value("receipt"),
        attestation=stated,
        tenant_id=arguments.text("tenant_id"),
        request_hash=arguments.text("request_hash"),
        response_hash=arguments.text("response_hash"),
    )
    public = verified.signed.public
    return {
        "receipt_id": public.receipt_id,
        "sequence": public.sequence,
        "outcome": public.outcome,
        "receipt_hash": receipt_hash(public),
    }


def _verify_key_policy(arguments: Arguments) -> JSONObject:
    given = arguments.object("parameters")
    names = [member.name for member in fields(KeyPolicyParameters)]
    parameters = KeyPolicyParameters(**{name: given.text(name) for name in names})
    return {"digest": verify_key_policy(arguments.text("policy"), parameters).digest}


OPERATIONS: Final[dict[str, Callable[[Arguments], JSONObject]]] = {
    "aci_report_data": _aci_report_data,
    "parse_manifest": _parse_manifest,
    "user_data": _user_data,
    "verify_attestation": _verify_attestation,
    "verify_document": _verify_document,
    "verify_key_policy": _verify_key_policy,
    "verify_receipt": _verify_receipt,
}
