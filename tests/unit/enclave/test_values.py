"""What one step hands to the next cannot be changed, and tells nobody what it holds."""

from __future__ import annotations

import pytest
from msgspec import Struct

from latensgate_enclave.chat_values import Message
from latensgate_enclave.values import Value
from latensgate_enclave.wire_types import wire_types


def test_a_value_prints_its_name_alone() -> None:
    held = Message("user", ("what was written",))
    assert repr(held) == "<Message>"
    assert f"{(held,)}" == "(<Message>,)"


def test_a_value_cannot_be_changed() -> None:
    held = Message("user", ("what was written",))
    with pytest.raises(AttributeError, match="immutable type: 'Message'"):
        held.role = "system"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_values_of_two_kinds_are_never_equal() -> None:
    class One(Value, frozen=True):
        text: str

    class Other(Value, frozen=True):
        text: str

    alike: list[Value] = [One("a"), One("a"), Other("a")]
    assert alike.count(One("a")) == 2
    assert hash(One("a")) == hash(One("a"))


def test_a_value_is_no_wire_type() -> None:
    assert not {Value, Message} & set(wire_types(Struct))
