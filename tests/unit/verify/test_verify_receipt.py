from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate.verify import VerifiedAttestation
from latensgate.verify.errors import ConfigurationError, ReceiptInvalid
from latensgate.verify.receipt import (
    VerifiedChain,
    VerifiedPublicPart,
    VerifiedReceipt,
    verify_public_part,
    verify_receipt,
    verify_receipt_chain,
)
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import RECEIPT_MAX_DELAY_S
from latensgate_shared.receipts import (
    OUTCOMES,
    PrivatePart,
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
    manifest,
    private_part,
    public_members,
    sign,
)
from verified_examples import attested

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

ATTESTATION = attested()
OTHER = "sha384:" + "00" * 48
LATEST = (NOT_BEFORE + 4_500 + RECEIPT_MAX_DELAY_S) // 60 * 60
ORDER = 2**252 + 27742317777372353535851937790883648493


def members(**changes: JSONValue) -> JSONObject:
    """Good members of a receipt under ``ATTESTATION``."""
    return public_members() | {"attestation_hash": ATTESTATION.attestation_hash} | changes


def signed(**changes: JSONValue) -> JSONObject:
    return sign(parse_public_part(members(**changes))).to_json()


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
    assert verified.signed.public.to_json() == members()
    assert verified.signed.receipt_public_key == RECEIPT_KEY.public_key().public_bytes_raw()
    assert verified.private == private_part()
    assert verified.status == verified.signed.status == ATTESTATION.status == "simulated"


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
        (1, signed() | {"public": members(outcome="ok")}, {}),
        (1, signed() | {"private": private_part() | {"n": 2**60}}, {}),
        (2, signed(attestation_hash=OTHER), {}),
        (2, signed(), {"attestation": attested(replace(manifest(), software_version="2"))}),
        (2, signed(key_id="00" * 8), {}),
        (3, signed() | {"public": members(outcome="failed")}, {}),
        (3, signed() | {"signature": "00" * 64}, {}),
        (4, changed_private(), {}),
        (5, signed(), {"tenant_id": "tnt_00000000"}),
        (5, signed(), {"request_hash": OTHER}),
        (5, signed(), {"response_hash": OTHER}),
        (6, signed(issued_at=NOT_BEFORE - 30 - 60), {}),
        (6, signed(issued_at=LATEST + 60), {}),
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


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_an_answer_may_come_after_the_keys_have_ended(outcome: str) -> None:
    """It opens until not_after, is held for up to 24 h, and is answered within 15 minutes."""
    assert LATEST == (NOT_BEFORE + 4_500 + 87_300) // 60 * 60
    check(signed(issued_at=NOT_BEFORE + 4_500 + 30, outcome=outcome))
    check(signed(issued_at=LATEST, outcome=outcome))


def test_a_key_that_is_not_of_the_manifest_is_refused() -> None:
    bound = attested(manifest((X25519_KEY,)))
    of_xwing = signed(attestation_hash=bound.attestation_hash, key_id=XWING_KEY.key_id)
    with pytest.raises(ReceiptInvalid, match="key_id") as caught:
        check(of_xwing, attestation=bound)
    assert caught.value.step == 2
    check(
        signed(attestation_hash=bound.attestation_hash, key_id=X25519_KEY.key_id),
        attestation=bound,
    )


def test_nothing_but_a_verified_attestation_judges() -> None:
    """A look-alike could claim any status and any key."""

    class LookAlike:
        attestation_hash = ATTESTATION.attestation_hash
        manifest = ATTESTATION.manifest
        status = "verified"

    receipt = signed()
    for judge in (LookAlike(), ATTESTATION.document, None):
        with pytest.raises(TypeError, match="verify_attestation"):
            check(receipt, attestation=judge)


def test_signature_of_another_key_or_without_the_label() -> None:
    public = parse_public_part(members())
    other = Ed25519PrivateKey.generate()
    for signature in (
        other.sign(signing_input(public.canonical())),
        RECEIPT_KEY.sign(public.canonical()),
    ):
        with pytest.raises(ReceiptInvalid) as caught:
            check(signed() | {"signature": signature.hex()})
        assert caught.value.step == 3


def test_s_at_or_above_the_group_order_is_refused() -> None:
    good = sign(parse_public_part(members())).signature
    high = int.from_bytes(good[32:], "little") + ORDER
    malleable = good[:32] + high.to_bytes(32, "little")
    with pytest.raises(ReceiptInvalid) as caught:
        check(signed() | {"signature": malleable.hex()})
    assert caught.value.step == 3


def test_a_receipt_key_of_small_order_signs_nothing() -> None:
    """R = identity, S = 0 satisfies the equation for every message under the identity key."""
    weak = bytes([1]) + bytes(31)
    attestation = attested(replace(manifest(), receipt_public_key=weak))
    forged = signed(attestation_hash=attestation.attestation_hash)
    forged["signature"] = (weak + bytes(32)).hex()
    with pytest.raises(ReceiptInvalid, match="small order") as caught:
        check(forged, attestation=attestation)
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
    assert verified.public.to_json() == members()
    assert verified.status == "simulated"
    late = signed(issued_at=LATEST + 60)
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

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER_ENCLAVE = attested(
    replace(manifest(), receipt_public_key=OTHER_KEY.public_key().public_bytes_raw())
)


