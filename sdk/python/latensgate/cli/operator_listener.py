"""The operators' listener of a gateway, as far as credentials of upstreams go there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

import httpx

from latensgate import answer_bounds
from latensgate.carrier import BodyReader
from latensgate.exchange_steps import Received
from latensgate.gateway.errors import GatewayAnswerMalformedError, GatewayUnreachableError
from latensgate_shared import formats
from latensgate_shared.error_answers import parse_error_answer
from latensgate_shared.errors import LatensgateError
from latensgate_shared.limits import KIB, UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject

_TIMEOUT_S: Final = 30.0
_ANSWER_MAX_BYTES: Final = 256 * KIB
_OK: Final = 200
_HEADERS: Final = {"Latensgate-Operator": "upstream-credential", "Accept-Encoding": "identity"}


class OperatorListener:
    """One connection; a context manager.

    Args:
        url: Root of the listener.
        transport: For tests.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(timeout=_TIMEOUT_S, transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def missing(self) -> dict[str, tuple[str, ...] | None]:
        """Return enclave → names of upstreams without a credential; None: it did not answer.

        Raises:
            LatensgateError: The listener does not answer, or not in its form.
        """
        members = formats.members(
            self._json("GET", "/upstreams"), "answer", frozenset({"enclaves"})
        )
        enclaves = members["enclaves"]
        if not isinstance(enclaves, dict):
            raise GatewayAnswerMalformedError(
                "the operators' listener: enclaves expected", status=_OK
            )
        return {
            name: tuple(str(each) for each in missing) if isinstance(missing, list) else None
            for name, missing in enclaves.items()
        }

    def attestation(self, enclave: str, nonce: bytes) -> Received:
        """Return the evidence of one enclave, not yet judged. Raises as ``missing``."""
        query = f"enclave={quote(enclave, safe='')}&nonce={nonce.hex()}"
        return self._ask("GET", f"/enclave-attestation?{query}")

    def hand_over(self, enclave: str, attestation_hash: str, upstream: str, sealed: bytes) -> bytes:
        """Hand a sealed credential over; return what the enclave says, not yet judged.

        Raises:
            LatensgateError: As ``missing``, or the code that the enclave refused it with.
        """
        body: JSONObject = {
            "enclave": enclave,
            "attestation_hash": attestation_hash,
            "upstream": upstream,
            "sealed": formats.to_base64(sealed),
        }
        answer = self._json("POST", "/upstream-credential", body)
        members = formats.members(answer, "answer", frozenset({"confirmed"}))
        limit = UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES
        return formats.base64_bytes(members["confirmed"], "confirmed", limit)

    def _json(self, method: str, path: str, body: JSONObject | None = None) -> JSONObject:
        answer = self._ask(method, path, body)
        if answer.status != _OK:
            told = parse_error_answer(answer.body).error
            raise LatensgateError(told.message, code=told.code)
        return parse_json_object(answer.body, max_bytes=_ANSWER_MAX_BYTES)

    def _ask(self, method: str, path: str, body: JSONObject | None = None) -> Received:
        """Ask; an answer that does not end, or grows when it is unpacked, is not read on."""
        url, reader = self._url + path, BodyReader(_ANSWER_MAX_BYTES)
        try:
            with self._client.stream(method, url, json=body, headers=_HEADERS) as answer:
                if not answer_bounds.is_encoded(answer):
                    for piece in answer_bounds.patient(answer.iter_bytes(), _TIMEOUT_S):
                        reader.add(piece)
                return Received(answer.status_code, {}, reader.whole())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise GatewayUnreachableError(
                f"{self._url}: the operators' listener does not answer ({type(error).__name__})"
            ) from None
