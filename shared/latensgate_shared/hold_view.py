"""What an approver is shown of a held request, signed by the enclave (docs/spec/holds.md 5).

An approver who has an X-Wing key gets it sealed to that key, and nobody else can read it. One who
has none gets it in clear, and then the parent can read the counts: a tenant that minds gives each
of its approvers such a key. Content stands in sealed views alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.ed25519 import SIGNATURE_BYTES, SignatureError, verify_ed25519
from latensgate_shared.hold import ApprovalError, check_counts, pending_id
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import (
    NAME_MAX_CHARS,
    SEALED_REQUEST_MAX_BYTES,
)
from latensgate_shared.padding import append_pad, check_pad
from latensgate_shared.sealed import SUITE_XWING, OpeningKey, SealingKey, open_request, seal_request
from latensgate_shared.sealed_request import HOLD_VIEW_LABEL
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.strict_json import JSONObject, JSONValue

_SIGNED: Final = HOLD_VIEW_LABEL + b"\x00"


@dataclass(frozen=True, slots=True, repr=False)
class HoldView:
    """What an approver decides on; never printed as a whole, for it may hold content.

    Attributes:
        pending_id: Of the request.
        plan_digest: To be signed.
        tenant_id: Whose request.
        model: That the caller asks for.
        operation: What is asked for.
        expires_at: Seconds since 1970.
        counts: What asks for an approver, by category and direction.
        content: Every body that the model would be sent, as text; None: the policy shows none.

    Raises:
        JSONError: A member that is not of this form.
    """

    pending_id: str
    plan_digest: str
    tenant_id: str
    model: str
    operation: str
    expires_at: int
    counts: JSONObject
    content: tuple[str, ...] | None = field(default=None)

    def __post_init__(self) -> None:
        pending_id(self.pending_id, "view.pending_id")
        formats.sha384_digest(self.plan_digest, "view.plan_digest")
        formats.tenant_id(self.tenant_id, "view.tenant_id")
        formats.text(self.model, "view.model", NAME_MAX_CHARS)
        formats.text(self.operation, "view.operation", NAME_MAX_CHARS)
        formats.integer(self.expires_at, "view.expires_at")
        check_counts(self.counts, "view.counts")

    def to_json(self) -> JSONObject:
        """Return the object that is canonicalised and signed."""
        content: JSONValue = None if self.content is None else [*self.content]
        return {
            "content": content,
            "counts": self.counts,
            "expires_at": self.expires_at,
            "model": self.model,
            "operation": self.operation,
            "pending_id": self.pending_id,
            "plan_digest": self.plan_digest,
            "tenant_id": self.tenant_id,
        }


_VIEW: Final = frozenset(HoldView.__dataclass_fields__)


def encode_view(view: HoldView, sign: Callable[[bytes], bytes]) -> bytes:
    """Return a view and the signature of the enclave's receipt key over it, padded."""
    shown = canonicalize(view.to_json())
    signature = sign(_SIGNED + shown).hex().encode("ascii")
    return append_pad(b'{"signature":"' + signature + b'","view":' + shown, pad=True)


def seal_view(encoded: bytes, xwing: bytes, *, pending: str) -> bytes:
    """Seal a view to an approver's X-Wing key (1,216 bytes).

    Raises:
        HPKEKeyError: Not an X-Wing key.
        TooLargeError: The content is longer than what can be shown.
    """
    key = SealingKey(SUITE_XWING, xwing)
    return seal_request(key, _outer(pending), encoded, label=HOLD_VIEW_LABEL).wire


def _outer(pending: str) -> bytes:
    return canonicalize({"pending_id": pending})


def open_view(key: OpeningKey, wire: bytes, *, pending: str) -> bytes:
    """Open a sealed view with an approver's private key; ``verify_view`` reads what comes out.

    Raises:
        LatensgateError: It does not open.
    """
    opened = open_request({key.key_id: key}, _outer(pending), wire, label=HOLD_VIEW_LABEL)
    return opened.plaintext


def verify_view(encoded: bytes, receipt_key: bytes) -> HoldView:
    """Return a view that an enclave has signed.

    Args:
        encoded: As ``encode_view`` wrote it.
        receipt_key: 32 bytes, of a manifest that was verified.

    Raises:
        ApprovalError: Another signature.
        JSONError: Another form.
    """
    value = parse_json_object(encoded, max_bytes=SEALED_REQUEST_MAX_BYTES)
    members = formats.members(value, "view", frozenset({"pad", "signature", "view"}))
    check_pad(members["pad"], "view.pad")
    signature = formats.hex_bytes(members["signature"], "view.signature", SIGNATURE_BYTES)
    try:
        verify_ed25519(receipt_key, _SIGNED + canonicalize(members["view"]), signature)
    except SignatureError:
        raise ApprovalError("view: not signed by the attested enclave") from None
    return _view(formats.members(members["view"], "view", _VIEW))


def _view(members: JSONObject) -> HoldView:
    content = members["content"]
    if content is not None and type(content) is not list:
        raise JSONError("view.content: a list or null expected")
    return HoldView(
        pending_id=pending_id(members["pending_id"], "view.pending_id"),
        plan_digest=formats.sha384_digest(members["plan_digest"], "view.plan_digest"),
        tenant_id=formats.tenant_id(members["tenant_id"], "view.tenant_id"),
        model=formats.text(members["model"], "view.model", NAME_MAX_CHARS),
        operation=formats.text(members["operation"], "view.operation", NAME_MAX_CHARS),
        expires_at=formats.integer(members["expires_at"], "view.expires_at"),
        counts=check_counts(members["counts"], "view.counts"),
        content=None if content is None else tuple([_text(each) for each in content]),
    )


def _text(value: JSONValue) -> str:
    return formats.text(value, "view.content", SEALED_REQUEST_MAX_BYTES)
