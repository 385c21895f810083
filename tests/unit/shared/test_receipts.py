from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from latensgate_shared import receipt_key
from latensgate_shared.jcs import canonicalize
from latensgate_shared.receipts import (
    OUTCOMES,
    PrivatePart,
    PublicPart,
    check_private_part,
    coarse_time,
    parse_public_part,
    parse_receipt,
    receipt_hash,
    salted_hash,
    sign_receipt,
    signing_input,
)
from latensgate_shared.strict_json import JSONError
from protocol_examples import DIGEST, RECEIPT_KEY, private_part, public_members, sign

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONValue


def test_public_part_round_trip() -> None:
    public = parse_public_part(public_members())
    assert public.to_json() == public_members()
    assert public.canonical() == canonicalize(public_members())


def test_signature_is_over_label_zero_and_canonical_public_part() -> None:
    receipt = sign(parse_public_part(public_members()))
    signed = b"latensgate/1 receipt" + b"\x00" + canonicalize(public_members())
    assert signing_input(receipt.public.canonical()) == signed
    RECEIPT_KEY.public_key().verify(receipt.signature, signed)
    assert receipt_hash(receipt.public) == "sha384:" + hashlib.sha384(signed).hexdigest()


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_every_outcome_of_the_specification(outcome: str) -> None:
    assert parse_public_part(public_members() | {"outcome": outcome}).outcome == outcome


BAD_PUBLIC: dict[str, list[JSONValue]] = {
    "version": [0, 2, True, "1", None],
    "receipt_id": ["aud_8f9e1a0d56e9bb6", "AUD_8f9e1a0d56e9bb6a", 1],
    "tenant_id": ["tnt_", None],
    "key_id": ["00" * 7, "AB" * 8, 1],
    "sequence": [-1, "0", True, 1, 0.0, None],
    "previous_receipt_hash": [DIGEST, ""],
    "issued_at": [1_780_315_261, -60, True, 60.0],
    "outcome": ["ok", "", None, []],
    "request_hash": ["sha256:" + "0" * 64, None],
    "response_hash": ["sha384:" + "AB" * 48],
    "attestation_hash": [DIGEST + "\n"],
    "private_digest": [1],
    "note": [None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_PUBLIC.items() for value in values]
)
def test_every_member_is_held_to_its_form(name: str, value: JSONValue) -> None:
    with pytest.raises(JSONError):
        parse_public_part(public_members() | {name: value})


@pytest.mark.parametrize("name", sorted(public_members()))
def test_no_member_may_be_missing(name: str) -> None:
    members = public_members()
    del members[name]
    with pytest.raises(JSONError, match=f"missing: {name}"):
        parse_public_part(members)


def test_a_later_receipt_names_the_one_before_it() -> None:
    later = parse_public_part(public_members() | {"sequence": 9, "previous_receipt_hash": DIGEST})
    assert (later.sequence, later.previous_receipt_hash) == (9, DIGEST)


def test_an_instance_is_always_within_its_form() -> None:
    members = {name: value for name, value in public_members().items() if name != "version"}
    with pytest.raises(JSONError):
        PublicPart(**members | {"outcome": "ok"})  # type: ignore[arg-type]  # on purpose


def test_receipt_round_trip() -> None:
    receipt = sign(parse_public_part(public_members()))
    assert parse_receipt(receipt.to_json()) == receipt


@pytest.mark.parametrize(
    "change",
    [
        {"note": 1},
        {"private": None},
        {"public": []},
        {"signature": "00" * 63},
        {"signature": "AB" * 64},
        {"signature": None},
    ],
)
def test_receipt_is_held_to_its_form(change: dict[str, JSONValue]) -> None:
    with pytest.raises(JSONError):
        parse_receipt(sign(parse_public_part(public_members())).to_json() | change)


def test_private_part_may_grow_within_the_version() -> None:
    grown = private_part()
    grown["new_member"] = [1]
    assert check_private_part(grown) == grown


MANY: list[JSONValue] = ["x"] * 257
TOO_MANY: list[JSONValue] = [MANY]
BAD_PRIVATE: dict[str, list[JSONValue]] = {
    "request_id": ["x", None],
    "opened": [{}, {"salt": "00", "hash": DIGEST}, {"salt": "00" * 32, "hash": "x"}, "x"],
    "returned": [{"salt": "00" * 32, "hash": DIGEST, "x": 1}],
    "model_asked": [None, ""],
    "model_served": ["", 1],
    "upstream": [[], "x"],
    "fields_dropped": [None, [1], [""], *TOO_MANY],
    "pii": [None],
    "usage": [None, []],
    "timings_ms": [None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_PRIVATE.items() for value in values]
)
def test_private_part_is_held_to_its_form(name: str, value: JSONValue) -> None:
    with pytest.raises(JSONError):
        check_private_part(private_part() | {name: value})


@pytest.mark.parametrize("name", sorted(private_part()))
def test_members_of_version_1_stay(name: str) -> None:
    members = private_part()
    del members[name]
    with pytest.raises(JSONError, match=f"missing: {name}"):
        check_private_part(members)


def test_private_part_with_everything_reached() -> None:
    told = salted_hash(bytes(32), b"x")
    full = private_part()
    full["forwarded"] = told
    full["returned"] = told
    full["model_served"] = "claude-x"
    full["upstream"] = {"host": "h"}
    assert check_private_part(full) == full


def test_digests_are_sha384_of_the_bytes_named() -> None:
    salt = bytes(range(32))
    expected = hashlib.sha384(salt + b"content").hexdigest()
    assert salted_hash(salt, b"content") == {"salt": salt.hex(), "hash": "sha384:" + expected}
    private = private_part()
    expected = hashlib.sha384(canonicalize(private)).hexdigest()
    assert PrivatePart(private).digest == "sha384:" + expected


def test_the_private_part_is_its_canonical_bytes() -> None:
    """What is digested, sealed and read cannot come apart, whatever becomes of the given object."""
    given = private_part()
    part = PrivatePart(given)
    given["model_served"] = "another"
    assert part.canonical == canonicalize(private_part())
    assert part.value == private_part()
    part.value["model_served"] = "another"
    assert part.value == private_part()
    assert part == PrivatePart(private_part()) != PrivatePart(given)
    assert "canonical" not in repr(part)


def test_nothing_is_signed_over_another_private_part() -> None:
    public = parse_public_part(public_members())
    other = PrivatePart(private_part() | {"model_served": "another"})
    with pytest.raises(JSONError, match="private_digest"):
        sign_receipt(public, other, lambda _data: pytest.fail("it was signed"))


def test_labels_of_the_receipt_key_cannot_be_taken_for_each_other() -> None:
    labels = [value for name, value in vars(receipt_key).items() if name.endswith("_LABEL")]
    assert len(labels) == 2
    for label in labels:
        assert label.index(b"\x00") == len(label) - 1
        assert [other for other in labels if other.startswith(label)] == [label]


def test_no_other_module_holds_a_label_of_the_receipt_key() -> None:
    folder = Path(receipt_key.__file__).parent
    found = {
        path.name for path in folder.glob("*.py") if "latensgate/1 receipt" in path.read_text()
    }
    assert found == {"receipt_key.py"}


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(JSONError, match="32 bytes"):
        salted_hash(bytes(16), b"content")


def test_time_is_rounded_down() -> None:
    assert [coarse_time(at) for at in (0, 59, 60, 119)] == [0, 0, 60, 60]
