"""Receipts: signed, numbered and chained per tenant; usage added up."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_doubles import TENANT
from latensgate_enclave import receipt_book as receipt_book_module
from latensgate_enclave.chat_answer import Usage
from latensgate_enclave.keys import KeyRing
from latensgate_enclave.receipt_book import CANONICAL, Facts, ReceiptBook
from latensgate_shared.ed25519 import verify_ed25519
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.receipts import PrivatePart, receipt_hash, signing_input
from latensgate_shared.strict_json import JSONError
from protocol_examples import DIGEST, RECEIPT_KEY, private_part

OTHER = "tnt_00000000"


class Keys:
    """What of the key ring the book needs."""

    receipt_key = RECEIPT_KEY


def entropy(length: int, /) -> bytes:
    return bytes(range(length))


def new_book() -> ReceiptBook:
    return ReceiptBook(cast("KeyRing", Keys()), entropy)


def facts(
    book: ReceiptBook,
    tenant_id: str = TENANT,
    *,
    outcome: str = "answered",
    at_s: int = 1_780_315_299,
) -> Facts:
    return Facts(
        receipt_id=book.new_id(tenant_id),
        tenant_id=tenant_id,
        key_id="0011223344556677",
        attestation_hash=DIGEST,
        outcome=outcome,
        request_hash=DIGEST,
        response_hash=DIGEST,
        issued_at_s=at_s,
    )


def test_a_receipt_is_signed_coarse_and_bound_to_its_private_part() -> None:
    book = new_book()
    receipt = book.issue(facts(book), private_part())
    public = receipt.public
    assert public.receipt_id == "aud_0001020304050607"
    assert (public.sequence, public.previous_receipt_hash) == (0, None)
    assert public.issued_at == 1_780_315_260
    assert public.private_digest == PrivatePart(private_part()).digest
    verify_ed25519(
        RECEIPT_KEY.public_key().public_bytes_raw(),
        signing_input(public.canonical()),
        receipt.signature,
    )


def test_receipts_are_chained_per_tenant() -> None:
    book = new_book()
    first = book.issue(facts(book), private_part()).public
    foreign = book.issue(facts(book, OTHER), private_part()).public
    second = book.issue(facts(book, outcome="refused"), private_part()).public
    assert (foreign.sequence, foreign.previous_receipt_hash) == (0, None)
    assert (second.sequence, second.previous_receipt_hash) == (1, receipt_hash(first))


def test_a_receipt_that_cannot_be_made_leaves_no_gap() -> None:
    book = new_book()
    with pytest.raises(JSONError):
        book.issue(facts(book, outcome="nonsense"), private_part())
    assert book.issue(facts(book), private_part()).public.sequence == 0


def test_time_never_runs_backwards_in_a_chain() -> None:
    """The clock may be set back by up to a second, also over the border of a minute."""
    book = new_book()
    times = (1_780_315_320, 1_780_315_319, 1_780_315_380)
    found = [book.issue(facts(book, at_s=at), private_part()).public.issued_at for at in times]
    assert found == [1_780_315_320, 1_780_315_320, 1_780_315_380]
    earlier = book.issue(facts(book, OTHER, at_s=1_780_315_319), private_part())
    assert earlier.public.issued_at == 1_780_315_260


def test_usage_is_added_up_per_tenant() -> None:
    book = new_book()
    assert book.totals() == {}
    book.book(TENANT, Usage(3, 4))
    book.book(TENANT, Usage(10, 20))
    book.book(OTHER, Usage(1, 1))
    assert book.totals() == {
        TENANT: {"requests": 2, "prompt_tokens": 13, "completion_tokens": 24},
        OTHER: {"requests": 1, "prompt_tokens": 1, "completion_tokens": 1},
    }


COUNTS = st.integers(0, 2**50)


@given(
    counts=st.lists(COUNTS, min_size=4, max_size=4),
    thought=st.none() | COUNTS,
    estimated=st.booleans(),
)
def test_usage_is_written_as_jcs_writes_it(
    *, counts: list[int], thought: int | None, estimated: bool
) -> None:
    asked, said, cached, written = counts
    told = Usage(asked, said, cached, written, thought, estimated).to_openai()
    assert CANONICAL.encode(told) == canonicalize(told)
    assert CANONICAL.encode(None) == canonicalize(None)  # where no model answered


def test_more_tenants_than_are_remembered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_book_module, "RECEIPT_TENANTS_MAX_COUNT", 1)
    book = new_book()
    book.issue(facts(book), private_part())
    with pytest.raises(LatensgateError) as caught:  # before anything is run for them
        book.new_id(OTHER)
    assert caught.value.code is ErrorCode.ERR_OVERLOADED
    assert book.issue(facts(book), private_part()).public.sequence == 1
