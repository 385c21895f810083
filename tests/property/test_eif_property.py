from __future__ import annotations

import stat

from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_eif.image import (
    Architecture,
    Image,
    Section,
    SectionType,
    encode_image,
    parse_image,
)
from latensgate_eif.measure import measure_image, register
from latensgate_eif.ramdisk import (
    Entry,
    device_entry,
    encode_ramdisk,
    file_entry,
    folder_entry,
    link_entry,
)
from latensgate_eif.ramdisk_reader import decode_ramdisk

DATA = st.binary(max_size=64)
NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True).filter(lambda n: n != "TRAILER!!!")
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.binary(max_size=64).map(file_entry)
LINKS = st.text("abc/.", min_size=1, max_size=9).map(link_entry)
DEVICES = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda pair: device_entry(*pair))
ENTRIES = st.one_of(FILES, LINKS, DEVICES, st.just(folder_entry()))


@st.composite
def images(draw: st.DrawFn) -> Image:
    sections = [
        Section(SectionType.KERNEL, draw(DATA)),
        Section(SectionType.COMMAND_LINE, draw(DATA)),
    ]
    rest = [Section(SectionType.RAMDISK, data) for data in draw(st.lists(DATA, min_size=1))[:8]]
    if draw(st.booleans()):
        where = draw(st.integers(0, len(rest)))
        rest.insert(where, Section(SectionType.METADATA, draw(DATA)))
    if draw(st.booleans()):
        rest.append(Section(SectionType.SIGNATURE, draw(DATA)))
    number = st.integers(0, 2**64 - 1)
    architecture = draw(st.sampled_from(Architecture))
    return Image(architecture, draw(number), draw(number), (*sections, *rest))


@given(images())
@settings(max_examples=60)
def test_images_survive_a_round_trip(image: Image) -> None:
    raw = encode_image(image)
    assert parse_image(raw) == image
    assert encode_image(parse_image(raw)) == raw


@given(st.dictionaries(PATHS, ENTRIES, max_size=6))
@settings(max_examples=60)
def test_ramdisks_survive_a_round_trip(entries: dict[str, Entry]) -> None:
    found = decode_ramdisk(encode_ramdisk(entries))
    assert {path: found[path] for path in entries} == entries
    assert all(stat.S_ISDIR(found[path].mode) for path in set(found) - set(entries))
    assert list(found) == sorted(found)
    assert len(encode_ramdisk(entries)) % 512 == 0


@given(DATA, DATA, st.lists(DATA, min_size=1, max_size=4))
@settings(max_examples=30)
def test_registers_are_those_of_the_joined_bytes(
    kernel: bytes, line: bytes, ramdisks: list[bytes]
) -> None:
    sections = [Section(SectionType.KERNEL, kernel), Section(SectionType.COMMAND_LINE, line)]
    sections += [Section(SectionType.RAMDISK, ramdisk) for ramdisk in ramdisks]
    measured = measure_image(Image(Architecture.X86_64, 0, 0, tuple(sections)))
    assert measured.pcr0 == register([kernel + line + b"".join(ramdisks)])
    assert measured.pcr1 == register([kernel + line + ramdisks[0]])
    assert measured.pcr2 == register([b"".join(ramdisks[1:])])
