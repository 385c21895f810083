"""Where operators hand sealed credentials of upstreams to the enclaves, behind their own listener.

What passes here is evidence and sealed bytes: this process can neither read a credential nor make
one that an enclave takes. Each enclave is asked by its name, since each has keys of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import parse_qs

from latensgate_parent.http.errors import GatewayError
from latensgate_shared import formats
from latensgate_shared.calls_upstream import UpstreamCredentialCall
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import (
    NAME_MAX_CHARS,
    NONCE_BYTES,
    UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES,
)
from latensgate_shared.strict_json import JSONObject, JSONValue, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.http.asgi_types import Receive
    from latensgate_shared.calls import AttestationAnswer
    from latensgate_shared.calls_upstream import UpstreamCredentialAnswer

LIST_PATH: Final = "/upstreams"
ATTESTATION_PATH: Final = "/enclave-attestation"
CREDENTIAL_PATH: Final = "/upstream-credential"
_BODY_MAX_BYTES: Final = 2 * UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES
"""Base64 and names around it."""
_MEMBERS: Final = frozenset({"attestation_hash", "enclave", "sealed", "upstream"})


class CredentialFleet(Protocol):
    """The enclaves, as far as credentials go there."""

    @property
    def names(self) -> Sequence[str]:
        """Enclaves that are connected."""
        ...

    async def attestation_of(self, name: str, nonce: bytes) -> AttestationAnswer:
        """Return the attestation of one enclave, freshly proven."""
        ...

    async def upstream_credential(
        self, name: str, call: UpstreamCredentialCall
    ) -> UpstreamCredentialAnswer:
        """Hand a sealed credential over, or ask which are missing."""
        ...


async def list_missing(fleet: CredentialFleet) -> JSONObject:
    """Return enclave -> names of upstreams without a credential; None where it did not answer."""
    enclaves: JSONObject = {}
    for name in fleet.names:
        try:
            answer = await fleet.upstream_credential(name, UpstreamCredentialCall())
        except LatensgateError:
            enclaves[name] = None
        else:
            missing: list[JSONValue] = [*answer.missing.split(",")] if answer.missing else []
            enclaves[name] = missing
    return {"enclaves": enclaves}


async def show_attestation(fleet: CredentialFleet, query: bytes) -> JSONObject:
    """Return the evidence of one enclave in the form of ``GET /api/attestation``.

    Raises:
        GatewayError: ``ERR_REQUEST_INVALID``.
        LatensgateError: No such enclave, or it does not answer.
    """
    name, nonce = (_one(query, each) for each in ("enclave", "nonce"))
    try:
        challenge = formats.hex_bytes(nonce, "nonce", NONCE_BYTES)
    except LatensgateError as error:
        raise GatewayError(ErrorCode.ERR_REQUEST_INVALID, error.detail) from None
    found = await fleet.attestation_of(name, challenge)
    return {
        "attestation_hash": found.attestation_hash,
        "document": formats.to_base64(found.document),
        "manifest": formats.to_base64(found.manifest),
        "nonce_document": formats.to_base64(found.nonce_document or b""),
    }


def _one(query: bytes, name: str) -> str:
    values = parse_qs(query.decode("latin-1")).get(name, [])
    if len(values) != 1:
        raise GatewayError(ErrorCode.ERR_REQUEST_INVALID, f"Query: one {name} expected.")
    return values[0]


async def hand_over(fleet: CredentialFleet, receive: Receive) -> JSONObject:
    """Hand a sealed credential to the enclave that it is sealed to.

    Raises:
        GatewayError: ``ERR_REQUEST_INVALID`` or ``ERR_TOO_LARGE``.
        LatensgateError: What the enclave says.
    """
    body = await _body(receive)
    try:
        members = formats.members(
            parse_json_object(body, max_bytes=_BODY_MAX_BYTES), "body", _MEMBERS
        )
        name = formats.text(members["enclave"], "enclave", NAME_MAX_CHARS)
        call = UpstreamCredentialCall(
            formats.sha384_digest(members["attestation_hash"], "attestation_hash"),
            formats.text(members["upstream"], "upstream", NAME_MAX_CHARS),
            formats.base64_bytes(members["sealed"], "sealed", UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES),
        )
    except LatensgateError as error:
        raise GatewayError(ErrorCode.ERR_REQUEST_INVALID, error.detail) from None
    answer = await fleet.upstream_credential(name, call)
    return {"confirmed": formats.to_base64(answer.confirmed or b"")}


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise GatewayError(ErrorCode.ERR_CANCELLED, "The caller went away.")
        body += cast("bytes", message.get("body", b""))
        if len(body) > _BODY_MAX_BYTES:
            raise GatewayError(
                ErrorCode.ERR_TOO_LARGE, f"At most {_BODY_MAX_BYTES} bytes expected."
            )
        if not message.get("more_body"):
            return body
