from __future__ import annotations

import hmac
import pickle
import time
from hashlib import sha384
from typing import Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from latensgate_shared import sealed, sealed_answer
from latensgate_shared.chunks import FINAL_MARK, encode_varint
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError, TooLargeError
from latensgate_shared.limits import CHUNK_MAX_BYTES

SECRET: Final = sealed.AnswerSecret(b"\x07" * 32, b"\x09" * 32)
NONCE_BYTES: Final = 32


def answer(*contents: bytes, final: bytes = b"receipt") -> list[bytes]:
    """Return response nonce and first chunk, further chunks, final chunk."""
    sealer = sealed.AnswerSealer(SECRET)
    return [*map(sealer.content, contents), sealer.final(final)]


def refuse(wire: bytes, secret: sealed.AnswerSecret = SECRET) -> ErrorCode:
    with pytest.raises(LatensgateError) as caught:
        sealed.open_answer(secret, wire)
    return caught.value.code


def test_layout_by_other_code() -> None:
    """Opens an answer with the specification and the library alone."""
    wire = b"".join(answer(b"one", b"two"))
    nonce, rest = wire[:NONCE_BYTES], wire[NONCE_BYTES:]
    prk = HKDF.extract(SHA256(), b"\x09" * 32 + nonce, b"\x07" * 32)
    aead = AESGCM(HKDFExpand(SHA256(), 32, b"key").derive(prk))
    base = int.from_bytes(HKDFExpand(SHA256(), 12, b"nonce").derive(prk), "big")
    nonces = [(base ^ i).to_bytes(12, "big") for i in range(3)]
    assert rest[0] == rest[20] == 19
    assert aead.decrypt(nonces[0], rest[1:20], b"") == b"one"
    assert aead.decrypt(nonces[1], rest[21:40], b"") == b"two"
    assert rest[40] == 0
    assert aead.decrypt(nonces[2], rest[41:], b"final") == b"receipt"


def test_data_key_by_other_code() -> None:
    data_key = b"\x0b" * 32
    info = b"latensgate/1 response with data key"
    expected = HKDF(SHA256(), 32, b"", info).derive(b"\x07" * 32 + data_key)
    joined = SECRET.with_data_key(data_key)
    wire = sealed.AnswerSealer(joined).content(b"x")
    again = sealed.AnswerOpener(sealed.AnswerSecret(expected, b"\x09" * 32))
    assert again.feed(wire) == [b"x"]
    assert sealed.AnswerOpener(joined).feed(wire) == [b"x"]
    for other in (SECRET, SECRET.with_data_key(b"\x0c" * 32)):
        with pytest.raises(sealed.AnswerInvalidError):
            sealed.AnswerOpener(other).feed(wire)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_data_key_has_32_bytes(length: int) -> None:
    with pytest.raises(MalformedError, match="data key"):
        SECRET.with_data_key(bytes(length))


@pytest.mark.parametrize(
    "length",
    [1, 2_048, CHUNK_MAX_BYTES - 1, CHUNK_MAX_BYTES, CHUNK_MAX_BYTES + 1, 200_000],
)
def test_unary_sizes(length: int) -> None:
    content = bytes(i % 251 for i in range(length))
    sealer = sealed.AnswerSealer(SECRET)
    framed = sealer.whole_content(content)
    told = sealer.response_hash
    opened = sealed.open_answer(SECRET, framed + sealer.final(b""))
    assert (opened.content, opened.final) == (content, b"")
    assert told == opened.response_hash == "sha384:" + sha384(framed).hexdigest()


def test_answers_of_one_secret_differ() -> None:
    assert answer(b"same")[0] != answer(b"same")[0]


def test_every_changed_bit_is_refused() -> None:
    wire = b"".join(answer(b"one", b"two"))
    for bit in range(8 * len(wire)):
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << bit % 8
        code = refuse(bytes(changed))
        assert code in {ErrorCode.ERR_ANSWER_INVALID, ErrorCode.ERR_ANSWER_TRUNCATED}
        if not NONCE_BYTES <= bit // 8 < NONCE_BYTES + 41:
            assert code is ErrorCode.ERR_ANSWER_INVALID


