"""Credentials of upstreams, sealed by the operator to one enclave (docs/spec/wire.md section 10).

Two things must hold, and each by itself is not enough. Only the attested enclave can read it: it is
sealed to a key of a manifest that the operator verified, under a label of its own. And only the
operator can have sealed it: anybody may seal to a public key, and a parent could so hand over a key
of its own account and read every prompt in that account's logs. So the operator signs, with a key
whose public half stands in the measured ``deployment.toml``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.ed25519 import SIGNATURE_BYTES, verify_ed25519
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import (
    NAME_MAX_CHARS,
    UPSTREAM_CREDENTIAL_MAX_CHARS,
    UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES,
)
from latensgate_shared.padding import append_pad, check_pad
from latensgate_shared.sealed import AnswerSealer, open_answer, open_request, seal_request
from latensgate_shared.sealed_request import UPSTREAM_CREDENTIAL_LABEL
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate_shared.sealed import AnswerSecret, OpeningKey, SealedRequest, SealingKey
    from latensgate_shared.strict_json import JSONObject

_SIGNATURE_LABEL: Final = b"latensgate/1 upstream credential\x00"
_SECRET: Final = re.compile(r"[!-~]+", re.ASCII)
_TAKEN: Final = b"taken"
_MEMBERS: Final = frozenset({"issued_at_ms", "secret", "signature", "pad"})


class CredentialRefusedError(LatensgateError):
    """Not signed by the key that the measured deployment names."""

    code = ErrorCode.ERR_FORBIDDEN


@dataclass(frozen=True, slots=True)
class UpstreamCredential:
    """One credential for one enclave.

    Attributes:
        attestation_hash: Of the published document of the enclave that it is for.
        upstream: Name of a table of the deployment's ``upstreams``.
        issued_at_ms: When, milliseconds since 1970; a later one replaces an earlier one.
        secret: The bearer key: visible ASCII, at most ``UPSTREAM_CREDENTIAL_MAX_CHARS``.

    Raises:
        JSONError: A member that is not of this form.
    """

    attestation_hash: str
    upstream: str
    issued_at_ms: int
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        formats.sha384_digest(self.attestation_hash, "credential.attestation_hash")
        formats.text(self.upstream, "credential.upstream", NAME_MAX_CHARS)
        formats.integer(self.issued_at_ms, "credential.issued_at_ms")
        formats.text(self.secret, "credential.secret", UPSTREAM_CREDENTIAL_MAX_CHARS)
        if not _SECRET.fullmatch(self.secret):
            raise JSONError("credential.secret: visible ASCII characters expected")

    @property
    def outer(self) -> bytes:
        """What is visible and bound by the seal."""
        return _outer(self.attestation_hash, self.upstream)

    def signing_input(self) -> bytes:
        """Return the bytes that the operator signs."""
        return _SIGNATURE_LABEL + canonicalize(
            {
                "attestation_hash": self.attestation_hash,
                "issued_at_ms": self.issued_at_ms,
                "secret": self.secret,
                "upstream": self.upstream,
            }
        )


def _outer(attestation_hash: str, upstream: str) -> bytes:
    return canonicalize({"attestation_hash": attestation_hash, "upstream": upstream})


def seal_credential(
    credential: UpstreamCredential, key: SealingKey, sign: Callable[[bytes], bytes]
) -> SealedRequest:
    """Sign and seal a credential.

    Args:
        credential: For the enclave that holds ``key``.
        key: Out of a manifest that was verified.
        sign: Ed25519 with the operator's key.

    Raises:
        HPKEKeyError: The public key gives an all-zero X25519 result.
    """
    body: JSONObject = {
        "issued_at_ms": credential.issued_at_ms,
        "secret": credential.secret,
        "signature": sign(credential.signing_input()).hex(),
    }
    plaintext = append_pad(canonicalize(body)[:-1], pad=True)
    return seal_request(key, credential.outer, plaintext, label=UPSTREAM_CREDENTIAL_LABEL)


@dataclass(frozen=True, slots=True)
class OpenedCredential:
    """A credential that its operator has signed.

    Attributes:
        credential: The credential.
        key_id: 8 bytes: the key that it was sealed to.
        answer_secret: For ``confirm``.
    """

    credential: UpstreamCredential
    key_id: bytes
    answer_secret: AnswerSecret = field(repr=False)


def open_credential(
    keys: Mapping[bytes, OpeningKey],
    *,
    attestation_hash: str,
    upstream: str,
    sealed: bytes,
    operator_key: bytes,
) -> OpenedCredential:
    """Open a credential and check who sealed it.

    Args:
        keys: Key id → private key.
        attestation_hash: As the parent states it; bound by the seal.
        upstream: As the parent states it; bound by the seal.
        sealed: What ``seal_credential`` made.
        operator_key: Ed25519 public key of the measured deployment.

    Raises:
        LatensgateError: It does not open, or is not of this form.
        CredentialRefusedError: The signature is not this key's.
    """
    outer = _outer(attestation_hash, upstream)
    opened = open_request(keys, outer, sealed, label=UPSTREAM_CREDENTIAL_LABEL)
    limit = UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES
    value = parse_json_object(opened.plaintext, max_bytes=limit)
    members = formats.members(value, "credential", _MEMBERS)
    check_pad(members["pad"], "credential.pad")
    credential = UpstreamCredential(
        attestation_hash,
        upstream,
        formats.integer(members["issued_at_ms"], "credential.issued_at_ms"),
        formats.text(members["secret"], "credential.secret", UPSTREAM_CREDENTIAL_MAX_CHARS),
    )
    signature = formats.hex_text(members["signature"], "credential.signature", SIGNATURE_BYTES)
    try:
        verify_ed25519(operator_key, credential.signing_input(), bytes.fromhex(signature))
    except LatensgateError:
        raise CredentialRefusedError(
            "upstream credential: not signed by the deployment's upstream_operator_key"
        ) from None
    return OpenedCredential(credential, opened.key_id, opened.answer_secret)


def confirm(secret: AnswerSecret) -> bytes:
    """Return the enclave's word that it has taken a credential: only the enclave can write it."""
    sealer = AnswerSealer(secret)
    return sealer.content(_TAKEN) + sealer.final(_TAKEN)


def verify_confirmation(secret: AnswerSecret, confirmation: bytes) -> None:
    """Check that the enclave itself has taken a credential.

    Raises:
        AnswerInvalidError, AnswerTruncatedError: It did not say so.
    """
    open_answer(secret, confirmation)
