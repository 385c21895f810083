"""Every published and every made attestation document against its verdict, kind by kind."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import crypto

from latensgate.verify.anchors import AWS_NITRO_ROOT_G1_SHA256, select_anchor
from latensgate.verify.attestation import inspect_document, verify_document
from latensgate.verify.chain import build_path, check_chain
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.errors import VERDICTS, VerificationError
from latensgate.verify.policy import AppraisalPolicy, Measurements
from paths import published

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate.verify.document import UntrustedDocument

NITRO = published("nitro")
TODAY = datetime(2026, 11, 21, tzinfo=UTC)
ANYTHING = AppraisalPolicy(measurements=(Measurements(b"\1" * 48, b"\2" * 48, b"\3" * 48),))
ACCEPTED = "accepted"

# The expected kind of every file, by the number in front of its name (mutations: m, made: s).
KINDS_OF: dict[str, str] = {
    ACCEPTED: "m01 m07 s001 s002 s003 s004 s005 s006 s007 s008 s009 s010 s011 s012 s014 s056",
    "malformed-document": (
        "m02 m03 m04 m05 m06 m15 m17 m23 m24 m25 m29 m30 m31 m34 m36 m37 m38 m39 m40 m41 m42 m43"
        " m44 m45 m46 m47 s017 s018 s019 s027 s028 s029 s030 s031 s032 s033 s034 s035 s036 s037"
        " s038 s039 s040 s041 s042 s045 s046 s047 s048 s049 s050 s051 s052 s053 s054 s055 s057"
        " s058 s059 s060 s061 s062 s063 s064 s065 s066 s068 s069 s070 s071 s072 s073 s076 s077"
        " s078 s079 s080 s081 s082 s083 s086 s087 s088 s093"
        " bad-nodate-e388022c bad-nodate-b689637d arm-cca-platform-token"
    ),
    "unsigned-document": "m14 s085",
    "algorithm-refused": (
        "m08 m12 m13 m16 m18 m19 m20 m21 m22 s015 s016 s020 s021 s022 s023 s106 s107 s108"
    ),
    "not-an-enclave": "s043 s044",
    "untrusted-root": "m32 m33 s089 s090 s094 s095",
    "invalid-chain": (
        "s084 s091 s092 s096 s097 s098 s102 s113 s114 s115 s116 s119 s121 s122 s124 s125"
        " bad-20210909T101920Z-4164bfae"
    ),
    "certificate-expired": "s104 s117",
    "certificate-not-yet-valid": "s105 s118",
    "profile-violation": "s099 s100 s101 s103 s109 s110 s111 s112 s120",
    "invalid-signature": (
        "m09 m10 m11 m26 m27 m28 m35 s024 s025 s026 s123"
        " bad-20210909T101920Z-15d4f223 bad-20240723T212940Z-5f42eb91"
    ),
    "document-time-invalid": "s067 s074 s075",
    "debug-mode-refused": "s013",
}
EXPECTED_KIND = {name: kind for kind, names in KINDS_OF.items() for name in names.split()}
PUBLISHED_VERDICTS = {
    ACCEPTED: {"accept", "valid", "reject-policy"},
    "debug-mode-refused": {"valid-debug"},
}
"""Which words of expected.json each kind may stand for; every other kind: a refusal."""

# Chains that OpenSSL accepts at the same second, and that we refuse all the same.
STRICTER_THAN_OPENSSL = {
    *(
        "m32",
        "m33",
        "s089",
        "s090",
        "s091",
        "s092",
        "s125",
    ),  # the bundle is not exactly the chain, in order
    *("s099", "s100", "s101", "s109", "s110", "s111", "s112"),  # the Nitro profile
}


class Entry(TypedDict):
    file: str
    sha256: str
    expected: str
    verify_at: NotRequired[str]
    certs_valid: list[str] | None
    module_id: str
    timestamp_ms: int
    pcrs_nonzero: dict[str, str]
    public_key: dict[str, str] | None
    user_data: dict[str, str] | None
    nonce: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    number: str
    entry: Entry
    document: bytes
    at: datetime
    root: str | None


def entries(folder: str) -> tuple[list[Entry], str]:
    content = json.loads((NITRO / folder / "expected.json").read_bytes())
    if isinstance(content, list):
        return cast("list[Entry]", content), "2026-04-21T22:33:40Z"
    return content["documents"], content.get("verify_at", "2026-04-21T22:33:40Z")


def cases(folder: str) -> list[Case]:
    found, shared_time = entries(folder)
    root = simulated_root() if folder == "synthetic-pki" else None
    result: list[Case] = []
    for entry in found:
        path: Path = NITRO / entry["file"]
        time = entry.get("verify_at", shared_time)
        at = TODAY if time == "any" else datetime.fromisoformat(time)
        number = path.stem.partition("-")[0] if path.stem[1:2].isdigit() else path.stem
        result.append(Case(path.stem, number, entry, path.read_bytes(), at, root))
    return result


@cache
def simulated_root() -> str:
    pem = (NITRO / "synthetic-pki" / "test-root.pem").read_bytes()
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


ATTESTATION, MUTATIONS, MADE, FOREIGN = (
    cases(folder) for folder in ("attestation", "mutations", "synthetic-pki", "foreign")
)
ALL = [*ATTESTATION, *MUTATIONS, *MADE, *FOREIGN]
GENUINE = [case for case in ATTESTATION if case.entry["expected"] != "reject"]


def expected_kind(case: Case) -> str:
    by_prefix = {"prod": ACCEPTED, "debug": "debug-mode-refused"}
    return EXPECTED_KIND.get(case.number) or by_prefix[case.name.partition("-")[0]]


def judge(case: Case, at: datetime) -> str:
    try:
        inspect_document(case.document, at=at, unsafe_accept_simulated_root_sha256=case.root)
    except VerificationError as error:
        verdict = error
    else:
        return ACCEPTED
    assert type(verdict) in VERDICTS
    assert 1 <= verdict.step <= 9
    return verdict.kind


def ids(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", ALL, ids=ids)
def test_verdict(case: Case) -> None:
    assert hashlib.sha256(case.document).hexdigest() == case.entry["sha256"]
    kind = expected_kind(case)
    assert judge(case, case.at) == kind
    words = PUBLISHED_VERDICTS.get(kind, {"reject", "reject-strict"})
    assert case.entry["expected"] in words


def test_no_document_is_left_out() -> None:
    assert [len(group) for group in (ATTESTATION, MUTATIONS, MADE, FOREIGN)] == [73, 47, 125, 1]
    assert set(EXPECTED_KIND) <= {case.number for case in ALL}


@pytest.mark.parametrize("case", GENUINE, ids=ids)
def test_refused_outside_the_window_of_the_chain(case: Case) -> None:
    window = case.entry["certs_valid"]
    assert window is not None
    first, last = (datetime.fromisoformat(moment) for moment in window)
    second = timedelta(seconds=1)
    assert judge(case, first - second) == "certificate-not-yet-valid"
    assert judge(case, last + second) == "certificate-expired"
    assert judge(case, TODAY) == "certificate-expired"
    assert judge(case, last) == expected_kind(case)


@pytest.mark.parametrize(
    "case", [case for case in MADE if expected_kind(case) == ACCEPTED], ids=ids
)
def test_made_documents_are_refused_outside_the_window(case: Case) -> None:
    first = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
    last = datetime(2026, 6, 1, 15, 0, 3, tzinfo=UTC)
    second = timedelta(seconds=1)
    assert judge(case, first - second) == "certificate-not-yet-valid"
    assert judge(case, last) == ACCEPTED
    assert judge(case, last + second) == "certificate-expired"
    assert judge(case, TODAY) == "certificate-expired"


@pytest.mark.parametrize("case", ALL, ids=ids)
def test_nothing_is_accepted_today_or_under_the_other_root(case: Case) -> None:
    assert judge(case, TODAY) != ACCEPTED
    other = None if case.root else simulated_root()
    swapped = Case(case.name, case.number, case.entry, case.document, case.at, other)
    assert judge(swapped, case.at) != ACCEPTED


@pytest.mark.parametrize("case", ALL, ids=ids)
def test_a_policy_of_other_measurements_refuses_everything(case: Case) -> None:
    policy = ANYTHING
    if case.root:
        policy = AppraisalPolicy(
            measurements=ANYTHING.measurements, unsafe_accept_simulated_root_sha256=case.root
        )
    with pytest.raises(VerificationError) as caught:
        verify_document(case.document, policy=policy, at=case.at)
    kind = expected_kind(case)
    assert caught.value.kind == ("measurement-mismatch" if kind == ACCEPTED else kind)


@pytest.mark.parametrize("case", [case for case in GENUINE if "debug-" not in case.name], ids=ids)
def test_what_a_real_document_says(case: Case) -> None:
    entry = case.entry
    pcrs = {int(index): value for index, value in entry["pcrs_nonzero"].items()}
    policy = AppraisalPolicy(measurements=(Measurements.from_hex(pcrs[0], pcrs[1], pcrs[2]),))
    verified = verify_document(case.document, policy=policy, at=case.at)
    assert verified.status == "verified"
    assert verified.module_id == entry["module_id"]
    assert verified.timestamp == datetime.fromtimestamp(0, UTC) + timedelta(
        milliseconds=entry["timestamp_ms"]
    )
    nonzero = {index: value.hex() for index, value in verified.pcrs.items() if any(value)}
    assert nonzero == pcrs
    assert optional(verified.public_key) == digest_of(entry["public_key"])
    assert optional(verified.user_data) == digest_of(entry["user_data"])
    assert optional(verified.nonce) == digest_of(entry["nonce"])
    assert verified.certificates[0].sha256 == AWS_NITRO_ROOT_G1_SHA256
    assert len(verified.certificates) == 5


def optional(value: bytes | None) -> str | None:
    return None if value is None else hashlib.sha256(value).hexdigest()


def digest_of(value: dict[str, str] | None) -> str | None:
    return None if value is None else value["sha256"]


@pytest.mark.parametrize(
    "case", [case for case in MADE if case.entry["expected"] == "reject-policy"], ids=ids
)
def test_reject_policy_is_refused_by_the_policy_of_the_set(case: Case) -> None:
    content = json.loads((NITRO / "synthetic-pki" / "expected.json").read_bytes())
    policy = AppraisalPolicy(
        measurements=(Measurements.from_hex(*(content["pcrs"][n] for n in ("0", "1", "2"))),),
        unsafe_accept_simulated_root_sha256=case.root,
    )
    with pytest.raises(VerificationError, match="PCR0 differ") as caught:
        verify_document(case.document, policy=policy, at=case.at)
    assert (caught.value.kind, caught.value.step) == ("measurement-mismatch", 10)
    baseline = MADE[0]
    nonce = bytes.fromhex(content["nonce_hex"])
    verified = verify_document(baseline.document, policy=policy, at=case.at, nonce=nonce)
    assert verified.status == "simulated"


def test_the_signature_twin_and_the_tag_have_the_same_hash() -> None:
    base = next(case for case in ATTESTATION if case.name.endswith("f1f05745"))
    twins = [case for case in MUTATIONS if expected_kind(case) == ACCEPTED]
    names = {parse_untrusted_document(case.document).attestation_hash for case in [base, *twins]}
    assert len(twins) == 2
    assert len(names) == 1


# --- OpenSSL as the oracle for the chain ---


def parsed(case: Case) -> UntrustedDocument | None:
    try:
        return parse_untrusted_document(case.document)
    except VerificationError:
        return None


def openssl_accepts(document: UntrustedDocument, root: x509.Certificate, at: datetime) -> bool:
    try:
        certificates = [
            crypto.X509.from_cryptography(x509.load_der_x509_certificate(der))
            for der in (*document.cabundle, document.certificate)
        ]
        store = crypto.X509Store()
        store.add_cert(crypto.X509.from_cryptography(root))
        store.set_time(at.replace(tzinfo=None))
        crypto.X509StoreContext(store, certificates[-1], certificates[:-1]).verify_certificate()
    except (ValueError, crypto.X509StoreContextError):
        return False
    return True


def root_of(case: Case) -> x509.Certificate:
    name = "synthetic-pki/test-root.pem" if case.root else "roots/aws-nitro-enclaves-root-g1.pem"
    return x509.load_pem_x509_certificate((NITRO / name).read_bytes())


def we_accept(document: UntrustedDocument, case: Case, at: datetime) -> bool:
    try:
        check_chain(document, anchor=select_anchor(case.root), at=at, cache=None)
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize("case", ALL, ids=ids)
def test_openssl_judges_the_chain_alike(case: Case) -> None:
    document = parsed(case)
    if document is None:
        return
    for at in (case.at, case.at - timedelta(hours=4), TODAY):
        theirs = openssl_accepts(document, root_of(case), at)
        ours = we_accept(document, case, at)
        if case.number in STRICTER_THAN_OPENSSL and at == case.at:
            assert (theirs, ours) == (True, False)
        else:
            assert theirs == ours


def test_the_known_difference_is_closed_by_our_own_profile() -> None:
    """s120: the path library takes a wrong authorityKeyIdentifier, OpenSSL and we do not."""
    case = next(case for case in MADE if case.number == "s120")
    document = parse_untrusted_document(case.document)
    ders = (*document.cabundle, document.certificate)
    chain = [x509.load_der_x509_certificate(der) for der in ders]
    assert build_path(chain, case.at) == chain
    assert not openssl_accepts(document, root_of(case), case.at)
    assert not we_accept(document, case, case.at)
