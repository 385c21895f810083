"""The key manifest, and how an attestation document binds it (docs/spec/attestation-binding.md).

The manifest names every key that a client may use with one enclave. Its hash stands in the
``user_data`` of the document, beside the report data of ACI (``aci/1``), so that verifiers of that
specification can check the same keys by their own rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256, sha384
from typing import TYPE_CHECKING, Final

from latensgate_shared import formats
from latensgate_shared.hpke import KDF_HKDF_SHA256
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import MANIFEST_LIFETIME_S, MANIFEST_MAX_BYTES, NONCE_BYTES
from latensgate_shared.sealed import SUITE_X25519, SUITE_XWING, key_id
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.hpke import Suite
    from latensgate_shared.strict_json import JSONObject, JSONValue

MANIFEST_VERSION: Final = 1
USER_DATA_BYTES: Final = 112
RECEIPT_KEY_BYTES: Final = 32

_SLOT_PADDING: Final = bytes(32)
_RECEIPT_KEY_ID: Final = "receipt-ed25519"
_SUBJECT: Final = "latensgate"


SUITES: Final = {SUITE_XWING: "xwing", SUITE_X25519: "x25519"}
"""Every suite of version 1 and its name in ACI, best first: the order that a manifest keeps."""


@dataclass(frozen=True, slots=True)
class HPKEKey:
    """One public key that requests may be sealed to.

    Attributes:
        suite: One of ``SUITES``.
        public_key: Raw; its length is checked.
    """

    suite: Suite
    public_key: bytes

    def __post_init__(self) -> None:
        expected = self.suite.kem.public_key_bytes
        if len(self.public_key) != expected:
            raise JSONError(
                f"manifest: public_key of {expected} bytes expected for {SUITES[self.suite]}, "
                f"found {len(self.public_key)}"
            )

    @property
    def key_id(self) -> str:
        """16 hex digits: what a request's header carries (docs/spec/wire.md section 4)."""
        return key_id(self.suite, self.public_key).hex()


