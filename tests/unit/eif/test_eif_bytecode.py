"""Bytecode and its place in the ramdisks, with this test's own interpreter in the image's place."""

from __future__ import annotations

import marshal
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from eif_examples import signer
from latensgate_eif import assemble as assembling
from latensgate_eif import bytecode, bytecode_child
from latensgate_eif.application import Flavour
from latensgate_eif.assemble import Recipe, assemble, first_ramdisk
from latensgate_eif.bytecode import compile_entries
from latensgate_eif.image import ImageError
from latensgate_eif.inputs import BuildError, parse_inputs
from latensgate_eif.measure import measure_image
from latensgate_eif.ramdisk import Entry, file_entry, folder_entry
from latensgate_eif.ramdisk_reader import decode_ramdisk
from latensgate_eif.signature import (
    UntrustedSignature,
    parse_signature,
    sign_pcr0,
    verify_signature,
)
from latensgate_eif.store import Store
from latensgate_shared import cbor, cose
from paths import REPOSITORY

INPUTS = parse_inputs((REPOSITORY / "eif/inputs.lock").read_bytes())
TAG = f"cpython-{sys.version_info.major}{sys.version_info.minor}"
RUNTIME: Mapping[str, Entry] = {
    "init": file_entry(b"init", executable=True),
    "usr/lib/python3.11/os.py": file_entry(b"import sys\n"),
    "tmp": folder_entry(),
}


def run_here(command: Sequence[str], folder: Path, extra: Mapping[str, str] | None = None) -> bytes:
    """Stand in for the image's interpreter: same program, same folder."""
    assert extra == {"PYTHONHASHSEED": "0"}
    assert (folder / "root/init").read_bytes() == b"init"
    if bytecode_child.main(Path(command[-1])):
        raise BuildError("cannot be compiled")
    return b""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    def any_tools(_: object) -> None:
        pass

    def runtime(*_: object, names: bool) -> dict[str, Entry]:
        assert not names
        return dict(RUNTIME)

    monkeypatch.setattr(bytecode, "run_tool", run_here)
    monkeypatch.setattr(assembling, "check_toolchain", any_tools)
    monkeypatch.setattr(assembling, "_runtime", runtime)


@pytest.mark.usefixtures("here")
def test_every_source_is_compiled_and_names_its_path_in_the_image() -> None:
    compiled = compile_entries(RUNTIME, RUNTIME, "3.11")
    ((path, entry),) = compiled.items()
    assert path == f"usr/lib/python3.11/__pycache__/os.{TAG}.pyc"
    assert entry.data[4:8] == b"\x01\0\0\0"
    code = marshal.loads(entry.data[16:])  # noqa: S302 -- made a line above
    assert isinstance(code, types.CodeType)
    assert code.co_filename == "/usr/lib/python3.11/os.py"
    assert not entry.mode & 0o222


@pytest.mark.usefixtures("here")
def test_source_that_is_no_python(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BuildError):
        compile_entries(RUNTIME, {"a/b.py": file_entry(b"def")}, "3.11")
    assert "/a/b.py cannot be compiled" in capfd.readouterr().err


def test_one_file_is_compiled_the_same_wherever_it_lies(tmp_path: Path) -> None:
    made: list[bytes] = []
    for name in ("one", "a folder of a longer name"):
        source = tmp_path / name / "x.py"
        source.parent.mkdir()
        source.write_text("def f(a: int) -> str: return 'interned' * a\n")
        bytecode_child.compile_one(source.parent, source)
        made.append((source.parent / f"__pycache__/x.{TAG}.pyc").read_bytes())
    assert made[0] == made[1]


@pytest.mark.usefixtures("here")
def test_what_goes_into_which_ramdisk(tmp_path: Path) -> None:
    recipe = Recipe(REPOSITORY, Flavour.CORE, b"# of an operator\n", None, b"kernel", "1.2.3")
    made = assemble(recipe, INPUTS, Store(tmp_path))
    first, second, last = (decode_ramdisk(ramdisk) for ramdisk in made.image.ramdisks)
    assert set(first) - set(made.ramdisks[0]) <= {"usr", "usr/lib", "usr/lib/python3.11"} | {
        "usr/lib/python3.11/__pycache__"
    }
    assert f"usr/lib/python3.11/__pycache__/os.{TAG}.pyc" in first
    own = "usr/local/lib/python3.11/dist-packages/latensgate_enclave"
    assert f"{own}/__pycache__/pipeline.{TAG}.pyc" in second
    assert f"{own}/__pycache__/pipeline.{TAG}.pyc" not in first
    assert last["etc/latensgate/deployment.toml"].data == b"# of an operator\n"
    assert made.image.kernel == b"kernel"
    assert measure_image(made.image).pcr8 is None
    assert first_ramdisk(REPOSITORY, INPUTS, Store(tmp_path)) == made.ramdisks[0]


# --- signatures that are none ---


def changed(pcr0: bytes, **what: bytes) -> UntrustedSignature:
    pem, key = signer()
    good = parse_signature(sign_pcr0(pcr0, pem, key))
    message = cose.parse_sign1(good.message, max_bytes=1 << 16)
    parts = {
        "protected": message.protected,
        "payload": message.payload,
        "signature": message.signature,
    } | what
    raw = cbor.encode([parts["protected"], {}, parts["payload"], parts["signature"]])
    return UntrustedSignature(good.certificate_pem, good.certificate_der, raw)


def test_signature_of_another_length_or_algorithm() -> None:
    pcr0 = bytes(48)
    verify_signature(changed(pcr0), pcr0)
    with pytest.raises(ImageError, match="96 bytes expected"):
        verify_signature(changed(pcr0, signature=bytes(95)), pcr0)
    with pytest.raises(ImageError, match="ES384 alone"):
        verify_signature(changed(pcr0, protected=cbor.encode({1: -7})), pcr0)
