"""The search finds what was planted on purpose: otherwise its silence would say nothing."""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from collections.abc import Callable

import pytest

from capture import search

PLANTED = 'Zanzibar "quoted" 4711 \u00fc\U0001f512'
RAW = PLANTED.encode()


def _raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


LEAKS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "hex": lambda raw: raw.hex().encode(),
    "HEX": lambda raw: raw.hex().upper().encode(),
    "json": lambda raw: json.dumps({"a": raw.decode()}).encode(),
    "json-utf8": lambda raw: json.dumps({"a": raw.decode()}, ensure_ascii=False).encode(),
    "python": lambda raw: ascii(raw.decode()).encode(),
    "utf-16": lambda raw: raw.decode().encode("utf-16-le"),
    "utf-16-be": lambda raw: raw.decode().encode("utf-16-be"),
    "gzip": lambda raw: gzip.compress(b"before " + raw + b" after"),
    "zlib": zlib.compress,
    "gzip-cut-short": lambda raw: gzip.compress(raw + b"." + os.urandom(4_000))[:-500],
    "gzip-of-base64": lambda raw: gzip.compress(base64.b64encode(b"x" + raw)),
    "reversed": lambda raw: raw[::-1],
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_planted_leak_is_found(leak: Callable[[bytes], bytes]) -> None:
    noise = os.urandom(5_000)
    captured = {"wire": noise + leak(RAW) + os.urandom(500), "clean": noise}
    assert {found.place for found in search(captured, [PLANTED])} == {"wire"}


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
def test_base64_is_found_at_every_offset(before: int, after: int) -> None:
    inside = os.urandom(before) + RAW + os.urandom(after)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert search({"wire": b"x" * before + encode(inside)}, [PLANTED])


def test_bare_deflate_is_found() -> None:
    assert search({"wire": _raw_deflate(RAW * 2)}, [PLANTED])


def test_nothing_is_found_in_noise() -> None:
    assert search({"wire": os.urandom(200_000)}, [PLANTED]) == []
