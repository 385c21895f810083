"""Whatever is sealed opens, and whatever was touched does not."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared import sealed
from latensgate_shared.chunks import ChunkReader, decode_varint, encode_varint, padme
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import CHUNK_MAX_BYTES

OPENING: Final = sealed.OpeningKey(sealed.SUITE_X25519, bytes(range(32)))
KEYS: Final = {
    key.key_id: key for key in (OPENING, sealed.OpeningKey(sealed.SUITE_XWING, bytes(range(32))))
}
BORDERS: Final = [n * CHUNK_MAX_BYTES + d for n in (1, 2) for d in (-1, 0, 1)]
lengths = st.one_of(st.integers(0, 300), st.sampled_from(BORDERS))
keys = st.sampled_from(list(KEYS.values()))
outers = st.binary(max_size=40)
secrets = st.builds(
    sealed.AnswerSecret, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32)
)
contents = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5)


def seal_answer(secret: sealed.AnswerSecret, texts: list[bytes], final: bytes) -> list[bytes]:
    sealer = sealed.AnswerSealer(secret)
    return [*map(sealer.content, texts), sealer.final(final)]


@given(keys, outers, lengths, st.binary(min_size=1, max_size=8))
@settings(max_examples=60)
def test_requests_open(key: sealed.OpeningKey, outer: bytes, length: int, pattern: bytes) -> None:
    plaintext = (pattern * (length // len(pattern) + 1))[:length]
    request = sealed.seal_request(key.sealing_key, outer, plaintext)
    opened = sealed.open_request(KEYS, outer, request.wire)
    assert (opened.plaintext, opened.key_id) == (plaintext, key.key_id)
    answer = b"".join(seal_answer(opened.answer_secret, [b"a"], b"f"))
    assert sealed.open_answer(request.answer_secret, answer).content == b"a"


@given(keys, outers, outers)
def test_another_outer_never_opens(key: sealed.OpeningKey, outer: bytes, other: bytes) -> None:
    wire = sealed.seal_request(key.sealing_key, outer, b"x").wire
    if outer != other:
        with pytest.raises(sealed.OpenFailedError):
            sealed.open_request(KEYS, other, wire)


@given(keys, st.data())
@settings(max_examples=150)
def test_edited_requests_never_open(key: sealed.OpeningKey, data: st.DataObject) -> None:
    wire = sealed.seal_request(key.sealing_key, b"", b"text").wire
    start = data.draw(st.integers(0, len(wire)))
    end = data.draw(st.integers(start, min(len(wire), start + 40)))
    edited = wire[:start] + data.draw(st.binary(max_size=40)) + wire[end:]
    if edited != wire:
        with pytest.raises(LatensgateError):
            sealed.open_request(KEYS, b"", edited)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_junk_raises_typed_errors_only(junk: bytes) -> None:
    header = OPENING.sealing_key.header
    for wire in (junk, header + junk, header + bytes(range(32)) + junk):
        with pytest.raises(LatensgateError):
            sealed.open_request(KEYS, b"", wire)
    with pytest.raises(LatensgateError) as caught:
        sealed.open_answer(sealed.AnswerSecret(bytes(32), b""), junk)
    assert caught.value.code in {ErrorCode.ERR_ANSWER_INVALID, ErrorCode.ERR_ANSWER_TRUNCATED}


@given(secrets, contents, st.binary(max_size=40), st.data())
@settings(max_examples=150)
def test_answers_open_however_they_arrive(
    secret: sealed.AnswerSecret, texts: list[bytes], final: bytes, data: st.DataObject
) -> None:
    rest = b"".join(seal_answer(secret, texts, final))
    opener = sealed.AnswerOpener(secret)
    opened: list[bytes] = []
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        opened += opener.feed(rest[:size])
        rest = rest[size:]
    assert (opened, opener.finish()) == (texts, final)


@given(secrets, contents, st.data())
@settings(max_examples=150)
def test_rearranged_answers_never_open(
    secret: sealed.AnswerSecret, texts: list[bytes], data: st.DataObject
) -> None:
    parts = seal_answer(secret, texts, b"final")
    parts += seal_answer(secret, texts, b"final")  # splices come from here
    chosen = data.draw(st.lists(st.sampled_from(parts), max_size=len(parts)))
    half = len(parts) // 2
    if chosen not in (parts[:half], parts[half:]):
        with pytest.raises(LatensgateError) as caught:
            sealed.open_answer(secret, b"".join(chosen))
        assert caught.value.code in {ErrorCode.ERR_ANSWER_INVALID, ErrorCode.ERR_ANSWER_TRUNCATED}


@given(secrets, secrets)
def test_another_secret_never_opens(one: sealed.AnswerSecret, two: sealed.AnswerSecret) -> None:
    wire = b"".join(seal_answer(one, [b"x"], b""))
    if _parts(one) != _parts(two):
        with pytest.raises(sealed.AnswerInvalidError):
            sealed.open_answer(two, wire)


def _parts(secret: sealed.AnswerSecret) -> tuple[bytes, bytes]:
    return secret._secret, secret._enc  # pyright: ignore[reportPrivateUsage] # only to tell them apart


@given(st.integers(0, 2**62 - 1), st.binary(max_size=3))
def test_varints_have_one_form(value: int, rest: bytes) -> None:
    data = encode_varint(value)
    assert decode_varint(data + rest) == (value, len(data))


@given(st.binary(max_size=9))
def test_what_decodes_is_what_would_be_encoded(data: bytes) -> None:
    try:
        decoded = decode_varint(data)
    except LatensgateError:
        return
    if decoded is not None:
        value, size = decoded
        assert encode_varint(value) == data[:size]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_a_reader_does_not_see_how_bytes_arrive(pieces: list[bytes]) -> None:
    def read(arrivals: list[bytes]) -> object:
        reader = ChunkReader()
        try:
            chunks = [chunk for data in arrivals for chunk in reader.feed(data)]
            return chunks, reader.finish()
        except LatensgateError as error:
            return error.code

    assert read(pieces) == read([b"".join(pieces)])


@given(st.integers(0, 2**40))
def test_padme_is_small_and_settles(length: int) -> None:
    padded = padme(length)
    assert length <= padded
    assert (padded - length) * 100 <= 12 * max(length, 1)
    assert padme(padded) == padded
