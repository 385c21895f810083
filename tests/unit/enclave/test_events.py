from __future__ import annotations

import io

import pytest

from latensgate_enclave.events import Event, EventLog


def test_an_event_is_a_name_and_numbers() -> None:
    stream = io.StringIO()
    EventLog(stream).emit(Event.CALL_REFUSED, open_us=12, findings=0)
    assert stream.getvalue() == "event=CALL_REFUSED open_us=12 findings=0\n"


@pytest.mark.parametrize("value", ["text", b"bytes", 1.5, True, None])
def test_nothing_but_integers_reaches_the_log(value: object) -> None:
    stream = io.StringIO()
    with pytest.raises(TypeError, match="integers only"):
        EventLog(stream).emit(Event.INTERNAL, leak=value)  # type: ignore[arg-type]  # the point
    assert stream.getvalue() == ""


def test_event_numbers_are_unique() -> None:
    assert len({event.value for event in Event}) == len(list(Event))