def verified(
    attestation: VerifiedAttestation = ATTESTATION, **changes: JSONValue
) -> VerifiedPublicPart:
    """Return a public part that the enclave behind ``attestation`` really signed."""
    named = {"attestation_hash": attestation.attestation_hash}
    public = parse_public_part(public_members() | named | changes)
    key = RECEIPT_KEY if attestation is ATTESTATION else OTHER_KEY
    signature = key.sign(signing_input(public.canonical()))
    return verify_public_part(public.to_json(), signature.hex(), attestation=attestation)


def chain(
    length: int,
    attestation: VerifiedAttestation = ATTESTATION,
    changed: dict[int, JSONObject] | None = None,
    **changes: JSONValue,
) -> list[VerifiedPublicPart]:
    """Return receipts that name each other; ``changed`` changes single ones as they are signed."""
    links: list[VerifiedPublicPart] = []
    previous: str | None = None
    for sequence in range(length):
        made: JSONObject = {
            "receipt_id": f"aud_{sequence:016x}",
            "sequence": sequence,
            "previous_receipt_hash": previous,
        }
        made |= changes | (changed or {}).get(sequence, {})
        links.append(verified(attestation, **made))
        previous = receipt_hash(links[-1].public)
    return links


def test_chains_are_judged_one_by_one_in_any_order() -> None:
    links = chain(4)
    other_tenant = chain(2, tenant_id="tnt_00000000")
    other_enclave = chain(3, OTHER_ENCLAVE)
    found = verify_receipt_chain([*reversed(links), *other_enclave, *other_tenant])
    told = {(c.receipt_public_key, c.tenant_id): (c.first_sequence, c.last_sequence) for c in found}
    mine, theirs = links[0].receipt_public_key, other_enclave[0].receipt_public_key
    assert told == {
        (mine, TENANT): (0, 3),
        (mine, "tnt_00000000"): (0, 1),
        (theirs, TENANT): (0, 2),
    }
    assert {each.status for each in found} == {"simulated"}


def test_a_part_of_a_chain_says_where_it_begins_and_ends() -> None:
    links = chain(5)
    (found,) = verify_receipt_chain(links[2:])
    assert (found.first_sequence, found.last_sequence) == (2, 4)
    assert found.last_hash == receipt_hash(links[4].public)


def test_no_receipts_show_nothing() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        verify_receipt_chain([])


def test_a_gap_a_fork_and_a_foreign_link_are_refused() -> None:
    links = chain(4)
    forked = verified(
        receipt_id="aud_00000000000000ff",
        sequence=1,
        outcome="failed",
        previous_receipt_hash=links[1].public.previous_receipt_hash,
    )
    foreign = chain(2, changed={1: {"previous_receipt_hash": OTHER}})
    for broken in (
        [links[0], links[2]],
        [links[0], links[1], links[3]],
        [*links, links[1]],
        [*links, forked],
        [links[0], forked, links[2], links[3]],
        foreign,
    ):
        with pytest.raises(ReceiptInvalid) as caught:
            verify_receipt_chain(broken)
        assert caught.value.step == 7


def test_time_never_runs_backwards() -> None:
    minutes: list[JSONValue] = [NOT_BEFORE + 30 + 60 * minute for minute in (1, 1, 2)]
    each: dict[int, JSONObject] = {index: {"issued_at": at} for index, at in enumerate(minutes)}
    verify_receipt_chain(chain(3, changed=each))
    back = chain(3, changed={1: {"issued_at": minutes[2]}, 2: {"issued_at": minutes[0]}})
    with pytest.raises(ReceiptInvalid, match="issued before") as caught:
        verify_receipt_chain(back)
    assert caught.value.step == 7


def test_a_receipt_id_stands_for_one_receipt() -> None:
    with pytest.raises(ReceiptInvalid, match="receipt_id") as caught:
        verify_receipt_chain(chain(3, changed={2: {"receipt_id": "aud_0000000000000000"}}))
    assert caught.value.step == 7
    verify_receipt_chain([*chain(2), *chain(2, OTHER_ENCLAVE)])


def test_sign_receipt_signs_what_verify_checks() -> None:
    public = parse_public_part(members(key_id=XWING_KEY.key_id))
    check(sign_receipt(public, PrivatePart(private_part()), RECEIPT_KEY.sign).to_json())


def test_verified_receipts_are_made_by_the_verifier_only() -> None:
    public = verified()
    content: dict[str, Any] = {"status": "verified", "public": public.public}
    content["receipt_public_key"] = public.receipt_public_key
    chained: dict[str, Any] = {"status": "verified", "receipt_public_key": b"", "tenant_id": TENANT}
    chained |= {"first_sequence": 0, "last_sequence": 1, "last_hash": OTHER}
    for seal in (None, object()):
        with pytest.raises(TypeError, match="nothing else"):
            VerifiedPublicPart(**content, seal=seal)
        with pytest.raises(TypeError, match="nothing else"):
            VerifiedReceipt(signed=public, private={}, seal=seal)
        with pytest.raises(TypeError, match="nothing else"):
            VerifiedChain(**chained, seal=seal)
    with pytest.raises((TypeError, ValueError)):
        replace(public, status="verified")  # type: ignore[call-arg]  # the point
