"""Ed25519 keys that no verifier may take."""

from __future__ import annotations

import pytest

from latensgate_shared.ed25519 import PUBLIC_KEY_BYTES, SignatureError, check_public_key


@pytest.mark.parametrize("size", [0, PUBLIC_KEY_BYTES - 1, PUBLIC_KEY_BYTES + 1])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(SignatureError, match=f"32 bytes expected, found {size}"):
        check_public_key(bytes(size))


def test_a_second_encoding_of_a_key_is_refused() -> None:
    with pytest.raises(SignatureError, match="canonical"):
        check_public_key(((1 << 255) - 19).to_bytes(PUBLIC_KEY_BYTES, "little"))


@pytest.mark.parametrize("y", [0, 1, (1 << 255) - 20])
@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_a_key_of_small_order_is_refused(y: int, sign: int) -> None:
    with pytest.raises(SignatureError, match="small order"):
        check_public_key((y | sign).to_bytes(PUBLIC_KEY_BYTES, "little"))
