from __future__ import annotations

import pickle
from hashlib import sha256, sha384
from typing import Final

import pytest

from latensgate_shared import hpke, sealed
from latensgate_shared.chunks import FINAL_MARK, encode_varint, seal_chunk, seal_final_chunk
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import (
    CHUNK_MAX_BYTES,
    SEALED_REQUEST_CHUNKS_MAX_COUNT,
    SEALED_REQUEST_MAX_BYTES,
)
from latensgate_shared.sealed_request import request_info

OUTER: Final = b'{"attestation_hash":"sha384:00","model":"m"}'
X25519_KEY: Final = sealed.OpeningKey(sealed.SUITE_X25519, bytes(range(32)))
XWING_KEY: Final = sealed.OpeningKey(sealed.SUITE_XWING, bytes(range(32)))
KEYS: Final = {key.key_id: key for key in (X25519_KEY, XWING_KEY)}
BOTH: Final = pytest.mark.parametrize("key", [X25519_KEY, XWING_KEY], ids=["x25519", "xwing"])
HEADER_BYTES: Final = 15


def enc_end(key: sealed.OpeningKey) -> int:
    return HEADER_BYTES + key.suite.kem.enc_bytes


def seal(key: sealed.OpeningKey, plaintext: bytes) -> bytes:
    return sealed.seal_request(key.sealing_key, OUTER, plaintext).wire


def seal_pieces(key: sealed.OpeningKey, *pieces: bytes, final: bytes) -> list[bytes]:
    """Return header and enc, then each chunk: cut as no sealer of ours cuts."""
    target = key.sealing_key
    info = request_info(target.header, OUTER)
    enc, context = hpke.setup_sender(target.suite, target.public_key, info)
    chunks = [seal_chunk(context, piece) for piece in pieces]
    return [target.header + enc, *chunks, seal_final_chunk(context, final)]


def refuse(wire: bytes, outer: bytes = OUTER) -> ErrorCode:
    with pytest.raises(LatensgateError) as caught:
        sealed.open_request(KEYS, outer, wire)
    return caught.value.code


@BOTH
@pytest.mark.parametrize(
    "length",
    [0, 1, 2_048, CHUNK_MAX_BYTES - 1, CHUNK_MAX_BYTES, CHUNK_MAX_BYTES + 1, 200_000],
)
def test_sizes(key: sealed.OpeningKey, length: int) -> None:
    plaintext = bytes(i % 251 for i in range(length))
    request = sealed.seal_request(key.sealing_key, OUTER, plaintext)
    opened = sealed.open_request(KEYS, OUTER, request.wire)
    assert opened.plaintext == plaintext
    assert opened.key_id == key.key_id


@BOTH
def test_layout(key: sealed.OpeningKey) -> None:
    wire = seal(key, bytes(CHUNK_MAX_BYTES) + b"rest")
    raw = key.sealing_key.public_key.raw
    suite_id = {0x20: "002000010002", 0x647A: "647a00010002"}[key.suite.kem.id]
    key_id = sha256(b"\x01" + bytes.fromhex(suite_id) + raw).digest()[:8]
    assert sealed.key_id(key.suite, raw) == key.key_id == key_id
    assert wire[:HEADER_BYTES] == b"\x01" + key_id + bytes.fromhex(suite_id)
    chunks = wire[enc_end(key) :]
    assert chunks[:4] == (0x8000_0000 | CHUNK_MAX_BYTES + 16).to_bytes(4, "big")
    assert chunks[4 + CHUNK_MAX_BYTES + 16 :][:1] == FINAL_MARK
    assert len(chunks) == 4 + CHUNK_MAX_BYTES + 16 + 1 + 4 + 16
    info = request_info(wire[:HEADER_BYTES], OUTER)
    assert info == b"latensgate/1 request\x00" + wire[:HEADER_BYTES] + sha256(OUTER).digest()


def test_request_hash_is_over_the_bytes() -> None:
    wire = seal(X25519_KEY, b"x")
    assert sealed.request_hash(wire) == "sha384:" + sha384(wire).hexdigest()


def test_two_sealings_differ() -> None:
    assert seal(X25519_KEY, b"same") != seal(X25519_KEY, b"same")


