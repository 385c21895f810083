"""Search captured bytes for planted secrets, in every form in which they could leak.

Forms: as they are, base64 at all three offsets (both alphabets), hex in both cases, JSON-escaped
four ways, Python-escaped, percent-encoded, UTF-16 and UTF-32, reversed, and inside gzip, zlib and
bare deflate streams that lie anywhere in the bytes.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

_GZIP = b"\x1f\x8b\x08"
_ZLIB_HEADS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_INFLATED_MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class Leak:
    """A planted secret that was found: which, in what form, where."""

    secret: str
    form: str
    place: str


def _base64_forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what stands in base64 text whatever the offset of the secret in its source."""
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + secret)
        # The first characters mix with what stands before, the last with what stands after.
        first = (0, 2, 3)[offset]
        last = len(text.rstrip(b"=")) - (1 if (offset + len(secret)) % 3 else 0)
        yield f"base64 at offset {offset}", text[first:last]
        yield (
            f"base64url at offset {offset}",
            text[first:last].translate(bytes.maketrans(b"+/", b"-_")),
        )


def forms(secret: str) -> dict[bytes, str]:
    """Return every form of one secret, with its name."""
    raw = secret.encode()
    escaped = "".join(f"\\u{unit:04x}" for unit in _utf16_units(secret))
    named: list[tuple[str, bytes]] = [
        *_base64_forms(raw),
        ("hex", raw.hex().encode()),
        ("upper-case hex", raw.hex().upper().encode()),
        ("JSON-escaped", json.dumps(secret)[1:-1].encode()),
        ("JSON-escaped in UTF-8", json.dumps(secret, ensure_ascii=False)[1:-1].encode()),
        ("JSON-escaped all through", escaped.encode()),
        ("upper-case JSON-escaped", escaped.upper().replace("\\U", "\\u").encode()),
        ("Python-escaped", secret.encode("ascii", "backslashreplace")),
        ("percent-encoded", quote(secret, safe="").encode()),
        ("UTF-16", secret.encode("utf-16-le")),
        ("UTF-16 big-endian", secret.encode("utf-16-be")),
        ("UTF-32", secret.encode("utf-32-le")),
        ("reversed", raw[::-1]),
        ("plain", raw),
    ]
    return {form: name for name, form in named}


def _utf16_units(text: str) -> list[int]:
    raw = text.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


def _inflated(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what every gzip and zlib stream in the bytes holds, also one that was cut short."""
    for match in re.finditer(re.escape(_GZIP), data):
        yield "gzip", _inflate(data[match.start() :], 16 + zlib.MAX_WBITS)
    for head in _ZLIB_HEADS:
        for match in re.finditer(re.escape(head), data):
            yield "zlib", _inflate(data[match.start() :], zlib.MAX_WBITS)
    yield "deflate", _inflate(data, -zlib.MAX_WBITS)


def _inflate(data: bytes, window_bits: int) -> bytes:
    reader = zlib.decompressobj(window_bits)
    found = b""
    try:
        for start in range(0, len(data), 1024):
            found += reader.decompress(data[start : start + 1024], _INFLATED_MAX_BYTES)
            if reader.eof or len(found) > _INFLATED_MAX_BYTES:
                break
    except zlib.error:
        pass  # what came out before is searched all the same
    return found


def search(captured: Mapping[str, bytes], secrets: Iterable[str]) -> list[Leak]:
    """Search what was captured, by place, for secrets of at least 8 characters."""
    wanted = {secret: forms(secret) for secret in secrets}
    assert wanted
    assert all(len(secret) >= 8 for secret in wanted)
    leaks: list[Leak] = []
    for place, data in captured.items():
        inflated = [(how, inner) for how, inner in _inflated(data) if inner]
        for secret, needles in wanted.items():
            leaks += [Leak(secret, name, place) for form, name in needles.items() if form in data]
            leaks += [
                Leak(secret, f"{how}, {name}", place)
                for how, inner in inflated
                for form, name in needles.items()
                if form in inner
            ]
    return leaks
