"""Changed blobs and noise: only typed errors, and never another plaintext by a changed envelope."""

from __future__ import annotations

import contextlib
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from cms_blobs import make_blob, recipient_key
from latensgate_enclave.aws.cms import decrypt, parse_enveloped_data
from latensgate_shared.errors import LatensgateError


@cache
def encoded() -> bytes:
    return make_blob(b"s" * 32).encode()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_changed_byte(at: int, difference: int) -> None:
    changed = bytearray(encoded())
    at %= len(changed)
    changed[at] ^= difference
    try:
        plaintext = decrypt(bytes(changed), recipient_key())
    except LatensgateError:
        return
    before = parse_enveloped_data(encoded())
    after = parse_enveloped_data(bytes(changed))
    # No MAC: a change of the key id, the IV or the ciphertext may open, to other bytes.
    assert plaintext != b"s" * 32 or after.recipient_key_id != before.recipient_key_id


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_inserted_and_deleted_bytes(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(encoded())))
    end = data.draw(st.integers(start, len(encoded())))
    noise = data.draw(st.binary(max_size=12))
    changed = encoded()[:start] + noise + encoded()[end:]
    with contextlib.suppress(LatensgateError):
        decrypt(changed, recipient_key())


@given(st.binary(max_size=400))
def test_noise(data: bytes) -> None:
    for blob in (data, encoded()[: len(encoded()) // 2] + data):
        with contextlib.suppress(LatensgateError):
            parse_enveloped_data(blob)
