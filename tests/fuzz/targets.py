"""What is fuzzed: one function a parser that faces the outside.

Each takes arbitrary bytes. Refusing is right only with a typed error; any other exception is a
finding. Where a parser has an inverse, the round trip is demanded too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from latensgate_shared import cbor, cose
from latensgate_shared.errors import LatensgateError

MAX_BYTES = 4096


def fuzz_cbor(data: bytes) -> None:
    """Strict CBOR: what decodes has exactly one encoding of its values."""
    try:
        value = cbor.decode(data, max_bytes=MAX_BYTES)
    except LatensgateError:
        return
    again = cbor.encode(value)
    if cbor.decode(again, max_bytes=MAX_BYTES) != value:
        raise AssertionError("a decoded value does not survive encoding")


def fuzz_cose(data: bytes) -> None:
    """COSE_Sign1: whatever parses has a Sig_structure."""
    try:
        message = cose.parse_sign1(data, max_bytes=MAX_BYTES)
    except LatensgateError:
        return
    hashlib.sha384(cose.sig_structure(message.protected, message.payload)).digest()


TARGETS: dict[str, Callable[[bytes], None]] = {"cbor": fuzz_cbor, "cose": fuzz_cose}
