"""What an application reads of a refusal inside the seal: the message names the field."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latensgate.exchange_failure import inside_failure
from latensgate_shared.error_answers import WireError
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import NAME_MAX_CHARS

if TYPE_CHECKING:
    from latensgate.receipts import AnswerReceipt

MESSAGE = "request: a value is not supported"


def message_of(param: str | None, message: str = MESSAGE) -> str:
    error = WireError(ErrorCode.ERR_UNSUPPORTED, message, param)
    failure = inside_failure(error, cast("AnswerReceipt", None), None, None)
    assert failure.param == param
    return failure.message


@pytest.mark.parametrize(
    "param", ["foo", "n", "messages[0].content[12].image_url.url", "tools[0].function.name"]
)
def test_the_message_names_the_field(param: str) -> None:
    assert message_of(param) == f"{MESSAGE} ({param})"


def test_a_message_that_names_it_or_is_of_none_stays_as_it_is() -> None:
    assert message_of("temperature", "this model does not take this temperature").endswith(
        "this temperature"
    )
    assert message_of(None) == MESSAGE


@pytest.mark.parametrize("param", ["536-90-4399", "ann@example.com", "a b", "a\n", "a[x]"])
def test_a_name_that_the_caller_made_up_stays_in_its_member(param: str) -> None:
    assert message_of(param) == MESSAGE


@given(st.text(min_size=1, max_size=NAME_MAX_CHARS))
def test_whatever_is_named_no_terminal_is_steered(param: str) -> None:
    shown = message_of(param)
    assert shown.isprintable()
    assert shown.isascii()
    assert shown in {MESSAGE, f"{MESSAGE} ({param})"}
