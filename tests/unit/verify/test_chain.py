from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from latensgate.verify import chain as chain_module
from latensgate.verify.anchors import select_anchor
from latensgate.verify.chain import ChainCache, CheckedChain, check_chain
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    InvalidChain,
    ProfileViolation,
    UntrustedRoot,
    VerificationError,
)
from latensgate.verify.profile import check_module, check_profile
from latensgate_shared import limits
from nitro_factory import (
    CHAIN,
    INSTANCE,
    LEAF,
    LEAF_NAME,
    MODULE_ID,
    NOW,
    Draft,
    Shape,
    der,
    issue,
    issue_chain,
    root_sha256,
    standard_chain,
)

if TYPE_CHECKING:
    from datetime import datetime

ROOT, REGION, INSTANCE_CA, _ = CHAIN
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def check(
    chain: tuple[bytes, ...], *, at: datetime = NOW, cache: ChainCache | None = None
) -> CheckedChain:
    said = parse_untrusted_document(Draft(chain=chain).sign())
    anchor = select_anchor(root_sha256(chain))
    return check_chain(said, anchor=anchor, at=at, cache=cache)


def shaped(*shapes: Shape) -> tuple[bytes, ...]:
    return tuple(der(certificate) for certificate in issue_chain(shapes))


def profile_refusal(*shapes: Shape) -> str:
    with pytest.raises(ProfileViolation) as caught:
        check_profile(issue_chain(shapes))
    assert caught.value.step == 6
    return caught.value.detail


def test_a_good_chain_is_summed_up() -> None:
    checked = check(standard_chain())
    assert [summary.subject for summary in checked.certificates] == [
        f"CN={shape.name}" for shape in CHAIN
    ]
    assert checked.certificates[0].sha256 == root_sha256()
    assert checked.certificates[-1].serial == f"{1003:x}"


def test_a_root_that_issues_leaves_itself_is_enough() -> None:
    assert len(check(shaped(ROOT, LEAF)).certificates) == 2


def test_the_root_is_taken_by_fingerprint_and_first() -> None:
    said = parse_untrusted_document(Draft().sign())
    with pytest.raises(UntrustedRoot, match="another authority"):
        check_chain(said, anchor=select_anchor("ab" * 32), at=NOW, cache=None)
    root, region, *rest = standard_chain()
    turned = parse_untrusted_document(Draft(chain=(region, root, *rest)).sign())
    with pytest.raises(UntrustedRoot, match="not its first entry"):
        check_chain(turned, anchor=select_anchor(root_sha256()), at=NOW, cache=None)


def test_the_same_root_name_with_another_key_does_not_help() -> None:
    foreign = shaped(replace(ROOT, path_length=3), *CHAIN[1:])
    mixed = (standard_chain()[0], *foreign[1:])
    assert len(check(mixed).certificates) == 4  # same keys: a good chain
    stranger = issue_chain((replace(REGION, name="root.invalid"), REGION, INSTANCE_CA, LEAF))
    assert der(stranger[0]) != standard_chain()[0]


@pytest.mark.parametrize("at", [NOW - timedelta(minutes=31), NOW + timedelta(hours=3)])
def test_windows_hold_with_and_without_memory(at: datetime) -> None:
    cache = ChainCache()
    check(standard_chain(), cache=cache)
    for memory in (None, cache):
        with pytest.raises((CertificateExpired, CertificateNotYetValid)):
            check(standard_chain(), at=at, cache=memory)


@pytest.mark.parametrize("number", range(4))
def test_the_window_of_every_certificate_counts(number: int) -> None:
    second = timedelta(seconds=1)
    place = ("root", "CA 1", "CA 2", "leaf")[number]
    for shape, verdict in (
        (replace(CHAIN[number], not_after=NOW - second), CertificateExpired),
        (replace(CHAIN[number], not_before=NOW + second), CertificateNotYetValid),
    ):
        with pytest.raises(verdict, match=f"^{place} certificate"):
            check(shaped(*CHAIN[:number], shape, *CHAIN[number + 1 :]))


def test_memory_gives_the_same_object_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ATTESTATION_CHAIN_CACHE_COUNT", 2)
    cache = ChainCache()
    first = check(standard_chain(), cache=cache)
    assert check(standard_chain(), cache=cache) is first
    for path_length in (3, 4):
        check(shaped(replace(ROOT, path_length=path_length), *CHAIN[1:]), cache=cache)
    assert check(standard_chain(), cache=cache) is not first


def test_memory_never_crosses_roots() -> None:
    cache = ChainCache()
    check(standard_chain(), cache=cache)
    said = parse_untrusted_document(Draft().sign())
    with pytest.raises(UntrustedRoot):
        check_chain(said, anchor=select_anchor("ab" * 32), at=NOW, cache=cache)


def test_failures_are_not_remembered() -> None:
    cache = ChainCache()
    bad = shaped(ROOT, REGION, replace(INSTANCE_CA, ca=False, path_length=None), LEAF)
    for _ in range(2):
        with pytest.raises(InvalidChain):
            check(bad, cache=cache)


