"""The call that brings an enclave the credential of an upstream, sealed by the operator.

The parent carries it and cannot read it: see ``upstream_credential`` (docs/spec/frames.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from latensgate_shared import formats, limits
from latensgate_shared.call_forms import CallError, Message, Operation, binary

_NAMES_MAX_CHARS = limits.UPSTREAMS_MAX_COUNT * 33
"""Names of at most 32 characters and commas between them."""


@dataclass(frozen=True, slots=True)
class UpstreamCredentialCall(Message):
    """Take a credential; without one, say only which are missing. No body.

    Attributes:
        attestation_hash: Of the published document that the operator verified.
        upstream: Name of a table of the deployment's ``upstreams``.
        sealed: The credential.
    """

    call: ClassVar[Operation] = Operation.UPSTREAM_CREDENTIAL
    attestation_hash: str | None = None
    upstream: str | None = None
    sealed: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        given = [self.attestation_hash, self.upstream, self.sealed]
        if given.count(None) not in (0, len(given)):
            raise CallError("upstream_credential: all of its fields expected, or none")
        if self.attestation_hash is not None:
            formats.sha384_digest(self.attestation_hash, "attestation_hash")
            formats.text(self.upstream, "upstream", limits.NAME_MAX_CHARS)
        binary(self.sealed, "sealed", limits.UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES, None)


@dataclass(frozen=True, slots=True)
class UpstreamCredentialAnswer(Message):
    """Head of the answer; no body.

    Attributes:
        missing: Names of upstreams without a credential, joined by commas; absent: none.
        confirmed: Sealed to whoever sealed the credential: proof that it was taken.
    """

    missing: str | None = None
    confirmed: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.missing is not None:
            formats.text(self.missing, "missing", _NAMES_MAX_CHARS)
        binary(self.confirmed, "confirmed", limits.UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES, None)
