"""A parent that shows other evidence than the enclave's: nothing is sealed to it."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from gateway_stand_in import StandIn
from hostile_fixtures import UNARY, Victims, in_turn
from latensgate import errors
from latensgate.verify import parse_untrusted_document
from latensgate_shared.manifest import build_user_data
from latensgate_sim.measure import Measurements
from latensgate_sim.nsm import NSM
from malicious_gateway import Asked, Attack, Honest, Reply, Told, proofs

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def room_for_proofs() -> None:
    """An enclave proves its freshness five times a second, and these tests share two."""
    time.sleep(1.0)


@pytest.fixture
def strangers(victims: Victims, tmp_path: Path) -> Victims:
    """Clients that have attested nothing yet."""
    return replace(victims, state=tmp_path / "state")


def assert_refused(strangers: Victims, attack: Attack, way: str) -> None:
    got = strangers.suffer(attack, way)
    assert isinstance(got.error, errors.AttestationError), got
    assert not got.error.retryable
    assert got.text == ""
    assert strangers.gateway.inferences == [], "it was sealed to, and sent"
    assert len(strangers.gateway.attestations) == 1


def document_in(told: Told, member: str) -> bytes:
    return base64.b64decode(str(told.json[member]))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- documents of somebody else ---


@dataclass
class Rogue:
    """Shows a device of its own and keys of its own, and answers every challenge."""

    attest: Callable[[bytes | None], bytes]
    manifest: bytes

    def __call__(self, asked: Asked, honest: Honest) -> Reply:
        if not asked.attestation:
            return honest(asked)
        nonce = bytes.fromhex(asked.target.partition("nonce=")[2])
        document = self.attest(None)
        body = {
            "attestation_hash": _hash(document),
            "document": text(document),
            "manifest": text(self.manifest),
            "nonce_document": text(self.attest(nonce)),
        }
        return Told(200, json.dumps(body).encode())


def _hash(document: bytes) -> str:
    return parse_untrusted_document(document).attestation_hash


def device(strangers: Victims, measured: Measurements, *, debug: bool = False) -> Iterator[NSM]:
    """A device under the accepted root, as an instance of the operator has them."""
    world, name = strangers.stack.dev.world, f"rogue-{next(_numbers)}"
    yield world.add_enclave(name, measured, debug=debug).nsm
    world.remove_enclave(name)


def rogue_manifest() -> bytes:
    """A manifest whose keys the attacker holds, valid now."""
    return StandIn().manifest_bytes


def of(nsm: NSM, manifest: bytes) -> Rogue:
    return Rogue(
        lambda nonce: nsm.attest(user_data=build_user_data(manifest, nonce), nonce=nonce), manifest
    )


@pytest.mark.parametrize("way", UNARY)
def test_documents_under_another_root(strangers: Victims, way: str) -> None:
    """A whole attestation, made by the attacker. Defence: verify/chain.py, the pinned root."""
    stand_in = StandIn()
    attack = Rogue(stand_in.make_document, stand_in.manifest_bytes)
    assert_refused(strangers, attack, way)


@pytest.mark.parametrize("way", UNARY)
def test_documents_of_another_image(strangers: Victims, way: str) -> None:
    """The operator's own image, truly attested. Defence: AppraisalPolicy.appraise."""
    other = Measurements(b"\1" * 48, b"\2" * 48, b"\3" * 48)
    for nsm in device(strangers, other):
        assert_refused(strangers, of(nsm, rogue_manifest()), way)


@pytest.mark.parametrize("way", UNARY)
def test_documents_of_an_image_that_differs_in_one_register(strangers: Victims, way: str) -> None:
    true = strangers.stack.dev.enclaves[0].device.measurements
    for name in ("pcr0", "pcr1", "pcr2"):
        for nsm in device(strangers, replace(true, **{name: b"\1" * 48})):
            assert_refused(strangers, of(nsm, rogue_manifest()), way)


@pytest.mark.parametrize("way", UNARY)
def test_documents_of_a_debug_enclave(strangers: Victims, way: str) -> None:
    true = strangers.stack.dev.enclaves[0].device.measurements
    for nsm in device(strangers, true, debug=True):
        assert_refused(strangers, of(nsm, rogue_manifest()), way)


# --- true documents, put together wrongly ---


def with_keys(told: Told) -> Told:
    """The attacker's keys in the enclave's manifest."""
    mine = json.loads(document_in(told, "manifest"))
    mine["hpke_keys"] = json.loads(rogue_manifest())["hpke_keys"]
    forged = json.dumps(mine, sort_keys=True, separators=(",", ":")).encode()
    return told.changed(manifest=text(forged))


def with_member(name: str, value: Callable[[object], object]) -> Callable[[Told], Told]:
    def change(told: Told) -> Told:
        mine = json.loads(document_in(told, "manifest"))
        mine[name] = value(mine[name])
        forged = json.dumps(mine, sort_keys=True, separators=(",", ":")).encode()
        return told.changed(manifest=text(forged))

    return change


def flipped(member: str, at: int) -> Callable[[Told], Told]:
    def change(told: Told) -> Told:
        data = document_in(told, member)
        at_ = at % len(data)
        return told.changed(**{member: text(data[:at_] + bytes([data[at_] ^ 1]) + data[at_ + 1 :])})

    return change


