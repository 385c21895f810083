"""``latensgate attest inspect`` over real, altered and synthetic documents."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from latensgate.cli import __main__ as entry
from latensgate.cli.__main__ import cli
from latensgate.cli.exit_codes import INSPECTION_CODES, KIND_TO_CODE, ExitCode
from latensgate.cli.inspection import Question
from latensgate.cli.inspection import inspect as look
from latensgate.cli.machine import to_json
from latensgate.cli.render import report
from latensgate.verify.anchors import AWS_NITRO_ROOT_G1_SHA256
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.errors import KINDS, STEPS, VerificationError
from latensgate.verify.policy import AppraisalPolicy, Measurements
from paths import OWN_VECTORS, REPOSITORY, published

REAL = "attestation/prod-20260421T223340Z-f1f05745.cbor"
DEBUG = "attestation/debug-20260803T193615Z-13a44c64.cbor"
WIDE = {"COLUMNS": "100"}
_REFUSED = frozenset({ExitCode.MALFORMED, ExitCode.UNTRUSTED, ExitCode.TIME})
SYNTHETIC_CODES = {
    "accept": {ExitCode.SIMULATED},
    "valid-debug": {ExitCode.DEBUG},
    "reject": _REFUSED,
    "reject-strict": _REFUSED,
    "reject-policy": {ExitCode.MEASUREMENTS},
}
"""By the words of synthetic-pki/expected.json; its root is never Amazon's."""


