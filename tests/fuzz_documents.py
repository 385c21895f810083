"""Fuzz target for the verifier: documents whose inside is edited and whose outside holds.

Payload, chain and headers are changed by a script and then signed again by keys of our own, under a
root of our own, so that every step is reached and not only the first one.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from fuzz_examples import IMAGE, MANIFEST_BYTES
from fuzz_forms import NUMBERS, TEXTS, Node, Script, edited
from latensgate.verify.attestation import inspect_document, verify_attestation
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.policy import AppraisalPolicy
from latensgate_shared import cbor
from latensgate_shared.errors import LatensgateError
from latensgate_shared.manifest import build_user_data
from nitro_factory import CHAIN, NOW, PROTECTED, Draft, Shape, der, issue_chain
from nitro_factory import sign as sign_payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_shared.cbor import CBOREncodable

CBOR_ATOMS: tuple[Node, ...] = (
    *TEXTS,
    *(atom for atom in NUMBERS if not isinstance(atom, float)),
    *(None, b"", bytes(48), bytes(32), bytes(64), b"\xa1", [], {}),
)
TIMES = (0, 1, -1, 59, 61, -61, 10_801, -10_801, 3 * 10**8)
"""Seconds from the right evaluation time, and from the right ends of a certificate's life."""
USAGES: tuple[tuple[str, ...] | None, ...] = (
    ("key_cert_sign",),
    ("digital_signature",),
    ("key_cert_sign", "digital_signature"),
    ("crl_sign",),
    None,
)
HEADERS = (PROTECTED, b"", b"\xa0", b"\xa1\x01\x26", PROTECTED + b"\x00", b"\xbf\x01\x38\x22\xff")


def fuzz_document(data: bytes) -> None:
    """Attestation documents: whatever is wrong with them, a typed verdict comes."""
    script = Script(data)
    flags = script.byte()
    if flags & 1:
        _judge(script.rest(), Draft().chain, NOW)
        return
    chain = _chain(script) if flags & 2 else Draft().chain
    at = NOW + timedelta(seconds=TIMES[script.byte() % len(TIMES)] if flags & 4 else 0)
    draft = Draft(chain=chain, user_data=build_user_data(MANIFEST_BYTES, None))
    members = edited(cast("Node", _listed(draft.members())), script, CBOR_ATOMS)
    try:
        payload = cbor.encode(cast("CBOREncodable", members))
    except LatensgateError:
        return
    if flags & 8:
        payload = b"\xbf" + payload[1:] + b"\xff"
    _judge(_signed(payload, script, flags), chain, at)


def _listed(members: dict[str, CBOREncodable]) -> dict[str, CBOREncodable]:
    return {**members, "cabundle": list(cast("tuple[bytes, ...]", members["cabundle"]))}


def _signed(payload: bytes, script: Script, flags: int) -> bytes:
    """Return the document: signed, with headers and signature changed where a flag says so."""
    document = sign_payload(payload)
    if flags & 0x30 == 0:
        return document
    parts = cast("Node", cbor.decode(document, max_bytes=len(document)))
    parts = edited(parts, script, CBOR_ATOMS) if flags & 0x10 else parts
    if flags & 0x20 and isinstance(parts, list) and parts:
        parts[0] = HEADERS[script.byte() % len(HEADERS)]
    try:
        return b"\xd2" * (flags >> 6) + cbor.encode(cast("CBOREncodable", parts))
    except LatensgateError:
        return b""


def _chain(script: Script) -> tuple[bytes, ...]:
    shapes = list(CHAIN)
    for _ in range(1 + script.byte() % 3):
        at = script.byte() % len(shapes)
        shapes[at] = _shape(shapes[at], script)
    order = script.byte()
    issued = _issue(tuple(shapes))
    if order & 0x80:
        issued = (*issued[:-2], *issued[: order % 3], *issued[-2:])
    return issued


def _shape(shape: Shape, script: Script) -> Shape:
    value = script.byte()
    later = NOW + timedelta(seconds=TIMES[value % len(TIMES)])
    changes: tuple[Callable[[], Shape], ...] = (
        lambda: replace(shape, ca=not shape.ca),
        lambda: replace(shape, constrained=False),
        lambda: replace(shape, path_length=value % 4 if shape.ca else None),
        lambda: replace(shape, usages=USAGES[value % len(USAGES)]),
        lambda: replace(shape, not_before=min(later, shape.not_after)),
        lambda: replace(shape, not_after=max(later, shape.not_before)),
        lambda: replace(shape, name=CHAIN[value % len(CHAIN)].name),
        lambda: replace(shape, name=script.take(value % 64).decode("latin-1") or "x"),
    )
    return changes[script.byte() % len(changes)]()


@lru_cache(512)
def _issue(shapes: tuple[Shape, ...]) -> tuple[bytes, ...]:
    """Make the certificates; shapes that the library itself refuses give the good chain."""
    try:
        return tuple(der(certificate) for certificate in issue_chain(shapes))
    except ValueError:
        return Draft().chain


def _judge(document: bytes, chain: tuple[bytes, ...], at: datetime) -> None:
    """Put every entry of the verifier to the document: each ends in a value or a typed error."""
    root = hashlib.sha256(chain[0]).hexdigest()
    policy = AppraisalPolicy(measurements=(IMAGE,), unsafe_accept_simulated_root_sha256=root)
    try:
        at = parse_untrusted_document(document).timestamp if at == NOW else at
    except LatensgateError:
        return
    try:
        inspect_document(document, at=at, unsafe_accept_simulated_root_sha256=root)
        verify_attestation(document, MANIFEST_BYTES, policy=policy, at=at)
    except LatensgateError:
        return


def document_seeds() -> tuple[bytes, ...]:
    """Good, raw, and with one thing changed each."""
    raw = Draft(user_data=build_user_data(MANIFEST_BYTES, None)).sign()
    usages = [bytes((2, 0, 3, value, 3, 0, 0)) for value in range(len(USAGES))]
    shapes = [bytes((2, 0, at, 1, change, 0, 0)) for at in range(4) for change in range(8)]
    times = [bytes((4, value, 0)) for value in range(len(TIMES))]
    fields = [bytes((0, 1, 0, place, 0, atom)) for place in range(1, 22) for atom in (6, 16, 19)]
    headers = [bytes((0x20, 0, value)) for value in range(len(HEADERS))]
    return (b"\x00", b"\x08", b"\x01" + raw, *usages, *shapes, *times, *fields, *headers)