_VERSION_FORM: Final = re.compile(r"[0-9A-Za-z.+-]{1,64}")
_KEY_ARN_FORM: Final = re.compile(
    r"arn:aws(?:-[a-z]{1,8}){0,3}:kms:[a-z0-9-]{1,32}:[0-9]{12}:"
    r"key/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # no alias; single-Region keys only
)
_ACCOUNT_FORM: Final = re.compile(r"[0-9]{12}")
_REGION_FORM: Final = re.compile(r"[a-z]{2,4}(?:-[a-z]{1,16}){1,3}-[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The key manifest; an instance is always within its specification.

    Attributes:
        software_version: 1 to 64 of ``[0-9A-Za-z.+-]``.
        hpke_keys: One or two, one for each suite, best first.
        receipt_public_key: Ed25519, 32 bytes raw.
        policy_digest: ``sha384:…`` of ``policy.toml``.
        deployment_digest: ``sha384:…`` of ``deployment.toml``.
        kms_key_arn: Full ARN of the key, no alias; of ``service_account`` and ``region``.
        kms_key_policy_digest: ``sha384:…`` of the JCS of the canonical key policy.
        service_account: AWS account, 12 digits.
        region: AWS Region.
        not_before: Seconds since 1970.
        not_after: Seconds since 1970, at most ``MANIFEST_LIFETIME_S`` later.

    Raises:
        JSONError: A member that is not of the form above.
    """

    software_version: str
    hpke_keys: tuple[HPKEKey, ...]
    receipt_public_key: bytes
    policy_digest: str
    deployment_digest: str
    kms_key_arn: str
    kms_key_policy_digest: str
    service_account: str
    region: str
    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        formats.matching(
            self.software_version,
            "manifest.software_version",
            _VERSION_FORM,
            "1 to 64 of [0-9A-Za-z.+-]",
        )
        for name in ("policy_digest", "deployment_digest", "kms_key_policy_digest"):
            formats.sha384_digest(getattr(self, name), f"manifest.{name}")
        self._check_keys()
        self._check_aws()
        self._check_lifetime()

    def _check_keys(self) -> None:
        suites = [key.suite for key in self.hpke_keys]
        if not suites or suites != [suite for suite in SUITES if suite in suites]:
            raise JSONError("manifest.hpke_keys: one key for each suite, best first, expected")
        if len(self.receipt_public_key) != RECEIPT_KEY_BYTES:
            raise JSONError(f"manifest.receipt_key: {RECEIPT_KEY_BYTES} bytes expected")

    def _check_aws(self) -> None:
        formats.matching(
            self.kms_key_arn, "manifest.kms_key_arn", _KEY_ARN_FORM, "the full ARN of a KMS key"
        )
        formats.matching(
            self.service_account, "manifest.service_account", _ACCOUNT_FORM, "12 digits"
        )
        formats.matching(self.region, "manifest.region", _REGION_FORM, "an AWS Region")
        if self.kms_key_arn.split(":")[3:5] != [self.region, self.service_account]:
            raise JSONError("manifest.kms_key_arn: a key of this account and Region expected")

    def _check_lifetime(self) -> None:
        formats.integer(self.not_before, "manifest.not_before")
        formats.integer(
            self.not_after,
            "manifest.not_after",
            minimum=self.not_before + 1,
            maximum=self.not_before + MANIFEST_LIFETIME_S,
        )


_COPIED: Final = (
    "software_version",
    "policy_digest",
    "deployment_digest",
    "kms_key_arn",
    "kms_key_policy_digest",
    "service_account",
    "region",
    "not_before",
    "not_after",
)
_MEMBERS: Final = frozenset({*_COPIED, "manifest_version", "hpke_keys", "receipt_key"})
_KEY_MEMBERS: Final = frozenset({"aead_id", "kdf_id", "kem_id", "key_id", "public_key"})


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes: what is hashed, published and archived."""
    value: JSONObject = {name: getattr(manifest, name) for name in _COPIED}
    value["manifest_version"] = MANIFEST_VERSION
    value["hpke_keys"] = [_key_object(key) for key in manifest.hpke_keys]
    value["receipt_key"] = {
        "algorithm": "ed25519",
        "public_key": manifest.receipt_public_key.hex(),
    }
    return canonicalize(value)


def _key_object(key: HPKEKey) -> JSONObject:
    kem_id, kdf_id, aead_id = _suite_ids(key.suite)
    return {
        "aead_id": aead_id,
        "kdf_id": kdf_id,
        "kem_id": kem_id,
        "key_id": key.key_id,
        "public_key": formats.to_base64(key.public_key),
    }


def _suite_ids(suite: Suite) -> tuple[int, int, int]:
    return suite.kem.id, KDF_HKDF_SHA256, suite.aead.id


def parse_manifest(data: bytes) -> Manifest:
    """Parse the bytes of a manifest; only their canonical form is one.

    Raises:
        TooLargeError: More than ``MANIFEST_MAX_BYTES``.
        JSONError: Anything else that is not docs/spec/attestation-binding.md section 2.
    """
    value = formats.members(
        parse_json_object(data, max_bytes=MANIFEST_MAX_BYTES), "manifest", _MEMBERS
    )
    formats.integer(
        value["manifest_version"], "manifest.manifest_version", MANIFEST_VERSION, MANIFEST_VERSION
    )
    manifest = Manifest(
        hpke_keys=_parse_keys(value["hpke_keys"]),
        receipt_public_key=_parse_receipt_key(value["receipt_key"]),
        **{name: value[name] for name in _COPIED},  # type: ignore[arg-type]  # checked there
    )
    if encode_manifest(manifest) != data:
        raise JSONError("manifest: the canonical form expected (RFC 8785)")
    return manifest


def _parse_keys(value: JSONValue) -> tuple[HPKEKey, ...]:
    if type(value) is not list or len(value) > len(SUITES):
        raise JSONError(f"manifest.hpke_keys: an array of 1 to {len(SUITES)} expected")
    return tuple(_parse_key(item) for item in value)


def _parse_key(value: JSONValue) -> HPKEKey:
    members = formats.members(value, "manifest.hpke_keys", _KEY_MEMBERS)
    suite = _find_suite(members)
    public_key = formats.base64_bytes(
        members["public_key"], "manifest.hpke_keys.public_key", suite.kem.public_key_bytes
    )
    key = HPKEKey(suite, public_key)
    if members["key_id"] != key.key_id:
        raise JSONError("manifest.hpke_keys.key_id: not the id of this key")
    return key


def _find_suite(members: JSONObject) -> Suite:
    ids = tuple(
        formats.integer(members[name], f"manifest.hpke_keys.{name}")
        for name in ("kem_id", "kdf_id", "aead_id")
    )
    for suite in SUITES:
        if ids == _suite_ids(suite):
            return suite
    raise JSONError("manifest.hpke_keys: a suite of docs/spec/wire.md section 1 expected")


def _parse_receipt_key(value: JSONValue) -> bytes:
    members = formats.members(value, "manifest.receipt_key", frozenset({"algorithm", "public_key"}))
    if members["algorithm"] != "ed25519":
        raise JSONError("manifest.receipt_key.algorithm: ed25519 expected")
    return formats.hex_bytes(
        members["public_key"], "manifest.receipt_key.public_key", RECEIPT_KEY_BYTES
    )


def aci_keyset(manifest: Manifest) -> JSONObject:
    """Return the manifest as ACI sees it: a projection that every verifier recomputes."""
    return {
        "subject": _SUBJECT,
        "not_after": manifest.not_after,
        "receipt_signing_keys": [
            {
                "key_id": _RECEIPT_KEY_ID,
                "algo": "ed25519",
                "public_key": manifest.receipt_public_key.hex(),
            }
        ],
        "e2ee_public_keys": [
            {
                "key_id": key.key_id,
                "algo": f"latensgate-1-{SUITES[key.suite]}",
                "public_key": key.public_key.hex(),
            }
            for key in manifest.hpke_keys
        ],
        "tls_public_keys": [],
    }


def aci_keyset_digest(keyset: JSONObject) -> str:
    """``sha256:`` and the hex SHA-256 of the JCS of an ACI keyset (aci/1, section 3.2)."""
    return "sha256:" + sha256(canonicalize(keyset)).hexdigest()


def aci_statement(keyset_digest: str, nonce: bytes | None) -> bytes:
    """Return ACI's statement: fixed bytes, whose hash is the report data (aci/1, section 3.2).

    Raises:
        JSONError: A nonce that is not ``NONCE_BYTES`` long.
    """
    return canonicalize(
        {
            "keyset_digest": keyset_digest,
            "nonce": None if nonce is None else _checked_nonce(nonce).hex(),
            "purpose": "aci.report_data.v1",
        }
    )


def _checked_nonce(nonce: bytes) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise JSONError(f"nonce: {NONCE_BYTES} bytes expected, found {len(nonce)}")
    return nonce


def aci_report_data(keyset_digest: str, nonce: bytes | None) -> bytes:
    """Return ACI's report data: 32 bytes.

    Raises:
        JSONError: A nonce that is not ``NONCE_BYTES`` long.
    """
    return sha256(aci_statement(keyset_digest, nonce)).digest()


def build_user_data(manifest_bytes: bytes, nonce: bytes | None) -> bytes:
    """Return the ``user_data`` that binds this manifest: 112 bytes.

    Args:
        manifest_bytes: As published.
        nonce: What the document's own ``nonce`` field holds: None or ``NONCE_BYTES`` bytes.

    Raises:
        JSONError: Bytes that are no manifest, or a nonce of another length.
    """
    keyset_digest = aci_keyset_digest(aci_keyset(parse_manifest(manifest_bytes)))
    slot = aci_report_data(keyset_digest, nonce) + _SLOT_PADDING
    return slot + sha384(manifest_bytes).digest()
