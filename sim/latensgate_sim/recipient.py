"""What KMS makes of the ``Recipient`` parameter: a verified document, its PCRs and its RSA key.

The verifier is Latensgate's one verifier under the simulator's root. KMS, unlike a client, does
take documents of debug enclaves (their PCRs are zero, so only a careless policy lets them pass).

AWS does not say which error a malformed, expired or foreign document gets (facts B4);
ValidationException is assumed here, and a client has to treat AccessDenied the same.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from latensgate.verify.attestation import inspect_document
from latensgate.verify.document import UntrustedDocument, parse_untrusted_document
from latensgate.verify.errors import DebugModeRefused, VerificationError
from latensgate_sim.errors import AWSError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

ALGORITHM: Final = "RSAES_OAEP_SHA_256"
_RSA_BITS: Final = (2048, 3072, 4096)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A genuine enclave that asks.

    Attributes:
        pcrs: Locked PCRs by index.
        public_key: Where the answer is encrypted to.
        module_id: For the log.
    """

    pcrs: Mapping[int, bytes]
    public_key: RSAPublicKey
    module_id: str

    def condition_keys(self) -> dict[str, tuple[str, ...]]:
        """Return the ``kms:RecipientAttestation:…`` keys that key policies may name."""
        prefix = "kms:RecipientAttestation:"
        keys: dict[str, tuple[str, ...]] = {
            f"{prefix}PCR{index}": (value.hex(),) for index, value in self.pcrs.items()
        }
        if 0 in self.pcrs:
            keys[f"{prefix}ImageSha384"] = (self.pcrs[0].hex(),)
        return keys


def read_recipient(
    parameter: Mapping[str, object], *, root_sha256: str, at: dt.datetime
) -> Recipient:
    """Verify the ``Recipient`` parameter at a time under a root.

    Raises:
        AWSError: ValidationException: another algorithm, or a document that does not verify.
    """
    if parameter.get("KeyEncryptionAlgorithm") != ALGORITHM:
        raise _invalid("Recipient.KeyEncryptionAlgorithm must be " + ALGORITHM)
    document = _blob(parameter.get("AttestationDocument"))
    try:
        said = _authenticate(document, root_sha256=root_sha256, at=at)
    except VerificationError as error:
        raise _invalid(f"Recipient.AttestationDocument is not valid ({error.code.name})") from error
    return Recipient(said.pcrs, _public_key(said.public_key), said.module_id)


def _authenticate(document: bytes, *, root_sha256: str, at: dt.datetime) -> UntrustedDocument:
    try:
        genuine = inspect_document(
            document, at=at, unsafe_accept_simulated_root_sha256=root_sha256
        ).document
    except DebugModeRefused:
        # the step after signature, chain and time: everything before it holds
        return parse_untrusted_document(document)
    return genuine


def _blob(value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "", validate=True)
    except binascii.Error:
        raise _invalid("Recipient.AttestationDocument is not base64") from None


def _public_key(spki: bytes | None) -> RSAPublicKey:
    try:
        key = load_der_public_key(spki or b"")
    except (ValueError, UnsupportedAlgorithm):
        raise _invalid("the attested public_key is not a SubjectPublicKeyInfo") from None
    if not isinstance(key, RSAPublicKey) or key.key_size not in _RSA_BITS:
        raise _invalid("the attested public_key is not an RSA key")
    return key


def _invalid(message: str) -> AWSError:
    return AWSError(400, "ValidationException", message)
