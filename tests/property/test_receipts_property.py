from __future__ import annotations

import json
import os
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate.verify.errors import ReceiptInvalid
from latensgate.verify.manifest import check_binding
from latensgate.verify.receipt import verify_public_part, verify_receipt
from latensgate_enclave.chat_answer import Usage
from latensgate_enclave.receipt_book import Facts, ReceiptBook
from latensgate_enclave.record import Record
from latensgate_shared.errors import LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.manifest import build_user_data, encode_manifest
from latensgate_shared.receipts import (
    OUTCOMES,
    check_private_part,
    parse_public_part,
    parse_receipt,
)
from latensgate_shared.strict_json import JSONObject, JSONValue, parse_json_object
from protocol_examples import (
    TENANT,
    manifest,
    private_part,
    public_members,
    sign,
)
from verified_examples import attested

if TYPE_CHECKING:
    from latensgate_enclave.keys import KeyRing

ATTESTATION = attested()
PUBLIC: JSONObject = public_members() | {"attestation_hash": ATTESTATION.attestation_hash}
RECEIPT = sign(parse_public_part(PUBLIC)).to_json()
ENCODED = canonicalize(RECEIPT)
MANIFEST = encode_manifest(manifest())
USER_DATA = build_user_data(MANIFEST, None)
DIGESTS = st.binary(min_size=48, max_size=48).map(lambda data: "sha384:" + data.hex())
VALUES: st.SearchStrategy[JSONValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)


def verify(receipt: JSONValue) -> object:
    return verify_receipt(receipt, attestation=ATTESTATION, tenant_id=TENANT)


@settings(max_examples=50)
@given(st.integers(1, 2**53 - 1), DIGESTS, DIGESTS, DIGESTS, st.sampled_from(sorted(OUTCOMES)))
def test_every_receipt_within_its_form_verifies(
    sequence: int, previous: str, request: str, response: str, outcome: str
) -> None:
    changes: JSONObject = {
        "sequence": sequence,
        "previous_receipt_hash": previous,
        "request_hash": request,
        "response_hash": response,
        "outcome": outcome,
    }
    receipt = sign(parse_public_part(PUBLIC | changes))
    assert parse_receipt(receipt.to_json()) == receipt
    assert verify(parse_json_object(canonicalize(receipt.to_json()), max_bytes=1 << 16))


@settings(max_examples=300)
@given(st.integers(0, len(ENCODED) - 1), st.integers(0, 255))
def test_one_changed_byte_is_refused(index: int, byte: int) -> None:
    changed = ENCODED[:index] + bytes([byte]) + ENCODED[index + 1 :]
    if changed == ENCODED:
        assert verify(parse_json_object(changed, max_bytes=1 << 16))
        return
    with pytest.raises(LatensgateError):
        verify(parse_json_object(changed, max_bytes=1 << 16))


@settings(max_examples=300)
@given(st.integers(0, len(MANIFEST) - 1), st.integers(0, 255))
def test_one_changed_byte_of_a_manifest_is_refused(index: int, byte: int) -> None:
    changed = MANIFEST[:index] + bytes([byte]) + MANIFEST[index + 1 :]
    if changed == MANIFEST:
        check_binding(USER_DATA, None, changed)
        return
    with pytest.raises(LatensgateError):
        check_binding(USER_DATA, None, changed)


@settings(max_examples=200)
@given(st.sampled_from(["public", "private", "signature", None]), VALUES)
def test_any_json_is_refused_with_a_typed_error(name: str | None, value: JSONValue) -> None:
    receipt = value if name is None else RECEIPT | {name: value}
    with pytest.raises(ReceiptInvalid):
        verify(receipt)
    with pytest.raises(ReceiptInvalid):
        verify_public_part(value, RECEIPT["signature"], attestation=ATTESTATION)


@settings(max_examples=200)
@given(st.sampled_from(sorted(public_members()) + sorted(private_part())), VALUES)
def test_any_json_in_any_member_is_read_or_refused(name: str, value: JSONValue) -> None:
    private = private_part() | {name: value}
    with suppress(LatensgateError):
        parse_public_part(public_members() | {name: value})
    with suppress(LatensgateError):
        check_private_part(private)
    with suppress(LatensgateError):
        verify(json.loads(json.dumps(RECEIPT | {"private": private})))


@settings(max_examples=100)
@given(st.none() | DIGESTS, DIGESTS, st.integers(0, 2**40), st.sampled_from(sorted(OUTCOMES)))
def test_the_public_part_is_written_as_jcs_writes_it(
    previous: str | None, digest: str, minute: int, outcome: str
) -> None:
    changes: JSONObject = {
        "sequence": 0 if previous is None else 7,
        "previous_receipt_hash": previous,
        "request_hash": digest,
        "issued_at": 60 * minute,
        "outcome": outcome,
    }
    part = parse_public_part(PUBLIC | changes)
    assert part.canonical() == canonicalize(part.to_json())


KEYS = cast("KeyRing", SimpleNamespace(receipt_key=Ed25519PrivateKey.generate()))


@settings(max_examples=200)
@given(st.text(st.characters(codec="utf-8"), max_size=20), st.integers(0, 2**52))
def test_the_private_part_is_written_as_jcs_writes_it(text: str, number: int) -> None:
    record = Record("aud_0011223344556677", TENANT, "request", text, os.urandom, lambda: number)
    record.model_served = text[::-1]
    record.fields_dropped = ("user", text)
    record.add_counts({"EMAIL_ADDRESS": {"prompt": number, "answer": 1}})
    record.usage = Usage(number, 1)
    record.witness({"host": text, "checked_at": number})
    record.hash_content("opened", text.encode())
    record.lap("validate")
    digest = "sha384:" + "0" * 96
    facts = Facts(record.receipt_id, TENANT, "0" * 16, digest, "answered", digest, digest, 0)
    part = record.private_part()
    assert ReceiptBook(KEYS, os.urandom).issue(facts, part).private.canonical == canonicalize(part)
