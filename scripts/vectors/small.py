"""tests/vectors/padding, outer, canonical and key_id: small functions, table by table."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import hashlib
import json

from vectors.case import Case, Json, base64_text
from vectors.primitives import jcs, padme
from vectors.sealed import X25519_KEY, XWING_KEY, outer_members

_LENGTHS = (
    *range(34),
    *(63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1000, 1023, 1024, 1025),
    *(4095, 4096, 4097, 65_535, 65_536, 65_537, 1_000_000, 15_728_640, 1 << 40, (1 << 40) + 1),
)


def padding() -> list[Case]:
    """Padmé, wire.md section 8."""
    spec = "wire.md section 8"
    return [
        Case(f"length-{length}", "padme", f"Padmé of {length:,}.", spec, {"length": length}, {"padded": padme(length)})
        for length in _LENGTHS
    ]  # fmt: skip


def outer() -> list[Case]:
    """The visible part, wire.md section 3."""
    spec = "wire.md section 3"
    good: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("defaults", "Defaults are filled in, never left out.", {}),
        ("stream", "A streamed responses call.", {"stream": True, "operation": "responses"}),
        ("non-ascii", "Characters above ASCII stay as UTF-8 (RFC 8785, 3.2.2.2).", {"model": "modèle-ü-\U0001f512"}),
        ("escapes", "Quotes, backslash and control characters in their shortest form.", {"model": 'a"b\\c\n\x01/'}),
        ("longest-model", "256 characters are the most.", {"model": "m" * 256}),
        ("longest-model-astral", "256 characters are counted as code points, not bytes or UTF-16 units.", {"model": "\U0001f512" * 256}),
    )  # fmt: skip
    bad: tuple[tuple[str, str, dict[str, Json]], ...] = (
        ("model-empty", "A model has at least one character.", {"model": ""}),
        ("model-too-long", "257 characters are one too many.", {"model": "m" * 257}),
        ("operation-empty", "An operation has at least one character.", {"operation": ""}),
        ("operation-unknown", "No such operation.", {"operation": "chat.completion"}),
        ("tenant-upper-case", "Hexadecimal digits are lower case.", {"tenant_id": "tnt_A3F9C42B"}),
        ("tenant-short", "Seven digits.", {"tenant_id": "tnt_a3f9c42"}),
        ("tenant-newline", "A final line feed is no part of an id.", {"tenant_id": "tnt_a3f9c42b\n"}),
        ("hash-sha256", "attestation_hash is a SHA-384.", {"attestation_hash": "sha256:" + "0" * 64}),
        ("hash-upper-case", "Hexadecimal digits are lower case.", {"attestation_hash": "sha384:" + "AB" * 48}),
    )  # fmt: skip
    return [_outer_good(name, why, spec, change) for name, why, change in good] + [
        Case(name, "outer", why, spec, outer_members(**change), error="ERR_MALFORMED")
        for name, why, change in bad
    ]  # fmt: skip


def _outer_good(name: str, why: str, spec: str, change: dict[str, Json]) -> Case:
    members = outer_members(**change)
    canonical = jcs(members)
    output: dict[str, Json] = {
        "canonical_base64": base64_text(canonical),
        "sha256": hashlib.sha256(canonical).hexdigest(),
    }
    return Case(name, "outer", why, spec, members, output)


def key_ids() -> list[Case]:
    """Key ids and public keys from private ones, wire.md section 4."""
    spec = "wire.md section 4"
    return [
        Case(
            name,
            "key_id",
            "The public key is derived, hashed with version and suite, and cut to 8 bytes.",
            spec,
            {"kem_id": pair.kem_id, "private_key_hex": pair.private.hex()},
            {"key_id": pair.key_id.hex(), "public_key_sha256": hashlib.sha256(pair.public).hexdigest()},
        )
        for name, pair in (("xwing", XWING_KEY), ("x25519", X25519_KEY))
    ]  # fmt: skip


def canonical() -> list[Case]:
    """Strict JSON and RFC 8785, wire.md section 2."""
    spec = "wire.md section 2"
    good: tuple[tuple[str, str, bytes], ...] = (
        ("sorting", "Members sort by UTF-16 code units: an astral name before U+FB33.", '{"\ufb33":1,"\U0001f600":2,"a":3}'.encode()),
        ("white-space", "White space around tokens vanishes.", b' { "b" : [ 1 , 2 ] ,\r\n\t"a" : null } '),
        ("escapes", "Escapes are undone; only those that must remain are written.", rb'{"k":"\u0041\/\u000a\u001f\ud83d\ude00"}'),
        ("largest-integer", "2^53 - 1 is the largest integer.", b"[9007199254740991,-9007199254740991]"),
        ("nesting-64", "64 levels are allowed.", b"[" * 64 + b"]" * 64),
        ("empty-name", "An empty member name is a name.", b'{"":{}}'),
    )  # fmt: skip
    bad: tuple[tuple[str, str, bytes], ...] = (
        ("duplicate-name", "A member name stands twice.", b'{"a":1,"a":1}'),
        ("duplicate-name-escaped", "A member name stands twice, once escaped.", rb'{"a":1,"\u0061":2}'),
        ("byte-order-mark", "A byte order mark in front.", b"\xef\xbb\xbf{}"),
        ("not-utf-8", "A byte that is no UTF-8.", b'{"a":"\xff"}'),
        ("overlong-utf-8", "A slash in two bytes.", b'"\xc0\xaf"'),
        ("lone-surrogate", "Half of a surrogate pair, escaped.", rb'"\ud800"'),
        ("surrogate-as-utf-8", "A surrogate written as UTF-8.", b'"\xed\xa0\x80"'),
        ("nan", "NaN is not JSON.", b"[NaN]"),
        ("infinity", "Infinity is not JSON.", b"[-Infinity]"),
        ("trailing-value", "A second value.", b"{}{}"),
        ("trailing-comma", "A comma before the bracket.", b"[1,]"),
        ("single-quotes", "Single quotes.", b"{'a':1}"),
        ("leading-zero", "A leading zero.", b"[01]"),
        ("comment", "A comment.", b"[1/**/]"),
        ("control-character", "A raw line feed inside a text.", b'"a\nb"'),
        ("nesting-65", "65 levels are one too many.", b"[" * 65 + b"]" * 65),
        ("nesting-20000", "20,000 levels: no recursion may follow them.", b"[" * 20_000),
        ("integer-2-53", "2^53 does not survive ECMAScript.", b"[9007199254740992]"),
        ("empty", "No value at all.", b""),
    )  # fmt: skip
    return [
        Case(name, "canonicalize", why, spec, {"json_base64": base64_text(text)}, {"canonical_base64": base64_text(_recanonicalize(text))})
        for name, why, text in good
    ] + [
        Case(name, "canonicalize", why, spec, {"json_base64": base64_text(text)}, error="ERR_MALFORMED")
        for name, why, text in bad
    ]  # fmt: skip


def _recanonicalize(text: bytes) -> bytes:
    return jcs(json.loads(text))
