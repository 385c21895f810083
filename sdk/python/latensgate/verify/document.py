"""Steps 1 to 3: a Nitro attestation document, read and not yet believed.

Source: AWS, "Attestation process" (nsm-api repository), sections 3.1 and 3.2, and what 128 real
documents hold. Where the two differ, ADR 0003 says what is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from latensgate.verify.errors import (
    AlgorithmRefused,
    MalformedDocument,
    NotAnEnclave,
    UnsignedDocument,
)
from latensgate.verify.policy import IMAGE_PCRS, PCR_BYTES
from latensgate_shared import cbor, cose, limits
from latensgate_shared.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_shared.cbor import CBORValue

SIGNATURE_BYTES: Final = 96
"""ECDSA P-384, raw r || s (RFC 9053, section 2.1)."""

_PROTECTED: Final = bytes.fromhex("a1013822")
"""{1: -35}, ES384, in the only form that devices write."""
_QEMU_FILLER: Final = bytes(64)
"""What the NSM of QEMU puts for certificate and signature."""
_REQUIRED: Final = {"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"}
_OPTIONAL: Final = {"public_key", "user_data", "nonce"}
_TPM: Final = "nitrotpm_pcrs"
_MODULE_ID: Final = re.compile(r"(i-[0-9a-f]{8,32})-enc[0-9a-f]{8,32}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP_END_MS: Final = 253_402_300_800_000
"""The year 10000, which is beyond what a calendar date can hold."""


@dataclass(frozen=True, slots=True)
class UntrustedDocument:
    """What a document says. Nothing of it is proved.

    Attributes:
        module_id: Instance and enclave id, as in ``i-…-enc…``.
        timestamp_ms: Milliseconds since 1970.
        pcrs: Locked registers by index, 48 bytes each.
        certificate: DER of the leaf.
        cabundle: DER of the CAs, root first.
        public_key: Up to 1,024 bytes, or None; devices also write a zero length.
        user_data: The same.
        nonce: The same.
        signature: r || s, 96 bytes.
        signed_digest: SHA-384 of the Sig_structure: what the signature covers.
    """

    module_id: str
    timestamp_ms: int
    pcrs: Mapping[int, bytes]
    certificate: bytes
    cabundle: tuple[bytes, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    signature: bytes
    signed_digest: bytes

    @property
    def timestamp(self) -> datetime:
        """The document's own time: the second at which an archived document is judged."""
        return _EPOCH + timedelta(milliseconds=self.timestamp_ms)

    @property
    def attestation_hash(self) -> str:
        """``sha384:`` and 96 hex digits, over what is signed (docs/spec/attestation-binding.md)."""
        return cose.attestation_hash(self.signed_digest)

    @property
    def instance_id(self) -> str:
        """EC2 instance id: the part of the module id before ``-enc``."""
        return self.module_id.partition("-enc")[0]

    @property
    def debug(self) -> bool:
        """Whether PCR0, PCR1 and PCR2 are all zero, as in debug mode."""
        return all(self.pcrs.get(index) == bytes(PCR_BYTES) for index in IMAGE_PCRS)


def parse_untrusted_document(document: bytes) -> UntrustedDocument:
    """Read a document without believing it (steps 1 to 3).

    Args:
        document: COSE_Sign1, at most ``limits.ATTESTATION_DOCUMENT_MAX_BYTES``.

    Raises:
        MalformedDocument: Step 1 or 3: not strict CBOR, not the structure, not the fields.
        AlgorithmRefused: Step 2: headers or signature length.
        UnsignedDocument: Step 2 or 3: zeros where signature or certificate belong.
        NotAnEnclave: Step 3: a document of a NitroTPM.
    """
    # Step 1: strict CBOR and COSE_Sign1.
    try:
        signed = cose.parse_sign1(document, max_bytes=limits.ATTESTATION_DOCUMENT_MAX_BYTES)
    except MalformedError as error:
        raise MalformedDocument(f"document: {error.detail}", step=1) from None
    # Step 2: ES384 in the protected header, nothing in the unprotected one, a raw signature.
    _check_headers(signed)
    # Step 3: fields, types and sizes.
    members = _members(signed.payload)
    return UntrustedDocument(
        module_id=_module_id(members["module_id"]),
        timestamp_ms=_timestamp_ms(members["timestamp"]),
        pcrs=_pcrs(members["pcrs"]),
        certificate=_certificate(members["certificate"], "certificate"),
        cabundle=_cabundle(members["cabundle"]),
        public_key=_optional(members, "public_key"),
        user_data=_optional(members, "user_data"),
        nonce=_optional(members, "nonce"),
        signature=signed.signature,
        signed_digest=cose.signed_digest(signed),
    )


