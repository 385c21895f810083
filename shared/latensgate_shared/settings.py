"""Tenant settings: one document, signed by the tenant's root key (docs/spec/settings.md).

The parent only stores it. Whoever applies it knows the root from elsewhere: the enclave from inside
the seal, tools from their own configuration. A document that is good by itself, under the root that
it names, proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.ed25519 import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    SignatureError,
    check_public_key,
    verify_ed25519,
)
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.hpke import XWING, HPKEKeyError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import (
    ARN_MAX_CHARS,
    NAME_MAX_CHARS,
    SETTINGS_APPROVERS_MAX_COUNT,
    TENANT_SETTINGS_MAX_BYTES,
)
from latensgate_shared.pii_policy import PolicyError
from latensgate_shared.pii_policy_document import parse_policy
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.pii_policy import Policy
    from latensgate_shared.strict_json import JSONObject, JSONValue

SETTINGS_FORMAT: Final = "latensgate-tenant-settings/1"
SETTINGS_LABEL: Final = b"latensgate/1 tenant settings\x00"
"""In front of the JCS of ``settings``: what the root key signs."""
XWING_PUBLIC_KEY_BYTES: Final = 1_216
"""ML-KEM-768 (1,184) and X25519 (32)."""
_REQUIRED: Final = frozenset({"format", "tenant_id", "root", "version", "issued_at"})
_OPTIONAL: Final = frozenset({"policy", "approvers", "audit_key", "kms_key_arn"})


class SettingsError(LatensgateError):
    """Settings that are not what the specification says, or not those that are asked for.

    Attributes:
        field: The member at fault, for example ``settings.policy.rules``.
    """

    code = ErrorCode.ERR_SETTINGS_REFUSED

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Approver:
    """Who may decide on a request that is held.

    Attributes:
        name: For people.
        ed25519: Signs decisions; 32 bytes.
        xwing: Receives sealed content, where the policy shows it; 1,216 bytes.
    """

    name: str
    ed25519: bytes
    xwing: bytes | None = None


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """Settings that were read, and whose signature is that of the root they name.

    Attributes:
        tenant_id: Whose.
        root: Ed25519 key that signed them; 32 bytes.
        version: Counts up from 1.
        issued_at_s: Seconds since 1970, on the clock of who signed.
        policy: Or None: no opinion.
        policy_document: As it stands in the document.
        approvers: Those of held requests.
        audit_key: X-Wing key that private parts of receipts are sealed to.
        kms_key_arn: The key that every request of the tenant must come wrapped under.
        digest: ``sha384:…`` of the document.
    """

    tenant_id: str
    root: bytes
    version: int
    issued_at_s: int
    policy: Policy | None
    policy_document: JSONObject | None = field(repr=False)
    approvers: tuple[Approver, ...]
    audit_key: bytes | None = field(repr=False)
    kms_key_arn: str | None
    digest: str

    @property
    def told(self) -> str:
        """What a receipt says: ``version digest``."""
        return f"{self.version} {self.digest}"


def settings_to_sign(settings: JSONObject) -> bytes:
    """Return the bytes that the root key signs.

    Raises:
        JSONError: No canonical form.
    """
    return SETTINGS_LABEL + canonicalize(settings)


def encode_settings(settings: JSONObject, signature: bytes) -> bytes:
    """Return the document: canonical JSON of settings and signature."""
    return canonicalize({"settings": settings, "signature": signature.hex()})


def check_settings(settings: JSONValue) -> TenantSettings:
    """Read the inner object, before it is signed; ``digest`` is that of the inner object then.

    Raises:
        SettingsError: Names the field at fault.
    """
    try:
        return _settings(settings, canonicalize(settings))
    except PolicyError as error:
        raise SettingsError(error.field, error.detail.partition(": ")[2]) from None
    except MalformedError as error:
        raise _told(error) from None


def parse_settings(document: bytes) -> TenantSettings:
    """Read a document and check its signature under the root that it names itself.

    Raises:
        SettingsError: Names the field at fault.
    """
    try:
        outer = parse_json_object(document, max_bytes=TENANT_SETTINGS_MAX_BYTES)
        formats.check_names(outer.keys(), "document", frozenset({"settings", "signature"}))
        if canonicalize(outer) != document:
            raise JSONError("document: canonical JSON expected (RFC 8785)")
        signature = formats.hex_bytes(outer["signature"], "signature", SIGNATURE_BYTES)
        found = _settings(outer["settings"], document)
        signed = SETTINGS_LABEL + canonicalize(outer["settings"])
        _verify(found.root, signed, signature)
    except PolicyError as error:
        raise SettingsError(error.field, error.detail.partition(": ")[2]) from None
    except SettingsError:
        raise
    except MalformedError as error:
        raise _told(error) from None
    return found


def _verify(root: bytes, signed: bytes, signature: bytes) -> None:
    try:
        verify_ed25519(root, signed, signature)
    except SignatureError:
        raise SettingsError(
            "signature", "that of the root key over the settings expected"
        ) from None


def verify_settings(
    document: bytes | None, *, root: bytes, tenant_id: str, min_version: int
) -> TenantSettings:
    """Return settings that are signed by this root for this tenant, and new enough.

    Args:
        document: As somebody untrusted gave it; None: nobody did.
        root: 32 bytes, known from elsewhere.
        tenant_id: Whose settings are to be applied.
        min_version: Oldest that will do.

    Raises:
        SettingsError: Anything else, or none.
    """
    if document is None:
        raise SettingsError("document", "signed settings expected, none were supplied")
    return require_settings(
        parse_settings(document), root=root, tenant_id=tenant_id, min_version=min_version
    )


def require_settings(
    found: TenantSettings, *, root: bytes, tenant_id: str, min_version: int
) -> TenantSettings:
    """Return settings whose signature is checked already, if they are those that are asked for.

    Raises:
        SettingsError: Of another root or tenant, or older.
    """
    if found.root != root:
        raise SettingsError("settings.root", "the root that the request names expected, not this")
    if found.tenant_id != tenant_id:
        raise SettingsError("settings.tenant_id", "the tenant of the request expected, not this")
    if found.version < min_version:
        raise SettingsError(
            "settings.version", f"{min_version} or later expected, found {found.version}"
        )
    return found


def _told(error: MalformedError) -> SettingsError:
    """Give an error of a form its field: what stands before the first colon."""
    place, _, problem = error.detail.partition(": ")
    if place.startswith(("settings", "signature", "document")):
        return SettingsError(place, problem)
    return SettingsError("document", error.detail)


def _settings(value: JSONValue, named: bytes) -> TenantSettings:
    members = formats.members(value, "settings", _REQUIRED, _OPTIONAL)
    if members["format"] != SETTINGS_FORMAT:
        raise JSONError(f"settings.format: {SETTINGS_FORMAT} expected")
    policy = members.get("policy")
    if policy is not None and type(policy) is not dict:
        raise JSONError("settings.policy: an object expected")
    if None in members.values():
        raise JSONError("settings: a member is null; optional ones are left out")
    arn = members.get("kms_key_arn")
    return TenantSettings(
        tenant_id=formats.tenant_id(members["tenant_id"], "settings.tenant_id"),
        root=_key(members["root"], "settings.root"),
        version=formats.integer(members["version"], "settings.version", 1),
        issued_at_s=formats.integer(members["issued_at"], "settings.issued_at"),
        policy=None if policy is None else parse_policy(policy, name="settings.policy"),
        policy_document=policy,
        approvers=_approvers(members.get("approvers", [])),
        audit_key=_xwing(members.get("audit_key"), "settings.audit_key"),
        kms_key_arn=None
        if arn is None
        else formats.text(arn, "settings.kms_key_arn", ARN_MAX_CHARS),
        digest=f"sha384:{sha384(named).hexdigest()}",
    )


def _key(value: JSONValue, what: str) -> bytes:
    key = formats.hex_bytes(value, what, PUBLIC_KEY_BYTES)
    try:
        check_public_key(key)
    except SignatureError:
        raise JSONError(f"{what}: an Ed25519 public key expected") from None
    return key


def _xwing(value: JSONValue, what: str) -> bytes | None:
    if value is None:
        return None
    key = formats.hex_bytes(value, what, XWING_PUBLIC_KEY_BYTES)
    try:  # what is sealed to it later must not fail then
        XWING.load_public_key(key)
    except HPKEKeyError:
        raise JSONError(f"{what}: an X-Wing public key expected") from None
    return key


def _approvers(value: JSONValue) -> tuple[Approver, ...]:
    if type(value) is not list or len(value) > SETTINGS_APPROVERS_MAX_COUNT:
        raise JSONError(
            f"settings.approvers: a list of at most {SETTINGS_APPROVERS_MAX_COUNT} expected"
        )
    found = tuple(_approver(each, f"settings.approvers[{n}]") for n, each in enumerate(value))
    if len({each.ed25519 for each in found}) < len(found):
        raise JSONError("settings.approvers: each key once expected")
    return found


def _approver(value: JSONValue, what: str) -> Approver:
    required, optional = frozenset({"name", "ed25519"}), frozenset({"xwing"})
    members = formats.members(value, what, required, optional)
    return Approver(
        formats.text(members["name"], f"{what}.name", NAME_MAX_CHARS),
        _key(members["ed25519"], f"{what}.ed25519"),
        _xwing(members.get("xwing"), f"{what}.xwing"),
    )
