"""The simulated NSM against AWS's published forms and the one verifier."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from cryptography import x509

from latensgate.verify.attestation import inspect_document, verify_document
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.errors import CertificateExpired, DebugModeRefused
from latensgate.verify.policy import AppraisalPolicy
from latensgate.verify.policy import Measurements as Accepted
from latensgate_sim.clock import Clock
from latensgate_sim.measure import EnclaveFiles, Measurements, measure_enclave_files
from latensgate_sim.nitro_pki import NitroChain, load_or_make_root, make_root
from latensgate_sim.nsm import NSM, NSMError
from latensgate_sim.world import World
from paths import published

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
INSTANCE = "i-0123456789abcdef0"
ROLE = "arn:aws:iam::111122223333:role/LatensgateService"


def device(clock: Clock | None = None, *, debug: bool = False) -> tuple[NSM, str]:
    clock = clock or Clock()
    root = make_root()
    chain = NitroChain(root, "us-east-1", INSTANCE, clock)
    nsm = NSM(chain, IMAGE, clock, debug=debug, parent_role_arn=ROLE)
    return nsm, hashlib.sha256(root.der).hexdigest()


def ask(nsm: NSM, request: object) -> Any:  # noqa: ANN401 -- whatever CBOR holds
    answer: Any = cbor2.loads(nsm.handle(cbor2.dumps(request)))
    return answer


def test_document_passes_the_one_verifier() -> None:
    nsm, root = device()
    document = nsm.attest(user_data=b"u" * 1024, nonce=b"n" * 32, public_key=b"k" * 1024)
    policy = AppraisalPolicy(
        measurements=(Accepted(IMAGE.pcr0, IMAGE.pcr1, IMAGE.pcr2),),
        unsafe_accept_simulated_root_sha256=root,
    )
    verified = verify_document(document, policy=policy, at=dt.datetime.now(dt.UTC), nonce=b"n" * 32)
    assert verified.status == "simulated"
    assert verified.region == "us-east-1"
    assert verified.user_data == b"u" * 1024


def test_layout_is_what_the_device_writes_today() -> None:
    nsm, _ = device()
    document = nsm.attest()
    assert document[:2] == b"\x84\x44"
    assert document[2:7] == bytes.fromhex("a1013822a0")
    protected, unprotected, payload, signature = cbor2.loads(document)
    assert (protected, unprotected, len(signature)) == (bytes.fromhex("a1013822"), {}, 96)
    assert (payload[0], payload[-1]) == (0xBF, 0xFF)
    said = cbor2.loads(payload)
    assert list(said) == [
        "module_id",
        "digest",
        "timestamp",
        "pcrs",
        "certificate",
        "cabundle",
        "public_key",
        "user_data",
        "nonce",
    ]
    assert (said["public_key"], said["user_data"], said["nonce"]) == (None, None, None)
    assert list(said["pcrs"]) == list(range(16))
    assert payload[payload.index(b"timestamp") + 9] == 0x1B


def test_pcrs_follow_the_formulas() -> None:
    nsm, _ = device()
    zero = bytes(48)
    assert [nsm.pcr(index) for index in range(3)] == [IMAGE.pcr0, IMAGE.pcr1, IMAGE.pcr2]
    assert nsm.pcr(3) == hashlib.sha384(zero + ROLE.encode()).digest()
    assert nsm.pcr(4) == hashlib.sha384(zero + INSTANCE.encode()).digest()
    assert all(nsm.pcr(index) == zero for index in range(5, 32))


def test_chain_has_the_shape_of_real_ones() -> None:
    clock = Clock()
    clock.freeze(dt.datetime(2026, 6, 30, 0, 33, 40, tzinfo=dt.UTC))
    nsm, _ = device(clock)
    real = parse_untrusted_document(
        published("nitro", "attestation", "prod-20260630T003340Z-277e236b.cbor").read_bytes()
    )
    made = parse_untrusted_document(nsm.attest())
    for ours, theirs in zip(
        (*made.cabundle, made.certificate), (*real.cabundle, real.certificate), strict=True
    ):
        one, other = (x509.load_der_x509_certificate(der) for der in (ours, theirs))
        assert constraints(one) == constraints(other)
        assert usage(one) == usage(other)
        assert [item.oid for item in one.subject] == [item.oid for item in other.subject]
        assert len(ours) <= 1024
    leaf = x509.load_der_x509_certificate(made.certificate)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == dt.timedelta(hours=3, seconds=3)
    assert f"{made.module_id}.us-east-1.aws" in leaf.subject.rfc4514_string()
    assert leaf.serial_number & (2**64 - 1) == int(clock.seconds())


def constraints(certificate: x509.Certificate) -> tuple[bool, int | None, bool]:
    found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    return found.value.ca, found.value.path_length, found.critical


def usage(certificate: x509.Certificate) -> tuple[str, bool]:
    found = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    return repr(found.value), found.critical


@pytest.mark.parametrize("days", [0, 0.12, 0.13, 1, 5, 6, 20, 21, 200, -3])
def test_chain_is_renewed_before_it_ends(days: float) -> None:
    clock = Clock()
    nsm, root = device(clock)
    nsm.attest()
    clock.advance(days * 86_400)
    document = nsm.attest()
    found = inspect_document(document, at=clock.now(), unsafe_accept_simulated_root_sha256=root)
    assert found.root == "simulated"
    # the leaf ends first, and it has a quarter of an hour at least
    ends = [certificate.not_after for certificate in found.certificates]
    assert min(ends) == ends[-1]
    assert ends[-1] - clock.now() > dt.timedelta(minutes=15)


def test_an_old_document_expires() -> None:
    clock = Clock()
    nsm, root = device(clock)
    document = nsm.attest()
    clock.advance(4 * 3600)
    with pytest.raises(CertificateExpired):
        inspect_document(document, at=clock.now(), unsafe_accept_simulated_root_sha256=root)


def test_debug_mode_is_zero_and_refused() -> None:
    nsm, root = device(debug=True)
    assert all(nsm.pcr(index) == bytes(48) for index in (0, 1, 2, 8))
    assert nsm.pcr(4) != bytes(48)
    with pytest.raises(DebugModeRefused):
        inspect_document(
            nsm.attest(), at=dt.datetime.now(dt.UTC), unsafe_accept_simulated_root_sha256=root
        )


def test_published_messages_are_understood() -> None:
    messages = {
        item["name"]: bytes.fromhex(item["cbor_hex"])
        for item in json.loads(published("nitro", "nsm", "messages.json").read_text())["messages"]
    }
    nsm, _ = device()
    for name, request in messages.items():
        if "request" in name:
            assert "Error" not in cbor2.loads(nsm.handle(request)), name
    nsm, _ = device()
    extended = nsm.handle(messages["ExtendPCR request, index 16, data 010203"])
    expected = messages["ExtendPCR response after index 16, data 010203 from zero"]
    assert cbor2.loads(extended) == cbor2.loads(expected)
    assert nsm.handle(messages["LockPCR request, index 16"]) == messages["LockPCR response"]


def test_describe_and_random() -> None:
    nsm, _ = device()
    described = ask(nsm, "DescribeNSM")["DescribeNSM"]
    assert described["module_id"] == nsm.module_id
    assert (described["max_pcrs"], described["digest"]) == (32, "SHA384")
    assert described["locked_pcrs"] == list(range(16))
    first, second = (ask(nsm, "GetRandom")["GetRandom"]["random"] for _ in range(2))
    assert isinstance(first, bytes)
    assert len(first) == 256
    assert first != second


def test_locked_application_pcrs_are_in_the_document() -> None:
    nsm, _ = device()
    ask(nsm, {"ExtendPCR": {"index": 16, "data": b"x"}})
    assert ask(nsm, {"LockPCRs": {"range": 18}}) == "LockPCRs"
    said = parse_untrusted_document(nsm.attest())
    assert len(said.pcrs) == 18
    assert said.pcrs[16] == hashlib.sha384(bytes(48) + b"x").digest()


@pytest.mark.parametrize(
    ("request_value", "error"),
    [
        ("Nonsense", "InvalidOperation"),
        ({"Nonsense": {}}, "InvalidOperation"),
        ({"DescribePCR": {"index": 0}, "LockPCR": {"index": 16}}, "InvalidOperation"),
        ({"DescribePCR": 7}, "InvalidOperation"),
        (1.5, "InvalidOperation"),
        ({"DescribePCR": {"index": 32}}, "InvalidIndex"),
        ({"DescribePCR": {"index": True}}, "InvalidIndex"),
        ({"DescribePCR": {}}, "InvalidIndex"),
        ({"ExtendPCR": {"index": 0, "data": b"x"}}, "ReadOnlyIndex"),
        ({"ExtendPCR": {"index": 16, "data": "x"}}, "InvalidArgument"),
        ({"ExtendPCR": {"index": 16, "data": b"x" * 513}}, "InputTooLarge"),
        ({"LockPCR": {"index": 3}}, "ReadOnlyIndex"),
        ({"LockPCRs": {"range": 33}}, "InvalidIndex"),
        ({"Attestation": {"nonce": b"n" * 1025}}, "InputTooLarge"),
        ({"Attestation": {"nonce": "text"}}, "InvalidArgument"),
        ({"Attestation": {"nonce": b"n" * 4096}}, "InputTooLarge"),
    ],
)
def test_errors_by_name(request_value: object, error: str) -> None:
    nsm, _ = device()
    assert ask(nsm, request_value) == {"Error": error}


def test_nothing_on_the_wire_changes_the_image_pcrs() -> None:
    nsm, _ = device()
    for index in range(16):
        ask(nsm, {"ExtendPCR": {"index": index, "data": b"mine"}})
    assert nsm.pcr(0) == IMAGE.pcr0


def test_faults() -> None:
    nsm, _ = device()
    nsm.faults.errors.append("InternalError")
    assert ask(nsm, "GetRandom") == {"Error": "InternalError"}
    nsm.faults.alter_payload = lambda payload: replace(payload, timestamp_ms=7)
    assert parse_untrusted_document(nsm.attest()).timestamp.timestamp() == 0.007
    nsm.faults.alter_document = lambda document: b"\xd2" + document
    assert nsm.attest()[0] == 0xD2
    with pytest.raises(NSMError, match="InputTooLarge"):
        nsm.attest(nonce=b"n" * 1025)


def exchange(path: Path, *requests: bytes) -> list[bytes]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        answers: list[bytes] = []
        with client.makefile("rb") as reader:
            for request in requests:
                client.sendall(len(request).to_bytes(4, "big") + request)
                length = int.from_bytes(reader.read(4), "big")
                answers.append(reader.read(length))
        return answers


def test_device_on_a_socket() -> None:
    with World() as world:
        enclave = world.add_enclave("one", IMAGE)
        enclave.nsm.faults.delay_s = 0.01
        answers = exchange(
            enclave.socket, cbor2.dumps("DescribeNSM"), b"\xff", b"\x00" * 5000, cbor2.dumps("x")
        )
        assert cbor2.loads(answers[0])["DescribeNSM"]["module_id"] == enclave.nsm.module_id
        assert cbor2.loads(answers[1]) == {"Error": "InvalidOperation"}
        assert cbor2.loads(answers[2]) == {"Error": "InputTooLarge"}
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(enclave.socket))
            client.sendall(b"\xff\xff\xff\xff")
            assert client.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(enclave.socket))
            client.sendall(b"\x00\x00")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        world.remove_enclave("one")
        assert not enclave.socket.exists()


def files(tmp_path: Path) -> EnclaveFiles:
    code = tmp_path / "code"
    (code / "__pycache__").mkdir(parents=True)
    (code / "a.py").write_text("a = 1\n")
    (code / "b.py").write_text("b = 1\n")
    (code / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    policy, deployment = tmp_path / "policy.toml", tmp_path / "deployment.toml"
    policy.write_text("floor = 1\n")
    deployment.write_text("account = 1\n")
    return EnclaveFiles(runtime=(code, policy), application=(deployment,))


def test_measurements_change_with_every_file(tmp_path: Path) -> None:
    measured = files(tmp_path)
    before = measure_enclave_files(measured)
    (tmp_path / "code" / "__pycache__" / "a.pyc").write_bytes(b"other")
    assert measure_enclave_files(measured) == before
    (tmp_path / "deployment.toml").write_text("account = 2\n")
    operator = measure_enclave_files(measured)
    assert operator.pcr1 == before.pcr1
    assert operator.pcr0 != before.pcr0
    assert operator.pcr2 != before.pcr2
    (tmp_path / "code" / "a.py").write_text("a = 2\n")
    changed = measure_enclave_files(measured)
    assert changed.pcr2 == operator.pcr2
    assert changed.pcr1 != operator.pcr1
    assert set(changed.hex()) == {"PCR0", "PCR1", "PCR2"}


def test_bytes_cannot_move_between_files(tmp_path: Path) -> None:
    measured = files(tmp_path)
    before = measure_enclave_files(measured)
    (tmp_path / "code" / "a.py").write_text("a = 1\nb")
    (tmp_path / "code" / "b.py").write_text(" = 1\n")
    assert measure_enclave_files(measured).pcr0 != before.pcr0


def test_root_is_kept_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "root.pem"
    first = load_or_make_root(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make_root(path).der == first.der
    rsa_pem = published("nitro", "cms", "cms-04-hello-world.TEST-ONLY-key.pem").read_bytes()
    path.write_bytes(rsa_pem + first.pem.encode())
    with pytest.raises(TypeError, match="EC private key"):
        load_or_make_root(path)
