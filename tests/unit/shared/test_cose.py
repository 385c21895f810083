from __future__ import annotations

import hashlib

import pytest

from latensgate_shared.cbor import encode
from latensgate_shared.cose import (
    COSEError,
    attestation_hash,
    parse_sign1,
    sig_structure,
    signed_digest,
)
from latensgate_shared.errors import MalformedError, TooLargeError

HEADER = bytes.fromhex("a1013822")
GOOD = encode([HEADER, {}, b"payload", b"signature"])


@pytest.mark.parametrize("data", [GOOD, b"\xd2" + GOOD], ids=["untagged", "tag 18"])
def test_both_forms_read_the_same(data: bytes) -> None:
    signed = parse_sign1(data, max_bytes=len(data))
    assert (signed.protected, signed.unprotected) == (HEADER, {})
    assert (signed.payload, signed.signature) == (b"payload", b"signature")


def test_no_protected_header_at_all_is_well_formed() -> None:
    signed = parse_sign1(encode([b"", {4: b"kid"}, b"p", b"s"]), max_bytes=99)
    assert signed.unprotected == {4: b"kid"}


def test_the_tag_counts_for_the_size() -> None:
    with pytest.raises(TooLargeError):
        parse_sign1(b"\xd2" + GOOD, max_bytes=len(GOOD))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "byte 0"),
        (b"\xd2", "byte 0"),
        (b"\xd2\xd2" + GOOD, "0xd2"),
        (b"\xd8\x12" + GOOD, "0xd8"),
        (GOOD + b"\x00", "after the value"),
        (encode(b"payload"), "type bytes"),
        (encode(None), "null"),
        (encode([HEADER, {}, b"p"]), "array of 3"),
        (encode([HEADER, {}, b"p", b"s", 0]), "array of 5"),
        (encode([{1: -35}, {}, b"p", b"s"]), "protected header is a value of type dict"),
        (encode([HEADER, None, b"p", b"s"]), "unprotected header is null"),
        (encode([HEADER, [], b"p", b"s"]), "unprotected header is an array of 0"),
        (encode([HEADER, {}, None, b"s"]), "payload is null"),
        (encode([HEADER, {}, b"p", "s"]), "signature is a value of type str"),
        (encode([b"\x80", {}, b"p", b"s"]), "holds an array of 0"),
        (encode([b"\xa1", {}, b"p", b"s"]), "byte 0"),
        (encode([HEADER, {1: -7}, b"p", b"s"]), "both headers"),
    ],
)
def test_other_shapes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason) as caught:
        parse_sign1(data, max_bytes=100)
    assert isinstance(caught.value, MalformedError)


def test_shape_errors_have_their_own_type() -> None:
    with pytest.raises(COSEError):
        parse_sign1(encode([]), max_bytes=100)


def test_the_empty_protected_map_is_signed_as_the_empty_string() -> None:
    assert sig_structure(b"\xa0", b"p") == sig_structure(b"", b"p")
    assert sig_structure(b"", b"p").hex() == "846a5369676e6174757265314040" + "4170"


def test_the_protected_header_is_signed_as_it_was_sent() -> None:
    assert sig_structure(bytes.fromhex("a101390022"), b"p") != sig_structure(HEADER, b"p")


def test_the_name_of_a_document_is_over_what_is_signed() -> None:
    tagged, bare = (
        parse_sign1(tag + encode([b"", {}, b"p", b"s"]), max_bytes=99) for tag in (b"\xd2", b"")
    )
    other = parse_sign1(encode([b"", {}, b"p", b"t"]), max_bytes=99)
    digest = hashlib.sha384(sig_structure(b"", b"p")).digest()
    assert signed_digest(tagged) == signed_digest(bare) == signed_digest(other) == digest
    assert attestation_hash(digest) == "sha384:" + digest.hex()
