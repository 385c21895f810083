"""From sealed bytes to what stands in them: the seal, the plaintext, the KMS envelope."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from latensgate_enclave.steps import Opened
from latensgate_shared.kms_envelope import open_body
from latensgate_shared.limits import SEALED_REQUEST_MAX_BYTES
from latensgate_shared.sealed import open_request, reopen_request, request_hash
from latensgate_shared.sealed_plaintext import check_body_model, parse_plaintext
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_enclave.pipeline import Pipeline
    from latensgate_enclave.steps import Sealed
    from latensgate_shared.sealed import OpenedRequest, OpeningKey
    from latensgate_shared.sealed_plaintext import SealedPlaintext


class Found(NamedTuple):
    """What opened.

    Attributes:
        opened: By the seal.
        plaintext: Parsed.
        request_hash: Of the sealed bytes.
    """

    opened: OpenedRequest
    plaintext: SealedPlaintext
    request_hash: str


def opened_by_key(sealed: Sealed, opening_keys: Mapping[bytes, OpeningKey]) -> Found:
    """Open a request that has just come. Raises as `open_request` and `parse_plaintext`."""
    return _found(open_request(opening_keys, sealed.outer.canonical(), sealed.wire), sealed)


def opened_again(sealed: Sealed, shared_secret: bytes) -> Found:
    """Open a request that this enclave opened before. Raises as `reopen_request`."""
    return _found(reopen_request(shared_secret, sealed.outer.canonical(), sealed.wire), sealed)


def _found(opened: OpenedRequest, sealed: Sealed) -> Found:
    return Found(opened, parse_plaintext(opened.plaintext), request_hash(sealed.wire))


async def unwrapped(
    pipeline: Pipeline, sealed: Sealed, found: Found, surrogate_secret: bytes | None = None
) -> Opened:
    """Open the KMS envelope inside a request, if there is one.

    Args:
        pipeline: Whose keys and threads are used.
        sealed: The request.
        found: What stands in it.
        surrogate_secret: That it was given before, where it has none of its own.

    Raises:
        LatensgateError: The envelope does not open, or the body is another model's.
    """
    opened, plaintext, digest = found
    secret, outer = opened.answer_secret, sealed.outer
    body, raw = plaintext.body_object, plaintext.body
    if plaintext.fields.kms_envelope is not None:
        envelope = plaintext.fields.kms_envelope
        data_key = await pipeline.parts.tenant_keys.data_key(envelope, outer.tenant_id)
        raw = open_body(data_key, plaintext.fields.request_id, plaintext.body)
        secret = secret.with_data_key(data_key)  # before an await: it may be wiped then
        limit, size = SEALED_REQUEST_MAX_BYTES, len(raw)
        body = await pipeline.work(size, outer.tenant_id, parse_json_object, raw, max_bytes=limit)
    return Opened(
        outer=outer,
        request_hash=digest,
        key_id=opened.key_id.hex(),
        plaintext=plaintext,
        body=check_body_model(body or {}, outer),
        body_bytes=raw,
        answer_secret=secret,
        tenant_settings=sealed.tenant_settings,
        shared_secret=opened.shared_secret,
        size_bytes=len(sealed.wire),
        surrogate_secret=surrogate_secret,
    )
