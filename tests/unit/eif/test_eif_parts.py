"""The parts of an image: packages, libraries, modules, roots, kernel, bill, record."""

from __future__ import annotations

import ctypes
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eif_examples import FIRST, example_image
from latensgate_eif import kernel as kernel_module
from latensgate_eif import toolchain
from latensgate_eif.application import (
    Flavour,
    Roots,
    amazon_roots,
    application_entries,
    simulated_roots,
)
from latensgate_eif.assemble import Assembled, Recipe, metadata
from latensgate_eif.elf import is_elf, needed_libraries
from latensgate_eif.inputs import BuildError, parse_inputs
from latensgate_eif.kernel import (
    check_configuration,
    fragment_lines,
    kept_kernel,
    kernel_key,
    obtain_kernel,
    unpack_sources,
)
from latensgate_eif.names import MODEL, names_files
from latensgate_eif.packages import read_deb, read_wheel
from latensgate_eif.ramdisk import Entry, file_entry, link_entry
from latensgate_eif.record import ReleaseRecord, measured, parse_record, record_text, with_image
from latensgate_eif.runtime import loaded_modules, runtime_entries
from latensgate_eif.sbom import bill_of_materials
from latensgate_eif.sizes import size_report
from latensgate_eif.store import Store
from latensgate_eif.toolchain import check_toolchain, run_tool
from latensgate_enclave.measured import Policy, Trust, parse_table
from paths import REPOSITORY

INPUTS = parse_inputs((REPOSITORY / "eif/inputs.lock").read_bytes())
FRAGMENT = (REPOSITORY / "eif/kernel/latensgate.config").read_bytes()


# ---- packages ----


def ar(*members: tuple[str, bytes]) -> bytes:
    raw = b"!<arch>\n"
    for name, data in members:
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        raw += head + data + b"\n" * (len(data) % 2)
    return raw


