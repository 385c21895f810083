"""Attestation documents as the gateway hands them out: nothing in here is verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate.gateway import read
from latensgate_shared import formats
from latensgate_shared.limits import (
    ATTESTATION_DOCUMENT_MAX_BYTES,
    ERROR_MESSAGE_MAX_CHARS,
    MANIFEST_MAX_BYTES,
)
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate_shared.strict_json import JSONObject, JSONValue

STATUSES: Final = frozenset({"verified", "simulated", "debug", "untrusted", "revoked", "invalid"})
_STATES: Final = frozenset({"passed", "failed", "not run"})
_EVIDENCE: Final = frozenset({"attestation_hash", "document", "manifest"})
_NONCE_DOCUMENT: Final = frozenset({"nonce_document"})
_ARCHIVED: Final = frozenset(
    {
        "hash",
        "pcr_values",
        "timestamp",
        "enclave_image_sha",
        "status",
        "region",
        "document",
        "manifest",
        "fresh",
        "verdict",
    }
)


@dataclass(frozen=True, slots=True)
class UntrustedEvidence:
    """What ``GET /api/attestation`` gives: to be verified, and not to be used before that.

    Attributes:
        attestation_hash: A hint.
        document: The published document.
        manifest: Exact manifest bytes.
        nonce_document: Another document over the same manifest, exactly if a nonce was sent.
    """

    attestation_hash: str
    document: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    nonce_document: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClaimedStep:
    """One step of the gateway's own judgement."""

    number: int
    title: str
    state: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class ArchivedDocument:
    """What ``GET /api/attest`` gives: an archived document, and the gateway's opinion of it.

    Attributes:
        attestation_hash: As asked.
        pcr_values: Register name → hex, as the gateway says.
        timestamp: Of the document, as the gateway says.
        enclave_image_sha: ``sha384:`` and PCR0, as the gateway says.
        claimed_status: The gateway's opinion of its own enclave: never act on it.
        region: AWS Region, as the gateway says.
        fresh: Whether ``not_after`` of the manifest is still to come, as the gateway says.
        verdict: The gateway's own steps.
        document: Raw document: the ground for a judgement of one's own.
        manifest: Raw manifest.
    """

    attestation_hash: str
    pcr_values: dict[str, str]
    timestamp: datetime | None
    enclave_image_sha: str | None
    claimed_status: str
    region: str | None
    fresh: bool
    verdict: tuple[ClaimedStep, ...]
    document: bytes = field(repr=False)
    manifest: bytes = field(repr=False)


def parse_evidence(value: JSONObject, *, with_nonce: bool) -> UntrustedEvidence:
    """Read the answer of ``GET /api/attestation``.

    Raises:
        JSONError: Another form; a nonce document although none was asked for, or none at all.
    """
    required = _EVIDENCE | (_NONCE_DOCUMENT if with_nonce else formats.NO_MEMBERS)
    members = formats.members(value, "attestation", required)
    nonce_document = members.get("nonce_document")
    return UntrustedEvidence(
        formats.sha384_digest(members["attestation_hash"], "attestation.attestation_hash"),
        _document(members["document"], "attestation.document"),
        _manifest(members["manifest"], "attestation.manifest"),
        _document(nonce_document, "attestation.nonce_document") if with_nonce else None,
    )


def parse_archived(value: JSONObject) -> ArchivedDocument:
    """Read the answer of ``GET /api/attest``.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "attest", _ARCHIVED)
    region, image = members["region"], members["enclave_image_sha"]
    return ArchivedDocument(
        attestation_hash=formats.sha384_digest(members["hash"], "attest.hash"),
        pcr_values=_registers(members["pcr_values"]),
        timestamp=read.moment_or_none(members["timestamp"], "attest.timestamp"),
        enclave_image_sha=None
        if image is None
        else formats.sha384_digest(image, "attest.enclave_image_sha"),
        claimed_status=read.one_of(members["status"], "attest.status", STATUSES),
        region=None if region is None else read.name(region, "attest.region"),
        fresh=formats.boolean(members["fresh"], "attest.fresh"),
        verdict=tuple(_step(item) for item in read.array(members["verdict"], "attest.verdict")),
        document=_document(members["document"], "attest.document"),
        manifest=_manifest(members["manifest"], "attest.manifest"),
    )


def _document(value: JSONValue, what: str) -> bytes:
    return formats.base64_bytes(value, what, ATTESTATION_DOCUMENT_MAX_BYTES)


def _manifest(value: JSONValue, what: str) -> bytes:
    return formats.base64_bytes(value, what, MANIFEST_MAX_BYTES)


def _registers(value: JSONValue) -> dict[str, str]:
    if type(value) is not dict:
        raise JSONError("attest.pcr_values: an object expected")
    return {
        read.name(index, "attest.pcr_values"): formats.hex_text(text, "attest.pcr_values", 48)
        for index, text in value.items()
    }


def _step(value: JSONValue) -> ClaimedStep:
    what = "attest.verdict"
    members = formats.members(value, what, frozenset({"number", "title", "state", "reason"}))
    reason = members["reason"]
    return ClaimedStep(
        formats.integer(members["number"], f"{what}.number"),
        read.name(members["title"], f"{what}.title"),
        read.one_of(members["state"], f"{what}.state", _STATES),
        None if reason is None else formats.text(reason, f"{what}.reason", ERROR_MESSAGE_MAX_CHARS),
    )
