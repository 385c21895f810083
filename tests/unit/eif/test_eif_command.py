from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from eif_examples import example_image, key_pem, signer
from latensgate_eif import __main__ as command
from latensgate_eif.exits import Exit
from latensgate_eif.image import Image, Section, SectionType, encode_image, parse_image
from latensgate_eif.measure import measure_image
from latensgate_eif.ramdisk import encode_ramdisk, file_entry

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    pem, key = signer()
    for name, data in {
        "good.eif": encode_image(example_image()),
        "other.eif": encode_image(example_image(second={"etc/other": b"x"})),
        "bad.eif": encode_image(example_image())[:-1] + b"x",
        "cert.pem": pem,
        "key.pem": key_pem(key),
    }.items():
        (tmp_path / name).write_bytes(data)

    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return call


def test_measure(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    expected = measure_image(example_image()).hex()
    assert run("measure", "good.eif", "--json") == Exit.DONE
    said = json.loads(capsys.readouterr().out)["Measurements"]
    assert said == {"HashAlgorithm": "SHA384", **expected}
    assert run("measure", "good.eif") == Exit.DONE
    assert capsys.readouterr().out == "".join(f"{n}  {v}\n" for n, v in expected.items())


def test_measure_with_expectations(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = measure_image(example_image()).hex()
    options = [word for n, v in wanted.items() for word in (f"--{n.lower()}", v.upper())]
    assert run("measure", "good.eif", *options) == Exit.DONE
    assert run("measure", "other.eif", *options) == Exit.MEASUREMENTS
    assert "not the measurements" in capsys.readouterr().err
    assert run("measure", "good.eif", *options[:2]) == Exit.USAGE
    record = {"version": "1", "images": [{**RECORD, **wanted}]}
    Path("record.json").write_text(json.dumps(record))
    assert run("measure", "good.eif", "--record", "record.json") == Exit.DONE
    assert run("measure", "other.eif", "--record", "record.json") == Exit.MEASUREMENTS
    Path("record.json").write_text("{}")
    assert run("measure", "good.eif", "--record", "record.json") == Exit.NOT_BUILT


RECORD = {
    "flavour": "core",
    "deployment_digest": "sha384:00",
    "inputs_sha256": "00",
    "kernel_sha256": "00",
    "application_sha256": "00",
    "command": "make image",
}


@pytest.mark.parametrize("name", ["measure", "inspect", "sign", "diff"])
def test_what_is_no_image(run: Run, capsys: pytest.CaptureFixture[str], name: str) -> None:
    rest = {
        "sign": ["--certificate", "cert.pem", "--key", "key.pem", "--out", "x"],
        "diff": ["good.eif"],
    }.get(name, [])
    assert run(name, "bad.eif", *rest) == Exit.MALFORMED
    assert "CRC-32" in capsys.readouterr().err
    assert run(name, "absent.eif", *rest) == Exit.UNREADABLE
    assert "absent.eif: No such file" in capsys.readouterr().err
    assert not Path("x").exists()


def test_inspect(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "good.eif", "--json") == Exit.DONE
    facts = json.loads(capsys.readouterr().out)
    assert [one["type"] for one in facts["sections"]] == [
        "kernel",
        "command_line",
        "metadata",
        "ramdisk",
        "ramdisk",
    ]
    assert facts["sections"][0]["sha256"] == hashlib.sha256(b"a kernel").hexdigest()
    assert facts["sections"][3]["entries"] == 5
    assert facts["signature"] is None
    assert run("inspect", "good.eif") == Exit.DONE
    said = capsys.readouterr().out
    assert "command line: console=ttyS0" in said
    assert 'metadata, not measured, by whoever: {"ImageName":"example"}' in said


def test_hostile_words_do_not_reach_the_terminal(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = b"[bold]\x1b]0;owned\x07\xff\r\n\xe2\x80\xae"
    image = example_image()
    hostile = tuple(
        Section(one.type, words)
        if one.type in {SectionType.COMMAND_LINE, SectionType.METADATA}
        else one
        for one in image.sections
    )
    Path("hostile.eif").write_bytes(encode_image(image_with(hostile)))
    for options in ((), ("--json",)):
        assert run("inspect", "hostile.eif", *options) == Exit.DONE
        said = capsys.readouterr().out
        assert "[bold]" in said
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(said)
    long = image_with((*image.sections[:3], Section(SectionType.RAMDISK, odd_ramdisk())))
    Path("odd.eif").write_bytes(encode_image(long))
    assert run("diff", "good.eif", "odd.eif") == Exit.DIFFERENT
    assert not {"\x1b", "\x07"} & set(capsys.readouterr().out)


def image_with(sections: tuple[Section, ...]) -> Image:
    return replace(example_image(), sections=sections)


def odd_ramdisk() -> bytes:
    return encode_ramdisk({"a\x1b[2Jb": file_entry(b"")})


def test_sign_and_inspect(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    sign = ["sign", "good.eif", "--certificate", "cert.pem", "--key", "key.pem", "--out"]
    assert run(*sign, "one.eif") == Exit.DONE
    assert "PCR8" in capsys.readouterr().out
    assert run(*sign, "two.eif") == Exit.DONE
    assert Path("one.eif").read_bytes() == Path("two.eif").read_bytes()
    assert Path("one.eif").stat().st_mode & 0o777 == 0o644
    again = [word.replace("good.eif", "one.eif") for word in sign]
    assert run(*again, "three.eif") == Exit.DONE
    assert Path("three.eif").read_bytes() == Path("one.eif").read_bytes()
    capsys.readouterr()
    assert run("inspect", "one.eif") == Exit.DONE
    said = capsys.readouterr().out
    assert "signature: by the key of certificate" in said
    assert "\x1b" not in said


def test_inspect_says_that_a_signature_is_wrong(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    sign = ["sign", "good.eif", "--certificate", "cert.pem", "--key", "key.pem"]
    assert run(*sign, "--out", "signed.eif") == Exit.DONE
    moved = parse_image(Path("signed.eif").read_bytes()).sections[-1]
    Path("forged.eif").write_bytes(encode_image(example_image(moved, second={"evil": b"1"})))
    capsys.readouterr()
    assert run("inspect", "forged.eif") == Exit.UNTRUSTED
    assert "WRONG" in capsys.readouterr().out
    assert run("inspect", "forged.eif", "--json") == Exit.UNTRUSTED
    assert json.loads(capsys.readouterr().out)["signature"]["reason"]


def test_keys_that_cannot_sign(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()
    locked = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    keys = {
        "other": key_pem(signer()[1]),
        "p256": key_pem(ec.generate_private_key(ec.SECP256R1())),
        "edwards": edwards.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "locked": locked,
        "text": b"no key",
    }
    for name, pem in keys.items():
        Path(name).write_bytes(pem)
        arguments = ["sign", "good.eif", "--certificate", "cert.pem", "--key", name, "--out", "x"]
        assert run(*arguments) == Exit.MALFORMED, name
        assert "P-384" in capsys.readouterr().err
    assert not Path("x").exists()


def test_diff(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("diff", "good.eif", "good.eif") == Exit.DONE
    assert "the same" in capsys.readouterr().out
    assert run("diff", "good.eif", "other.eif", "--json") == Exit.DIFFERENT
    found = json.loads(capsys.readouterr().out)
    assert [one["what"] for one in found["registers"]] == ["PCR0", "PCR2"]
    assert not found["sections"]
    assert not found["header"]
    named = {one["what"]: (one["old"] is None, one["new"] is None) for one in found["files"]}
    assert named["ramdisk 1: etc/other"] == (True, False)
    assert named["ramdisk 1: etc/latensgate/policy.toml"] == (False, True)
    assert run("diff", "good.eif", "other.eif") == Exit.DIFFERENT
    assert "    - absent" in capsys.readouterr().out


def test_diff_of_ramdisks_that_are_no_archives(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    image = example_image()
    for name, extra in {"x.eif": b"compressed", "y.eif": b"otherwise"}.items():
        more = image_with((*image.sections, Section(SectionType.RAMDISK, extra)))
        Path(name).write_bytes(encode_image(more))
    assert run("diff", "x.eif", "y.eif") == Exit.DIFFERENT
    assert "ramdisk 2 (not readable as files)" in capsys.readouterr().out
    assert run("diff", "good.eif", "y.eif") == Exit.DIFFERENT
    # The same files, written in another way.
    padded = encode_ramdisk({"a": file_entry(b"")})
    for name, extra in {"x.eif": padded, "y.eif": padded + bytes(512)}.items():
        more = image_with((*image.sections, Section(SectionType.RAMDISK, extra)))
        Path(name).write_bytes(encode_image(more))
    capsys.readouterr()
    assert run("diff", "x.eif", "y.eif") == Exit.DIFFERENT
    assert "ramdisk 2\n" in capsys.readouterr().out


def test_build(run: Run) -> None:
    Path("kernel").write_bytes(b"K")
    Path("one").write_bytes(b"1")
    Path("two").write_bytes(b"2")
    Path("meta").write_bytes(b"{}")
    arguments = ["build", "--kernel", "kernel", "--command-line", "quiet", "--ramdisk", "one"]
    arguments += ["--ramdisk", "two", "--metadata", "meta", "--architecture", "aarch64"]
    assert run(*arguments, "--out", "built.eif") == Exit.DONE
    image = parse_image(Path("built.eif").read_bytes())
    assert (image.kernel, image.command_line, image.ramdisks) == (b"K", b"quiet", (b"1", b"2"))
    assert image.architecture.name == "AARCH64"
    assert run(*arguments, "--out", "missing/built.eif") == Exit.UNREADABLE
    without = [word for word in arguments if word not in {"--metadata", "meta"}]
    assert run(*without, "--out", "built.eif") == Exit.DONE
    Path("meta").write_bytes(bytes(70_000))
    assert run(*arguments, "--out", "built.eif") == Exit.MALFORMED


def test_write_leaves_nothing_half_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "signed.eif")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(Path, "replace", full)
    sign = ["sign", "good.eif", "--certificate", "cert.pem", "--key", "key.pem"]
    assert run(*sign, "--out", "signed.eif") == Exit.UNREADABLE
    assert sorted(tmp_path.iterdir()) == before


def test_internal_fault_is_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise KeyError("secret content")

    monkeypatch.setattr("latensgate_eif.image_commands.read_image", broken)
    assert run("measure", "good.eif") == Exit.INTERNAL
    said = capsys.readouterr().err
    assert "internal fault (KeyError)" in said
    assert "secret" not in said


def test_help_names_every_exit_code(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == Exit.DONE
    said = capsys.readouterr().out
    for code in Exit:
        assert f"{code:>2}  {code.meaning}" in said
    assert run("measure") == Exit.USAGE