def deb(*members: tuple[str, bytes | str | None], hard: bool = False) -> bytes:
    """Return a package: content of a file, target of a link, None for a folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(f"./{name}")
            info.uid, info.mtime, info.mode = 1000, 1_700_000_000, 0o4755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = (tarfile.LNKTYPE if hard else tarfile.SYMTYPE), content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return ar(("debian-binary", b"2.0"), ("data.tar.xz", packed.getvalue()))


def test_package() -> None:
    entries = read_deb("x", deb(("", None), ("usr", None), ("usr/tool", b"1"), ("link", "usr")))
    assert sorted(entries) == ["link", "usr", "usr/tool"]
    # Neither owner nor time nor a set-user-id bit survives.
    assert entries["usr/tool"] == Entry(stat.S_IFREG | 0o555, b"1")
    assert entries["link"] == link_entry("usr")


def test_packages_of_another_form() -> None:
    for raw in (b"PK", ar(("data.tar.zst", b""))):
        with pytest.raises(BuildError, match=r"ar archive|data\.tar\.xz"):
            read_deb("x", raw)
    with pytest.raises(BuildError, match="hard link"):
        read_deb("x", deb(("a", b""), ("b", "a"), hard=True))


def test_wheel() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/", b"")
        archive.writestr("a/b.py", b"1")
    assert read_wheel(packed.getvalue()) == {"a/b.py": b"1"}


# ---- libraries ----


def test_needed_libraries_agree_with_the_loader() -> None:
    library = Path(sys.executable).resolve().read_bytes()
    assert is_elf(library)
    said = subprocess.run(["readelf", "-d", sys.executable], capture_output=True, check=True)
    listed = [
        line.split("[")[1].rstrip("]")
        for line in said.stdout.decode().splitlines()
        if "(NEEDED)" in line
    ]
    assert needed_libraries(library) == listed
    assert not is_elf(b"#!/bin/sh")


def test_static_program_needs_nothing() -> None:
    init = toolchain.compile_init(REPOSITORY / "eif/init/init.c")
    assert needed_libraries(init) == []
    assert init == toolchain.compile_init(REPOSITORY / "eif/init/init.c")
    assert len(init) < 20_000
    assert b"/init.c" not in init


def test_init_stays_readable() -> None:
    source = (REPOSITORY / "eif/init/init.c").read_text()
    assert len(source.splitlines()) < 300
    assert "/bin/sh" not in source


# ---- first ramdisk ----


def runtime(modules: str, **wheels: dict[str, bytes]) -> dict[str, Entry]:
    elf = Path("/bin/true").read_bytes()
    package = {
        "usr/bin/python3.11": file_entry(elf, executable=True),
        "usr/bin/pdb3.11": file_entry(b""),
        "usr/lib/python3.11/json/decoder.py": file_entry(b""),
        "usr/lib/python3.11/socket.py": file_entry(b""),
        "usr/lib/python3.11/pdb.py": file_entry(b""),
        "usr/lib/python3.11/sitecustomize.py": link_entry("/etc/python3.11/sitecustomize.py"),
        "usr/lib/python3.11/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so": file_entry(b"so"),
        "usr/lib/python3.11/lib-dynload/_dbm.cpython-311-x86_64-linux-gnu.so": file_entry(b"so"),
        "bin/sh": file_entry(b""),
    }
    libraries = {
        "lib64/ld-linux-x86-64.so.2": link_entry("/lib/x86_64-linux-gnu/ld.so"),
        "lib/x86_64-linux-gnu/ld.so": file_entry(b"loader"),
        "lib/x86_64-linux-gnu/libc.so.6": link_entry("libc-2.so"),
        "lib/x86_64-linux-gnu/libc-2.so": file_entry(elf),
        "lib/x86_64-linux-gnu/libunused.so": file_entry(b""),
    }
    return runtime_entries(b"init", [package, libraries], wheels, loaded_modules(modules))


def test_first_ramdisk_holds_what_is_needed_and_no_more() -> None:
    modules = "# standard library\njson\n_json\nsocket\nsitecustomize_not\n"
    entries = runtime(modules)
    files = {path for path, entry in entries.items() if stat.S_ISREG(entry.mode)}
    assert files == {
        "init",
        "usr/bin/python3.11",
        "usr/lib/python3.11/json/decoder.py",
        "usr/lib/python3.11/socket.py",
        "usr/lib/python3.11/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so",
        "lib/x86_64-linux-gnu/libc.so.6",
        "lib64/ld-linux-x86-64.so.2",
    }
    assert entries["lib/x86_64-linux-gnu/libc.so.6"].data == Path("/bin/true").read_bytes()
    assert entries["init"].mode == stat.S_IFREG | 0o555


def test_wheels_are_pruned() -> None:
    entries = runtime(
        "presidio_analyzer.pattern\n",
        cffi={"_cffi_backend.so": b"", "cffi/api.py": b""},
        phonenumbers={
            "phonenumbers/geodata/x.py": b"",
            "phonenumbers/data/y.py": b"",
            "phonenumbers-9.dist-info/METADATA": b"",
            "phonenumbers/z.pyi": b"",
        },
        presidio={"presidio_analyzer/pattern.py": b"", "presidio_analyzer/engine.py": b""},
    )
    site = {path for path in entries if "dist-packages" in path}
    assert {path.split("dist-packages/")[1] for path in site} == {
        "_cffi_backend.so",
        "phonenumbers/data/y.py",
        "presidio_analyzer/pattern.py",
    }


def test_library_that_no_package_has() -> None:
    package = {"usr/bin/python3.11": file_entry(Path("/bin/true").read_bytes())}
    with pytest.raises(BuildError, match=r"libc\.so\.6 is needed"):
        runtime_entries(b"", [package], {}, frozenset())


# ---- names ----


def test_of_what_finds_names_only_loaded_modules_and_the_model_are_taken() -> None:
    model = {
        f"{MODEL}/{MODEL}-3.8.0/ner/model": b"weights",
        f"{MODEL}/__init__.py": b"",
        f"{MODEL}-3.8.0.dist-info/METADATA": b"",
    }
    library = {
        "spacy/__init__.py": b"",
        "spacy/vocab.cpython-311-x86_64-linux-gnu.so": b"native",
        "spacy/vocab.pyx": b"source",
        "spacy/cli/__init__.py": b"",
        "spacy/cli/train.py": b"",
        "spacy/default_config.cfg": b"",
        "numpy.libs/libblas-1.so.5.0": b"bundled",
    }
    modules = frozenset({"spacy", "spacy.vocab"})
    assert set(names_files([model, library], modules)) == {
        f"{MODEL}/{MODEL}-3.8.0/ner/model",
        f"{MODEL}/__init__.py",
        "spacy/__init__.py",
        "spacy/vocab.cpython-311-x86_64-linux-gnu.so",
        "numpy.libs/libblas-1.so.5.0",
        "spacy/default_config.cfg",
    }


def test_libraries_go_in_without_what_is_for_debuggers(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int a(void) { return 7; }\n")
    run_tool(["gcc", "-g", "-shared", "-fPIC", "-o", "a.so", "a.c"], tmp_path)
    full = (tmp_path / "a.so").read_bytes()
    made = names_files([{"spacy/a.so": full, "spacy/b.so": b"plain"}], A_AND_B)
    assert b".debug_info" in full
    assert b".debug_info" not in made["spacy/a.so"]
    assert made["spacy/b.so"] == b"plain"
    (tmp_path / "stripped.so").write_bytes(made["spacy/a.so"])
    assert ctypes.CDLL(str(tmp_path / "stripped.so")).a() == 7


def test_library_that_is_none() -> None:
    with pytest.raises(BuildError, match="strip"):
        names_files([{"spacy/a.so": b"no ELF .debug_info"}], A_AND_B)


A_AND_B = frozenset({"spacy.a", "spacy.b"})


def test_names_are_looked_for_in_their_own_flavours_alone() -> None:
    for names in (False, True):
        entries = application_entries(REPOSITORY, Roots(b"", b""), "3.11", names=names)
        policy = parse_table("policy.toml", entries["etc/latensgate/policy.toml"].data, Policy)
        assert policy.pii_engine.names == ("spacy" if names else "none")


def test_flavours() -> None:
    assert [each for each in Flavour if each.finds_names] == [Flavour.NER, Flavour.SIM_NER]
    assert [each for each in Flavour if each.is_simulated] == [Flavour.SIM, Flavour.SIM_NER]


# ---- second ramdisk ----


def test_roots_of_amazon_are_what_the_enclave_takes() -> None:
    roots = amazon_roots(REPOSITORY)
    trust = parse_table("trust.toml", roots.trust_toml, Trust)
    assert trust.flavour == "production"
    pem = (REPOSITORY / "eif/examples/sim-ca.pem").read_bytes()
    simulated = parse_table("trust.toml", simulated_roots(pem).trust_toml, Trust)
    assert simulated.flavour == "sim"
    assert len(simulated.tls_root_sha256) == 1
    assert simulated_roots(pem).ca_pem == pem


@pytest.mark.parametrize(
    "pem",
    [b"", b"no PEM", b"\xff", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"],
)
def test_roots_that_are_none(pem: bytes) -> None:
    with pytest.raises(BuildError, match="PEM"):
        simulated_roots(pem)


def test_application_holds_code_and_configuration_alone(tmp_path: Path) -> None:
    entries = application_entries(REPOSITORY, Roots(b"t", b"p"), "3.11")
    suffixes = {Path(path).suffix for path in entries}
    assert suffixes == {".py", ".tftpl", ".toml", ".pem"}
    assert entries["etc/latensgate/ca.pem"].data == b"p"
    with pytest.raises(BuildError, match=r"latensgate_shared/__init__\.py"):
        application_entries(tmp_path, Roots(b"", b""), "3.11")


# ---- kernel ----


def test_committed_fragment_is_well_formed() -> None:
    lines = fragment_lines(FRAGMENT)
    assert len(lines) > 100
    for wanted in ("NSM", "VIRTIO_VSOCKETS", "SECCOMP_FILTER", "CPU_MITIGATIONS"):
        assert f"CONFIG_{wanted}=y" in lines
    for never in ("MODULES", "PCI", "BPF_SYSCALL", "DEVMEM", "IO_URING", "DEBUG_FS", "KEXEC"):
        assert not any(line.startswith(f"CONFIG_{never}=") for line in lines)


@pytest.mark.parametrize("text", [b"NSM=y", b"CONFIG_NSM", b"CONFIG_A=y\nCONFIG_A=n"])
def test_malformed_fragments(text: bytes) -> None:
    with pytest.raises(BuildError, match="kernel configuration"):
        fragment_lines(text)


def test_setting_that_was_lost() -> None:
    check_configuration(b"CONFIG_A=y # no\n".replace(b" # no", b""), "CONFIG_A=y\nCONFIG_B=y\n")
    with pytest.raises(BuildError, match="CONFIG_PAT=y"):
        check_configuration(b"CONFIG_A=y\nCONFIG_PAT=y", "CONFIG_A=y\n# CONFIG_PAT is not set\n")


def test_kernel_is_kept_by_all_that_decides_its_bytes() -> None:
    keys = {
        kernel_key(INPUTS, FRAGMENT),
        kernel_key(INPUTS, FRAGMENT + b"\n"),
        kernel_key(replace(INPUTS, kernel=INPUTS.runtime[0]), FRAGMENT),
        kernel_key(replace(INPUTS, toolchain=type(INPUTS.toolchain)("other", "ld")), FRAGMENT),
    }
    assert len(keys) == 4


def test_kernel_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def build(_store: object, _inputs: object, _fragment: object, folder: Path) -> bytes:
        built.append(folder)
        return b"bzImage"

    monkeypatch.setattr(kernel_module, "build_kernel", build)
    store = Store(tmp_path)
    assert obtain_kernel(store, INPUTS, FRAGMENT) == b"bzImage"
    assert obtain_kernel(store, INPUTS, FRAGMENT) == b"bzImage"
    assert len(built) == 1
    assert not built[0].exists()
    assert kept_kernel(store, INPUTS, FRAGMENT).read_bytes() == b"bzImage"


def test_kernel_build_takes_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the compiler: sources, settings, the check, what is returned."""
    commands: list[list[str]] = []

    def tool(command: list[str], folder: Path, _extra: object = None) -> bytes:
        commands.append(command)
        if command[-1] == "allnoconfig":
            (tmp_path / "output/.config").write_text("\n".join(fragment_lines(FRAGMENT)))
        elif command[-1] == "bzImage":
            (tmp_path / "output/arch/x86/boot").mkdir(parents=True)
            (tmp_path / "output/arch/x86/boot/bzImage").write_bytes(b"new")
        elif command[0] == "tar":
            assert (folder / "sources.tar.xz").read_bytes() == b"sources"
        return b""

    monkeypatch.setattr(kernel_module, "run_tool", tool)
    monkeypatch.setattr(kernel_module, "check_toolchain", accept)
    monkeypatch.setattr(Store, "read", reading(deb((SOURCES, b"sources"))))
    built = kernel_module.build_kernel(Store(tmp_path), INPUTS, FRAGMENT, tmp_path)
    assert built == b"new"
    assert [command[0] for command in commands] == ["tar", "make", "make"]
    assert (tmp_path / "fragment").read_text().splitlines() == fragment_lines(FRAGMENT)