@pytest.mark.parametrize(
    "order", [(0, 2, 1, 3), (0, 1, 1, 3), (0, 2, 3), (0, 1, 2, 3, 3), (0, 0, 1, 2, 3)]
)
def test_the_bundle_is_exactly_the_chain(order: tuple[int, ...]) -> None:
    good = standard_chain()
    with pytest.raises(InvalidChain) as caught:
        check(tuple(good[number] for number in order))
    assert caught.value.step == 5


def test_names_that_lead_nowhere_cost_no_path_building(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        pytest.fail("the path builder was asked")

    monkeypatch.setattr(chain_module, "build_path", unreachable)
    same = replace(REGION, name=ROOT.name)
    with pytest.raises(InvalidChain, match="the same name"):
        check(shaped(ROOT, *[same] * 7, replace(LEAF)))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_broken_signature_anywhere(number: int) -> None:
    chain = list(standard_chain())
    chain[number] = chain[number][:-1] + bytes([chain[number][-1] ^ 1])
    with pytest.raises(InvalidChain, match="do not lead"):
        check(tuple(chain))


@pytest.mark.parametrize("junk", [b"\x30\x00", b"junk", b"\x30\x82\xff\xff"])
def test_junk_is_no_certificate(junk: bytes) -> None:
    with pytest.raises(InvalidChain, match=r"not well-formed X\.509"):
        check((standard_chain()[0], junk, *standard_chain()[2:]))


def test_a_name_that_is_a_bit_string_is_no_certificate() -> None:
    leaf = bytearray(standard_chain()[3])
    value = leaf.rindex(b"\x55\x04\x03\x0c") + 3  # the subject's common name, a UTF8String
    leaf[value], leaf[value + 2] = 0x03, 0
    with pytest.raises(InvalidChain, match=r"not well-formed X\.509"):
        check((*standard_chain()[:3], bytes(leaf)))


def test_a_country_of_three_letters_is_a_verdict_too() -> None:
    """The library warns about it when the name is read, and pytest makes that an error."""
    authority = bytearray(standard_chain()[2])
    kind = authority.rindex(b"\x55\x04\x03\x0c")
    authority[kind + 2] = 0x06  # common name becomes country
    with pytest.raises(InvalidChain):
        check((*standard_chain()[:2], bytes(authority), standard_chain()[3]))


def test_warnings_as_errors_are_a_verdict_too() -> None:
    """A serial number of zero makes the library warn, and pytest turns that into an error."""
    raw = standard_chain()[3]
    serial = raw.index(bytes.fromhex("020203eb"))
    zero = raw[: serial + 2] + b"\x00\x00" + raw[serial + 4 :]
    with pytest.raises(VerificationError):
        check((*standard_chain()[:3], zero))


# --- the Nitro profile ---


def test_the_profile_gives_the_key_of_the_leaf() -> None:
    chain = issue_chain()
    assert check_profile(chain) == chain[-1].public_key()


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ((ROOT, replace(LEAF, ca=True)), "leaf: basicConstraints say that it is a CA"),
        ((ROOT, replace(LEAF, constrained=False)), "leaf: no basicConstraints"),
        ((ROOT, replace(LEAF, usages=None)), "leaf: no keyUsage"),
        ((ROOT, replace(LEAF, usages=("content_commitment",))), "must have digitalSignature"),
        (
            (ROOT, replace(LEAF, usages=("digital_signature", "key_cert_sign"))),
            "not keyCertSign",
        ),
        ((ROOT, replace(LEAF, extra=((UNKNOWN, True),))), r"leaf: critical extension 1.3.6"),
        ((replace(ROOT, ca=False), LEAF), "root: basicConstraints say that it is no CA"),
        ((replace(ROOT, constrained=False), LEAF), "root: no basicConstraints"),
        ((replace(ROOT, usages=None), LEAF), "root: no keyUsage"),
        ((ROOT, replace(REGION, usages=("crl_sign",)), LEAF), "CA 1: keyUsage without"),
        ((replace(ROOT, path_length=0), REGION, LEAF), "root: path length 0, but 1"),
        ((ROOT, replace(REGION, path_length=0), INSTANCE_CA, LEAF), "CA 1: path length 0"),
    ],
)
def test_what_the_profile_refuses(shapes: tuple[Shape, ...], reason: str) -> None:
    assert reason in profile_refusal(*shapes)


def test_extensions_that_are_not_critical_may_be_there() -> None:
    chain = issue_chain((ROOT, replace(LEAF, extra=((UNKNOWN, False),))))
    assert check_profile(chain) == chain[-1].public_key()


