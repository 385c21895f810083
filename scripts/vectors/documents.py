"""tests/vectors/document: attestation documents under a throw-away root.

They let a second implementation be tested where the published sets are absent, and they are the
only ones that bind a manifest of ours.
"""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import hashlib
from datetime import timedelta

import cbor2

from vectors import binding, pki, releases
from vectors.case import Case, Json, base64_text, fixed, sha384_text
from vectors.pki import MODULE_ID, TIMESTAMP_MS, document, make_chain, pcrs
from vectors.primitives import jcs
from vectors.sealed import X25519_KEY

SPEC = "docs/verification-checklist.md"
AT = TIMESTAMP_MS // 1000
CHAIN = make_chain("root")
P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
MEMBERS = binding.manifest_members(hpke_keys=[binding.hpke_entry(X25519_KEY)])
MANIFEST = jcs(MEMBERS)
USER_DATA = binding.user_data(MEMBERS, None)
FRESH = {"nonce": binding.NONCE, "user_data": binding.user_data(MEMBERS, binding.NONCE)}  # fmt: skip


def _policy(**changes: Json) -> dict[str, Json]:
    values: dict[str, Json] = {f"pcr{index}": pcrs()[index].hex() for index in (0, 1, 2)}
    return values | changes


def _input(data: bytes, **changes: Json) -> dict[str, Json]:
    given: dict[str, Json] = {
        "document_base64": base64_text(data),
        "root_sha256": hashlib.sha256(CHAIN[0].der).hexdigest(),
        "at": AT,
    }
    accepted: dict[str, Json] = {} if "releases_base64" in changes else {"policy": _policy()}
    return given | accepted | changes


def _hash(data: bytes) -> str:
    protected, _, payload, _ = cbor2.loads(data.removeprefix(b"\xd2"))
    return "sha384:" + hashlib.sha384(pki.sig_structure(protected, payload)).hexdigest()


def _good(name: str, why: str, data: bytes, **changes: Json) -> Case:
    output: dict[str, Json] = {
        "attestation_hash": _hash(data),
        "module_id": MODULE_ID,
        "timestamp_ms": TIMESTAMP_MS,
    }
    operation = "verify_attestation" if "manifest_base64" in changes else "verify_document"
    return Case(name, operation, why, SPEC, _input(data, **changes), output)


def _bad(name: str, why: str, kind: str, data: bytes, **changes: Json) -> Case:
    operation = "verify_attestation" if "manifest_base64" in changes else "verify_document"
    return Case(name, operation, why, SPEC, _input(data, **changes), error=kind)


def _flip(data: bytes, index: int) -> bytes:
    changed = bytearray(data)
    changed[index] ^= 1
    return bytes(changed)


def _accepted() -> list[Case]:
    plain = document(CHAIN)
    fields = pki.payload_fields(CHAIN)
    definite = pki.encode_payload(fields, indefinite=False)
    old = pki.sign1(definite, pki.sign("leaf", pki.sig_structure(pki.PROTECTED, definite)))
    protected, _, payload, signature = cbor2.loads(plain)
    order = P384_ORDER - int.from_bytes(signature[48:])
    twin = pki.sign1(payload, signature[:48] + order.to_bytes(48), protected)
    manifest = base64_text(MANIFEST)
    return [
        _good("plain", "A document as the device writes it today (map of indefinite length).", plain),
        _good("definite-map", "As the device wrote it until mid-2025: the same facts, other signed bytes.", old),
        _good("tag-18", "The optional COSE tag changes neither verdict nor attestation_hash.", b"\xd2" + plain),
        _good("signature-twin", "(r, n - s) is valid too and has the same attestation_hash.", twin),
        _good("leaf-last-second", "Evaluated in the last second of the leaf.", plain, at=int(pki.ISSUED.timestamp()) + 10_800),
        _good("nonce", "With the nonce that was asked for.", document(CHAIN, nonce=binding.NONCE), nonce_hex=binding.NONCE.hex()),
        _good("manifest", "112 bytes of user_data bind the manifest.", document(CHAIN, user_data=USER_DATA), manifest_base64=manifest),
        _good("manifest-and-nonce", "A freshness proof over the same manifest.", document(CHAIN, **FRESH), manifest_base64=manifest, nonce_hex=binding.NONCE.hex()),
    ]  # fmt: skip