def accept(_: object) -> None:
    pass


def reading(raw: bytes) -> Callable[..., bytes]:
    def read(*_: object) -> bytes:
        return raw

    return read


SOURCES = f"usr/src/{INPUTS.kernel.name}.tar.xz"


def test_source_package_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "read", reading(deb(("usr/other", b""))))
    with pytest.raises(BuildError, match=SOURCES):
        unpack_sources(Store(tmp_path), INPUTS, tmp_path)


# ---- tools ----


def test_tools_run_without_the_builders_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-DEVIL")
    monkeypatch.setenv("KBUILD_BUILD_USER", "me")
    said = run_tool(["env"], tmp_path, {"EXTRA": "1"}).decode().splitlines()
    names = {line.partition("=")[0] for line in said}
    assert names == {"PATH", "LC_ALL", "TZ", "SOURCE_DATE_EPOCH", "EXTRA"}


def test_tool_that_is_absent_or_fails(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-tool is not installed"):
        run_tool(["no-such-tool"], tmp_path)
    with pytest.raises(BuildError, match=r"ls ended with 2: .*nowhere"):
        run_tool(["ls", "nowhere"], tmp_path)


def test_another_compiler_is_refused() -> None:
    other = type(INPUTS.toolchain)("gcc (Debian 99) 99.0", INPUTS.toolchain.ld)
    with pytest.raises(BuildError, match=r"gcc: inputs.lock expects 'gcc \(Debian 99\) 99.0'"):
        check_toolchain(other)


# ---- what is said about an image ----

RECIPE = Recipe(REPOSITORY, Flavour.CORE, b"account = 1\n", None, b"a kernel", "0.1.0")
ASSEMBLED = Assembled(
    example_image(),
    (FIRST, {"usr/lib/python3/dist-packages/re2/x.py": file_entry(b"123")}),
)


def test_bill_of_materials_names_every_input() -> None:
    bill = json.loads(bill_of_materials(INPUTS, ASSEMBLED.image, "latensgate-core", "0.1.0"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    hashes = {h["content"] for one in bill["components"] for h in one.get("hashes", ())}
    assert hashes == {one.sha256 for one in INPUTS.core}
    named = bill_of_materials(INPUTS, ASSEMBLED.image, "latensgate-ner", "0.1.0", names=True)
    assert "pkg:pypi/spacy@" in named
    assert "spacy" not in json.dumps(bill)
    references = [one["bom-ref"] for one in bill["components"] if "bom-ref" in one]
    assert len(set(references)) == len(INPUTS.core)
    assert "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64" in references
    assert "timestamp" not in json.dumps(bill)


def test_sizes() -> None:
    report = size_report(ASSEMBLED)
    assert "| kernel | 8 |" in report
    assert "| re2 | 1 | 3 |" in report
    many = {f"file{number}": file_entry(b"x") for number in range(40)}
    python = {"usr/lib/python3.11/json/x.py": file_entry(b"12345")}
    report = size_report(replace(ASSEMBLED, ramdisks=(python, many)))
    assert "| Python's standard library | 1 | 5 |" in report
    assert "| everything else | 26 | 26 |" in report


def test_metadata_says_no_time() -> None:
    assert json.loads(metadata(RECIPE, INPUTS))["BuildMetadata"]["BuildTime"].startswith("1970")


def test_record_keeps_one_entry_a_kind() -> None:
    one = measured(ASSEMBLED, RECIPE, INPUTS, "make image")
    assert one.deployment_digest.startswith("sha384:")
    record = with_image(with_image(ReleaseRecord("0.1.0", ()), one), one)
    assert record.images == (one,)
    other = measured(ASSEMBLED, replace(RECIPE, deployment=b"2"), INPUTS, "make image")
    both = with_image(record, other)
    assert set(both.images) == {one, other}
    assert parse_record(record_text(both).encode()) == both
    assert json.loads(record_text(both))["images"][0]["PCR0"] == one.pcr0


def test_store_is_not_in_the_repository() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "eif"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout.decode()
    assert not [name for name in listed.split() if name.endswith((".deb", ".whl", ".eif"))]
