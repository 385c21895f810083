"""Published HPKE vectors: RFC 9180, the post-quantum draft and the X-Wing draft."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from latensgate_shared import hpke
from latensgate_shared.hpke_kem import X25519KEMPublicKey
from paths import published

if TYPE_CHECKING:
    from collections.abc import Iterator


class Encryption(TypedDict):
    seq: NotRequired[int]
    aad: str
    ct: str
    pt: str


class Export(TypedDict):
    exporter_context: str
    L: int
    exported_value: str


class Case(TypedDict):
    mode: int
    kem_id: int
    kdf_id: int
    aead_id: int
    info: str
    skRm: str
    pkRm: str
    skEm: NotRequired[str]
    enc: str
    shared_secret: str
    key: str
    base_nonce: str
    exporter_secret: str
    encryptions: list[Encryption]
    exports: list[Export]


class XWingCase(TypedDict):
    sk: str
    pk: str
    ct: str
    ss: str


KEMS: Final = {kem.id: kem for kem in (hpke.X25519, hpke.XWING)}
AEADS: Final = {
    aead.id: aead for aead in (hpke.AES_128_GCM, hpke.AES_256_GCM, hpke.CHACHA20_POLY1305)
}


def ours(file: str) -> Iterator[Case]:
    """Yield the cases of suites that we have, in base mode."""
    cases = cast("list[Case]", json.loads(published("standards", "hpke", file).read_text()))
    for case in cases:
        have = case["kem_id"] in KEMS and case["kdf_id"] == 1 and case["aead_id"] in AEADS
        if have and case["mode"] == 0:
            yield case


CASES: Final = [*ours("rfc9180.json"), *ours("hpke-pq-draft.json")]


def name(case: Case) -> str:
    return f"{case['kem_id']:#06x}-{case['aead_id']}"


def suite_of(case: Case) -> hpke.Suite:
    return hpke.Suite(KEMS[case["kem_id"]], AEADS[case["aead_id"]])


def recipient_of(case: Case) -> hpke.RecipientContext:
    suite = suite_of(case)
    private = suite.kem.load_private_key(bytes.fromhex(case["skRm"]))
    return hpke.setup_recipient(
        suite, private, bytes.fromhex(case["enc"]), bytes.fromhex(case["info"])
    )


def test_the_suites_are_the_expected_ones() -> None:
    assert sorted(name(case) for case in CASES) == ["0x0020-1", "0x0020-2", "0x0020-3", "0x647a-3"]


@pytest.mark.parametrize("case", CASES, ids=name)
def test_recipient_key_and_decapsulation(case: Case) -> None:
    private = KEMS[case["kem_id"]].load_private_key(bytes.fromhex(case["skRm"]))
    assert private.public_key.raw.hex() == case["pkRm"]
    assert private.decapsulate(bytes.fromhex(case["enc"])).hex() == case["shared_secret"]


@pytest.mark.parametrize("case", CASES, ids=name)
def test_key_schedule(case: Case) -> None:
    key, base_nonce, exporter = suite_of(case).key_schedule(
        bytes.fromhex(case["shared_secret"]), bytes.fromhex(case["info"])
    )
    expected = (case["key"], case["base_nonce"], case["exporter_secret"])
    parts = (key, base_nonce, hpke.exporter_secret(exporter))
    assert tuple(part.hex() for part in parts) == expected


@pytest.mark.parametrize("case", CASES, ids=name)
def test_encryptions(case: Case) -> None:
    recipient = recipient_of(case)
    secret, info = bytes.fromhex(case["shared_secret"]), bytes.fromhex(case["info"])
    sender = hpke.SenderContext(recipient.suite, secret, info)
    by_sequence = {e.get("seq", i): e for i, e in enumerate(case["encryptions"])}
    for sequence in range(max(by_sequence) + 1):
        encryption = by_sequence.get(sequence)
        if encryption is None:  # the files leave numbers out; the counters must still pass them
            recipient.open(b"", sender.seal(b"", b""))
            continue
        aad, ct = bytes.fromhex(encryption["aad"]), bytes.fromhex(encryption["ct"])
        pt = bytes.fromhex(encryption["pt"])
        assert sender.seal(aad, pt) == ct
        assert recipient.open(aad, ct) == pt


@pytest.mark.parametrize("case", CASES, ids=name)
def test_exports(case: Case) -> None:
    recipient = recipient_of(case)
    assert case["exports"]
    for export in case["exports"]:
        exported = recipient.export(bytes.fromhex(export["exporter_context"]), export["L"])
        assert exported.hex() == export["exported_value"]


@pytest.mark.parametrize("case", [c for c in CASES if "skEm" in c], ids=name)
def test_encapsulation_from_a_known_ephemeral_key(case: Case) -> None:
    public = X25519KEMPublicKey(bytes.fromhex(case["pkRm"]))
    ephemeral = X25519PrivateKey.from_private_bytes(bytes.fromhex(case.get("skEm", "")))
    shared_secret, enc = public._encapsulate_from(ephemeral)  # pyright: ignore[reportPrivateUsage] # the seam is for vectors
    assert (shared_secret.hex(), enc.hex()) == (case["shared_secret"], case["enc"])


def xwing_cases() -> list[XWingCase]:
    path = published("standards", "hpke", "x-wing-draft.json")
    return cast("list[XWingCase]", json.loads(path.read_text()))


@pytest.mark.parametrize("index", range(3))
def test_x_wing_draft(index: int) -> None:
    cases = xwing_cases()
    assert len(cases) == 3
    case = cases[index]
    private = hpke.XWING.load_private_key(bytes.fromhex(case["sk"]))
    assert private.public_key.raw.hex() == case["pk"]
    assert private.decapsulate(bytes.fromhex(case["ct"])).hex() == case["ss"]