def test_every_truncation_is_refused() -> None:
    parts = answer(b"one", b"two")
    wire = b"".join(parts)
    told_by_framing = len(wire) - len(parts[-1]) + 17
    for end in range(len(wire)):
        code = refuse(wire[:end])
        if end < told_by_framing:
            assert code is ErrorCode.ERR_ANSWER_TRUNCATED
        else:
            assert code is ErrorCode.ERR_ANSWER_INVALID
    assert refuse(wire + b"\x00") is ErrorCode.ERR_ANSWER_INVALID


def test_chunks_have_one_order() -> None:
    first, two, six, final = answer(b"one", b"two", b"six")
    nonce, one = first[:NONCE_BYTES], first[NONCE_BYTES:]
    for order in (
        [two, one, six],
        [one, six, two],
        [one, two],
        [two, six],
        [one, two, two, six],
        [one, one, two, six],
        [],
    ):
        wire = nonce + b"".join(order) + final
        assert refuse(wire) is ErrorCode.ERR_ANSWER_INVALID


def test_chunks_of_another_answer_do_not_fit() -> None:
    first, two, final = answer(b"one", b"two")
    other_first, other_two, other_final = answer(b"one", b"two")
    for wire in (
        first + other_two + final,
        first + two + other_final,
        other_first[:NONCE_BYTES] + first[NONCE_BYTES:] + two + final,
    ):
        assert refuse(wire) is ErrorCode.ERR_ANSWER_INVALID


def test_a_chunk_cannot_change_its_kind() -> None:
    first, two, final = answer(b"one", b"two")
    assert refuse(first + FINAL_MARK + two[1:]) is ErrorCode.ERR_ANSWER_INVALID
    as_content = encode_varint(len(final) - 1) + final[1:]
    wire = first + two + as_content + FINAL_MARK + bytes(16)
    assert refuse(wire) is ErrorCode.ERR_ANSWER_INVALID


def test_an_answer_to_another_request_is_refused() -> None:
    key = sealed.OpeningKey(sealed.SUITE_X25519, bytes(range(32)))
    one, two = (sealed.seal_request(key.sealing_key, b"o", b"same") for _ in range(2))
    opened = sealed.open_request({key.key_id: key}, b"o", one.wire)
    sealer = sealed.AnswerSealer(opened.answer_secret)
    wire = sealer.content(b"answer") + sealer.final(b"receipt")
    assert sealed.open_answer(one.answer_secret, wire).content == b"answer"
    assert refuse(wire, two.answer_secret) is ErrorCode.ERR_ANSWER_INVALID


def test_enc_is_in_the_answer_key() -> None:
    wire = b"".join(answer(b"one"))
    assert refuse(wire, sealed.AnswerSecret(b"\x07" * 32, b"\x08" * 32)) is (
        ErrorCode.ERR_ANSWER_INVALID
    )


def test_an_answer_without_content_is_refused() -> None:
    sealer = sealed.AnswerSealer(SECRET)
    nonce = sealer._head  # pyright: ignore[reportPrivateUsage] # an honest sealer cannot make this
    sealer._head = b""  # pyright: ignore[reportPrivateUsage] # the same
    wire = nonce + sealer.final(b"receipt")
    assert refuse(wire) is ErrorCode.ERR_ANSWER_INVALID


@pytest.mark.parametrize("bad", [b"\x10" + bytes(16), b"\x40\x13" + bytes(19), b"\x80\x01\x00\x11"])
def test_bad_framing_is_an_invalid_answer(bad: bytes) -> None:
    first, _ = answer(b"one")
    assert refuse(first + bad) is ErrorCode.ERR_ANSWER_INVALID


# --- the opener, piece by piece ---


def test_fed_at_every_split() -> None:
    contents = [b"one", b"two", b"three"]
    wire = b"".join(answer(*contents))
    for split in range(len(wire) + 1):
        opener = sealed.AnswerOpener(SECRET)
        opened = opener.feed(wire[:split]) + opener.feed(wire[split:])
        assert opened == contents
        assert opener.finish() == b"receipt"


