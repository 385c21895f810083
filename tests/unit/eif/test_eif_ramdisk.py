from __future__ import annotations

import stat

import pytest

from eif_examples import FIRST
from latensgate_eif import limits
from latensgate_eif.image import ImageError
from latensgate_eif.manifest import changed_lines, manifest_lines, manifest_text
from latensgate_eif.ramdisk import Entry, encode_ramdisk, file_entry, folder_entry
from latensgate_eif.ramdisk_reader import decode_ramdisk
from latensgate_shared.errors import MalformedError

GOOD = encode_ramdisk(FIRST)
MODE_AT, USER_AT, TIME_AT, SIZE_AT, NAME_SIZE_AT = 14, 22, 46, 54, 94


def test_round_trip_with_the_folders_above() -> None:
    assert decode_ramdisk(GOOD) == {**FIRST, "dev": folder_entry()}


def test_order_of_entries_does_not_matter() -> None:
    assert encode_ramdisk(dict(reversed(FIRST.items()))) == GOOD


@pytest.mark.parametrize("path", ["", "/etc", "a//b", "a/./b", "a/../b", "a/"])
def test_paths_of_another_form(path: str) -> None:
    with pytest.raises(ImageError):
        encode_ramdisk({path: file_entry(b"")})


def edited(at: int, digits: bytes) -> bytes:
    return GOOD[:at] + digits + GOOD[at + len(digits) :]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "13 hex numbers expected at 0"),
        (GOOD[:100], "13 hex numbers"),
        (edited(0, b"070702"), "070701"),
        (edited(NAME_SIZE_AT, b"00000000"), "beyond"),
        (edited(NAME_SIZE_AT, b"FFFFFFFF"), "beyond"),
        (edited(SIZE_AT, b"FFFFFFFF"), "beyond"),
        (edited(USER_AT, b"00000001"), "owner 0"),
        (edited(TIME_AT, b"00000001"), "time 0"),
        (edited(MODE_AT, b"0000C1FF"), "character device"),  # a socket
        (edited(MODE_AT, b"FFFF41ED"), "character device"),
        (edited(110, b"\xff\xff\xff\0"), "UTF-8"),
        (edited(110, b"../\0"), "shortest form"),
        (edited(110, b"d\x1bv\0"), "shortest form"),
        (edited(110, b"dev!"), "shortest form"),
        (GOOD[:-512], "13 hex numbers|beyond"),
        (GOOD + b"more", "behind the trailer"),
    ],
)
def test_hostile_archives_are_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        decode_ramdisk(raw)


def test_a_path_that_stands_twice() -> None:
    one = encode_ramdisk({"same": file_entry(b"1")})
    body = one[: one.index(b"070701", 6)]
    with pytest.raises(ImageError, match="twice"):
        decode_ramdisk(body + one)


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RAMDISK_ENTRIES_MAX_COUNT", 2)
    with pytest.raises(ImageError, match="more than 2"):
        decode_ramdisk(GOOD)


def test_file_that_the_form_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RAMDISK_FILE_MAX_BYTES", 3)
    with pytest.raises(ImageError, match="at most 3"):
        encode_ramdisk({"a": file_entry(b"1234")})


def test_nobody_may_write_to_a_file_of_an_image() -> None:
    for entry in decode_ramdisk(GOOD).values():
        if stat.S_ISREG(entry.mode):
            assert not entry.mode & 0o222


def test_manifest() -> None:
    lines = manifest_lines(decode_ramdisk(GOOD))
    assert lines[0] == "040755 0 - dev"
    assert lines[1] == "020600 0 5:1 dev/console"
    assert lines[2].startswith("100555 9 ")
    assert [line.split()[-1] for line in lines] == ["dev", "dev/console", "init", "lib64", "proc"]
    text = manifest_text("two\nlines", [FIRST, {}])
    assert text.startswith("# two\n# lines\n\n# ramdisk 0\n")


def test_changes_between_manifests() -> None:
    old = {"same": file_entry(b"1"), "gone": file_entry(b"2"), "mode": file_entry(b"3")}
    new = {"same": old["same"], "here": file_entry(b"4"), "mode": Entry(0o100555, b"3")}
    changes = {path: (a is None, b is None) for path, a, b in changed_lines(old, new)}
    assert changes == {"gone": (False, True), "here": (True, False), "mode": (False, False)}
