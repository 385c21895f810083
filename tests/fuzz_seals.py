"""Fuzz targets for sealed requests and answers, and the framing below them, under fixed keys."""

from __future__ import annotations

from fuzz_forms import Script
from latensgate_shared.chunks import ChunkReader
from latensgate_shared.errors import LatensgateError
from latensgate_shared.sealed import (
    SUITE_X25519,
    SUITE_XWING,
    AnswerInvalidError,
    AnswerOpener,
    AnswerSealer,
    AnswerSecret,
    AnswerTruncatedError,
    OpeningKey,
    open_answer,
    open_request,
    seal_request,
)

OPENING_KEY = OpeningKey(SUITE_X25519, bytes(range(32)))
XWING_KEY = OpeningKey(SUITE_XWING, bytes(range(32)))
KEYS = {key.key_id: key for key in (OPENING_KEY, XWING_KEY)}
OUTER = b"{}"
STEPS_MAX_COUNT = 64
LENGTHS = (0, 1, 40, 65_535, 65_536, 65_537, 131_072)


def fuzz_envelope(data: bytes) -> None:
    """Raw bytes at every opener, and sealed ones that were changed on their way."""
    parsers = (
        _open_request,
        _open_headed_request,
        _open_changed_request,
        _open_answer,
        _open_built_answer,
        _read_chunks,
    )
    for parse in parsers:
        try:
            parse(data)
        except LatensgateError:
            continue


def _open_request(data: bytes) -> None:
    open_request(KEYS, OUTER, data)


def _open_headed_request(data: bytes) -> None:
    open_request(KEYS, OUTER, OPENING_KEY.sealing_key.header + data)


def _open_changed_request(data: bytes) -> None:
    """Seal, change one place as the bytes say, open: unchanged is opened, changed is refused."""
    script = Script(data)
    flags = script.byte()
    key = XWING_KEY if flags & 1 else OPENING_KEY
    plaintext = bytes(LENGTHS[script.byte() % len(LENGTHS)])
    wire = seal_request(key.sealing_key, OUTER, plaintext).wire
    at = script.number() % (len(wire) + 1)
    changed = wire[:at] + script.take(script.byte() % 8) + wire[at + script.byte() % 8 :]
    outer = b"[]" if flags & 2 else OUTER
    opened = open_request(KEYS, outer, changed)
    if (changed, outer) != (wire, OUTER) or opened.plaintext != plaintext:
        raise AssertionError("a changed request opened")


def _open_answer(data: bytes) -> None:
    open_answer(AnswerSecret(bytes(32), bytes(32)), data)


def _open_built_answer(data: bytes) -> None:
    """Seal what the bytes say in chunks of their making, cut the answer off, open it by pieces."""
    if len(data) < 3:
        return
    secret = AnswerSecret(bytes(32), bytes(32))
    sealer, opener = AnswerSealer(secret), AnswerOpener(secret)
    size, keep, step = data[0] % 32, data[1], 1 + data[2]
    contents = [data[start : start + size] for start in range(3, len(data), size or len(data))]
    wire = b"".join(sealer.content(piece) for piece in contents) + sealer.final(data[:2])
    wire = wire[: len(wire) - keep % 64]
    for start in range(0, len(wire), step):
        opener.feed(wire[start : start + step])
    if opener.finish() != data[:2] or opener.response_hash != sealer.response_hash:
        raise AssertionError("an answer opened to something else")


def _read_chunks(data: bytes) -> None:
    reader = ChunkReader(3)
    for start in range(0, len(data), 7):
        reader.feed(data[start : start + 7])
    reader.finish()


def envelope_seeds() -> tuple[bytes, ...]:
    wire = seal_request(OPENING_KEY.sealing_key, OUTER, b"prompt").wire
    unchanged = [bytes((suite, length)) for suite in (0, 1) for length in range(len(LENGTHS))]
    cut = bytes((0, 1, 0, 60, 0, 7))
    chunks = b"\x11" + bytes(17) + b"\x40\x40" + bytes(64) + b"\x00" + bytes(16)
    return (
        wire,
        wire[:1] + bytes(14) + wire[15:],
        bytes((3, 64, 5)) + bytes(32),
        cut,
        chunks,
        *unchanged,
    )


