"""tests/vectors/manifest and binding: the key manifest and what user_data says of it."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import base64
import hashlib
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vectors.case import Case, Json, base64_text, fixed, sha384_text
from vectors.primitives import KeyPair, jcs
from vectors.sealed import X25519_KEY, XWING_KEY

SPEC_MANIFEST = "attestation-binding.md section 2"
SPEC_BINDING = "attestation-binding.md section 3"
NOT_BEFORE = 1_780_315_200  # 2026-06-01T12:00:00Z
RECEIPT_KEY = Ed25519PrivateKey.from_private_bytes(fixed("receipt key", 32))
RECEIPT_PUBLIC = RECEIPT_KEY.public_key().public_bytes_raw()
NONCE = fixed("nonce", 32)


def hpke_entry(pair: KeyPair) -> dict[str, Json]:
    """One element of hpke_keys."""
    return {
        "aead_id": 2,
        "kdf_id": 1,
        "kem_id": pair.kem_id,
        "key_id": pair.key_id.hex(),
        "public_key": base64_text(pair.public),
    }


def manifest_members(**changes: Json) -> dict[str, Json]:
    """The members of a good manifest."""
    members: dict[str, Json] = {
        "manifest_version": 1,
        "software_version": "0.1.0+vectors",
        "hpke_keys": [hpke_entry(XWING_KEY), hpke_entry(X25519_KEY)],
        "receipt_key": {"algorithm": "ed25519", "public_key": RECEIPT_PUBLIC.hex()},
        "policy_digest": sha384_text(b"policy.toml"),
        "deployment_digest": sha384_text(b"deployment.toml"),
        "kms_key_arn": "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "kms_key_policy_digest": sha384_text(b"key policy"),
        "service_account": "111122223333",
        "region": "us-east-1",
        "not_before": NOT_BEFORE,
        "not_after": NOT_BEFORE + 4500,
    }
    return members | changes


SHORT: dict[str, Json] = {"hpke_keys": [hpke_entry(X25519_KEY)]}
MANIFEST = jcs(manifest_members(**SHORT))


def keyset(members: dict[str, Json]) -> bytes:
    """The ACI keyset as a projection of the manifest."""
    names = {0x647A: "xwing", 0x0020: "x25519"}
    receipt = cast("dict[str, str]", members["receipt_key"])
    keys: list[Json] = []
    for entry in cast("list[dict[str, str | int]]", members["hpke_keys"]):
        public = _unbase64(str(entry["public_key"]))
        algorithm = "latensgate-1-" + names[int(entry["kem_id"])]
        keys.append({"key_id": entry["key_id"], "algo": algorithm, "public_key": public.hex()})
    signing = {"key_id": "receipt-ed25519", "algo": "ed25519", "public_key": receipt["public_key"]}
    return jcs(
        {
            "subject": "latensgate",
            "not_after": members["not_after"],
            "receipt_signing_keys": [signing],
            "e2ee_public_keys": keys,
            "tls_public_keys": [],
        }
    )


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def report_data(members: dict[str, Json], nonce: bytes | None) -> bytes:
    """ACI report data: 32 bytes."""
    digest = "sha256:" + hashlib.sha256(keyset(members)).hexdigest()
    shown = None if nonce is None else nonce.hex()
    statement = {"keyset_digest": digest, "nonce": shown, "purpose": "aci.report_data.v1"}
    return hashlib.sha256(jcs(statement)).digest()


def user_data(members: dict[str, Json], nonce: bytes | None) -> bytes:
    """112 bytes."""
    return report_data(members, nonce) + bytes(32) + hashlib.sha384(jcs(members)).digest()


def _parsed(members: dict[str, Json]) -> dict[str, Json]:
    keys = cast("list[dict[str, Json]]", members["hpke_keys"])
    return {
        "manifest_hash": sha384_text(jcs(members)),
        "key_ids": [key["key_id"] for key in keys],
        "receipt_public_key": cast("dict[str, Json]", members["receipt_key"])["public_key"],
        "not_before": members["not_before"],
        "not_after": members["not_after"],
    }


def _changed_key(pair: KeyPair, **changes: Json) -> dict[str, Json]:
    return {"hpke_keys": [hpke_entry(pair) | changes]}


def _without(name: str) -> dict[str, Json]:
    members = manifest_members(**SHORT)
    del members[name]
    return members


def manifests() -> list[Case]:
    """Manifests, good and bad."""
    good: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("two-keys", "Both suites, X-Wing first.", {}),
        ("xwing-only", "One key.", {"hpke_keys": [hpke_entry(XWING_KEY)]}),
        ("x25519-only", "One key of the other suite.", {"hpke_keys": [hpke_entry(X25519_KEY)]}),
        ("short-life", "One second of life.", {"not_after": NOT_BEFORE + 1}),
    )
    other = KeyPair(X25519_KEY.kem_id, fixed("another x25519 recipient", 32))
    bad: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("version-2", "Another manifest version.", {"manifest_version": 2}),
        ("version-true", "A boolean is no integer.", {"manifest_version": True}),
        ("version-text", "A text is no integer.", {"manifest_version": "1"}),
        ("software-version-space", "A character outside the set.", {"software_version": "0.1 0"}),
        ("software-version-long", "65 characters.", {"software_version": "1" * 65}),
        ("software-version-newline", "A final line feed.", {"software_version": "0.1.0\n"}),
        ("no-keys", "At least one HPKE key.", {"hpke_keys": []}),
        ("three-keys", "At most two HPKE keys.", {"hpke_keys": [hpke_entry(XWING_KEY), hpke_entry(X25519_KEY), hpke_entry(other)]}),
        ("same-suite-twice", "One key per suite.", {"hpke_keys": [hpke_entry(X25519_KEY), hpke_entry(other)]}),
        ("worse-suite-first", "The best suite stands first.", {"hpke_keys": [hpke_entry(X25519_KEY), hpke_entry(XWING_KEY)]}),
        ("key-id-wrong", "The id is recomputed and must agree.", _changed_key(X25519_KEY, key_id="00" * 8)),
        ("key-id-of-other-key", "The id of the X-Wing key on the X25519 key.", _changed_key(X25519_KEY, key_id=XWING_KEY.key_id.hex())),
        ("kem-unknown", "A KEM that version 1 does not have.", _changed_key(X25519_KEY, kem_id=16)),
        ("aead-unknown", "An AEAD that version 1 does not have.", _changed_key(X25519_KEY, aead_id=3)),
        ("public-key-short", "31 bytes of X25519 key.", _changed_key(X25519_KEY, public_key=base64_text(X25519_KEY.public[:-1]))),
        ("public-key-base64url", "The URL alphabet without padding.", _changed_key(X25519_KEY, public_key=base64_text(X25519_KEY.public).rstrip("=").replace("+", "-").replace("/", "_"))),
        ("key-member-extra", "An unknown member in a key.", _changed_key(X25519_KEY, note="")),
        ("receipt-key-algorithm", "Receipts are Ed25519.", {"receipt_key": {"algorithm": "ES256", "public_key": RECEIPT_PUBLIC.hex()}}),
        ("receipt-key-short", "63 hexadecimal digits.", {"receipt_key": {"algorithm": "ed25519", "public_key": RECEIPT_PUBLIC.hex()[:-1]}}),
        ("receipt-key-upper-case", "Hexadecimal digits are lower case.", {"receipt_key": {"algorithm": "ed25519", "public_key": "AB" * 32}}),
        ("policy-digest-sha256", "Digests are SHA-384.", {"policy_digest": "sha256:" + "0" * 64}),
        ("kms-alias", "A full key ARN, no alias.", {"kms_key_arn": "arn:aws:kms:us-east-1:111122223333:alias/latensgate"}),
        ("kms-key-of-other-account", "The KMS key is one of service_account.", {"kms_key_arn": "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"}),
        ("kms-key-of-other-region", "The KMS key is one of region.", {"kms_key_arn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}),
        ("account-eleven-digits", "An account has twelve digits.", {"service_account": "11112222333"}),
        ("region-shape", "Not a Region.", {"region": "us_east_1"}),
        ("lifetime-zero", "not_before < not_after.", {"not_after": NOT_BEFORE}),
        ("lifetime-long", "4,501 seconds are one too many.", {"not_after": NOT_BEFORE + 4501}),
        ("member-extra", "An unknown member.", {"extra": None}),
    )  # fmt: skip
    raw: tuple[tuple[str, str, bytes], ...] = (
        ("member-missing", "region is missing.", jcs(_without("region"))),
        ("white-space", "The same members with a space: not canonical.", MANIFEST.replace(b":1,", b": 1,", 1)),
        ("final-newline", "The same bytes and a line feed.", MANIFEST + b"\n"),
        ("unsorted", "The same members in another order.", b'{"software_version":"0.1.0+vectors",' + MANIFEST[1:].replace(b',"software_version":"0.1.0+vectors"', b"")),
        ("escaped", "The same members, one character escaped without need.", MANIFEST.replace(b"us-east-1", rb"us\u002deast-1")),
        ("duplicate-member", "region stands twice.", MANIFEST[:-1] + b',"region":"us-east-1"}'),
        ("array", "Not an object.", b"[" + MANIFEST + b"]"),
        ("empty", "No bytes.", b""),
    )  # fmt: skip
    return (
        [_manifest_good(name, why, change) for name, why, change in good]
        + [
            _manifest_bad(name, why, jcs(manifest_members(**SHORT | change)))
            for name, why, change in bad
        ]
        + [_manifest_bad(name, why, text) for name, why, text in raw]
    )


def _manifest_good(name: str, why: str, change: dict[str, Json]) -> Case:
    members = manifest_members(**change)
    given: dict[str, Json] = {"manifest_base64": base64_text(jcs(members))}
    return Case(name, "parse_manifest", why, SPEC_MANIFEST, given, _parsed(members))


def _manifest_bad(name: str, why: str, text: bytes) -> Case:
    given: dict[str, Json] = {"manifest_base64": base64_text(text)}
    return Case(name, "parse_manifest", why, SPEC_MANIFEST, given, error="ERR_MALFORMED")


def bindings() -> list[Case]:
    """user_data with and without a nonce."""
    rows: tuple[tuple[str, str, dict[str, Json], bytes | None], ...] = (
        ("published", "The published document has a null nonce.", {}, None),
        ("nonce", "A freshness proof has 32 bytes of nonce.", {}, NONCE),
        ("nonce-zero", "A nonce of zeros is a nonce, not null.", {}, bytes(32)),
        ("x25519-only", "The keyset follows the manifest's keys.", {"hpke_keys": [hpke_entry(X25519_KEY)]}, None),
    )  # fmt: skip
    return [
        _binding(name, why, manifest_members(**change), nonce) for name, why, change, nonce in rows
    ]


def _binding(name: str, why: str, members: dict[str, Json], nonce: bytes | None) -> Case:
    given: dict[str, Json] = {
        "manifest_base64": base64_text(jcs(members)),
        "nonce_hex": None if nonce is None else nonce.hex(),
    }
    output: dict[str, Json] = {
        "keyset_digest": "sha256:" + hashlib.sha256(keyset(members)).hexdigest(),
        "user_data_hex": user_data(members, nonce).hex(),
    }
    return Case(name, "user_data", why, SPEC_BINDING, given, output)