def test_fed_byte_by_byte() -> None:
    wire = b"".join(answer(b"one", b"two"))
    opener = sealed.AnswerOpener(SECRET)
    opened = [text for i in range(len(wire)) for text in opener.feed(wire[i : i + 1])]
    assert opened == [b"one", b"two"]
    assert opener.feed(b"") == []
    assert opener.finish() == b"receipt"


def test_content_comes_as_soon_as_it_is_whole() -> None:
    first, two, final = answer(b"one", b"two")
    opener = sealed.AnswerOpener(SECRET)
    assert opener.feed(first) == [b"one"]
    assert opener.feed(two[:-1]) == []
    assert opener.feed(two[-1:] + final) == [b"two"]
    assert opener.response_hash == "sha384:" + sha384(first + two).hexdigest()
    assert opener.finish() == b"receipt"


def test_an_opener_that_failed_gives_nothing_more() -> None:
    first, two, _ = answer(b"one", b"two")
    opener = sealed.AnswerOpener(SECRET)
    opener.feed(first)
    with pytest.raises(sealed.AnswerInvalidError):
        opener.feed(bytes([19]) + bytes(19))
    for call in (lambda: opener.feed(two), opener.finish):
        with pytest.raises(sealed.AnswerStateError):
            call()


def test_an_opener_that_finished_takes_nothing_more() -> None:
    for cut_at in (None, -20, 10):
        opener = sealed.AnswerOpener(SECRET)
        opener.feed(b"".join(answer(b"one"))[:cut_at])
        if cut_at is None:
            opener.finish()
        else:
            with pytest.raises(sealed.AnswerTruncatedError):
                opener.finish()
        with pytest.raises(sealed.AnswerStateError):
            opener.feed(b"")
        with pytest.raises(sealed.AnswerStateError):
            opener.finish()


# --- the sealer's order ---


def test_the_sealer_keeps_its_order() -> None:
    sealer = sealed.AnswerSealer(SECRET)
    with pytest.raises(sealed.AnswerStateError):
        sealer.final(b"")
    sealer.content(b"x")
    sealer.final(b"")
    for call in (sealer.final, sealer.content, sealer.whole_content):
        with pytest.raises(sealed.AnswerStateError):
            call(b"x")


def test_the_sealer_refuses_sizes_and_goes_on() -> None:
    sealer = sealed.AnswerSealer(SECRET)
    with pytest.raises(MalformedError):
        sealer.content(b"")
    with pytest.raises(MalformedError):
        sealer.whole_content(b"")
    with pytest.raises(TooLargeError):
        sealer.content(bytes(CHUNK_MAX_BYTES + 1))
    framed = sealer.content(b"x")
    with pytest.raises(TooLargeError):
        sealer.final(bytes(CHUNK_MAX_BYTES + 1))
    opened = sealed.open_answer(SECRET, framed + sealer.final(bytes(CHUNK_MAX_BYTES)))
    assert opened.content == b"x"
    assert hmac.compare_digest(opened.final, bytes(CHUNK_MAX_BYTES))


def test_nothing_secret_is_printed_or_pickled() -> None:
    sealer, opener = sealed.AnswerSealer(SECRET), sealed.AnswerOpener(SECRET)
    opened = sealed.open_answer(SECRET, b"".join(answer(b"planted")))
    for thing in (SECRET, sealer, opener, opened):
        assert repr(thing) == f"<{type(thing).__name__}>"
        with pytest.raises(TypeError, match="never written out"):
            pickle.dumps(thing)


def test_content_chunks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_answer, "SEALED_ANSWER_CHUNKS_MAX_COUNT", 3)
    assert sealed.open_answer(SECRET, b"".join(answer(b"1", b"2", b"3"))).content == b"123"
    assert refuse(b"".join(answer(b"1", b"2", b"3", b"4"))) is ErrorCode.ERR_ANSWER_INVALID


def test_nothing_is_cut_behind_a_forged_chunk() -> None:
    """A parent that appends 15 MiB of shortest chunks costs the client one failed opening."""
    (first, _) = answer(b"genuine")
    forged = (b"\x11" + bytes(17)) * 800_000
    opener = sealed.AnswerOpener(SECRET)
    begun_s = time.process_time()
    with pytest.raises(sealed.AnswerInvalidError):
        opener.feed(first + forged)
    assert time.process_time() - begun_s < 0.2