def _shape() -> list[Case]:
    plain = document(CHAIN)
    protected, _, payload, signature = cbor2.loads(plain)
    zeros = pki.payload_fields(
        CHAIN, certificate=bytes(64), pcrs=pcrs(debug=True), cabundle=[bytes(64)]
    )
    qemu = pki.sign1(pki.encode_payload(zeros), bytes(64))
    with_kid = cbor2.dumps([protected, {4: b"key"}, payload, signature])
    with_alg = cbor2.dumps([protected, {1: -35}, payload, signature])
    es256 = bytes.fromhex("a10126")
    return [
        _bad("qemu", "What QEMU's device emits: certificate and signature are 64 zero bytes, nothing is signed.", "unsigned-document", qemu),
        _bad("trailing-byte", "A byte after the document.", "malformed-document", plain + b"\x00"),
        _bad("cut", "The last byte is missing.", "malformed-document", plain[:-1]),
        _bad("empty", "No bytes.", "malformed-document", b""),
        _bad("unprotected-kid", "The unprotected header is not empty.", "algorithm-refused", with_kid),
        _bad("unprotected-alg", "alg stands in both headers, which RFC 9052 section 3 forbids.", "malformed-document", with_alg),
        _bad("alg-es256", "alg is not ES384.", "algorithm-refused", pki.sign1(payload, pki.sign("leaf", pki.sig_structure(es256, payload)), es256)),
        _bad("digest-sha256", "digest is not SHA384.", "malformed-document", document(CHAIN, digest="SHA256")),
        _bad("nitrotpm-module", "The module id of a NitroTPM: another device under the same root.", "not-an-enclave", document(CHAIN, module_id=f"{pki.INSTANCE_ID}-tpm0000000000000000")),
        _bad("pcr-short", "PCR0 has 32 bytes.", "malformed-document", document(CHAIN, pcrs=pcrs() | {0: bytes(32)})),
        _bad("timestamp-seconds", "The timestamp is in seconds: half a century before the leaf.", "document-time-invalid", document(CHAIN, timestamp=AT)),
        _bad("user-data-1025", "user_data of 1,025 bytes.", "malformed-document", document(CHAIN, user_data=bytes(1025))),
    ]  # fmt: skip


def _trust() -> list[Case]:
    plain = document(CHAIN)
    foreign = make_chain("foreign root")
    mixed = [CHAIN[0], *foreign[1:]]
    ca_leaf = pki.issue("leaf", f"{MODULE_ID}.us-east-1.aws", CHAIN[3], timedelta(hours=3), None)
    other_name = pki.issue(
        "leaf",
        f"{pki.INSTANCE_ID}-enc00000000000000.us-east-1.aws",
        CHAIN[3],
        timedelta(hours=3),
        None,
        authority=False,
    )
    below = pki.issue("below", "below", CHAIN[3], timedelta(hours=3), None)
    low_leaf = pki.issue(
        "leaf", f"{MODULE_ID}.us-east-1.aws", below, timedelta(hours=3), None, authority=False
    )
    at_pcr = plain.index(pcrs()[0])
    return [
        _bad("foreign-root", "A complete chain under another root of the same name.", "untrusted-root", document(foreign)),
        _bad("foreign-chain-below-root", "The trusted root stands first, the rest chains to another.", "invalid-chain", document(mixed)),
        _bad("zonal-missing", "The zonal certificate is left out.", "invalid-chain", document([*CHAIN[:2], *CHAIN[3:]])),
        _bad("leaf-is-ca", "The leaf is a CA.", "profile-violation", document([*CHAIN[:4], ca_leaf])),
        _bad("leaf-other-name", "The leaf names another enclave than module_id.", "profile-violation", document([*CHAIN[:4], other_name])),
        _bad("pcr4-other", "PCR4 is not the measurement of the instance id in module_id.", "profile-violation", document(CHAIN, pcrs=pcrs() | {4: fixed("other", 48)})),
        _bad("below-path-length-0", "A CA below the instance CA, whose path length is 0.", "invalid-chain", document([*CHAIN[:4], below, low_leaf])),
        _bad("pcr0-flipped", "One bit of PCR0 was changed after signing.", "invalid-signature", _flip(plain, at_pcr)),
        _bad("signature-flipped", "One bit of the signature.", "invalid-signature", _flip(plain, -1)),
        _bad("signed-by-instance", "Signed by the instance CA's key, not the leaf's.", "invalid-signature", _resigned("instance")),
    ]  # fmt: skip


def _resigned(label: str) -> bytes:
    payload = pki.encode_payload(pki.payload_fields(CHAIN))
    return pki.sign1(payload, pki.sign(label, pki.sig_structure(pki.PROTECTED, payload)))


