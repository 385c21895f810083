from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, cast

import pytest

from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import JSON_MAX_DEPTH, JSON_MAX_SAFE_INTEGER
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONValue


class Number(enum.IntEnum):
    ONE = 1


def nested(levels: int) -> JSONValue:
    value: JSONValue = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


FORMS: list[tuple[JSONValue, str]] = [
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (JSON_MAX_SAFE_INTEGER, "9007199254740991"),
    (-JSON_MAX_SAFE_INTEGER, "-9007199254740991"),
    (0.0, "0"),
    (-0.0, "0"),
    (1.0, "1"),
    (-1.5, "-1.5"),
    (1e20, "100000000000000000000"),
    (1e21, "1e+21"),
    (1.5e21, "1.5e+21"),
    (123456789012345680000.0, "123456789012345680000"),
    (1e-6, "0.000001"),
    (1e-7, "1e-7"),
    (1.25e-7, "1.25e-7"),
    (123e-7, "0.0000123"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (9007199254740993.0, "9007199254740992"),
    ('/\x7f\u2028"\\\b\f\n\r\t\x00\x1f', '"/\x7f\u2028\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f"'),
    ([], "[]"),
    ({}, "{}"),
    ({"b": [1, {}], "a": {"": None}}, '{"a":{"":null},"b":[1,{}]}'),
    # by UTF-16 code units a surrogate pair sorts before U+E000, by code points after it
    ({"\ue000": 1, "\U0001f600": 2, "a": 3}, '{"a":3,"\U0001f600":2,"\ue000":1}'),
]


@pytest.mark.parametrize(("value", "text"), FORMS)
def test_canonical_form(value: JSONValue, text: str) -> None:
    assert canonicalize(value) == text.encode()


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        JSON_MAX_SAFE_INTEGER + 1,
        -JSON_MAX_SAFE_INTEGER - 1,
        pytest.param(10**5000, id="five thousand digits"),
        "\ud800",
        ["a\udfff"],
        {"\ud800": 1},
        dict.fromkeys(("\ud800", "\udc00")),
        {1: 2},
        {None: 2},
        {"a": 1, 2: 3},
        (1, 2),
        b"a",
        {1},
        object(),
        Number.ONE,
        [Number.ONE],
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(JSONError, match="JCS"):
        canonicalize(cast("JSONValue", value))


def test_depth_is_bounded_as_in_the_parser() -> None:
    assert json.loads(canonicalize(nested(JSON_MAX_DEPTH))) == nested(JSON_MAX_DEPTH)
    for levels in (JSON_MAX_DEPTH + 1, 100_000):
        with pytest.raises(JSONError, match="64 levels"):
            canonicalize(nested(levels))


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[JSONValue] = []
    value.append(value)
    with pytest.raises(JSONError, match="64 levels"):
        canonicalize(value)


def test_error_texts_hold_no_content() -> None:
    with pytest.raises(JSONError) as caught:
        canonicalize(["secret", "secret\ud800"])
    assert "secret" not in str(caught.value)
