from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from latensgate_shared import limits
from latensgate_shared.cbor import CBORError, decode, encode
from latensgate_shared.errors import ErrorCode, MalformedError, TooLargeError

if TYPE_CHECKING:
    from latensgate_shared.cbor import CBOREncodable, CBORValue

# RFC 8949, appendix A, as far as it is spoken here; every one also in deterministic encoding.
APPENDIX_A: list[tuple[str, CBORValue]] = [
    ("00", 0),
    ("01", 1),
    ("0a", 10),
    ("17", 23),
    ("1818", 24),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1_000_000),
    ("1b000000e8d4a51000", 1_000_000_000_000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("3bffffffffffffffff", -18446744073709551616),
    ("20", -1),
    ("29", -10),
    ("3863", -100),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("40", b""),
    ("4401020304", b"\x01\x02\x03\x04"),
    ("60", ""),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "\u00fc"),
    ("63e6b0b4", "\u6c34"),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("83010203", [1, 2, 3]),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    (
        "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
        cast("CBORValue", list(range(1, 26))),
    ),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
]

REFUSED = {
    "empty": "",
    "half float": "f93c00",
    "single float": "fa47c35000",
    "double float": "fb3ff199999999999a",
    "infinity": "f97c00",
    "undefined": "f7",
    "simple 16": "f0",
    "simple 255": "f8ff",
    "false in two bytes": "f814",
    "tag 0": "c0" + "60",
    "tag 1": "c11a514b67b0",
    "tag 2 bignum": "c249010000000000000000",
    "tag 24": "d818456449455446",
    "tag 55799": "d9d9f700",
    "break alone": "ff",
    "reserved 28": "1c",
    "reserved 30": "7e",
    "indefinite bytes": "5f42010243030405ff",
    "indefinite text": "7f657374726561646d696e67ff",
    "indefinite array": "9fff",
    "indefinite map": "bfff",
    "indefinite inside": "819fff",
    "non-minimal 0": "1800",
    "non-minimal 23": "1817",
    "non-minimal in two bytes": "1900ff",
    "non-minimal in four": "1a0000ffff",
    "non-minimal in eight": "1b00000000ffffffff",
    "non-minimal negative": "3817",
    "non-minimal length": "580100",
    "non-minimal count": "980100",
    "trailing": "0000",
    "head cut": "19ff",
    "bytes cut": "4401",
    "text cut": "64494554",
    "array cut": "8301",
    "array of nothing": "81",
    "map cut": "a101",
    "map without value": "a2010203",
    "length lie 2^64-1": "5bffffffffffffffff",
    "count lie 2^64-1": "9bffffffffffffffff",
    "pair lie 2^64-1": "bbffffffffffffffff",
    "text not utf-8": "61ff",
    "key not utf-8": "a161ff01",
    "key missing": "a1",
    "key cut": "a1636101",
    "text with surrogate": "63eda080",
    "text overlong": "62c080",
    "key twice": "a201000100",
    "text key twice": "a2616100616101",
    "key twice, once longer": "a2000018000f",
    "key bytes": "a1410000",
    "key true": "a1f500",
    "key null": "a1f600",
    "key array": "a18000",
    "key map": "a1a000",
    "key array with content": "a1810000",
}


@pytest.mark.parametrize(("text", "value"), APPENDIX_A, ids=[text for text, _ in APPENDIX_A])
def test_appendix_a_both_ways(text: str, value: CBORValue) -> None:
    data = bytes.fromhex(text)
    found = decode(data, max_bytes=len(data))
    assert found == value
    assert type(found) is type(value)
    assert encode(value) == data


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused_with_its_offset(text: str) -> None:
    data = bytes.fromhex(text)
    with pytest.raises(CBORError, match=r"byte \d+") as caught:
        decode(data, max_bytes=1024)
    assert isinstance(caught.value, MalformedError)
    assert caught.value.code is ErrorCode.ERR_MALFORMED


