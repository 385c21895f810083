"""Receipts that a client kept: what ``AnswerReceipt.to_json`` of the SDK writes, or a bare one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate.cli.archive import Evidence
from latensgate.cli.evidence import read_file
from latensgate.receipts import EXPORT_VERSION
from latensgate.verify.errors import ReceiptInvalid
from latensgate_shared import formats
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import ATTESTATION_DOCUMENT_MAX_BYTES, MANIFEST_MAX_BYTES, MIB
from latensgate_shared.receipts import parse_receipt
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.receipts import PublicPart
    from latensgate_shared.strict_json import JSONObject, JSONValue

FILE_MAX_BYTES: Final = 2 * MIB
"""A receipt of at most 1 MiB, a document and a manifest in base64."""
_EXPORT: Final = frozenset(
    {
        "version",
        "receipt",
        "tenant_id",
        "request_hash",
        "response_hash",
        "attestation_hash",
        "document",
        "manifest",
    }
)


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """A receipt in a file; its form was checked, nothing is verified.

    Attributes:
        receipt: The object with both parts and the signature.
        public: Its public part.
        tenant_id: Whose it is, as the client knew; None of a bare receipt.
        request_hash: Of what was sent, as the client knew.
        response_hash: Of what came back, as the client knew.
        evidence: Document and manifest, if they were kept with it.
    """

    receipt: JSONValue = field(repr=False)
    public: PublicPart
    tenant_id: str | None = None
    request_hash: str | None = None
    response_hash: str | None = None
    evidence: Evidence | None = None


def read_kept(name: str) -> KeptReceipt:
    """Read a file.

    Raises:
        UnreadableError: It cannot be read.
        ReceiptInvalid: Step 1: it holds no receipt.
    """
    try:
        value = parse_json_object(read_file(name, FILE_MAX_BYTES), max_bytes=FILE_MAX_BYTES)
        return _parse(value)
    except MalformedError as error:
        raise ReceiptInvalid(f"{name}: {error.detail}", step=1) from None


def _parse(value: JSONObject) -> KeptReceipt:
    if "version" not in value:
        return KeptReceipt(value, parse_receipt(value).public)
    members = formats.members(value, "kept receipt", _EXPORT)
    formats.integer(members["version"], "kept receipt.version", EXPORT_VERSION, EXPORT_VERSION)
    public = parse_receipt(members["receipt"]).public
    if members["attestation_hash"] != public.attestation_hash:
        raise JSONError("kept receipt.attestation_hash: that of the receipt expected")
    return KeptReceipt(
        members["receipt"],
        public,
        formats.tenant_id(members["tenant_id"]),
        formats.sha384_digest(members["request_hash"], "kept receipt.request_hash"),
        formats.sha384_digest(members["response_hash"], "kept receipt.response_hash"),
        Evidence(
            formats.base64_bytes(
                members["document"], "kept receipt.document", ATTESTATION_DOCUMENT_MAX_BYTES
            ),
            formats.base64_bytes(members["manifest"], "kept receipt.manifest", MANIFEST_MAX_BYTES),
        ),
    )
