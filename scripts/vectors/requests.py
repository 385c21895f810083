"""tests/vectors/request: what opens, and every row of the refusal table of wire.md section 4."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from vectors.case import Case, Json, base64_text, fixed, sha384_text
from vectors.primitives import KeyPair, jcs, long_varint, setup_base, varint
from vectors.sealed import OUTER, X25519_KEY, XWING_KEY, Opening, begin, frame, outer_members

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = "wire.md section 4"
SHORT = [b'{"a":1}']


def _keys(*pairs: KeyPair) -> list[Json]:
    return [{"kem_id": pair.kem_id, "private_key_hex": pair.private.hex()} for pair in pairs]


def _input(request: bytes, **changes: Json) -> dict[str, Json]:
    given: dict[str, Json] = {
        "keys": _keys(XWING_KEY, X25519_KEY),
        "outer": OUTER,
        "request_base64": base64_text(request),
    }
    return given | changes


def _good(
    name: str,
    why: str,
    opening: Opening,
    pieces: Sequence[bytes],
    outer: dict[str, Json] | None = None,
) -> Case:
    request = opening.request(pieces)
    plaintext = b"".join(pieces)
    output: dict[str, Json] = {
        "key_id": opening.key.key_id.hex(),
        "plaintext_length": len(plaintext),
        "plaintext_sha256": hashlib.sha256(plaintext).hexdigest(),
        "request_hash": sha384_text(request),
        "response_probe_hex": opening.response_probe.hex(),
    }
    given = _input(request, outer=OUTER if outer is None else outer)
    return Case(name, "open_request", why, SPEC, given, output)


def _bad(name: str, why: str, error: str, request: bytes, **changes: Json) -> Case:
    return Case(name, "open_request", why, SPEC, _input(request, **changes), error=error)


def _accepted() -> list[Case]:
    streamed = outer_members(stream=True, operation="responses", model="modèle-ü")
    long_piece = fixed("a full chunk", 65_536)
    return [
        _good("xwing", "One chunk under X-Wing opens.", begin("1", XWING_KEY), SHORT),
        _good("x25519", "One chunk under DHKEM(X25519) opens.", begin("2", X25519_KEY), SHORT),
        _good("xwing-three-chunks", "Three chunks, sequence 0 to 2.", begin("3", XWING_KEY), [b"{", b'"a":1', b"}"]),
        _good("x25519-three-chunks", "Three chunks, sequence 0 to 2.", begin("4", X25519_KEY), [b"{", b'"a":1', b"}"]),
        _good("empty-plaintext", "A final chunk may be empty: 16 bytes, the tag alone.", begin("5", X25519_KEY), [b""]),
        _good("empty-final-chunk", "An empty final chunk after content ends the message.", begin("6", X25519_KEY), [b"{}", b""]),
        _good("one-byte-chunks", "An opener accepts any cut, also one byte each.", begin("7", X25519_KEY), [bytes([b]) for b in b'{"a":1}']),
        _good("full-chunk", "A chunk of exactly 65,536 bytes is the largest; its length takes four bytes.", begin("8", X25519_KEY), [long_piece, b"x"]),
        _good("two-byte-length", "A ciphertext of 64 bytes is the shortest whose length takes two bytes.", begin("10", X25519_KEY), [fixed("p", 48), b"x"]),
        _good("one-byte-length", "A ciphertext of 63 bytes is the longest whose length takes one byte.", begin("11", X25519_KEY), [fixed("p", 47), b"x"]),
        _good("other-outer", "Non-ASCII model, streaming, another operation: all of it is in info.", begin("12", XWING_KEY, outer=streamed), SHORT, streamed),
    ]  # fmt: skip


def _malformed() -> list[Case]:
    kind = "ERR_MALFORMED"
    start = begin("20", X25519_KEY)
    head = start.header + start.enc
    one, two = start.chunks([b"{}", b""])
    xwing = begin("21", XWING_KEY).request([b""])
    padded = head + long_varint(len(one), 1, 2) + one + b"\x00" + two
    eight = head + long_varint(len(one), 3, 8) + one + b"\x00" + two
    return [
        _bad("empty", "No bytes at all.", kind, b""),
        _bad("header-cut", "Fourteen bytes cannot be a header.", kind, head[:14]),
        _bad("header-only", "A header without enc.", kind, start.header),
        _bad("enc-cut", "enc is one byte short.", kind, head[:-1]),
        _bad("no-chunks", "header and enc, then nothing.", kind, head),
        _bad("marker-only", "A final marker without the 16 bytes of a tag.", kind, head + b"\x00"),
        _bad("final-fifteen-bytes", "A final ciphertext of 15 bytes is shorter than a tag.", kind, head + b"\x00" + bytes(15)),
        _bad("xwing-one-short", "An empty X-Wing request less one byte is below header + enc + 17.", kind, xwing[:-1]),
        _bad("varint-two-bytes", "A length below 64 written in two bytes.", kind, padded),
        _bad("varint-eight-bytes", "A length below 64 written in eight bytes.", kind, eight),
        _bad("varint-cut", "The message ends inside a two-byte length.", kind, head + varint(len(one)) + one + b"\x40"),
        _bad("empty-non-final", "A non-final ciphertext of 16 bytes holds no plaintext.", kind, head + varint(16) + start.sender.seal(0, b"", b"") + b"\x00" + start.sender.seal(1, b"final", b"{}")),
        _bad("non-final-cut", "A non-final chunk announces more bytes than follow.", kind, head + varint(len(one)) + one[:-1]),
        _bad("no-final", "The message ends after a non-final chunk.", kind, head + varint(len(one)) + one),
    ]  # fmt: skip


def _too_large() -> list[Case]:
    kind = "ERR_TOO_LARGE"
    start = begin("30", X25519_KEY)
    head = start.header + start.enc
    return [
        _bad("non-final-length", "A non-final length of 65,553 is one above the limit, whatever follows.", kind, head + varint(65_553) + bytes(32)),
        _bad("length-2-62", "The largest length that a varint can say: nothing may be allocated for it.", kind, head + varint((1 << 62) - 1) + bytes(32)),
        _bad("final-length", "A final ciphertext of 65,553 bytes is one above the limit.", kind, head + b"\x00", append_zero_bytes=65_553),
        _bad("whole-request", "15,728,641 bytes in all: one above the limit of a request.", kind, head + b"\x00", append_zero_bytes=15_728_641 - len(head) - 1),
    ]  # fmt: skip


def _versions() -> list[Case]:
    kind = "ERR_VERSION"
    cases: list[Case] = []
    for name, why, version, suite in (
        ("version-0", "Version 0.", 0, X25519_KEY.suite),
        ("version-2", "Version 2.", 2, X25519_KEY.suite),
        (
            "kem-unknown",
            "KEM 0x0010 (P-256) is no suite of version 1.",
            1,
            bytes.fromhex("001000010002"),
        ),
        (
            "kdf-unknown",
            "KDF 0x0003 (HKDF-SHA512) is no suite of version 1.",
            1,
            bytes.fromhex("002000030002"),
        ),
        (
            "aead-unknown",
            "AEAD 0x0003 (ChaCha20Poly1305) is no suite of version 1.",
            1,
            bytes.fromhex("002000010003"),
        ),
        (
            "aead-export-only",
            "AEAD 0xffff (export only) seals nothing.",
            1,
            bytes.fromhex("00200001ffff"),
        ),
    ):
        header = bytes([version]) + X25519_KEY.key_id + suite
        request = begin("v " + name, X25519_KEY, header=header).request(SHORT)
        cases.append(_bad(name, why, kind, request))
    return cases


def _stale() -> list[Case]:
    other = KeyPair(X25519_KEY.kem_id, fixed("another x25519 recipient", 32))
    foreign = begin("40", other).request(SHORT)
    crossed = b"\x01" + XWING_KEY.key_id + X25519_KEY.suite
    return [
        _bad("key-unknown", "Sealed to a key that this enclave does not hold.", "ERR_KEY_STALE", foreign),
        _bad("key-gone", "The key was good, but the enclave holds none any more.", "ERR_KEY_STALE", begin("41", X25519_KEY).request(SHORT), keys=[]),
        _bad("key-of-other-suite", "The id of the X-Wing key beside the X25519 suite names no key.", "ERR_KEY_STALE", begin("42", X25519_KEY, header=crossed).request(SHORT)),
    ]  # fmt: skip


def _outer_changes() -> list[Case]:
    request = begin("50", XWING_KEY).request(SHORT)
    changes: dict[str, dict[str, Json]] = {
        "tenant": {"tenant_id": "tnt_00000000"},
        "model": {"model": "claude-3.5-haiku"},
        "operation": {"operation": "embeddings"},
        "stream": {"stream": True},
        "attestation-hash": {"attestation_hash": sha384_text(b"another document")},
    }
    return [
        _bad(f"outer-{name}", f"The visible member {next(iter(change))} was changed after sealing.", "ERR_OPEN_FAILED", request, outer=outer_members(**change))
        for name, change in changes.items()
    ]  # fmt: skip


def _flip(data: bytes, index: int) -> bytes:
    changed = bytearray(data)
    changed[index] ^= 1
    return bytes(changed)


def _open_failures() -> list[Case]:
    kind = "ERR_OPEN_FAILED"
    start = begin("60", X25519_KEY)
    head = start.header + start.enc
    pieces = [b"first", b"second", b"last"]
    one, two, last = start.chunks(pieces)
    xwing = begin("61", XWING_KEY)
    good = start.request(pieces)
    enc_at = len(start.header)
    other_enc = begin("62", X25519_KEY).enc
    wrong_aad = start.chunks(pieces, final_aad=b"")
    middle_final = [one, start.sender.seal(1, b"final", b"second"), last]
    no_label, sender = setup_base(
        X25519_KEY, start.header + hashlib.sha256(jcs(OUTER)).digest(), fixed("63", 32)
    )
    return [
        _bad("tag-flipped", "One bit of the last tag.", kind, _flip(good, -1)),
        _bad("first-chunk-flipped", "One bit of the first chunk.", kind, _flip(good, len(head) + 1)),
        _bad("chunks-swapped", "Chunks 0 and 1 change places.", kind, head + frame([two, one, last])),
        _bad("chunk-twice", "Chunk 0 stands twice.", kind, head + frame([one, one, two, last])),
        _bad("chunk-missing", "Chunk 1 is left out.", kind, head + frame([one, last])),
        _bad("first-chunk-missing", "The message begins with chunk 1.", kind, head + frame([two, last])),
        _bad("cut-at-chunk", "Cut after chunk 0, which is then passed off as the final one.", kind, head + frame([one])),
        _bad("final-without-aad", 'The final chunk was sealed without the AAD "final".', kind, head + frame(wrong_aad)),
        _bad("final-in-the-middle", 'A chunk with the AAD "final" stands in a non-final place.', kind, head + frame(middle_final)),
        _bad("final-as-non-final", "The final chunk is framed as non-final and another follows.", kind, head + frame([one, two, last, last])),
        _bad("trailing-byte", "A byte after the final chunk becomes part of it.", kind, good + b"\x00"),
        _bad("enc-of-other-request", "enc of another sealing to the same key.", kind, start.header + other_enc + good[enc_at + 32 :]),
        _bad("enc-all-zero", "An all-zero X25519 share gives an all-zero result (RFC 9180, section 7.1.4).", kind, start.header + bytes(32) + good[enc_at + 32 :]),
        _bad("enc-order-8", "An X25519 share of order 8 gives an all-zero result.", kind, start.header + bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800") + good[enc_at + 32 :]),
        _bad("xwing-mlkem-flipped", "One bit of the ML-KEM ciphertext: implicit rejection, so the AEAD fails.", kind, _flip(xwing.request(SHORT), enc_at)),
        _bad("xwing-x25519-flipped", "One bit of the X25519 half of enc.", kind, _flip(xwing.request(SHORT), enc_at + 1088)),
        _bad("xwing-x25519-zero", "An all-zero X25519 half of enc.", kind, xwing.header + xwing.enc[:1088] + bytes(32) + frame(xwing.chunks(SHORT))),
        _bad("info-without-label", "Sealed with an info that lacks the label of this protocol.", kind, start.header + no_label + b"\x00" + sender.seal(0, b"final", b"{}")),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Every case of the folder."""
    groups = (_accepted, _malformed, _too_large, _versions, _stale, _outer_changes, _open_failures)
    return [case for group in groups for case in group()]