def _check_headers(signed: cose.UntrustedSign1) -> None:
    if signed.signature == _QEMU_FILLER:
        raise _unsigned("signature", step=2)
    if signed.protected != _PROTECTED:
        raise AlgorithmRefused(
            "protected header: exactly a1013822 (alg ES384) expected,"
            f" found {signed.protected[:16].hex() or 'nothing'}"
        )
    if signed.unprotected:
        raise AlgorithmRefused(
            f"unprotected header: nothing expected, found {len(signed.unprotected)} members"
        )
    if len(signed.signature) != SIGNATURE_BYTES:
        raise AlgorithmRefused(
            f"signature: {SIGNATURE_BYTES} bytes (r || s) expected, found {len(signed.signature)}"
        )


def _members(payload: bytes) -> dict[int | str, CBORValue]:
    try:
        members = cbor.decode(
            payload, max_bytes=limits.ATTESTATION_PAYLOAD_MAX_BYTES, indefinite_root_map=True
        )
    except MalformedError as error:
        raise _malformed(f"payload: {error.detail}") from None
    if not isinstance(members, dict):
        raise _malformed(f"payload: a map expected, found {type(members).__name__}")
    if _TPM in members:
        raise NotAnEnclave("payload: nitrotpm_pcrs, so this is a NitroTPM, not an enclave")
    missing = _REQUIRED - members.keys()
    if missing:
        raise _malformed(f"payload: {sorted(missing)} missing")
    if len(members.keys() - _REQUIRED - _OPTIONAL):
        raise _malformed("payload: a member that AWS does not specify")
    if members["digest"] != "SHA384":
        raise _malformed("digest: 'SHA384' expected, found something else")
    return members


def _module_id(value: CBORValue) -> str:
    if not isinstance(value, str) or not value:
        raise _malformed("module_id: text that is not empty expected")
    if not _MODULE_ID.fullmatch(value):
        raise NotAnEnclave("module_id: the form i-…-enc… of an enclave expected")
    return value


def _timestamp_ms(value: CBORValue) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _malformed("timestamp: an integer (milliseconds since 1970) expected")
    if not 0 < value < _TIMESTAMP_END_MS:
        raise _malformed("timestamp: milliseconds between 1970 and the year 10000 expected")
    return value


def _pcrs(value: CBORValue) -> Mapping[int, bytes]:
    count = limits.ATTESTATION_PCR_MAX_COUNT
    if not isinstance(value, dict) or not 1 <= len(value) <= count:
        raise _malformed(f"pcrs: a map of 1 to {count} registers expected")
    registers: dict[int, bytes] = {}
    for index, register in value.items():
        if not isinstance(index, int) or not 0 <= index < count:
            raise _malformed(f"pcrs: an index that is not an integer from 0 to {count - 1}")
        if not isinstance(register, bytes) or len(register) != PCR_BYTES:
            raise _malformed(f"pcrs: PCR{index} is not {PCR_BYTES} bytes (SHA-384)")
        registers[index] = register
    return MappingProxyType(registers)


def _certificate(value: CBORValue, name: str) -> bytes:
    limit = limits.ATTESTATION_FIELD_MAX_BYTES
    if not isinstance(value, bytes) or not 1 <= len(value) <= limit:
        raise _malformed(f"{name}: 1 to {limit} bytes expected")
    if not any(value):
        raise _unsigned(name, step=3)
    return value


def _cabundle(value: CBORValue) -> tuple[bytes, ...]:
    count = limits.ATTESTATION_BUNDLE_MAX_COUNT
    if not isinstance(value, list) or not 1 <= len(value) <= count:
        raise _malformed(f"cabundle: an array of 1 to {count} certificates expected")
    return tuple(_certificate(entry, f"cabundle[{at}]") for at, entry in enumerate(value))


def _optional(members: Mapping[int | str, CBORValue], name: str) -> bytes | None:
    value = members.get(name)
    limit = limits.ATTESTATION_FIELD_MAX_BYTES
    if value is not None and (not isinstance(value, bytes) or len(value) > limit):
        raise _malformed(f"{name}: null or at most {limit} bytes expected")
    return value


def _malformed(detail: str) -> MalformedDocument:
    return MalformedDocument(detail, step=3)


def _unsigned(name: str, *, step: int) -> UnsignedDocument:
    return UnsignedDocument(
        f"{name}: zeros only. An emulated device made this document and signed nothing"
        " (QEMU's nitro-enclave machine does so); it proves nothing",
        step=step,
    )
