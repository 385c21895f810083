"""Private parts of receipts, sealed to the tenant's audit key (docs/spec/receipts.md).

The parent stores them and can open none. Each is bound to its receipt twice: its seal opens only
together with the public part beside which it stands, and what opens must have the digest to which
that part, which the enclave signed, commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError, TooLargeError
from latensgate_shared.hpke import XWING, HPKEError, setup_recipient, setup_sender
from latensgate_shared.limits import RECEIPT_PRIVATE_SEALED_MAX_BYTES
from latensgate_shared.padding import append_pad, check_pad
from latensgate_shared.receipts import PrivatePart, check_private_part
from latensgate_shared.sealed_request import SUITE_XWING
from latensgate_shared.strict_json import parse_json_members

if TYPE_CHECKING:
    from latensgate_shared.hpke import PrivateKey
    from latensgate_shared.receipts import PublicPart, Receipt

VERSION: Final = b"\x01"
_LABEL: Final = b"latensgate/1 audit\x00"
_HEAD_BYTES: Final = 1 + XWING.enc_bytes
_MEMBERS: Final = frozenset({"private", "pad"})


class AuditSealError(LatensgateError):
    """A sealed private part that is not what the enclave sealed for this receipt and this key."""

    code = ErrorCode.ERR_RECEIPT_INVALID


def seal_private_part(audit_key: bytes, receipt: Receipt) -> bytes:
    """Seal the private part of a receipt to an audit key.

    Args:
        audit_key: Raw X-Wing public key.
        receipt: Whose public part the seal is bound to.

    Raises:
        HPKEKeyError: No X-Wing key.
        TooLargeError: Longer than the parent stores.
    """
    enc, context = setup_sender(
        SUITE_XWING, XWING.load_public_key(audit_key), _LABEL + receipt.public.canonical()
    )
    padded = append_pad(b'{"private":' + receipt.private.canonical, pad=True)
    sealed = b"".join((VERSION, enc, context.seal(b"", padded)))
    if len(sealed) > RECEIPT_PRIVATE_SEALED_MAX_BYTES:
        raise TooLargeError(
            f"private part: at most {RECEIPT_PRIVATE_SEALED_MAX_BYTES} sealed bytes expected"
        )
    return sealed


def open_private_part(audit_key: PrivateKey, public: PublicPart, sealed: bytes) -> PrivatePart:
    """Open a private part and hold it against its receipt.

    Whoever relies on it has verified the public part and its signature.

    Args:
        audit_key: X-Wing private key.
        public: Of the receipt beside which it stands.
        sealed: What ``seal_private_part`` made.

    Raises:
        AuditSealError: Another key's, another receipt's, or changed.
    """
    if not sealed.startswith(VERSION):
        raise AuditSealError("private part: sealed in version 1 expected")
    info = _LABEL + public.canonical()
    try:
        context = setup_recipient(SUITE_XWING, audit_key, sealed[1:_HEAD_BYTES], info)
        padded = context.open(b"", sealed[_HEAD_BYTES:])
    except HPKEError:
        raise AuditSealError(
            "private part: it does not open: sealed to another key, of another receipt, or changed"
        ) from None
    private = _read(padded)
    if private.digest != public.private_digest:
        raise AuditSealError("private part: not the one to which the receipt commits")
    return private


def _read(padded: bytes) -> PrivatePart:
    try:
        members = parse_json_members(padded, max_bytes=RECEIPT_PRIVATE_SEALED_MAX_BYTES)
        formats.check_names(members.keys(), "private part", _MEMBERS)
        check_pad(members["pad"].value, "private part.pad")
        return PrivatePart(check_private_part(members["private"].value))
    except MalformedError as error:
        raise AuditSealError(error.detail) from None
