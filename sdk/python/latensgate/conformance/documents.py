"""Operations on evidence: manifests, attestation documents, receipts, key policies."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from latensgate.verify.attestation import verify_attestation, verify_document
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.policy import AppraisalPolicy, Measurements
from latensgate.verify.receipt_rules import (
    SentRequest,
    Stated,
    check_answer,
    check_receipt,
    check_usage,
)
from latensgate.verify.releases import parse_release_list
from latensgate_shared.answer_records import parse_final_record
from latensgate_shared.error_answers import error_code
from latensgate_shared.kms_policy import KeyPolicyParameters, verify_key_policy
from latensgate_shared.manifest import (
    aci_keyset,
    aci_keyset_digest,
    aci_report_data,
    build_user_data,
    parse_manifest,
)
from latensgate_shared.messages import Outer
from latensgate_shared.receipts import receipt_hash
from latensgate_shared.settings import verify_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate.conformance.case import Arguments
    from latensgate.verify.results import VerifiedDocument
    from latensgate_shared.receipts import PublicPart
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
    root = arguments.text("root_sha256") if arguments.has("root_sha256") else None
    if arguments.has("releases_base64"):
        releases = parse_release_list(arguments.base64("releases_base64"))
        return AppraisalPolicy(releases=releases, unsafe_accept_simulated_root_sha256=root)
    pcrs = arguments.object("policy")
    measurements = Measurements.from_hex(pcrs.text("pcr0"), pcrs.text("pcr1"), pcrs.text("pcr2"))
    return AppraisalPolicy(measurements=(measurements,), unsafe_accept_simulated_root_sha256=root)


def _parse_releases(arguments: Arguments) -> JSONObject:
    releases = parse_release_list(arguments.base64("releases_base64"))
    return {
        "releases": [
            {
                "version": release.version,
                "pcr0": release.measurements.pcr0.hex(),
                "revoked": release.revoked,
                "not_after": release.not_after,
            }
            for release in releases
        ]
    }


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


def _stated(arguments: Arguments) -> Stated:
    """The attestation that the case states as verified: receipts are judged by it."""
    return Stated(
        arguments.text("attestation_hash"), parse_manifest(arguments.base64("manifest_base64"))
    )


def _verify_receipt(arguments: Arguments) -> JSONObject:
    checked = check_receipt(
        arguments.value("receipt"),
        _stated(arguments),
        tenant_id=arguments.text("tenant_id"),
        request_hash=arguments.text("request_hash"),
        response_hash=arguments.text("response_hash"),
    )
    return _receipt_facts(checked.public)


def _receipt_facts(public: PublicPart) -> JSONObject:
    return {
        "receipt_id": public.receipt_id,
        "sequence": public.sequence,
        "outcome": public.outcome,
        "receipt_hash": receipt_hash(public),
    }


def _verify_answer(arguments: Arguments) -> JSONObject:
    sent = arguments.object("request")
    outer = sent.object("outer")
    checked = check_answer(
        parse_final_record(arguments.base64("final_base64")),
        _stated(arguments),
        request=SentRequest(
            outer=Outer(
                attestation_hash=outer.text("attestation_hash"),
                model=outer.text("model"),
                tenant_id=outer.text("tenant_id"),
                operation=outer.text("operation"),
                stream=outer.boolean("stream"),
            ),
            request_id=sent.text("request_id"),
            key_id=sent.text("key_id"),
            request_hash=sent.text("request_hash"),
        ),
        response_hash=arguments.text("response_hash"),
        code=error_code(arguments.value("code"), "code") if arguments.has("code") else None,
    )
    return _receipt_facts(checked.public)


def _verify_usage(arguments: Arguments) -> JSONObject:
    stated = Stated("", parse_manifest(arguments.base64("manifest_base64")))
    totals = check_usage(arguments.base64("totals_base64"), arguments.hex("signature_hex"), stated)
    return totals.to_json()


def _verify_settings(arguments: Arguments) -> JSONObject:
    found = verify_settings(
        arguments.base64("document_base64"),
        root=arguments.hex("tenant_root_hex"),
        tenant_id=arguments.text("tenant_id"),
        min_version=arguments.integer("min_version"),
    )
    return {"version": found.version, "digest": found.digest}


def _verify_key_policy(arguments: Arguments) -> JSONObject:
    given = arguments.object("parameters")
    names = [member.name for member in fields(KeyPolicyParameters)]
    parameters = KeyPolicyParameters(**{name: given.text(name) for name in names})
    return {"digest": verify_key_policy(arguments.text("policy"), parameters).digest}


OPERATIONS: Final[dict[str, Callable[[Arguments], JSONObject]]] = {
    "aci_report_data": _aci_report_data,
    "parse_manifest": _parse_manifest,
    "parse_releases": _parse_releases,
    "user_data": _user_data,
    "verify_answer": _verify_answer,
    "verify_attestation": _verify_attestation,
    "verify_document": _verify_document,
    "verify_key_policy": _verify_key_policy,
    "verify_receipt": _verify_receipt,
    "verify_settings": _verify_settings,
    "verify_usage": _verify_usage,
}