def inspect(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(
        cli, ["attest", "inspect", *map(str, arguments)], input=stdin, env=WIDE
    )
    assert "Traceback" not in result.output
    return result


def facts(*arguments: str | Path) -> dict[str, Any]:
    result = inspect("--json", *arguments)
    told: dict[str, Any] = json.loads(result.output)
    assert told["exit_code"] == result.exit_code
    return told


def real() -> Path:
    return published("nitro", REAL)


def real_pcrs() -> list[str]:
    listed = json.loads(published("nitro", "attestation/expected.json").read_text())
    entry = next(item for item in listed["documents"] if item["file"] == REAL)
    return [f"--pcr{index}={entry['pcrs_nonzero'][str(index)]}" for index in (0, 1, 2)]


class Own:
    """A document of tests/vectors/document, as files and options."""

    def __init__(self, folder: Path, name: str) -> None:
        path = next((OWN_VECTORS / "document").glob(f"*-{name}.json"))
        self.given: dict[str, Any] = json.loads(path.read_text())["input"]
        self.file = folder / "document.cbor"
        self.file.write_bytes(base64.b64decode(self.given["document_base64"]))
        self.manifest = folder / "manifest.json"
        self.manifest.write_bytes(base64.b64decode(self.given.get("manifest_base64", "")))
        self.at = datetime.fromtimestamp(self.given["at"], UTC).isoformat()
        self.root = f"--unsafe-accept-simulated-root-sha256={self.given['root_sha256']}"
        self.policy = [f"--{name}={value}" for name, value in self.given["policy"].items()]

    def options(self) -> list[str | Path]:
        return [self.file, "--at", self.at, self.root]


# --- the verdicts ---


def test_a_document_that_the_policy_accepts_is_verified() -> None:
    result = inspect(real(), "--at", "document", *real_pcrs())
    assert result.exit_code == ExitCode.VERIFIED
    assert "Verified: a genuine enclave that runs an image you accept." in result.output


def test_without_a_policy_it_says_that_nothing_was_compared() -> None:
    result = inspect(real(), "--at", "document")
    assert result.exit_code == ExitCode.NOT_COMPARED
    assert "its image was not compared with anything" in result.output
    assert "no policy given: --pcr0, --pcr1 and --pcr2, or --releases" in result.output
    assert "us-east-1" in result.output


def test_another_image_is_refused() -> None:
    other = [option[:-1] + ("0" if option[-1] != "0" else "1") for option in real_pcrs()]
    result = inspect(real(), "--at", "document", *other)
    assert result.exit_code == ExitCode.MEASUREMENTS
    assert "not an image you accept" in result.output


def test_an_expired_document_names_the_way_to_judge_it_at_its_own_second() -> None:
    result = inspect(real(), "--at", "2026-11-21T12:00:00Z", *real_pcrs())
    assert result.exit_code == ExitCode.TIME
    assert "Refused: the document has expired." in result.output
    assert "213 days 13 hours before the evaluation time" in result.output
    assert "--at document" in result.output


def test_now_is_the_default_time() -> None:
    result = inspect(real())
    assert result.exit_code == ExitCode.TIME
    assert "--at document" in result.output


def test_a_document_of_the_future_is_refused_for_its_time() -> None:
    told = facts(real(), "--at", "2026-04-01T00:00:00+02:00")
    assert told["verdict"] == "time"
    assert told["evaluated_at"] == "2026-03-31T22:00:00Z"
    assert told["valid_at_its_own_time"] is True


def test_an_expired_document_that_is_wrong_anyway_does_not_name_its_own_second() -> None:
    told = facts(
        published("nitro", "mutations/m26-pcr0-bit-flip.cbor"), "--at", "2026-11-21T00:00:00Z"
    )
    assert told["verdict"] == "time"
    assert told["valid_at_its_own_time"] is False
    assert not any("--at document" in text for text in told["explanation"])


def test_debug_mode_is_called_out() -> None:
    result = inspect(published("nitro", DEBUG), "--at", "document")
    assert result.exit_code == ExitCode.DEBUG
    assert "The document is genuine" in result.output
    assert result.output.count("zeros: DEBUG MODE") == 3


def test_a_tampered_document_is_explained() -> None:
    result = inspect(published("nitro", "mutations/m26-pcr0-bit-flip.cbor"), "--at", "document")
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "somebody changed the" in result.output
    assert "NOT proved" in result.output


def test_a_foreign_root_is_explained() -> None:
    result = inspect(
        published("nitro", "synthetic-pki/s095-attacker-root.cbor"), "--at", "document"
    )
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "only the fingerprint of the root counts" in result.output
    assert "This is NOT Amazon's root." in result.output


def test_qemu_is_named(tmp_path: Path) -> None:
    result = inspect(Own(tmp_path, "qemu").file)
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "QEMU" in result.output
    assert "Certificate chain" not in result.output


def test_the_simulated_root_is_never_called_verified(tmp_path: Path) -> None:
    own = Own(tmp_path, "plain")
    result = inspect(*own.options(), *own.policy)
    assert result.exit_code == ExitCode.SIMULATED
    assert "Simulated" in result.output
    assert "Verified" not in result.output
    assert "The image was not compared" not in result.output
    assert "The image was not compared with anything" in inspect(*own.options()).output


def test_without_the_ugly_option_the_simulated_root_is_foreign(tmp_path: Path) -> None:
    own = Own(tmp_path, "plain")
    assert inspect(own.file, "--at", own.at, *own.policy).exit_code == ExitCode.UNTRUSTED


MALFORMED = {
    "empty": b"",
    "nonsense": b"\x00\x01\x02",
    "text": b"hello there",
    "json": b"{}",
    "half a base64": b"hEShATgi",
    "huge": b"\x84" * 300_000,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("at", ["now", "document", "2026-01-01T00:00:00Z"])
def test_what_is_no_document_is_malformed(data: bytes, at: str) -> None:
    result = inspect("-", "--at", at, stdin=data)
    assert result.exit_code == ExitCode.MALFORMED
    assert "not an attestation document" in result.output


def test_a_foreign_token_with_the_same_header_is_malformed() -> None:
    told = facts(published("nitro", "foreign/arm-cca-platform-token.cbor"))
    assert told["verdict"] == "malformed"
    assert told["document"] is None


@pytest.mark.parametrize("at", ["now", "document"])
def test_a_document_whose_own_second_lies_outside_its_certificates_is_refused(
    tmp_path: Path, at: str
) -> None:
    data = real().read_bytes()
    start = data.index(b"timestamp") + len(b"timestamp") + 1
    moved = int.from_bytes(data[start : start + 8], "big") + 86_400_000  # a day, in milliseconds
    document = tmp_path / "moved.cbor"
    document.write_bytes(data[:start] + moved.to_bytes(8, "big") + data[start + 8 :])
    told = facts(document, "--at", at)
    assert told["verdict"] == "time"
    assert told["valid_at_its_own_time"] is False


def test_a_certificate_that_is_none_is_shown_as_such() -> None:
    bad = published("nitro", "attestation/bad-20210909T101920Z-4164bfae.cbor")
    result = inspect(bad, "--at", "document")
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "not a certificate" in result.output
    assert "unreadable" in result.output


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4_600), st.integers(1, 255), st.binary(max_size=3))
def test_an_altered_document_is_shown_and_never_accepted(at: int, mask: int, extra: bytes) -> None:
    data = bytearray(real().read_bytes())
    data[at % len(data)] ^= mask
    document = bytes(data) + extra
    moment = datetime(2026, 4, 21, 22, 33, 40, tzinfo=UTC)
    inspection = look(Question(document=document, at=moment))
    assert inspection.failure is not None
    told = json.loads(to_json(inspection))
    assert told["exit_code"] not in {ExitCode.VERIFIED, ExitCode.NOT_COMPARED}
    Console(width=100, file=StringIO()).print(report(inspection))