def test_any_cut_opens() -> None:
    parts = seal_pieces(XWING_KEY, b"a", b"bc", bytes(CHUNK_MAX_BYTES), final=b"")
    opened = sealed.open_request(KEYS, OUTER, b"".join(parts))
    assert opened.plaintext == b"abc" + bytes(CHUNK_MAX_BYTES)


@BOTH
def test_every_changed_bit_is_refused(key: sealed.OpeningKey) -> None:
    wire = b"".join(seal_pieces(key, b"first", final=b"last"))
    assert sealed.open_request(KEYS, OUTER, wire).plaintext == b"firstlast"
    parts = [(0, 1), (1, 9), (9, 15), (15, len(wire))]
    codes = {part: set[ErrorCode]() for part in parts}
    for bit in range(8 * len(wire)):
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << bit % 8
        code = refuse(bytes(changed))
        next(found for (start, end), found in codes.items() if start <= bit // 8 < end).add(code)
    assert codes[0, 1] == {ErrorCode.ERR_VERSION}
    assert codes[1, 9] == {ErrorCode.ERR_KEY_STALE}
    assert codes[9, 15] == {ErrorCode.ERR_VERSION}
    assert codes[15, len(wire)] <= {
        ErrorCode.ERR_OPEN_FAILED,
        ErrorCode.ERR_MALFORMED,
        ErrorCode.ERR_TOO_LARGE,
    }


@BOTH
def test_every_truncation_is_refused(key: sealed.OpeningKey) -> None:
    wire = b"".join(seal_pieces(key, b"first", final=b"last"))
    for end in range(len(wire)):
        expected = {ErrorCode.ERR_MALFORMED}
        if end > len(wire) - 5:  # the final chunk runs to the end, so only the AEAD sees this
            expected = {ErrorCode.ERR_OPEN_FAILED}
        assert {refuse(wire[:end])} == expected, end
    assert refuse(wire + b"\x00") is ErrorCode.ERR_OPEN_FAILED


def test_chunks_have_one_order() -> None:
    head, *chunks, final = seal_pieces(X25519_KEY, b"one", b"two", b"six", final=b"end")
    one, two, six = chunks
    for order in (
        [two, one, six],
        [one, six, two],
        [one, two],
        [two, six],
        [one, two, two, six],
        [],
    ):
        assert refuse(head + b"".join(order) + final) is ErrorCode.ERR_OPEN_FAILED


def test_chunks_of_another_request_do_not_fit() -> None:
    head, first, final = seal_pieces(X25519_KEY, b"one", final=b"end")
    _, other_first, other_final = seal_pieces(X25519_KEY, b"one", final=b"end")
    assert refuse(head + other_first + final) is ErrorCode.ERR_OPEN_FAILED
    assert refuse(head + first + other_final) is ErrorCode.ERR_OPEN_FAILED


def test_a_chunk_cannot_change_its_kind() -> None:
    head, first, final = seal_pieces(X25519_KEY, b"one", final=b"end")
    as_final = FINAL_MARK + first[1:]
    assert refuse(head + as_final) is ErrorCode.ERR_OPEN_FAILED
    as_content = encode_varint(len(final) - 1) + final[1:]
    more = FINAL_MARK + bytes(16)
    assert refuse(head + first + as_content + more) is ErrorCode.ERR_OPEN_FAILED


@BOTH
def test_another_outer_does_not_open(key: sealed.OpeningKey) -> None:
    wire = seal(key, b"x")
    for outer in (b"", OUTER + b" ", OUTER.replace(b"m", b"n")):
        assert refuse(wire, outer) is ErrorCode.ERR_OPEN_FAILED


def test_an_empty_non_final_chunk_is_refused() -> None:
    head, final = seal_pieces(X25519_KEY, final=b"")
    assert refuse(head + b"\x10" + bytes(16) + final) is ErrorCode.ERR_MALFORMED


def test_a_long_varint_is_refused() -> None:
    head, first, final = seal_pieces(X25519_KEY, b"one", final=b"")
    longer = b"\x40" + first
    assert refuse(head + longer + final) is ErrorCode.ERR_MALFORMED
    assert refuse(head + first + b"\x40" + final) is ErrorCode.ERR_MALFORMED


@BOTH
def test_what_is_too_short_is_malformed_whatever_it_says(key: sealed.OpeningKey) -> None:
    head = seal(key, b"")[: enc_end(key)]
    too_large = encode_varint(CHUNK_MAX_BYTES + 17)
    assert refuse(head + too_large + bytes(12)) is ErrorCode.ERR_MALFORMED
    assert refuse(head + too_large + bytes(13)) is ErrorCode.ERR_TOO_LARGE


@BOTH
def test_versions_and_suites(key: sealed.OpeningKey) -> None:
    wire = seal(key, b"x")
    assert refuse(b"") is ErrorCode.ERR_MALFORMED
    assert refuse(b"\x01") is ErrorCode.ERR_MALFORMED
    assert refuse(b"\x02") is ErrorCode.ERR_VERSION
    for suite in ("002000010001", "002000010003", "002000020002", "001000010002", "000000000000"):
        assert refuse(wire[:9] + bytes.fromhex(suite) + wire[15:]) is ErrorCode.ERR_VERSION


def test_a_key_id_under_the_other_suite_is_not_held() -> None:
    wire = seal(XWING_KEY, b"x")
    assert refuse(wire[:1] + X25519_KEY.key_id + wire[9:]) is ErrorCode.ERR_KEY_STALE


@BOTH
def test_a_key_that_is_gone(key: sealed.OpeningKey) -> None:
    with pytest.raises(sealed.KeyStaleError) as caught:
        sealed.open_request({}, OUTER, seal(key, b"x"))
    assert caught.value.code is ErrorCode.ERR_KEY_STALE


@BOTH
def test_an_enc_of_small_order_is_an_open_failure(key: sealed.OpeningKey) -> None:
    wire, end = seal(key, b"x"), enc_end(key)
    assert refuse(wire[: end - 32] + bytes(32) + wire[end:]) is ErrorCode.ERR_OPEN_FAILED


def test_malformed_input_costs_no_key_operation() -> None:
    """Framing is judged before the key is looked up."""
    wire = seal(XWING_KEY, b"x")
    with pytest.raises(LatensgateError) as caught:
        sealed.open_request({}, OUTER, wire[:-17])
    assert caught.value.code is ErrorCode.ERR_MALFORMED


def test_limits() -> None:
    overhead = len(seal(X25519_KEY, b""))
    chunks = SEALED_REQUEST_MAX_BYTES // (CHUNK_MAX_BYTES + 20)
    largest = SEALED_REQUEST_MAX_BYTES - overhead - 20 * chunks
    wire = seal(X25519_KEY, bytes(largest))
    assert len(wire) == SEALED_REQUEST_MAX_BYTES
    assert len(sealed.open_request(KEYS, OUTER, wire).plaintext) == largest
    with pytest.raises(LatensgateError) as caught:
        seal(X25519_KEY, bytes(largest + 1))
    assert caught.value.code is ErrorCode.ERR_TOO_LARGE
    assert refuse(wire + b"x") is ErrorCode.ERR_TOO_LARGE


def test_the_number_of_chunks_is_limited() -> None:
    pieces = [b"x"] * SEALED_REQUEST_CHUNKS_MAX_COUNT
    opened = sealed.open_request(KEYS, OUTER, b"".join(seal_pieces(X25519_KEY, *pieces, final=b"")))
    assert len(opened.plaintext) == SEALED_REQUEST_CHUNKS_MAX_COUNT
    wire = b"".join(seal_pieces(X25519_KEY, *pieces, b"x", final=b""))
    assert refuse(wire) is ErrorCode.ERR_TOO_LARGE


def test_keys_of_wrong_length_are_refused() -> None:
    with pytest.raises(hpke.HPKEKeyError):
        sealed.OpeningKey(sealed.SUITE_XWING, bytes(31))
    with pytest.raises(hpke.HPKEKeyError):
        sealed.SealingKey(sealed.SUITE_XWING, bytes(32))


def test_find_suite() -> None:
    assert sealed.find_suite(bytes.fromhex("647a00010002")) is sealed.SUITE_XWING
    with pytest.raises(sealed.ProtocolVersionError):
        sealed.find_suite(b"")


@BOTH
def test_nothing_secret_is_printed_or_pickled(key: sealed.OpeningKey) -> None:
    request = sealed.seal_request(key.sealing_key, OUTER, b"planted")
    opened = sealed.open_request(KEYS, OUTER, request.wire)
    for thing in (request, opened, request.answer_secret, key):
        assert repr(thing) == f"<{type(thing).__name__}>"
        with pytest.raises(TypeError, match="never written out"):
            pickle.dumps(thing)