def identifiers(issuer: bytes | None, named: bytes | None, *, with_aki: bool = True) -> str | None:
    ski = () if issuer is None else ((x509.SubjectKeyIdentifier(issuer), False),)
    names = [x509.DirectoryName(x509.Name([]))]
    aki = (
        x509.AuthorityKeyIdentifier(named, names, 1)
        if named is None
        else (x509.AuthorityKeyIdentifier(named, None, None))
    )
    child = replace(LEAF, extra=((aki, False),) if with_aki else ())
    try:
        check_profile(issue_chain((replace(ROOT, extra=ski), child)))
    except ProfileViolation as error:
        return error.detail
    return None


def test_key_identifiers_agree_where_both_are_there() -> None:
    assert identifiers(b"key", b"key") is None
    assert identifiers(None, b"key") is None
    assert identifiers(b"key", None) is None
    assert identifiers(b"key", b"x", with_aki=False) is None
    assert "names another key" in (identifiers(b"key", b"other") or "")


def shortened(raw: bytes) -> bytes:
    """Take the version out of a certificate, which makes it version 1."""
    outer, inner = int.from_bytes(raw[2:4], "big"), int.from_bytes(raw[6:8], "big")
    assert raw[8:13] == bytes.fromhex("a003020102")
    head = raw[:2] + (outer - 5).to_bytes(2, "big") + raw[4:6] + (inner - 5).to_bytes(2, "big")
    return head + raw[13:]


def test_version_1_is_refused() -> None:
    root, *_, leaf = issue_chain((ROOT, LEAF))
    old = x509.load_der_x509_certificate(shortened(der(leaf)))
    with pytest.raises(ProfileViolation, match="version 3"):
        check_profile([root, old])


def test_a_key_that_is_no_point_is_refused() -> None:
    root, leaf = issue_chain((ROOT, LEAF))
    raw = der(leaf)
    point = raw.index(bytes.fromhex("03620004")) + 4
    broken = x509.load_der_x509_certificate(raw[:point] + b"\xff" * 96 + raw[point + 96 :])
    with pytest.raises(ProfileViolation, match="leaf: a public key that cannot be read"):
        check_profile([root, broken])


# --- leaf, module id and PCR4 ---


def module_refusal(name: str, **changes: object) -> str:
    leaf = issue_chain((ROOT, replace(LEAF, name=name)))[-1]
    said = parse_untrusted_document(Draft().but(**changes).sign())
    with pytest.raises(ProfileViolation) as caught:
        check_module(leaf, said)
    return caught.value.detail


def test_the_region_is_read_from_the_leaf() -> None:
    said = parse_untrusted_document(Draft().sign())
    for region in ("eu-central-1", "us-gov-west-1", "ap-southeast-12"):
        leaf = issue_chain((ROOT, replace(LEAF, name=f"{MODULE_ID}.{region}.aws")))[-1]
        assert check_module(leaf, said) == region


@pytest.mark.parametrize(
    "name",
    [
        MODULE_ID,
        f"{MODULE_ID}.aws",
        f"{MODULE_ID}.eu-central-1.aws.example",
        f"{MODULE_ID}eu-central-1.aws",
        f"x{LEAF_NAME}",
        LEAF_NAME.replace("0123", "3210"),
        LEAF_NAME.upper(),
        ".eu-central-1.aws",
    ],
)
def test_other_leaf_names_are_refused(name: str) -> None:
    assert "common name" in module_refusal(name)


def test_pcr4_must_measure_the_instance_where_it_is_there() -> None:
    pcrs = Draft().pcrs
    assert "PCR4" in module_refusal(LEAF_NAME, pcrs={**pcrs, 4: b"\x01" * 48})
    assert "PCR4" in module_refusal(LEAF_NAME, pcrs={**pcrs, 4: bytes(48)})
    without = {index: value for index, value in pcrs.items() if index != 4}
    leaf = issue_chain((ROOT, LEAF))[-1]
    assert check_module(leaf, parse_untrusted_document(Draft(pcrs=without).sign()))
    assert INSTANCE in MODULE_ID


def test_the_bytes_of_a_certificate_are_no_identity() -> None:
    """The count of unused bits before a signature is signed by nobody (ADR 0003)."""
    leaf = der(issue(LEAF, 3, INSTANCE_CA, 2))
    while leaf[-1] & 1:  # the unused bit has to be zero; every second signature will do
        leaf = der(issue(LEAF, 3, INSTANCE_CA, 2))
    count_at = leaf.rindex(b"\x00\x30", 0, -90)
    twin = leaf[:count_at] + b"\x01" + leaf[count_at + 1 :]
    above, cache = standard_chain()[:-1], ChainCache()
    first, second = (check((*above, each), cache=cache) for each in (leaf, twin))
    assert first.leaf_key.public_numbers() == second.leaf_key.public_numbers()
    assert first.certificates[-1].sha256 != second.certificates[-1].sha256
    signed = Draft(chain=(*above, leaf)).sign()
    swapped = parse_untrusted_document(signed.replace(leaf, twin))
    assert swapped.attestation_hash != parse_untrusted_document(signed).attestation_hash