# --- nonce and manifest ---


def test_nonce_and_manifest_run_the_binding_steps(tmp_path: Path) -> None:
    own = Own(tmp_path, "manifest-and-nonce")
    extra = [f"--nonce={own.given['nonce_hex']}", f"--manifest={own.manifest}"]
    for policy in (own.policy, []):
        told = facts(*own.options(), *policy, *extra)
        assert told["verdict"] == "simulated"
        states = {step["number"]: step["state"] for step in told["steps"]}
        assert states[10] == ("passed" if policy else "not run")
        assert [states[number] for number in (11, 12, 13)] == ["passed"] * 3
    shown = inspect(*own.options(), *own.policy, *extra).output
    assert "commits to the manifest given, version 0.1.0+vectors" in shown


def test_without_the_manifest_its_length_is_a_hint(tmp_path: Path) -> None:
    own = Own(tmp_path, "manifest")
    assert "give --manifest to check it" in inspect(*own.options()).output


@pytest.mark.parametrize("policy", [True, False])
def test_another_manifest_is_a_binding_mismatch(tmp_path: Path, *, policy: bool) -> None:
    own = Own(tmp_path, "manifest-other")
    chosen = own.policy if policy else []
    result = inspect(*own.options(), *chosen, f"--manifest={own.manifest}")
    assert result.exit_code == ExitCode.BINDING
    assert "do not use them" in result.output


def test_another_nonce_is_a_binding_mismatch(tmp_path: Path) -> None:
    own = Own(tmp_path, "nonce")
    told = facts(*own.options(), "--nonce", "ab" * 32)
    assert told["verdict"] == "binding"
    assert told["failure"]["kind"] == "nonce-mismatch"


def test_registers_that_no_policy_can_name_leave_the_binding_steps_undone(tmp_path: Path) -> None:
    own = Own(tmp_path, "pcr2-absent")
    told = facts(*own.options(), "--nonce", "ab" * 32)
    assert told["verdict"] == "simulated"
    assert [step["state"] for step in told["steps"][9:]] == ["not run"] * 4
    assert "lacks PCR0, PCR1 or PCR2" in told["steps"][10]["reason"]


# --- releases ---


def releases(folder: Path, **changes: object) -> Path:
    pcrs = {option[2:6]: option[7:] for option in real_pcrs()}
    entry = {"version": "1.2.3", "flavour": "core", "deployment_digest": "sha384:" + "0" * 96}
    path = folder / "releases.json"
    path.write_text(json.dumps({"releases": [{**entry, **pcrs, **changes}]}))
    return path