def test_size_is_checked_before_anything_else() -> None:
    assert decode(b"\x82\x01\x02", max_bytes=3) == [1, 2]
    with pytest.raises(TooLargeError, match="3 bytes, at most 2"):
        decode(b"\x82\x01\x02", max_bytes=2)


def test_true_and_one_stay_different() -> None:
    found = decode(b"\x82\xf5\x01", max_bytes=3)
    assert isinstance(found, list)
    assert [type(item) for item in found] == [bool, int]
    assert encode([True, 1, False, 0]) == b"\x84\xf5\x01\xf4\x00"


def test_depth_limit_holds_both_ways() -> None:
    most = limits.CBOR_MAX_DEPTH
    deep: CBORValue = 7
    for _ in range(most):
        deep = [deep]
    data = b"\x81" * most + b"\x07"
    assert encode(deep) == data
    assert decode(data, max_bytes=100) == deep
    with pytest.raises(CBORError, match=f"more than {most} levels at byte {most}"):
        decode(b"\x81" + data, max_bytes=100)
    with pytest.raises(CBORError, match=f"more than {most} levels"):
        encode([deep])


def test_deep_maps_count_as_well() -> None:
    most = limits.CBOR_MAX_DEPTH
    data = b"\xa1\x00" * (most - 1) + b"\xa0"
    assert isinstance(decode(data, max_bytes=100), dict)
    with pytest.raises(CBORError, match="levels"):
        decode(b"\xa1\x00" + data, max_bytes=100)


def test_a_bomb_of_nested_arrays_is_refused_at_once() -> None:
    with pytest.raises(CBORError, match="levels"):
        decode(b"\x81" * 100_000, max_bytes=100_000)


def test_only_the_root_map_may_be_indefinite_and_only_if_asked() -> None:
    data = bytes.fromhex("bf616101616202ff")
    assert decode(data, max_bytes=8, indefinite_root_map=True) == {"a": 1, "b": 2}
    assert decode(b"\xbf\xff", max_bytes=8, indefinite_root_map=True) == {}
    assert decode(b"\xa0", max_bytes=8, indefinite_root_map=True) == {}
    with pytest.raises(CBORError, match="byte 0 is 0xbf"):
        decode(data, max_bytes=8)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bf", "byte 1"),
        ("bf6161", "byte 3"),
        ("bf616101", "byte 4"),
        ("bf6161ff", "byte 3 is 0xff"),
        ("bf61610161610 2ff".replace(" ", ""), "stands twice"),
        ("bfff00", "1 bytes after"),
        ("bf6161bfffff", "byte 3 is 0xbf"),
        ("9fff", "byte 0 is 0x9f"),
    ],
)
def test_bad_indefinite_root_maps(text: str, reason: str) -> None:
    with pytest.raises(CBORError, match=reason):
        decode(bytes.fromhex(text), max_bytes=64, indefinite_root_map=True)


def test_keys_are_sorted_by_their_encoded_bytes() -> None:
    # RFC 8949, 4.2.1: the example order of its text, as far as the keys are spoken here.
    keys: dict[int | str, CBOREncodable] = {"aa": 6, -1: 3, "z": 5, 100: 2, 10: 1}
    assert encode(keys).hex() == "a5" + "0a01" + "186402" + "2003" + "617a05" + "62616106"


def test_tuples_are_arrays() -> None:
    assert encode((1, (2,))) == encode([1, [2]])


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        1 << 64,
        -(1 << 64) - 1,
        "\ud800",
        {"\ud800": 1},
        {True: 1},
        {b"a": 1},
        {None: 1},
        bytearray(b"x"),
        {1, 2},
        [complex(1, 2)],
    ],
    ids=repr,
)
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(CBORError):
        encode(cast("CBOREncodable", value))


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[CBOREncodable] = []
    loop.append(loop)
    with pytest.raises(CBORError, match="levels"):
        encode(loop)
