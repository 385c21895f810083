"""Attacks on what responses and embeddings brought: events in pieces, texts of other places."""

from __future__ import annotations

import json
from typing import Any

import pytest

from latensgate_enclave.chat_values import UnsupportedError
from latensgate_enclave.operations import SERVED
from latensgate_shared.answer_records import encode_content_record
from latensgate_shared.sealed import AnswerInvalidError
from latensgate_shared.stream_records import StreamRecords

SECRET = "jane.roe@example.com"  # noqa: S105 -- personal data, as the scan looks for it
BEGUN = b'{"code":null,"more":true,"body":"{\\"type\\":","pad":""}'


def test_an_event_without_its_end_is_no_event() -> None:
    """Defence: a stream that ends within an event is refused."""
    reader = StreamRecords()
    assert reader.read(BEGUN) is None
    with pytest.raises(AnswerInvalidError):
        reader.finish()


def test_nothing_slips_between_the_pieces_of_an_event() -> None:
    """Defence: between pieces there is nothing but an error."""
    reader = StreamRecords()
    assert reader.read(BEGUN) is None
    with pytest.raises(AnswerInvalidError):
        reader.read(encode_content_record(b'{"type":"forged"}', pad=True))


BODIES: dict[str, list[dict[str, Any]]] = {
    "embeddings": [{"input": SECRET}, {"input": ["a", SECRET]}],
    "responses": [
        {"input": SECRET},
        {"input": "a", "instructions": SECRET},
        {"input": [{"role": "developer", "content": SECRET}, {"role": "user", "content": "a"}]},
        {"input": "a", "tools": [{"type": "function", "name": "f", "description": SECRET}]},
        {
            "input": "a",
            "text": {
                "format": {"type": "json_schema", "name": "n", "schema": {"description": SECRET}}
            },
        },
    ],
}


@pytest.mark.parametrize(
    ("operation", "body"), [(name, body) for name, bodies in BODIES.items() for body in bodies]
)
def test_no_text_goes_around_the_scan(operation: str, body: dict[str, Any]) -> None:
    """Defence: what is forwarded is what the scan was shown."""
    request = SERVED[operation].parse({"model": "m", **body})
    assert any(SECRET in part.text for part in request.parts()), json.dumps(body)


@pytest.mark.parametrize("ids", [[1, 2], [[1], [2]], ["a", 1]])
def test_token_ids_hide_nothing(ids: object) -> None:
    """Defence: what nobody here can read is not forwarded."""
    body: Any = {"model": "m", "input": ids}
    with pytest.raises(UnsupportedError):
        SERVED["embeddings"].parse(body)
