from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Final

import pytest
from cryptography.hazmat.primitives import hpke as library
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

from latensgate_shared import hpke
from latensgate_shared.errors import ErrorCode
from latensgate_shared.hpke_kem import X25519KEMPrivateKey, XWingPrivateKey

if TYPE_CHECKING:
    from collections.abc import Callable

SEED: Final = bytes(range(32))
INFO: Final = b"some info"
AAD: Final = b"some data"
KEMS: Final = pytest.mark.parametrize("kem", [hpke.X25519, hpke.XWING], ids=["x25519", "xwing"])
AEADS: Final = pytest.mark.parametrize(
    "aead",
    [hpke.AES_128_GCM, hpke.AES_256_GCM, hpke.CHACHA20_POLY1305],
    ids=["aes128", "aes256", "chacha"],
)
# Points of small order, canonical or not (RFC 7748, section 7): each gives an all-zero result.
SMALL_ORDER: Final = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "00" * 31 + "80",
]


def pair(
    kem: hpke.KEM, aead: hpke.AEAD = hpke.AES_256_GCM
) -> tuple[hpke.SenderContext, hpke.RecipientContext]:
    suite = hpke.Suite(kem, aead)
    private = kem.load_private_key(SEED)
    enc, sender = hpke.setup_sender(suite, kem.load_public_key(private.public_key.raw), INFO)
    assert len(enc) == kem.enc_bytes
    return sender, hpke.setup_recipient(suite, private, enc, INFO)


@KEMS
@AEADS
def test_both_sides_agree(kem: hpke.KEM, aead: hpke.AEAD) -> None:
    sender, recipient = pair(kem, aead)
    for text in (b"", b"one", bytes(3_000)):
        ciphertext = sender.seal(AAD, text)
        assert len(ciphertext) == len(text) + hpke.TAG_BYTES
        assert recipient.open(AAD, ciphertext) == text
    assert sender.export(b"context", 32) == recipient.export(b"context", 32)
    assert sender.export(b"context", 32) != sender.export(b"other", 32)


@KEMS
def test_another_info_opens_nothing(kem: hpke.KEM) -> None:
    suite, private = hpke.Suite(kem, hpke.AES_256_GCM), kem.load_private_key(SEED)
    enc, sender = hpke.setup_sender(suite, private.public_key, INFO)
    recipient = hpke.setup_recipient(suite, private, enc, INFO + b"x")
    with pytest.raises(hpke.HPKEOpenError):
        recipient.open(b"", sender.seal(b"", b"text"))
    assert sender.export(b"", 32) != recipient.export(b"", 32)


def test_a_failed_open_does_not_move_the_counter() -> None:
    sender, recipient = pair(hpke.X25519)
    first, second = sender.seal(b"", b"1"), sender.seal(b"", b"2")
    for wrong in (second, first[:-1], b"", first + b"\x00"):
        with pytest.raises(hpke.HPKEOpenError) as caught:
            recipient.open(b"", wrong)
        assert caught.value.code is ErrorCode.ERR_OPEN_FAILED
    assert [recipient.open(b"", c) for c in (first, second)] == [b"1", b"2"]
    with pytest.raises(hpke.HPKEOpenError):
        recipient.open(b"", second)


def test_the_last_sequence_number_is_refused() -> None:
    sender, recipient = pair(hpke.X25519)
    last = 2**96 - 2
    for context in (sender, recipient):
        context._messages._sequence = last  # pyright: ignore[reportPrivateUsage] # 2^96 messages take too long
    assert recipient.open(b"", sender.seal(b"", b"last")) == b"last"
    with pytest.raises(hpke.HPKELimitError):
        sender.seal(b"", b"")
    with pytest.raises(hpke.HPKELimitError):
        recipient.open(b"", bytes(16))


@pytest.mark.parametrize("length", [-1, 0, 255 * 32 + 1, 2**16, 2**70])
def test_export_refuses_lengths_that_hkdf_has_not(length: int) -> None:
    sender, _ = pair(hpke.X25519)
    with pytest.raises(hpke.HPKELimitError):
        sender.export(b"", length)


def test_export_of_every_block_count() -> None:
    sender, recipient = pair(hpke.X25519)
    for length in (1, 31, 32, 33, 64, 65, 255 * 32):
        exported = sender.export(b"c", length)
        assert len(exported) == length
        assert exported == recipient.export(b"c", length)


@KEMS
def test_wrong_lengths_are_refused(kem: hpke.KEM) -> None:
    private = kem.load_private_key(SEED)
    calls: list[tuple[Callable[[bytes], object], int]] = [
        (kem.load_private_key, kem.private_key_bytes),
        (kem.load_public_key, kem.public_key_bytes),
        (private.decapsulate, kem.enc_bytes),
    ]
    for call, right in calls:
        for length in (0, right - 1, right + 1):
            with pytest.raises(hpke.HPKEKeyError, match=str(right)) as caught:
                call(bytes(length))
            assert caught.value.code is ErrorCode.ERR_MALFORMED


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_all_zero_results_are_refused_on_both_sides(point: str) -> None:
    raw = bytes.fromhex(point)
    x25519, xwing = hpke.X25519.load_private_key(SEED), hpke.XWING.load_private_key(SEED)
    enc = xwing.public_key.encapsulate()[1]
    calls: list[Callable[[], object]] = [
        lambda: x25519.decapsulate(raw),
        lambda: hpke.X25519.load_public_key(raw).encapsulate(),
        lambda: xwing.decapsulate(enc[:-32] + raw),
        lambda: hpke.XWING.load_public_key(xwing.public_key.raw[:-32] + raw).encapsulate(),
    ]
    for call in calls:
        with pytest.raises(hpke.HPKEKeyError, match="small order"):
            call()


