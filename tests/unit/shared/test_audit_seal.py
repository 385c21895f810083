"""Private parts under an audit key: that key alone, beside their receipt alone, unchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from latensgate_shared import audit_seal
from latensgate_shared.audit_seal import AuditSealError, open_private_part, seal_private_part
from latensgate_shared.errors import ErrorCode, TooLargeError
from latensgate_shared.hpke import XWING, HPKEKeyError, setup_sender
from latensgate_shared.padding import append_pad
from latensgate_shared.receipts import PrivatePart, PublicPart, Receipt
from latensgate_shared.sealed_request import SUITE_XWING
from latensgate_shared.strict_json import JSONObject

KEY, OTHER = (XWING.load_private_key(bytes([number]) * 32) for number in (1, 2))
HASH = "sha384:" + "ab" * 48
VALUE: JSONObject = {
    "request_id": "019a0000-0000-7000-8000-000000000000",
    "opened": None,
    "forwarded": None,
    "returned": None,
    "model_asked": "m",
    "model_served": None,
    "upstream": None,
    "fields_dropped": [],
    "pii": {"counts": {"EMAIL_ADDRESS": {"prompt": 2}}},
    "usage": {},
    "timings_ms": {},
}
PRIVATE = PrivatePart(VALUE)
PUBLIC = PublicPart(
    receipt_id="aud_" + "ab" * 8,
    tenant_id="tnt_a3f9c42b",
    key_id="cd" * 8,
    sequence=0,
    previous_receipt_hash=None,
    issued_at=60,
    outcome="answered",
    request_hash=HASH,
    response_hash=HASH,
    attestation_hash=HASH,
    private_digest=PRIVATE.digest,
)
RECEIPT = Receipt(PUBLIC, PRIVATE, bytes(64))
SEALED = seal_private_part(KEY.public_key.raw, RECEIPT)


def test_the_auditor_reads_what_the_receipt_commits_to() -> None:
    assert open_private_part(KEY, PUBLIC, SEALED).value == VALUE
    assert b"EMAIL" not in SEALED
    again = seal_private_part(KEY.public_key.raw, RECEIPT)
    assert again != SEALED
    assert len(again) == len(SEALED)


def test_its_length_tells_little() -> None:
    more = PrivatePart({**VALUE, "pii": {"counts": {"EMAIL_ADDRESS": {"prompt": 22}}}})
    receipt = replace(RECEIPT, public=replace(PUBLIC, private_digest=more.digest), private=more)
    assert len(seal_private_part(KEY.public_key.raw, receipt)) == len(SEALED)


def changed(place: int) -> bytes:
    return SEALED[:place] + bytes([SEALED[place] ^ 1]) + SEALED[place + 1 :]


HOSTILE = {
    "another key": (OTHER, PUBLIC, SEALED),
    "another receipt": (KEY, replace(PUBLIC, receipt_id="aud_" + "cd" * 8), SEALED),
    "another commitment": (KEY, replace(PUBLIC, private_digest=HASH), SEALED),
    "empty": (KEY, PUBLIC, b""),
    "another version": (KEY, PUBLIC, changed(0)),
    "changed enc": (KEY, PUBLIC, changed(5)),
    "changed end": (KEY, PUBLIC, changed(len(SEALED) - 1)),
    "cut in enc": (KEY, PUBLIC, SEALED[:900]),
    "cut": (KEY, PUBLIC, SEALED[:-1]),
    "longer": (KEY, PUBLIC, SEALED + b"\x00"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_else_opens(name: str) -> None:
    key, public, sealed = HOSTILE[name]
    with pytest.raises(AuditSealError) as refused:
        open_private_part(key, public, sealed)
    assert refused.value.code is ErrorCode.ERR_RECEIPT_INVALID


def forged(content: bytes) -> bytes:
    """Seal anything under the right key and label: anybody can, the key is public."""
    info = b"latensgate/1 audit\x00" + PUBLIC.canonical()
    enc, context = setup_sender(SUITE_XWING, KEY.public_key, info)
    return b"\x01" + enc + context.seal(b"", content)


FORGED = {
    "another private part": append_pad(
        b'{"private":' + PrivatePart({**VALUE, "model_asked": "n"}).canonical, pad=True
    ),
    "no JSON": b"\xff",
    "another member": b'{"private":{},"pad":"","more":1}',
    "a message in the pad": b'{"private":' + PRIVATE.canonical + b',"pad":"01"}',
    "no private part": b'{"private":{},"pad":""}',
}


@pytest.mark.parametrize("name", FORGED)
def test_what_anybody_can_seal_is_refused_by_the_commitment(name: str) -> None:
    with pytest.raises(AuditSealError):
        open_private_part(KEY, PUBLIC, forged(FORGED[name]))


def test_what_the_parent_would_not_store_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_seal, "RECEIPT_PRIVATE_SEALED_MAX_BYTES", 1_200)
    with pytest.raises(TooLargeError):
        seal_private_part(KEY.public_key.raw, RECEIPT)
    with pytest.raises(HPKEKeyError):
        seal_private_part(b"short", RECEIPT)
