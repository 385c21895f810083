from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256, sha384
from typing import TYPE_CHECKING, Any

import pytest

from latensgate_shared.errors import TooLargeError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.manifest import (
    USER_DATA_BYTES,
    HPKEKey,
    aci_keyset,
    aci_keyset_digest,
    aci_report_data,
    build_user_data,
    encode_manifest,
    parse_manifest,
)
from latensgate_shared.sealed import SUITE_X25519
from latensgate_shared.strict_json import JSONError
from protocol_examples import NOT_BEFORE, X25519_KEY, XWING_KEY, manifest

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

MEMBERS: JSONObject = json.loads(encode_manifest(manifest()))


def encode(**changes: JSONValue) -> bytes:
    return canonicalize(MEMBERS | changes)


def key(**changes: JSONValue) -> list[JSONValue]:
    whole: JSONObject = json.loads(encode_manifest(manifest((X25519_KEY,))))
    keys = whole["hpke_keys"]
    assert isinstance(keys, list)
    entry = keys[0]
    assert isinstance(entry, dict)
    return [entry | changes]


@pytest.mark.parametrize("keys", [(XWING_KEY, X25519_KEY), (XWING_KEY,), (X25519_KEY,)])
def test_round_trip(keys: tuple[HPKEKey, ...]) -> None:
    made = manifest(keys)
    assert parse_manifest(encode_manifest(made)) == made


def test_members_are_those_of_the_specification() -> None:
    assert MEMBERS.keys() == {
        "manifest_version", "software_version", "hpke_keys", "receipt_key", "policy_digest",
        "deployment_digest", "kms_key_arn", "kms_key_policy_digest", "service_account", "region",
        "not_before", "not_after",
    }  # fmt: skip


def test_key_id_is_over_version_suite_and_key() -> None:
    hashed = b"\x01" + bytes.fromhex("002000010002") + X25519_KEY.public_key
    assert X25519_KEY.key_id == sha256(hashed).hexdigest()[:16]


BAD_MEMBERS: dict[str, list[JSONValue]] = {
    "manifest_version": [0, 2, True, "1", None],
    "software_version": ["", "1" * 65, "a b", "1.0\n", 1, "ä"],
    "policy_digest": ["sha384:" + "AB" * 48, "sha256:" + "0" * 64, "sha384:" + "0" * 95, 1],
    "deployment_digest": [None, ""],
    "kms_key_policy_digest": [None, "sha384:" + "0" * 97],
    "kms_key_arn": [
        "arn:aws:kms:eu-central-1:111122223333:alias/x",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
        "arn:aws:kms:eu-central-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        None,
    ],
    "service_account": ["11112222333", 111122223333, "1111222233334", "444455556666"],
    "region": ["us-east-1", "eu_central_1", "EU-CENTRAL-1", "eu-central", "", None],
    "not_before": [-1, NOT_BEFORE + 4_500, 1.5, True, "1"],
    "not_after": [NOT_BEFORE, NOT_BEFORE + 4_501, None],
    "receipt_key": [
        None,
        {"algorithm": "ed25519"},
        {"algorithm": "ES256", "public_key": "00" * 32},
        {"algorithm": "ed25519", "public_key": "00" * 31},
        {"algorithm": "ed25519", "public_key": "AB" * 32},
        {"algorithm": "ed25519", "public_key": "00" * 32, "x": 1},
    ],
    "hpke_keys": [
        None,
        [],
        [None],
        key() + key(),
        key() + key() + key(),
        key(kem_id=16),
        key(kem_id=True),
        key(kdf_id=3),
        key(aead_id=3),
        key(aead_id="2"),
        key(key_id="00" * 8),
        key(key_id=1),
        key(public_key=""),
        key(public_key="AAAA"),
        key(public_key="A" * 44),
        key(public_key=1),
        key(note=1),
    ],
    "extra": [None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_MEMBERS.items() for value in values]
)
def test_every_member_is_held_to_its_form(name: str, value: JSONValue) -> None:
    with pytest.raises(JSONError):
        parse_manifest(encode(**{name: value}))


