from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate.verify.errors import ReceiptInvalid
from latensgate.verify.receipt import (
    VerifiedPublicPart,
    VerifiedReceipt,
    verify_public_part,
    verify_receipt,
    verify_receipt_chain,
)
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.receipts import (
    PublicPart,
    parse_public_part,
    receipt_hash,
    sign_receipt,
    signing_input,
)
from latensgate_shared.strict_json import parse_json_object
from protocol_examples import (
    DIGEST,
    NOT_BEFORE,
    RECEIPT_KEY,
    TENANT,
    X25519_KEY,
    XWING_KEY,
    Attestation,
    manifest,
    private_part,
    public_members,
    sign,
)

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

ATTESTATION = Attestation(DIGEST, manifest())
OTHER = "sha384:" + "00" * 48
ORDER = 2**252 + 27742317777372353535851937790883648493


def signed(**changes: JSONValue) -> JSONObject:
    return sign(parse_public_part(public_members() | changes)).to_json()


def check(receipt: JSONValue, **changes: Any) -> VerifiedReceipt:  # noqa: ANN401 - arguments of different types
    given: dict[str, Any] = {
        "attestation": ATTESTATION,
        "tenant_id": TENANT,
        "request_hash": DIGEST,
        "response_hash": DIGEST,
    }
    return verify_receipt(receipt, **given | changes)


def test_a_good_receipt_is_returned() -> None:
    verified = check(signed())
    assert verified.signed.public.to_json() == public_members()
    assert verified.signed.receipt_public_key == RECEIPT_KEY.public_key().public_bytes_raw()
    assert verified.private == private_part()


def test_hashes_that_were_not_kept_are_not_compared() -> None:
    check(signed(request_hash=OTHER), request_hash=None)
    check(signed(response_hash=OTHER), response_hash=None)


def changed_private() -> JSONObject:
    receipt = signed()
    receipt["private"] = private_part() | {"model_served": "other"}
    return receipt


@pytest.mark.parametrize(
    ("step", "receipt", "changes"),
    [
        (1, None, {}),
        (1, signed() | {"x": 1}, {}),
        (1, signed() | {"signature": "00"}, {}),
        (1, signed() | {"public": public_members() | {"outcome": "ok"}}, {}),
        (1, signed() | {"private": private_part() | {"n": 2**60}}, {}),
        (2, signed(attestation_hash=OTHER), {}),
        (2, signed(), {"attestation": Attestation(OTHER, manifest())}),
        (2, signed(key_id="00" * 8), {}),
        (2, signed(), {"attestation": Attestation(DIGEST, manifest((X25519_KEY,)))}),
        (3, signed() | {"public": public_members() | {"outcome": "failed"}}, {}),
        (3, signed() | {"signature": "00" * 64}, {}),
        (4, changed_private(), {}),
        (5, signed(), {"tenant_id": "tnt_00000000"}),
        (5, signed(), {"request_hash": OTHER}),
        (5, signed(), {"response_hash": OTHER}),
        (6, signed(issued_at=NOT_BEFORE - 30 - 60), {}),
        (6, signed(issued_at=NOT_BEFORE + 4_500 + 30), {}),
    ],
)
def test_the_step_that_refuses(step: int, receipt: JSONValue, changes: dict[str, Any]) -> None:
    with pytest.raises(ReceiptInvalid) as caught:
        check(receipt, **changes)
    assert caught.value.step == step
    assert caught.value.code is ErrorCode.ERR_RECEIPT_INVALID


def test_the_minute_in_which_the_manifest_began_counts() -> None:
    assert NOT_BEFORE % 60 == 30
    check(signed(issued_at=NOT_BEFORE - 30))
    check(signed(issued_at=NOT_BEFORE + 4_500 - 30))


def test_signature_of_another_key_or_without_the_label() -> None:
    public = parse_public_part(public_members())
    other = Ed25519PrivateKey.generate()
    for signature in (
        other.sign(signing_input(public.canonical())),
        RECEIPT_KEY.sign(public.canonical()),
    ):
        with pytest.raises(ReceiptInvalid) as caught:
            check(signed() | {"signature": signature.hex()})
        assert caught.value.step == 3


