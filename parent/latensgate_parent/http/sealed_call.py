"""What a caller sends to ``POST /api/inference``, read strictly (docs/spec/http.md section 3).

``latensgate_shared.messages.parse_inference_request`` says what is right. It takes some 60 µs for
a short prompt, so bodies of the usual shape are read by a faster reader that may only say "I do not
know"; a property test holds the two together.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.fields import single
from latensgate_parent.limits import SEALED_BODY_ESCAPES_MAX_COUNT
from latensgate_shared.calls import InferenceCall
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.limits import (
    IDEMPOTENCY_KEY_MAX_CHARS,
    MIB,
    SEALED_BODY_MAX_BYTES,
    SEALED_REQUEST_MAX_BYTES,
)
from latensgate_shared.messages import (
    ATTESTATION_HEADER,
    DEFAULT_OPERATION,
    parse_inference_request,
)
from latensgate_shared.sealed import ProtocolVersionError, find_suite
from latensgate_shared.sealed_request import HEADER_BYTES, KEY_ID_BYTES, VERSION
from latensgate_shared.strict_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.http.errors import Header

_ATTESTATION_FIELD: Final = ATTESTATION_HEADER.lower().encode("ascii")
_ATTESTATION: Final = re.compile(rb"sha384:[0-9a-f]{96}")
_JSON_TYPE: Final = re.compile(
    rb'application/json[ \t]*(?:;[ \t]*charset="?utf-8"?[ \t]*)?', re.IGNORECASE
)
_VISIBLE: Final = re.compile(rb"[!-~]+")


@dataclass(frozen=True, slots=True)
class SealedCall:
    """A request whose visible part is well-formed.

    Attributes:
        call: What the enclave is asked.
        sealed_request: Decoded ``prompt_ciphertext``.
        key_id: 16 hex digits: the HPKE key that it says it is sealed to.
    """

    call: InferenceCall
    sealed_request: bytes = field(repr=False)
    key_id: str


def check_content_type(headers: Sequence[Header]) -> None:
    """Demand JSON.

    Raises:
        GatewayError: ``ERR_REQUEST_INVALID``.
    """
    value = single(headers, b"content-type")
    if value != b"application/json" and not (value and _JSON_TYPE.fullmatch(value)):
        raise _bad_header("Content-Type", "application/json expected")


def idempotency_key(headers: Sequence[Header]) -> str | None:
    """Return the ``Idempotency-Key``, if there is one.

    Raises:
        GatewayError: ``ERR_REQUEST_INVALID``: twice, of another form, or under the other name.
    """
    if single(headers, b"x-idempotency-key") is not None:  # who sends it relies on it
        raise _bad_header("X-Idempotency-Key", "its name here is Idempotency-Key")
    value = single(headers, b"idempotency-key")
    if value is None:
        return None
    if len(value) > IDEMPOTENCY_KEY_MAX_CHARS or not _VISIBLE.fullmatch(value):
        raise _bad_header(
            "Idempotency-Key", f"1 to {IDEMPOTENCY_KEY_MAX_CHARS} visible ASCII characters expected"
        )
    return value.decode("ascii")


def read_sealed_call(headers: Sequence[Header], body: bytes) -> SealedCall:
    """Read header and body of a sealed request.

    Raises:
        GatewayError: ``ERR_PLAINTEXT_REFUSED``: JSON, but nothing sealed in it;
            ``ERR_REQUEST_INVALID``: the header; ``ERR_MALFORMED``, ``ERR_TOO_LARGE``: the body, or
            what is sealed is too short to be; ``ERR_VERSION``.
    """
    if body.count(b"\\u") > SEALED_BODY_ESCAPES_MAX_COUNT:
        raise GatewayError(
            ErrorCode.ERR_MALFORMED,
            f"A body with at most {SEALED_BODY_ESCAPES_MAX_COUNT} \\u escapes expected.",
        )
    try:
        attestation_hash = _attestation_hash(headers)
        call, sealed = read_plain(body, attestation_hash) or read_any(body, attestation_hash)
        return SealedCall(call, sealed, _key_id(sealed))
    except LatensgateError as error:
        _refuse_plaintext(body)
        if isinstance(error, GatewayError):
            raise
        raise _told(error) from None


def _attestation_hash(headers: Sequence[Header]) -> str:
    value = single(headers, _ATTESTATION_FIELD)
    if value is None or not _ATTESTATION.fullmatch(value):
        raise _bad_header(ATTESTATION_HEADER, "sha384: and 96 lower-case hex digits expected")
    return value.decode("ascii")


def _bad_header(name: str, expected: str) -> GatewayError:
    return GatewayError(ErrorCode.ERR_REQUEST_INVALID, f"Header {name}: {expected}.", param=name)


# --- the two readers ---


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    prompt_ciphertext: msgspec.Raw
    model: str
    tenant_id: str
    operation: str | msgspec.UnsetType = msgspec.UNSET
    stream: bool | msgspec.UnsetType = msgspec.UNSET


_BODY: Final = msgspec.json.Decoder(_Body)
_BASE64: Final = msgspec.json.Decoder(bytes)
_QUOTES_OF_REQUIRED: Final = 12  # three names, three texts
_QUOTES_OF_OPERATION: Final = 4
_QUOTES_OF_STREAM: Final = 2
_QUANTUM_BYTES: Final = 3
_STEP_BYTES: Final = 1 * MIB  # a whole number of quanta of four digits


def read_plain(body: bytes, attestation_hash: str) -> tuple[InferenceCall, bytes] | None:
    """Read a body of plain ASCII without escapes; None: the other reader must judge it.

    Without escapes every quote is one around a name or a text, so that counting them finds a name
    that stands twice, of which msgspec would take the last.
    """
    if not body.isascii() or b"\\" in body or len(body) > SEALED_BODY_MAX_BYTES:
        return None
    try:
        members = _BODY.decode(body)
        sealed = _decoded(members.prompt_ciphertext)
        if _count_quotes(body) != _quotes(members) or not _is_canonical(members, sealed):
            return None
        return _call(members, attestation_hash), sealed
    except (msgspec.MsgspecError, MalformedError, RecursionError, binascii.Error):
        return None


def _decoded(text: msgspec.Raw) -> bytes:
    """Decode a JSON text of base64; a long one in steps, since a step stops every other thread."""
    raw = memoryview(text)
    if len(raw) <= _STEP_BYTES:
        return _BASE64.decode(text)
    digits = raw[1:-1]  # without the quotes: there are no escapes
    steps = range(0, len(digits), _STEP_BYTES)
    return b"".join(
        binascii.a2b_base64(digits[at : at + _STEP_BYTES], strict_mode=True) for at in steps
    )


def _count_quotes(body: bytes) -> int:
    if len(body) <= _STEP_BYTES:
        return body.count(b'"')
    return sum(body.count(b'"', at, at + _STEP_BYTES) for at in range(0, len(body), _STEP_BYTES))


def _quotes(members: _Body) -> int:
    return (
        _QUOTES_OF_REQUIRED
        + (0 if members.operation is msgspec.UNSET else _QUOTES_OF_OPERATION)
        + (0 if members.stream is msgspec.UNSET else _QUOTES_OF_STREAM)
    )


def _is_canonical(members: _Body, sealed: bytes) -> bool:
    """Whether the unused bits of the base64 are zero, which msgspec does not look at."""
    if not sealed or len(sealed) > SEALED_REQUEST_MAX_BYTES:
        return False
    tail = sealed[-((len(sealed) - 1) % _QUANTUM_BYTES + 1) :]
    expected = binascii.b2a_base64(tail, newline=False) + b'"'
    return bytes(members.prompt_ciphertext).endswith(expected)


def _call(members: _Body, attestation_hash: str) -> InferenceCall:
    operation, stream = members.operation, members.stream
    return InferenceCall(
        attestation_hash=attestation_hash,
        model=members.model,
        tenant_id=members.tenant_id,
        operation=DEFAULT_OPERATION if isinstance(operation, msgspec.UnsetType) else operation,
        stream=False if isinstance(stream, msgspec.UnsetType) else stream,
    )


def read_any(body: bytes, attestation_hash: str) -> tuple[InferenceCall, bytes]:
    """Read any body, by the reference.

    Raises:
        MalformedError: As ``parse_inference_request``.
    """
    request = parse_inference_request(body, attestation_hash)
    outer = request.outer
    call = InferenceCall(
        attestation_hash, outer.model, outer.tenant_id, outer.operation, outer.stream
    )
    return call, request.sealed_request


# --- what is wrong with it ---


def _key_id(sealed: bytes) -> str:
    """Return the key id of a sealed request, as the enclave would judge its header.

    Raises:
        ProtocolVersionError: Another version or suite.
        MalformedError: Too short.
    """
    if sealed[:1] not in {b"", VERSION}:
        raise ProtocolVersionError(f"prompt_ciphertext: version 1 expected, found {sealed[0]}")
    if len(sealed) < HEADER_BYTES:
        raise MalformedError(f"prompt_ciphertext: {len(sealed)} bytes hold no sealed request")
    find_suite(sealed[1 + KEY_ID_BYTES : HEADER_BYTES])
    return sealed[1 : 1 + KEY_ID_BYTES].hex()


def _refuse_plaintext(body: bytes) -> None:
    """Refuse JSON without anything sealed: somebody sends what nobody here may see."""
    try:
        value = parse_json(body, max_bytes=SEALED_BODY_MAX_BYTES)
    except MalformedError:
        return  # not JSON: whatever it is, the other error says so
    if type(value) is not dict or "prompt_ciphertext" not in value:
        raise GatewayError(
            ErrorCode.ERR_PLAINTEXT_REFUSED,
            "prompt_ciphertext expected: nothing that is not sealed is taken here.",
            param="prompt_ciphertext",
        ) from None


_MEMBER: Final = re.compile(r"(?:request|outer)\.([a-z_]+):")


def _told(error: LatensgateError) -> GatewayError:
    """Return the error as callers are told: details of these parsers name members, not content."""
    member = _MEMBER.match(error.detail)
    return GatewayError(error.code, error.detail, param=member[1] if member else None)
