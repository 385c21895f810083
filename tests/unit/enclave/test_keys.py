"""HPKE generations: derived from both inputs, bound by the NSM, overlapping, ending."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_doubles import Accident, Bench, bench, in_loop
from latensgate.verify.document import parse_untrusted_document
from latensgate_enclave.keys import (
    KeyRing,
    ManifestFacts,
    Publication,
    derive_opening_key,
)
from latensgate_enclave.nitro.nsm import NSMError
from latensgate_shared.cose import parse_sign1, sig_structure
from latensgate_shared.limits import KEY_ROTATION_S, MANIFEST_LIFETIME_S
from latensgate_shared.manifest import SUITES, build_user_data, encode_manifest
from latensgate_shared.sealed import SUITE_X25519, SUITE_XWING, KeyStaleError

DIGEST = "sha384:" + "cd" * 48
FACTS = ManifestFacts(
    software_version="1.2.3",
    policy_digest=DIGEST,
    deployment_digest=DIGEST,
    kms_key_arn="arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    kms_key_policy_digest=DIGEST,
    service_account="111122223333",
    region="us-east-1",
)
SECRET = bytes(range(32))


async def rotate(made: Bench) -> Publication:
    return await made.keys.rotate(SECRET, FACTS)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_private_key_depends_on_both_inputs(secret: bytes, fresh: bytes) -> None:
    flip = bytes([secret[0] ^ 1]) + secret[1:], bytes([fresh[0] ^ 1]) + fresh[1:]
    ids = {
        derive_opening_key(SUITE_X25519, *inputs).key_id
        for inputs in ((secret, fresh), (flip[0], fresh), (secret, flip[1]), (fresh, secret))
    }
    assert len(ids) == (4 if secret != fresh else 3)
    again = derive_opening_key(SUITE_X25519, secret, fresh)
    assert again.key_id in ids


def test_a_private_key_depends_on_its_suite() -> None:
    keys = [derive_opening_key(suite, SECRET, SECRET) for suite in (SUITE_XWING, SUITE_X25519)]
    assert len({key.key_id for key in keys}) == 2


@in_loop
async def test_a_publication_is_bound_by_the_nsm() -> None:
    async with bench() as made:
        publication = await rotate(made)
        manifest = publication.manifest
        assert publication.manifest_bytes == encode_manifest(manifest)
        document = parse_untrusted_document(publication.document)
        assert document.user_data == build_user_data(publication.manifest_bytes, None)
        assert document.nonce is None
        assert document.public_key is None
        message = parse_sign1(publication.document, max_bytes=1 << 16)
        signed = sig_structure(message.protected, message.payload)
        expected = "sha384:" + hashlib.sha384(signed).hexdigest()
        assert publication.attestation_hash == document.attestation_hash == expected
        assert manifest.not_before == made.clock.now_s()
        assert manifest.not_after == manifest.not_before + MANIFEST_LIFETIME_S
        assert manifest.receipt_public_key == made.keys.receipt_key.public_key().public_bytes_raw()
        assert {key.suite for key in manifest.hpke_keys} == set(SUITES)
        assert made.keys.current() is publication
        assert made.keys.opening_keys().keys() == {
            bytes.fromhex(key.key_id) for key in manifest.hpke_keys
        }


@in_loop
async def test_generations_overlap_and_end_at_their_own_time() -> None:
    async with bench() as made:
        first = await rotate(made)
        old_id = bytes.fromhex(first.manifest.hpke_keys[0].key_id)
        made.advance(KEY_ROTATION_S)
        second = await rotate(made)
        assert made.keys.current() is second
        assert made.keys.find(old_id).publication is first
        assert len(made.keys.opening_keys()) == 2 * len(SUITES)
        made.advance(MANIFEST_LIFETIME_S - KEY_ROTATION_S - 1)
        assert old_id in made.keys.opening_keys()
        made.advance(1)
        assert old_id not in made.keys.opening_keys()
        with pytest.raises(KeyStaleError, match=old_id.hex()):
            made.keys.find(old_id)
        made.advance(KEY_ROTATION_S)
        with pytest.raises(KeyStaleError, match="gate is not open"):
            made.keys.current()


@in_loop
async def test_every_rotation_makes_other_keys_under_the_same_secret() -> None:
    async with bench() as made:
        await rotate(made)
        await rotate(made)
        assert len(made.keys.opening_keys()) == 2 * len(SUITES)


@in_loop
async def test_a_fresh_document_binds_the_same_manifest_and_the_nonce() -> None:
    async with bench() as made:
        with pytest.raises(KeyStaleError):
            await made.keys.fresh_document(None, bytes(32))
        first, second = await rotate(made), await rotate(made)
        nonce = bytes(range(32))
        key_id = bytes.fromhex(first.manifest.hpke_keys[0].key_id)
        for asked, expected in ((None, second), (key_id, first)):
            publication, document = await made.keys.fresh_document(asked, nonce)
            assert publication is expected
            parsed = parse_untrusted_document(document)
            assert parsed.nonce == nonce
            assert parsed.user_data == build_user_data(publication.manifest_bytes, nonce)
        with pytest.raises(KeyStaleError):
            await made.keys.fresh_document(bytes(8), nonce)


@pytest.mark.parametrize("accident", list(Accident))
def test_a_rotation_that_fails_leaves_the_old_generation(accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            publication = await rotate(made)
            held = made.keys.opening_keys().keys()
            made.nsm.accidents.append(accident)
            with pytest.raises(NSMError):
                await rotate(made)
            assert made.keys.current() is publication
            assert made.keys.opening_keys().keys() == held

    scenario()


@in_loop
async def test_drop_forgets_every_key() -> None:
    async with bench() as made:
        await rotate(made)
        made.keys.drop()
        assert made.keys.opening_keys() == {}
        with pytest.raises(KeyStaleError):
            made.keys.current()


@in_loop
async def test_no_key_is_printed() -> None:
    async with bench() as made:
        ring: KeyRing = made.keys
        publication = await rotate(made)
        generation = ring.find(bytes.fromhex(publication.manifest.hpke_keys[0].key_id))
        for secret in (ring, generation):
            assert "0x" not in repr(secret)
            assert "OpeningKey" not in repr(secret)