def test_s_at_or_above_the_group_order_is_refused() -> None:
    good = sign(parse_public_part(public_members())).signature
    high = int.from_bytes(good[32:], "little") + ORDER
    malleable = good[:32] + high.to_bytes(32, "little")
    with pytest.raises(ReceiptInvalid) as caught:
        check(signed() | {"signature": malleable.hex()})
    assert caught.value.step == 3


def test_a_receipt_key_of_small_order_signs_nothing() -> None:
    """R = identity, S = 0 satisfies the equation for every message under the identity key."""
    weak = bytes([1]) + bytes(31)
    attestation = Attestation(DIGEST, replace(manifest(), receipt_public_key=weak))
    with pytest.raises(ReceiptInvalid, match="small order") as caught:
        check(signed() | {"signature": (weak + bytes(32)).hex()}, attestation=attestation)
    assert caught.value.step == 3


def test_every_change_of_one_byte_is_refused() -> None:
    data = canonicalize(signed())
    for index in range(len(data)):
        changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        with pytest.raises((ReceiptInvalid, MalformedError)):
            check(parse_json_object(changed, max_bytes=len(data)))


def test_the_encoding_of_a_kept_receipt_does_not_matter() -> None:
    check(json.loads(json.dumps(dict(reversed(signed().items())), indent=2)))


def test_public_part_alone() -> None:
    receipt = signed()
    verified = verify_public_part(receipt["public"], receipt["signature"], attestation=ATTESTATION)
    assert verified.public.to_json() == public_members()
    late = signed(issued_at=NOT_BEFORE + 4_500 + 30)
    for step, public, signature in (
        (1, None, receipt["signature"]),
        (1, receipt["public"], "00"),
        (3, receipt["public"], "00" * 64),
        (6, late["public"], late["signature"]),
    ):
        with pytest.raises(ReceiptInvalid) as caught:
            verify_public_part(public, signature, attestation=ATTESTATION)
        assert caught.value.step == step


# --- chains ---


def chain(length: int, tenant: str = TENANT, key: bytes = b"key") -> list[VerifiedPublicPart]:
    links: list[VerifiedPublicPart] = []
    previous: str | None = None
    for sequence in range(length):
        members = public_members() | {
            "tenant_id": tenant,
            "sequence": sequence,
            "previous_receipt_hash": previous,
        }
        public = parse_public_part(members)
        links.append(VerifiedPublicPart(public, key))
        previous = receipt_hash(public)
    return links


def test_chains_are_judged_one_by_one_in_any_order() -> None:
    links = chain(4)
    other_tenant = chain(2, tenant="tnt_00000000")
    other_enclave = chain(3, key=b"other")
    found = verify_receipt_chain([*reversed(links), *other_enclave, *other_tenant])
    told = {(c.receipt_public_key, c.tenant_id): (c.first_sequence, c.last_sequence) for c in found}
    assert told == {
        (b"key", TENANT): (0, 3),
        (b"key", "tnt_00000000"): (0, 1),
        (b"other", TENANT): (0, 2),
    }


def test_a_part_of_a_chain_says_where_it_begins_and_ends() -> None:
    links = chain(5)
    (found,) = verify_receipt_chain(links[2:])
    assert (found.first_sequence, found.last_sequence) == (2, 4)
    assert found.last_hash == receipt_hash(links[4].public)


def test_no_receipts_no_chains() -> None:
    assert verify_receipt_chain([]) == ()


def replaced(links: list[VerifiedPublicPart], index: int, **changes: Any) -> PublicPart:  # noqa: ANN401 - members of different types
    return replace(links[index].public, **changes)


def test_a_gap_a_fork_and_a_foreign_link_are_refused() -> None:
    links = chain(4)
    forked = VerifiedPublicPart(replaced(links, 2, outcome="failed"), b"key")
    for broken in (
        [links[0], links[2]],
        [links[0], links[1], links[3]],
        [*links, links[1]],
        [*links, forked],
        [links[0], links[1], forked, links[3]],
        [links[0], VerifiedPublicPart(replaced(links, 1, previous_receipt_hash=OTHER), b"key")],
    ):
        with pytest.raises(ReceiptInvalid) as caught:
            verify_receipt_chain(broken)
        assert caught.value.step == 7


def test_sign_receipt_signs_what_verify_checks() -> None:
    public = parse_public_part(public_members() | {"key_id": XWING_KEY.key_id})
    check(sign_receipt(public, private_part(), RECEIPT_KEY.sign).to_json())