def test_an_accepted_release_is_named(tmp_path: Path) -> None:
    result = inspect(real(), "--at", "document", "--releases", releases(tmp_path))
    assert result.exit_code == ExitCode.VERIFIED
    assert "It is release 1.2.3 (core)." in result.output


def test_a_revoked_release_is_refused(tmp_path: Path) -> None:
    path = releases(tmp_path, revoked=True)
    result = inspect(real(), "--at", "document", "--releases", path)
    assert result.exit_code == ExitCode.MEASUREMENTS
    assert "a release that is no longer accepted" in result.output


# --- forms of input ---


def test_raw_base64_and_hexadecimal_are_the_same_document(tmp_path: Path) -> None:
    raw = real().read_bytes()
    forms = {
        "raw": raw,
        "base64": base64.encodebytes(raw),
        "base64url": base64.urlsafe_b64encode(raw).rstrip(b"="),
        "hex": raw.hex().encode(),
        "HEX": b"0x" + raw.hex().upper().encode() + b"\n",
    }
    hashes = set[str]()
    for name, data in forms.items():
        path = tmp_path / name
        path.write_bytes(data)
        hashes.add(facts(path, "--at", "document")["document"]["attestation_hash"])
    assert len(hashes) == 1


def test_standard_input_is_read() -> None:
    result = inspect("-", "--at", "document", stdin=real().read_bytes())
    assert result.exit_code == ExitCode.NOT_COMPARED


# --- what cannot be asked ---


@pytest.mark.parametrize("option", ["", "--releases", "--manifest"])
def test_files_that_cannot_be_read(tmp_path: Path, option: str) -> None:
    absent = tmp_path / "absent"
    arguments = [real(), f"{option}={absent}"] if option else [absent]
    result = inspect(*arguments)
    assert result.exit_code == ExitCode.UNREADABLE
    assert "No such file" in result.output
    folder = [real(), f"{option}={tmp_path}"] if option else [tmp_path]
    assert inspect(*folder).exit_code == ExitCode.UNREADABLE


USAGE = {
    "one pcr alone": ["--pcr0=" + "ab" * 48],
    "short pcr": ["--pcr0=ab", "--pcr1=ab", "--pcr2=ab"],
    "zero pcr": [f"--pcr{index}=" + "00" * 48 for index in (0, 1, 2)],
    "nonce not hex": ["--nonce=xyz"],
    "nonce short": ["--nonce=abcd", *[f"--pcr{index}=" + "ab" * 48 for index in (0, 1, 2)]],
    "time without zone": ["--at=2026-01-01T00:00:00"],
    "no time": ["--at=yesterday"],
    "root not hex": ["--unsafe-accept-simulated-root-sha256=xyz"],
    "the AWS root as simulated": [
        f"--unsafe-accept-simulated-root-sha256={AWS_NITRO_ROOT_G1_SHA256}"
    ],
    "releases from stdin": ["--releases=-"],
    "manifest from stdin": ["--manifest=-"],
    "releases that are none": [f"--releases={REPOSITORY / 'LICENSE'}"],
    "unknown option": ["--insecure"],
}


@pytest.mark.parametrize("options", USAGE.values(), ids=USAGE.keys())
def test_wrong_questions_are_usage_errors(options: list[str]) -> None:
    result = inspect(real(), *options)
    assert result.exit_code == ExitCode.USAGE
    assert "Error: " in result.output


# --- JSON ---