def test_best_suite_first() -> None:
    with pytest.raises(JSONError, match="best first"):
        manifest((X25519_KEY, XWING_KEY))


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_no_member_may_be_missing(name: str) -> None:
    members = {other: value for other, value in MEMBERS.items() if other != name}
    with pytest.raises(JSONError, match=f"members missing: {name}"):
        parse_manifest(canonicalize(members))


def test_only_the_canonical_form_is_a_manifest() -> None:
    good = encode()
    for other in (
        good + b"\n",
        good.replace(b":1,", b": 1,", 1),
        good.replace(b"eu-central-1", rb"eu\u002dcentral-1", 1),
        json.dumps(dict(reversed(MEMBERS.items())), separators=(",", ":")).encode(),
    ):
        with pytest.raises(JSONError, match="canonical"):
            parse_manifest(other)


def test_every_change_of_one_byte_is_refused_or_is_another_manifest() -> None:
    """A change within a member's form is another good manifest: the hash in user_data notices."""
    good = encode_manifest(manifest((X25519_KEY,)))
    for index in range(len(good)):
        changed = good[:index] + bytes([good[index] ^ 1]) + good[index + 1 :]
        try:
            parsed = parse_manifest(changed)
        except JSONError:
            continue
        assert encode_manifest(parsed) == changed


def test_size_is_bounded() -> None:
    with pytest.raises(TooLargeError):
        parse_manifest(b" " * 8_193)


def test_a_made_manifest_is_checked_too() -> None:
    bad: list[dict[str, Any]] = [{"receipt_public_key": b"short"}, {"region": 7}, {"hpke_keys": ()}]
    for change in bad:
        with pytest.raises(JSONError):
            replace(manifest(), **change)
    with pytest.raises(JSONError, match="32 bytes expected for x25519, found 31"):
        HPKEKey(SUITE_X25519, bytes(31))


@pytest.mark.parametrize("nonce", [None, bytes(32), bytes(range(32))])
def test_user_data_layout(nonce: bytes | None) -> None:
    data = encode()
    user_data = build_user_data(data, nonce)
    digest = aci_keyset_digest(aci_keyset(manifest()))
    assert len(user_data) == USER_DATA_BYTES == 112
    assert user_data[:32] == aci_report_data(digest, nonce)
    assert user_data[32:64] == bytes(32)
    assert user_data[64:] == sha384(data).digest()


def test_statement_is_fixed_bytes() -> None:
    told = '"' + "07" * 32 + '"'
    statement = f'{{"keyset_digest":"sha256:x","nonce":{told},"purpose":"aci.report_data.v1"}}'
    expected = sha256(statement.encode()).digest()
    assert aci_report_data("sha256:x", b"\x07" * 32) == expected


def test_nonce_length_is_held() -> None:
    for length in (0, 31, 33):
        with pytest.raises(JSONError, match="32 bytes"):
            build_user_data(encode(), bytes(length))


def test_user_data_is_made_of_good_manifests_only() -> None:
    with pytest.raises(JSONError):
        build_user_data(b"{}", None)


def test_aci_keyset_is_the_projection_of_the_specification() -> None:
    assert aci_keyset(manifest((X25519_KEY,))) == {
        "subject": "latensgate",
        "not_after": NOT_BEFORE + 4_500,
        "receipt_signing_keys": [
            {
                "key_id": "receipt-ed25519",
                "algo": "ed25519",
                "public_key": manifest().receipt_public_key.hex(),
            }
        ],
        "e2ee_public_keys": [
            {
                "key_id": X25519_KEY.key_id,
                "algo": "latensgate-1-x25519",
                "public_key": X25519_KEY.public_key.hex(),
            }
        ],
        "tls_public_keys": [],
    }
