"""Operations on the building blocks: JSON, padding, HPKE, COSE, Merkle trees."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from latensgate.conformance.case import CASE_MAX_BYTES, Arguments, CaseError
from latensgate_shared import cose, hpke, limits, merkle
from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.strict_json import JSONObject

_KEMS: Final = {kem.id: kem for kem in (hpke.XWING, hpke.X25519)}
_AEADS: Final = {
    aead.id: aead for aead in (hpke.AES_128_GCM, hpke.AES_256_GCM, hpke.CHACHA20_POLY1305)
}


def base64_text(data: bytes) -> str:
    """RFC 4648 section 4."""
    return b64encode(data).decode("ascii")


def kem_of(arguments: Arguments) -> hpke.KEM:
    """Return the KEM that ``kem_id`` names."""
    number = arguments.integer("kem_id")
    if number not in _KEMS:
        raise CaseError(f"input: no KEM {number:#06x} here")
    return _KEMS[number]


def _canonicalize(arguments: Arguments) -> JSONObject:
    value = parse_json(arguments.base64("json_base64"), max_bytes=CASE_MAX_BYTES)
    return {"canonical_base64": base64_text(canonicalize(value))}


def _context(arguments: Arguments) -> hpke.RecipientContext:
    aead = _AEADS.get(arguments.integer("aead_id"))
    if aead is None:
        raise CaseError("input: no such AEAD here")
    kem = kem_of(arguments)
    private = kem.load_private_key(arguments.hex("private_key_hex"))
    suite = hpke.Suite(kem, aead)
    return hpke.setup_recipient(suite, private, arguments.hex("enc_hex"), arguments.hex("info_hex"))


def _hpke_open(arguments: Arguments) -> JSONObject:
    """Open the messages of one context in their order, then export."""
    context = _context(arguments)
    plaintexts = [
        context.open(message.hex("aad_hex"), message.hex("ciphertext_hex")).hex()
        for message in arguments.objects("messages")
    ]
    exports = [
        context.export(entry.hex("context_hex"), entry.integer("length")).hex()
        for entry in arguments.objects("exports")
    ]
    return {"plaintexts_hex": [*plaintexts], "exports_hex": [*exports]}


def _xwing_decapsulate(arguments: Arguments) -> JSONObject:
    private = hpke.XWING.load_private_key(arguments.hex("private_key_hex"))
    return {
        "public_key_sha256": hashlib.sha256(private.public_key.raw).hexdigest(),
        "shared_secret_hex": private.decapsulate(arguments.hex("enc_hex")).hex(),
    }


def _cose_sign1(arguments: Arguments) -> JSONObject:
    message = arguments.hex("message_hex")
    sign1 = cose.parse_sign1(message, max_bytes=limits.ATTESTATION_DOCUMENT_MAX_BYTES)
    return {
        "payload_hex": sign1.payload.hex(),
        "signature_hex": sign1.signature.hex(),
        "sig_structure_hex": cose.sig_structure(sign1.protected, sign1.payload).hex(),
    }


def _merkle_root(arguments: Arguments) -> JSONObject:
    leaves = [merkle.leaf_hash(leaf) for leaf in arguments.hexes("leaves_hex")]
    return {"root_hex": merkle.tree_hash(leaves).hex()}


def _merkle_inclusion(arguments: Arguments) -> JSONObject:
    merkle.verify_inclusion(
        arguments.hex("leaf_hash_hex"),
        index=arguments.integer("index"),
        size=arguments.integer("tree_size"),
        path=arguments.hexes("proof_hex"),
        root=arguments.hex("root_hex"),
    )
    return {}


def _merkle_consistency(arguments: Arguments) -> JSONObject:
    merkle.verify_consistency(
        old_size=arguments.integer("old_size"),
        old_root=arguments.hex("old_root_hex"),
        size=arguments.integer("new_size"),
        root=arguments.hex("new_root_hex"),
        path=arguments.hexes("proof_hex"),
    )
    return {}


OPERATIONS: Final[dict[str, Callable[[Arguments], JSONObject]]] = {
    "canonicalize": _canonicalize,
    "cose_sign1": _cose_sign1,
    "hpke_open": _hpke_open,
    "merkle_consistency": _merkle_consistency,
    "merkle_inclusion": _merkle_inclusion,
    "merkle_root": _merkle_root,
    "xwing_decapsulate": _xwing_decapsulate,
}
