"""tests/vectors/receipt: docs/spec/receipts.md, one broken rule each."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vectors.binding import MANIFEST, RECEIPT_KEY, SHORT, manifest_members
from vectors.case import Case, Json, base64_text, fixed, sha384_text
from vectors.primitives import jcs
from vectors.sealed import ATTESTATION_HASH, TENANT, X25519_KEY

SPEC = "receipts.md"
KIND = "ERR_RECEIPT_INVALID"
ORDER = 2**252 + 27742317777372353535851937790883648493
LAST_MINUTE = 1_780_315_200 + 4_500 + 86_400 + 900
REQUEST_HASH = sha384_text(b"request")
RESPONSE_HASH = sha384_text(b"response")


def private_part() -> dict[str, Json]:
    """A good private part."""
    salted = {"salt": fixed("salt", 32).hex(), "hash": sha384_text(b"content")}
    return {
        "request_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "opened": salted,
        "forwarded": None,
        "returned": None,
        "model_asked": "claude-3.5-sonnet",
        "model_served": None,
        "upstream": None,
        "fields_dropped": [],
        "pii": {"policy_digest": sha384_text(b"policy"), "settings": "none", "detected": False, "counts": {}},
        "usage": {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3},
        "timings_ms": {"open": 1},
    }  # fmt: skip


def public_part(private: dict[str, Json], **changes: Json) -> dict[str, Json]:
    """A good public part over ``private``."""
    members: dict[str, Json] = {
        "version": 1,
        "receipt_id": "aud_8f9e1a0d56e9bb6a",
        "tenant_id": TENANT,
        "key_id": X25519_KEY.key_id.hex(),
        "sequence": 0,
        "previous_receipt_hash": None,
        "issued_at": 1_780_316_940,
        "outcome": "answered",
        "request_hash": REQUEST_HASH,
        "response_hash": RESPONSE_HASH,
        "attestation_hash": ATTESTATION_HASH,
        "private_digest": sha384_text(jcs(private)),
    }
    return members | changes


def signed_bytes(public: dict[str, Json]) -> bytes:
    """What Ed25519 signs."""
    return b"latensgate/1 receipt" + b"\x00" + jcs(public)


def receipt(
    public: dict[str, Json], private: Json, signature: bytes | None = None
) -> dict[str, Json]:
    """A receipt, signed here unless a signature is given."""
    made = RECEIPT_KEY.sign(signed_bytes(public)) if signature is None else signature
    return {"public": public, "private": private, "signature": made.hex()}


def _input(body: Json, **changes: Json) -> dict[str, Json]:
    given: dict[str, Json] = {
        "receipt": body,
        "attestation_hash": ATTESTATION_HASH,
        "manifest_base64": base64_text(MANIFEST),
        "tenant_id": TENANT,
        "request_hash": REQUEST_HASH,
        "response_hash": RESPONSE_HASH,
    }
    return given | changes


def _good(name: str, why: str, **changes: Json) -> Case:
    private = private_part()
    public = public_part(private, **changes)
    output: dict[str, Json] = {
        "receipt_id": public["receipt_id"],
        "sequence": public["sequence"],
        "outcome": public["outcome"],
        "receipt_hash": sha384_text(signed_bytes(public)),
    }
    return Case(name, "verify_receipt", why, SPEC, _input(receipt(public, private)), output)


def _bad(name: str, why: str, body: Json, **changes: Json) -> Case:
    return Case(name, "verify_receipt", why, SPEC, _input(body, **changes), error=KIND)


def _accepted() -> list[Case]:
    previous = sha384_text(b"receipt before")
    return [
        _good("first", "The first receipt of an enclave and tenant."),
        _good("later", "A later one names the receipt before it.", sequence=7, previous_receipt_hash=previous),
        _good("refused", "A refusal has a receipt too.", outcome="refused"),
        _good("held", "So has a held request.", outcome="held"),
        _good("first-minute", "issued_at is rounded down to a minute, here the manifest's own.", issued_at=1_780_315_200),
        _good("after-the-keys", "An answer that began while the key was held may end later.", issued_at=1_780_319_760),
        _good("last-minute", "24 hours of hold and 15 minutes of answer after not_after: the last minute.", outcome="held", issued_at=LAST_MINUTE),
    ]  # fmt: skip


def _fields() -> list[Case]:
    private = private_part()
    rows: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("version-2", "Another version.", {"version": 2}),
        ("receipt-id-shape", "15 digits.", {"receipt_id": "aud_8f9e1a0d56e9bb6"}),
        ("sequence-negative", "A sequence is at least 0.", {"sequence": -1, "previous_receipt_hash": sha384_text(b"x")}),
        ("sequence-text", "A sequence is an integer.", {"sequence": "0"}),
        ("sequence-true", "A boolean is no integer.", {"sequence": True, "previous_receipt_hash": sha384_text(b"x")}),
        ("first-with-previous", "Sequence 0 has no receipt before it.", {"previous_receipt_hash": sha384_text(b"x")}),
        ("later-without-previous", "Sequence 1 has a receipt before it.", {"sequence": 1}),
        ("not-on-the-minute", "issued_at is coarse on purpose.", {"issued_at": 1_780_316_941}),
        ("outcome-unknown", "An outcome outside the set.", {"outcome": "ok"}),
        ("hash-sha256", "Hashes are SHA-384.", {"request_hash": "sha256:" + "0" * 64}),
        ("member-extra", "An unknown member.", {"note": ""}),
    )  # fmt: skip
    cases = [
        _bad(name, why, receipt(public_part(private, **change), private))
        for name, why, change in rows
    ]
    public = public_part(private)
    del public["outcome"]
    cases.append(_bad("member-missing", "outcome is missing.", receipt(public, private)))
    whole = receipt(public_part(private), private)
    cases.append(
        _bad(
            "receipt-member-extra", "An unknown member beside the signature.", whole | {"note": ""}
        )
    )
    cases.append(_bad("private-null", "The private part is an object.", whole | {"private": None}))
    return cases


def _manifest_with_key(raw: bytes) -> str:
    key = {"receipt_key": {"algorithm": "ed25519", "public_key": raw.hex()}}
    return base64_text(jcs(manifest_members(**SHORT | key)))


def _signatures() -> list[Case]:
    private = private_part()
    public = public_part(private)
    good = RECEIPT_KEY.sign(signed_bytes(public))
    high = good[:32] + (int.from_bytes(good[32:], "little") + ORDER).to_bytes(32, "little")
    bare = RECEIPT_KEY.sign(jcs(public))
    other = Ed25519PrivateKey.from_private_bytes(fixed("another receipt key", 32))
    foreign = other.sign(signed_bytes(public))
    flipped = bytes([good[0] ^ 1]) + good[1:]
    later = receipt(public_part(private, outcome="failed"), private)
    small = bytes([1]) + bytes(31)
    return [
        _bad("signature-flipped", "One bit of R.", receipt(public, private, flipped)),
        _bad("signature-short", "63 bytes.", receipt(public, private, good[:-1])),
        _bad("signature-upper-case", "Hexadecimal digits are lower case.", receipt(public, private) | {"signature": good.hex().upper()}),
        _bad("signature-high-s", "S plus the group order: RFC 8032 demands S below it.", receipt(public, private, high)),
        _bad("signature-without-label", "Signed without the label of receipts.", receipt(public, private, bare)),
        _bad("signature-of-other-key", "Signed by another enclave's key.", receipt(public, private, foreign)),
        _bad("signature-of-other-outcome", "The signature of the same receipt with another outcome.", receipt(public, private, bytes.fromhex(cast("str", later["signature"])))),
        _bad("small-order-key", "Under a key of order 1, R = S = 0 form would verify anything.", receipt(public, private, small + bytes(32)), manifest_base64=_manifest_with_key(small)),
        _bad("small-order-r", "A signature whose R is of small order and S is zero, under the good key.", receipt(public, private, small + bytes(32))),
    ]  # fmt: skip


def _relations() -> list[Case]:
    private = private_part()
    public = public_part(private)
    body = receipt(public, private)
    changed = private | {"model_served": "another-model"}
    early = receipt(public_part(private, issued_at=1_780_315_140), private)
    late = receipt(public_part(private, issued_at=LAST_MINUTE + 60), private)
    other = sha384_text(b"other")
    return [
        _bad("private-changed", "The private part is not the one whose digest was signed.", receipt(public, changed)),
        _bad("other-tenant", "A receipt of another tenant.", body, tenant_id="tnt_00000000"),
        _bad("other-request", "The receipt of another request.", body, request_hash=other),
        _bad("other-response", "The receipt of another response.", body, response_hash=other),
        _bad("other-attestation", "The receipt names another document.", body, attestation_hash=other),
        _bad("key-not-in-manifest", "key_id is no key of that manifest.", receipt(public_part(private, key_id="00" * 8), private)),
        _bad("before-manifest", "Issued a minute before the manifest began.", early),
        _bad("too-late", "A minute later than the longest hold and the longest answer allow.", late),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Every case of the folder."""
    groups = (_accepted, _fields, _signatures, _relations)
    return [case for group in groups for case in group()]
