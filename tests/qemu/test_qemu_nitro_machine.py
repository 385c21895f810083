"""The image as it is, in QEMU's own Nitro machine: a second implementation measures it.

QEMU parses the image, checks its checksum, computes the registers and answers on ``/dev/nsm``. The
enclave runs until KMS, which refuses it: QEMU signs nothing.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from latensgate.verify.attestation import verify_document
from latensgate.verify.errors import VerificationError
from latensgate.verify.policy import AppraisalPolicy, Measurements
from latensgate_eif.image import Section, SectionType
from latensgate_eif.measure import measure_image
from latensgate_eif.signature import sign_pcr0
from latensgate_shared.cbor import CBORValue, decode
from latensgate_shared.cose import parse_sign1
from latensgate_shared.errors import ErrorCode
from latensgate_sim import recipient
from latensgate_sim.deployment import create_release_key
from latensgate_sim.vm.image import BuiltImage, write_image
from latensgate_sim.vm.machine import HEARTBEAT, Kind, Machine, Plan
from latensgate_sim.vm.qemu import QEMU
from latensgate_sim.vm.stack import BOOT_TIMEOUT_S, EGRESS_PORT, LINK_PORT
from latensgate_sim.world import World
from qemu_machines import patient
from stack import CallFailedError, Stack

ROLE = "arn:aws:iam::111122223333:role/LatensgateParent"
INSTANCE = "i-0123456789abcdef0"
ZERO = bytes(48)


@dataclass
class Seen:
    """What one boot has shown.

    Attributes:
        machine: Still running.
        documents: What KMS was given as `Recipient`.
        code: How the enclave ended the opening of its gate.
    """

    machine: Machine
    documents: list[bytes] = field(default_factory=list[bytes])
    code: ErrorCode | None = None

    @property
    def pcrs(self) -> dict[int | str, CBORValue]:
        untrusted = parse_sign1(self.documents[0], max_bytes=1 << 16)
        value = decode(untrusted.payload, max_bytes=1 << 16, indefinite_root_map=True)
        assert isinstance(value, dict)
        found = value["pcrs"]
        assert isinstance(found, dict)
        return found


def signed(built: BuiltImage, path: Path) -> BuiltImage:
    """Sign an image with a key of its own, so that there is a PCR8."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signs images in tests")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA384())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    section = Section(SectionType.SIGNATURE, sign_pcr0(built.measurements.pcr0, pem, key))
    return write_image(replace(built.image, sections=(*built.image.sections, section)), path)


@pytest.fixture(scope="module")
def signed_image(built: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    return signed(built, tmp_path_factory.mktemp("signed") / "signed.eif")


@pytest.fixture(scope="module")
def seen(qemu: QEMU, world: World, signed_image: BuiltImage, config: Path) -> Iterator[Seen]:
    """Boot once, act as an honest parent, and look at what KMS is told."""
    folder = world.folder / "nitro"
    listen = world.folder / "nitro.sock"
    plan = Plan(
        kind=Kind.NITRO_ENCLAVE,
        image=signed_image.path,
        folder=folder,
        outward={EGRESS_PORT: world.tunnel.path},
        inward={listen: LINK_PORT},
        parent_role=ROLE,
        parent_id=INSTANCE,
    )
    device = world.add_enclave("nitro", signed_image.measurements)  # for the key's policy alone
    with Machine(qemu, plan) as machine:
        machine.wait_serving(listen, BOOT_TIMEOUT_S)
        found = Seen(machine)
        key_arn = create_release_key(world, device.measurements, config)
        open_gate(world, listen, key_arn, found)
        yield found
    world.remove_enclave("nitro")


def open_gate(world: World, listen: Path, key_arn: str, found: Seen) -> None:
    judged = recipient.read_recipient

    def watched(
        parameter: Mapping[str, object], *, root_sha256: str, at: dt.datetime
    ) -> recipient.Recipient:
        found.documents.append(base64.b64decode(str(parameter["AttestationDocument"])))
        return judged(parameter, root_sha256=root_sha256, at=at)

    stack = Stack(world, mock.Mock(), Path(), key_arn)
    with mock.patch("latensgate_sim.kms.read_recipient", watched), patient(listen) as link:
        link.call(stack.credentials())
        try:
            stack.configured(link)
        except CallFailedError as error:
            found.code = error.code


def test_it_boots_and_says_so(seen: Seen) -> None:
    assert [beat for _, beat in seen.machine.heartbeat.beats] == [HEARTBEAT]
    assert "event=LISTENING" in seen.machine.console()


def test_qemu_measures_what_we_measure(seen: Seen, signed_image: BuiltImage) -> None:
    ours = measure_image(signed_image.image)
    assert seen.pcrs[0] == ours.pcr0
    assert seen.pcrs[1] == ours.pcr1
    assert seen.pcrs[2] == ours.pcr2
    assert seen.pcrs[8] == ours.pcr8


def test_role_and_instance_are_measured_as_on_nitro(seen: Seen) -> None:
    assert seen.pcrs[3] == hashlib.sha384(ZERO + ROLE.encode()).digest()
    assert seen.pcrs[4] == hashlib.sha384(ZERO + INSTANCE.encode()).digest()
    assert set(seen.pcrs) == set(range(16))


def test_the_registers_are_those_that_the_key_policy_names(seen: Seen) -> None:
    """The enclave compares the policy with its own registers before it asks for the secret."""
    assert seen.documents
    assert seen.code in {ErrorCode.ERR_KMS_DENIED, ErrorCode.ERR_KMS_UNREACHABLE}
    assert "event=KEYS_ROTATED" not in seen.machine.console()


def test_its_unsigned_document_is_refused(
    seen: Seen, signed_image: BuiltImage, world: World
) -> None:
    said = signed_image.measurements
    accepted = Measurements(pcr0=said.pcr0, pcr1=said.pcr1, pcr2=said.pcr2)
    for root in (None, world.nitro_root_sha256):
        policy = AppraisalPolicy(measurements=(accepted,), unsafe_accept_simulated_root_sha256=root)
        with pytest.raises(VerificationError) as refused:
            verify_document(seen.documents[0], policy=policy, at=dt.datetime.now(dt.UTC))
        assert refused.value.step < 8  # long before its registers, which are right, are looked at


def test_clock_and_entropy(seen: Seen) -> None:
    assert "init: clock: tsc" in seen.machine.console()
    assert "init: entropy: nsm-hwrng" in seen.machine.console()


@pytest.mark.parametrize("where", ["kernel", "ramdisk"])
def test_a_flipped_byte_does_not_boot(
    qemu: QEMU, built: BuiltImage, tmp_path: Path, where: str
) -> None:
    image = tmp_path / "flipped.eif"
    shutil.copyfile(built.path, image)
    at = 100_000 if where == "kernel" else image.stat().st_size - 100_000
    with image.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    plan = Plan(Kind.NITRO_ENCLAVE, image, tmp_path / "m")
    with Machine(qemu, plan) as machine:
        try:
            status = machine.process.wait(60)
        except subprocess.TimeoutExpired:
            pytest.fail("QEMU runs it all the same")
        assert status == 1
        assert "CRC" in machine.console()
        assert not machine.heartbeat.beats