def test_a_public_key_that_is_no_ml_kem_key_is_refused() -> None:
    raw = hpke.XWING.load_private_key(SEED).public_key.raw
    with pytest.raises(hpke.HPKEKeyError, match="ML-KEM"):  # coefficients not below q
        hpke.XWING.load_public_key(b"\xff" * 1_184 + raw[1_184:])


@KEMS
def test_a_key_of_another_kem_is_refused(kem: hpke.KEM) -> None:
    other = hpke.XWING if kem is hpke.X25519 else hpke.X25519
    suite, private = hpke.Suite(kem, hpke.AES_256_GCM), other.load_private_key(SEED)
    with pytest.raises(hpke.HPKEKeyError, match="expected KEM"):
        hpke.setup_sender(suite, private.public_key, INFO)
    with pytest.raises(hpke.HPKEKeyError, match="expected KEM"):
        hpke.setup_recipient(suite, private, bytes(kem.enc_bytes), INFO)


@KEMS
def test_secrets_are_neither_printed_nor_pickled(kem: hpke.KEM) -> None:
    sender, recipient = pair(kem)
    private = kem.load_private_key(SEED)
    for thing in (sender, recipient, private):
        assert repr(thing) == str(thing) == f"<{type(thing).__name__}>"
        with pytest.raises(TypeError, match="never written out"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="never written out"):
            copy.copy(thing)
        assert not hasattr(thing, "__dict__")


def test_a_suite_says_what_it_is() -> None:
    assert repr(hpke.Suite(hpke.XWING, hpke.AES_256_GCM)) == "<Suite 647a00010002>"


# --- judges: two other implementations, both ways ---

LIBRARY_AEADS: Final = {
    1: library.AEAD.AES_128_GCM,
    2: library.AEAD.AES_256_GCM,
    3: library.AEAD.CHACHA20_POLY1305,
}


@AEADS
def test_x25519_with_the_library(aead: hpke.AEAD) -> None:
    theirs = library.Suite(library.KEM.X25519, library.KDF.HKDF_SHA256, LIBRARY_AEADS[aead.id])
    their_private = X25519PrivateKey.from_private_bytes(SEED)
    sealed = theirs.encrypt(b"from them", their_private.public_key(), INFO)
    ours = hpke.Suite(hpke.X25519, aead)
    private = X25519KEMPrivateKey(SEED)
    recipient = hpke.setup_recipient(ours, private, sealed[:32], INFO)
    assert recipient.open(b"", sealed[32:]) == b"from them"
    enc, sender = hpke.setup_sender(ours, private.public_key, INFO)
    sealed = enc + sender.seal(b"", b"from us")
    assert theirs.decrypt(sealed, their_private, INFO) == b"from us"


@AEADS
def test_x_wing_with_the_library(aead: hpke.AEAD) -> None:
    theirs = library.Suite(
        library.KEM.MLKEM768_X25519, library.KDF.HKDF_SHA256, LIBRARY_AEADS[aead.id]
    )
    private = XWingPrivateKey(SEED)
    raw = private.public_key.raw
    their_public = library.MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(raw[:1_184]),
        X25519PublicKey.from_public_bytes(raw[1_184:]),
    )
    sealed = theirs.encrypt(b"from them", their_public, INFO)
    ours = hpke.Suite(hpke.XWING, aead)
    recipient = hpke.setup_recipient(ours, private, sealed[:1_120], INFO)
    assert recipient.open(b"", sealed[1_120:]) == b"from them"

    mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    parts = (mlkem.public_key().public_bytes_raw(), x25519.public_key().public_bytes_raw())
    enc, sender = hpke.setup_sender(ours, hpke.XWING.load_public_key(b"".join(parts)), INFO)
    sealed = enc + sender.seal(b"", b"from us")
    their_private = library.MLKEM768X25519PrivateKey(mlkem, x25519)
    assert theirs.decrypt(sealed, their_private, INFO) == b"from us"


PYHPKE_AEADS: Final = {
    1: AEADId.AES128_GCM,
    2: AEADId.AES256_GCM,
    3: AEADId.CHACHA20_POLY1305,
}


@AEADS
def test_x25519_with_pyhpke(aead: hpke.AEAD) -> None:
    theirs = CipherSuite.new(
        KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, PYHPKE_AEADS[aead.id]
    )
    key = X25519PrivateKey.from_private_bytes(SEED)
    their_private = KEMKey.from_pyca_cryptography_key(key)
    their_public = KEMKey.from_pyca_cryptography_key(key.public_key())
    ours, private = hpke.Suite(hpke.X25519, aead), X25519KEMPrivateKey(SEED)

    enc, their_sender = theirs.create_sender_context(their_public, INFO)
    recipient = hpke.setup_recipient(ours, private, enc, INFO)
    for text in (b"first", b"second"):
        assert recipient.open(AAD, their_sender.seal(text, AAD)) == text
    assert recipient.export(b"label", 77) == their_sender.export(b"label", 77)

    enc, sender = hpke.setup_sender(ours, private.public_key, INFO)
    their_recipient = theirs.create_recipient_context(enc, their_private, INFO)
    for text in (b"first", b"second"):
        assert their_recipient.open(sender.seal(AAD, text), AAD) == text
    assert sender.export(b"label", 77) == their_recipient.export(b"label", 77)