def _judgement() -> list[Case]:
    plain = document(CHAIN)
    debug = document(CHAIN, pcrs=pcrs(debug=True))
    zero: Json = bytes(48).hex()
    start = int(pki.ISSUED.timestamp())
    no_pcr2 = {index: value for index, value in pcrs().items() if index != 2}  # noqa: PLR2004 - PCR2
    return [
        _bad("leaf-expired", "Evaluated one second after the leaf ended.", "certificate-expired", plain, at=start + 10_801),
        _bad("leaf-not-yet-valid", "Evaluated long before the leaf began.", "certificate-not-yet-valid", plain, at=start - 3_600),
        _bad("debug", "A debug enclave: PCR0, PCR1 and PCR2 are zero.", "debug-mode-refused", debug),
        _bad("zero-policy", "Expected values of zeros, which is what debug mode shows, are refused themselves.", "ERR_CONFIGURATION", debug, policy=_policy(pcr0=zero, pcr1=zero, pcr2=zero)),
        _bad("pcr0-other", "PCR0 is not the accepted one.", "measurement-mismatch", plain, policy=_policy(pcr0=fixed("other", 48).hex())),
        _bad("pcr1-other", "PCR1 is not the accepted one.", "measurement-mismatch", plain, policy=_policy(pcr1=fixed("other", 48).hex())),
        _bad("pcr2-other", "PCR2 is not the accepted one.", "measurement-mismatch", plain, policy=_policy(pcr2=fixed("other", 48).hex())),
        _bad("pcr2-absent", "The document has no PCR2.", "measurement-mismatch", document(CHAIN, pcrs=no_pcr2)),
        _bad("nonce-absent", "A nonce was asked for, the document has none.", "nonce-mismatch", plain, nonce_hex=binding.NONCE.hex()),
        _bad("nonce-other", "The nonce of another question.", "nonce-mismatch", document(CHAIN, nonce=fixed("other", 32)), nonce_hex=binding.NONCE.hex()),
    ]  # fmt: skip


def _binding() -> list[Case]:
    manifest = base64_text(MANIFEST)
    other = base64_text(jcs(MEMBERS | {"software_version": "0.1.1"}))
    bound = document(CHAIN, user_data=USER_DATA)
    moved = USER_DATA[:32] + b"\x01" + USER_DATA[33:]
    wrong_report = fixed("report data", 32) + USER_DATA[32:]
    return [
        _bad("manifest-other", "Another manifest than the one whose hash was signed.", "binding-mismatch", bound, manifest_base64=other),
        _bad("user-data-null", "A document without user_data binds no manifest.", "binding-mismatch", document(CHAIN), manifest_base64=manifest),
        _bad("user-data-111", "One byte of user_data is missing.", "binding-mismatch", document(CHAIN, user_data=USER_DATA[:-1]), manifest_base64=manifest),
        _bad("padding-not-zero", "One of the 32 zero bytes is not zero.", "binding-mismatch", document(CHAIN, user_data=moved), manifest_base64=manifest),
        _bad("report-data-other", "The ACI report data is not that of the manifest.", "binding-mismatch", document(CHAIN, user_data=wrong_report), manifest_base64=manifest),
        _bad("user-data-without-nonce", "The document has a nonce, its report data was made without.", "binding-mismatch", document(CHAIN, user_data=USER_DATA, nonce=binding.NONCE), manifest_base64=manifest, nonce_hex=binding.NONCE.hex()),
        _bad("manifest-not-canonical", "The manifest bytes are the signed ones, but not canonical.", "manifest-invalid", document(CHAIN, user_data=USER_DATA[:64] + hashlib.sha384(MANIFEST + b"\n").digest()), manifest_base64=base64_text(MANIFEST + b"\n")),
    ]  # fmt: skip


def _releases() -> list[Case]:
    """A list of releases in the place of single measurements."""
    manifest = base64_text(MANIFEST)
    bound = document(CHAIN, user_data=USER_DATA)
    mine: dict[str, Json] = {
        **releases.entry(),
        **{f"pcr{index}": pcrs()[index].hex() for index in (0, 1, 2)},
    }
    other = sha384_text(b"another deployment.toml")

    def listed(*entries: Json) -> Json:
        return base64_text(releases.release_list(*entries))

    return [
        _good("release", "Accepted as a release; its deployment is the manifest's.", bound, manifest_base64=manifest, releases_base64=listed(releases.entry(), mine)),
        _good("release-last-second", "not_after is the last second that counts.", bound, manifest_base64=manifest, releases_base64=listed(mine | {"not_after": AT})),
        _bad("release-of-other-deployment", "The measured image is listed for another deployment than the manifest states.", "manifest-invalid", bound, manifest_base64=manifest, releases_base64=listed(mine | {"deployment_digest": other})),
        _bad("release-unknown", "No release of the list has these measurements.", "measurement-mismatch", bound, manifest_base64=manifest, releases_base64=listed(releases.entry())),
        _bad("release-ended", "One second after the release's last.", "release-revoked", bound, manifest_base64=manifest, releases_base64=listed(mine | {"not_after": AT - 1})),
        _bad("release-revoked", "Listed twice, once revoked: the revocation counts.", "release-revoked", bound, manifest_base64=manifest, releases_base64=listed(mine, mine | {"revoked": True})),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Every case of the folder."""
    groups = (_accepted, _shape, _trust, _judgement, _binding, _releases)
    return [case for group in groups for case in group()]