TOGETHER: dict[str, Callable[[Told], Told]] = {
    "keys of the attacker": with_keys,
    "the manifest of the attacker": lambda told: told.changed(manifest=text(rogue_manifest())),
    "only the weaker suite": with_member(
        "hpke_keys", lambda keys: cast("list[object]", keys)[1:] or []
    ),
    "a receipt key of the attacker": with_member("receipt_key", lambda _: "ab" * 32),
    "a longer life": with_member("not_after", lambda at: cast("int", at) + 3_600),
    "another policy": with_member("policy_digest", lambda _: "sha384:" + "0" * 96),
    "another hash": lambda told: told.changed(attestation_hash="sha384:" + "0" * 96),
    "the published one as the fresh": lambda told: told.changed(
        nonce_document=told.json["document"]
    ),
    "the fresh one as published": lambda told: told.changed(document=told.json["nonce_document"]),
    "no fresh one": lambda told: told.without("nonce_document"),
    "a null for the fresh one": lambda told: told.changed(nonce_document=None),
    "a bit of the published payload": flipped("document", 700),
    "a bit of the published signature": flipped("document", -1),
    "a bit of the fresh signature": flipped("nonce_document", -1),
    "a bit of a certificate": flipped("nonce_document", 1800),
    "a document cut short": lambda told: told.changed(
        document=text(document_in(told, "document")[:-10])
    ),
    "a document and more": lambda told: told.changed(
        document=text(document_in(told, "document") + b"\0")
    ),
    "a member more": lambda told: told.changed(skip_verification=True),
    "not JSON": lambda told: replace(told, body=b"<html>"),
    "an empty body": lambda told: replace(told, body=b""),
}


@pytest.mark.parametrize(("name", "way"), in_turn(TOGETHER, UNARY))
def test_evidence_put_together_wrongly(strangers: Victims, name: str, way: str) -> None:
    """Defence: attested.Attester.judge and the one verifier."""
    assert_refused(strangers, proofs(TOGETHER[name]), way)


# --- old evidence, and that of the other enclave ---


@pytest.mark.parametrize("way", UNARY)
def test_old_evidence(strangers: Victims, tmp_path: Path, way: str) -> None:
    """A whole true answer to somebody's earlier challenge. Defence: the nonce."""
    kept: list[Told] = []

    def replay(asked: Asked, honest: Honest) -> Reply:
        if not asked.attestation:
            return honest(asked)
        kept.append(honest(asked))
        return kept[0]

    assert strangers.suffer(replay, way).error is None
    assert_refused(replace(strangers, state=tmp_path / "later"), replay, way)


def _fetched(strangers: Victims, nonce: str | None = None) -> Told:
    query = f"?nonce={nonce}" if nonce else ""
    asked = Asked("GET", f"/api/attestation{query}", {}, b"", b"")
    return strangers.gateway.honest(asked)


def _of_both(strangers: Victims) -> tuple[Told, Told]:
    first = _fetched(strangers, "ab" * 32)
    for _ in range(6):
        other = _fetched(strangers, "cd" * 32)
        if other.json["attestation_hash"] != first.json["attestation_hash"]:
            return first, other
    pytest.fail("the parent always chose one enclave")


def test_fresh_proof_of_the_other_enclave(strangers: Victims) -> None:
    """Both are true, and of one image: the keys are in one of them only. Defence: module_id."""
    first, other = _of_both(strangers)

    def mix(told: Told) -> Told:
        another = _unlike(told, first, other)
        return told.changed(
            **{name: another.json[name] for name in ("document", "attestation_hash", "manifest")}
        )

    assert_refused(strangers, proofs(mix), "unary")
    only = proofs(lambda told: told.changed(manifest=_unlike(told, first, other).json["manifest"]))
    assert_refused(strangers, only, "async unary")


def _unlike(told: Told, first: Told, other: Told) -> Told:
    mine = told.json["attestation_hash"]
    return other if other.json["attestation_hash"] != mine else first


@pytest.mark.parametrize("way", UNARY)
def test_evidence_swapped_at_a_stale_key(strangers: Victims, way: str) -> None:
    """Attested once, honestly; then the parent says "stale" and shows its own keys."""
    stand_in = StandIn()
    attack = Rogue(stand_in.make_document, stand_in.manifest_bytes)
    assert strangers.suffer(lambda asked, honest: honest(asked), way).error is None

    def stale(asked: Asked, honest: Honest) -> Reply:
        if asked.inference:
            return Told(409, _STALE)
        return attack(asked, honest)

    got = strangers.suffer(stale, way)
    assert isinstance(got.error, errors.AttestationError), got
    assert len(strangers.gateway.inferences) == 1  # to the keys that were verified
    assert strangers.suffer(lambda asked, honest: honest(asked), way).error is None


_STALE = json.dumps(
    {
        "error": {"message": "x", "type": "api_error", "param": None, "code": "ERR_KEY_STALE"},
        "code": "ERR_KEY_STALE",
        "correlation_id": "x",
        "hint": "Fetch the attestation again and seal anew, once.",
    }
).encode()


def test_base64_that_is_not_strict(strangers: Victims) -> None:
    def loosen(told: Told) -> Told:
        return told.changed(manifest=str(told.json["manifest"]) + "\n")

    assert_refused(strangers, proofs(loosen), "unary")
