from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latensgate_shared.errors import ErrorCode
from latensgate_shared.kms_envelope import EnvelopeError, encryption_context, open_body, seal_body

KEY = bytes(range(32))
REQUEST_ID = "01a2008e-e7c7-7bf2-9d2d-17dbf60abf9c"


@given(st.binary(max_size=200))
def test_a_body_comes_back(body: bytes) -> None:
    assert open_body(KEY, REQUEST_ID, seal_body(KEY, REQUEST_ID, body)) == body


def test_two_seals_of_one_body_differ() -> None:
    assert seal_body(KEY, REQUEST_ID, b"body") != seal_body(KEY, REQUEST_ID, b"body")


def test_every_changed_bit_another_key_and_another_request_are_refused() -> None:
    sealed = seal_body(KEY, REQUEST_ID, b"body")
    for position in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(EnvelopeError):
            open_body(KEY, REQUEST_ID, bytes(changed))
    with pytest.raises(EnvelopeError):
        open_body(bytes(32), REQUEST_ID, sealed)
    with pytest.raises(EnvelopeError):
        open_body(KEY, REQUEST_ID.replace("9c", "9d"), sealed)


@pytest.mark.parametrize("length", [0, 7, 11, 12, 27])
def test_what_is_too_short_is_refused(length: int) -> None:
    with pytest.raises(EnvelopeError) as caught:
        open_body(KEY, REQUEST_ID, bytes(length))
    assert caught.value.code is ErrorCode.ERR_KMS_ENVELOPE


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_data_key_has_32_bytes(length: int) -> None:
    with pytest.raises(EnvelopeError, match="32 bytes"):
        seal_body(bytes(length), REQUEST_ID, b"")
    with pytest.raises(EnvelopeError, match="32 bytes"):
        open_body(bytes(length), REQUEST_ID, bytes(40))


def test_the_context_names_tenant_and_purpose() -> None:
    assert encryption_context("tnt_a3f9c42b") == {
        "purpose": "latensgate/1 request body",
        "tenant": "tnt_a3f9c42b",
    }