def fuzz_answer(data: bytes) -> None:
    """A sealer and an opener by a script, in any order of calls.

    Undamaged, what the opener returns is what went in, and the answer is whole only at its end.
    """
    script = Script(data)
    talk = _AnswerTalk(script)
    for _ in range(STEPS_MAX_COUNT):
        if not script.left:
            break
        try:
            talk.step(script)
        except (AnswerInvalidError, AnswerTruncatedError) as error:
            if talk.clean and not talk.cut:
                raise AssertionError("an answer of ours was refused") from error
            talk.clean = False
        except LatensgateError:
            continue


class _AnswerTalk:
    """One answer on its way."""

    def __init__(self, script: Script) -> None:
        secret = AnswerSecret(bytes(32), bytes(32))
        flags = script.byte()
        if flags & 1:
            secret = secret.with_data_key(bytes(32))
        self.sealer, self.opener = AnswerSealer(secret), AnswerOpener(secret)
        self.under_way = bytearray()
        self.sealed, self.opened = bytearray(), bytearray()
        self.clean, self.cut, self.ended = True, False, False

    def step(self, script: Script) -> None:
        """Seal, feed, damage or finish."""
        match script.byte() % 10:
            case 0 | 1:
                self._content(script.sized())
            case 2:
                self._content(bytes(LENGTHS[script.byte() % len(LENGTHS)]), whole=True)
            case 3:
                self.under_way += self.sealer.final(script.sized())
                self.ended = True
            case 4 | 5:
                self._feed(len(self.under_way))
            case 6:
                self._feed(script.byte())
            case 7:
                self._damage(script)
            case 8:
                self._finish()
            case _:
                AnswerSecret(bytes(32), bytes(32)).with_data_key(bytes(script.byte()))

    def _content(self, plaintext: bytes, *, whole: bool = False) -> None:
        seal = self.sealer.whole_content if whole else self.sealer.content
        self.under_way += seal(plaintext)
        self.sealed += plaintext

    def _feed(self, count: int) -> None:
        piece = bytes(self.under_way[:count])
        del self.under_way[:count]
        for content in self.opener.feed(piece):
            self.opened += content
        if self.clean and not self.sealed.startswith(self.opened):
            raise AssertionError("content came out that did not go in")

    def _finish(self) -> None:
        self.cut = self.cut or not self.ended or bool(self.under_way)
        self.opener.finish()
        same = self.opened == self.sealed
        if not self.clean or self.cut or not same:
            raise AssertionError("an answer that is not whole was taken for whole")
        if self.opener.response_hash != self.sealer.response_hash:
            raise AssertionError("the two ends hash different answers")

    def _damage(self, script: Script) -> None:
        if self.under_way:
            self.clean = False
            at = script.number() % len(self.under_way)
            self.under_way[at] ^= 1 + script.byte() % 255


def answer_seeds() -> tuple[bytes, ...]:
    """Whole, by pieces, cut, damaged, in the wrong order."""
    content, final, feed, finish = b"\x00\x03abc", b"\x03\x02ok", b"\x04", b"\x08"
    whole = b"\x00" + content + content + final + feed + finish
    return (
        whole,
        whole + finish + content,
        b"\x01" + content + b"\x06\x14" * 6 + final + feed + finish,
        b"\x00" + content + feed + finish,
        b"\x00" + final + content + b"\x00\x00" + final + final,
        b"\x00" + content + b"\x07\x00\x21\x00" + final + feed + feed,
        b"\x00\x02\x05" + feed + b"\x02\x00" + final + feed + finish,
        b"\x00\x09\x20\x09\x21" + finish,
    )