def test_json_has_the_same_facts_under_stable_names() -> None:
    told = facts(real(), "--at", "document", *real_pcrs())
    assert set(told) == {
        "format", "verdict", "exit_code", "headline", "explanation", "evaluated_at",
        "valid_at_its_own_time", "image_compared", "release", "failure", "steps", "document",
    }  # fmt: skip
    assert told["format"] == "latensgate-inspection/1"
    assert told["verdict"] == "verified"
    assert told["failure"] is None
    assert [step["number"] for step in told["steps"]] == [number for number, _ in STEPS]
    document = told["document"]
    assert set(document) == {
        "module_id", "region", "timestamp_ms", "timestamp", "attestation_hash", "debug", "pcrs",
        "user_data", "nonce", "public_key", "certificates",
    }  # fmt: skip
    assert document["attestation_hash"].startswith("sha384:48895438a7ef943a")
    assert document["pcrs"]["0"]["meaning"] == "whole image"
    assert document["user_data"]["bytes"] == 32
    assert document["nonce"] is None
    assert [entry["key"] for entry in document["certificates"]] == ["P-384"] * 5


def test_json_is_the_same_each_time() -> None:
    first, second = (inspect("--json", real(), "--at", "document") for _ in range(2))
    assert first.output == second.output


def test_a_refusal_has_its_step_and_kind_in_json() -> None:
    told = facts(published("nitro", DEBUG), "--at", "document")
    assert (told["failure"]["step"], told["failure"]["kind"]) == (9, "debug-mode-refused")
    states = [step["state"] for step in told["steps"]]
    assert states == ["passed"] * 8 + ["failed"] + ["not run"] * 4


# --- the whole ---


def test_every_kind_of_the_verifier_has_an_exit_code() -> None:
    assert set(KINDS) - set(KIND_TO_CODE) <= {"receipt-invalid", "manifest-expired"}


def test_every_published_document_is_shown_without_a_fault() -> None:
    paths = sorted(published("nitro").glob("*/*.cbor"))
    assert len(paths) > 240
    for number, path in enumerate(paths):
        form = ["--json"] if number % 5 else []  # tables take ten times as long
        result = inspect(path, "--at", "document", *form)
        assert result.exit_code in set(ExitCode) - {0, 1, 2, 3, ExitCode.INTERNAL}, path
        assert result.exception is None or isinstance(result.exception, SystemExit), path


@pytest.mark.parametrize("at", ["now", "document", "at the verdict's second"])
def test_every_signed_synthetic_document_is_judged_under_its_own_root(at: str) -> None:
    folder = published("nitro", "synthetic-pki")
    listed = json.loads((folder / "expected.json").read_text())
    pem = x509.load_pem_x509_certificate((folder / "test-root.pem").read_bytes())
    root = pem.fingerprint(hashes.SHA256()).hex()
    policy = AppraisalPolicy(
        measurements=(Measurements.from_hex(*(listed["pcrs"][number] for number in "012")),),
        unsafe_accept_simulated_root_sha256=root,
    )
    for case in listed["documents"]:
        document = (folder.parent / case["file"]).read_bytes()
        moment = _moment(at, document, listed["verify_at"])
        inspection = look(Question(document, moment, policy, simulated_root=root))
        if at == "at the verdict's second":
            assert inspection.code in SYNTHETIC_CODES[case["expected"]], case["file"]
        else:
            assert inspection.code not in {ExitCode.VERIFIED, ExitCode.INTERNAL}, case["file"]


def _moment(at: str, document: bytes, verdicts: str) -> datetime:
    if at == "now":
        return datetime.now(UTC)
    if at == "document":
        with suppress(VerificationError):
            return parse_untrusted_document(document).timestamp
    return datetime.fromisoformat(verdicts)


def test_help_and_the_page_list_every_exit_code() -> None:
    shown = inspect("--help").output
    page = (REPOSITORY / "docs" / "exit-codes.md").read_text()
    for code in INSPECTION_CODES:
        assert f"{code:>2}  {code.meaning}" in shown
        assert f"| {code:d} | `{code.verdict}` | {code.meaning} |" in page


def test_a_fault_of_the_program_has_its_own_exit_code_and_no_stack_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(**_options: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(entry, "cli", explode)
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    assert stopped.value.code == ExitCode.INTERNAL
    assert capsys.readouterr().err == "Error: internal fault (RuntimeError); please report it\n"


def test_version_and_help() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output.startswith("latensgate, version ")
    assert "attest" in CliRunner().invoke(cli, ["-h"]).output
