"""AWS Signature Version 4, from the side that checks (AWS IAM guide, "Signature Version 4").

Judge: botocore signs, this checks. It was written from AWS's description and shares nothing with
the enclave's signer.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from latensgate_sim.errors import AWSError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_sim.clock import Clock
    from latensgate_sim.http_server import Request
    from latensgate_sim.identity import Credentials, Identity, IdentityStore

SKEW_MAX_S: Final = 300
"""AWS refuses a signature whose time lies more than five minutes away."""
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_AUTHORIZATION: Final = re.compile(
    rf"{_ALGORITHM} +Credential=([^,/ ]+)/(\d{{8}})/([^,/]+)/([^,/]+)/aws4_request, *"
    r"SignedHeaders=([a-z0-9;-]+), *Signature=([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class _Claim:
    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


@dataclass(frozen=True, slots=True)
class SigV4Checker:
    """Checks the signatures of one service in one Region.

    Attributes:
        status: HTTP status of a refusal: KMS says 400, the others 403.
    """

    service: str
    region: str
    identities: IdentityStore
    clock: Clock
    status: int

    def verify(self, request: Request) -> Identity:
        """Return who signed the request.

        Raises:
            AWSError: Unsigned, unknown, expired, skewed, for another scope, or a wrong signature.
        """
        claim = self._parse(request.headers)
        credentials = self._credentials(claim, request.headers)
        timestamp = self._timestamp(claim, request.headers)
        if (claim.service, claim.region) != (self.service, self.region):
            raise self._error("InvalidSignatureException", "Credential should be scoped correctly.")
        missing = _must_be_signed(request.headers) - set(claim.signed_headers)
        if missing:
            raise self._error("InvalidSignatureException", f"Not signed: {sorted(missing)}")
        expected = _signature(request, claim, credentials.secret_access_key, timestamp)
        if not hmac.compare_digest(expected, claim.signature):
            text = "The request signature we calculated does not match the signature you provided."
            raise self._error("InvalidSignatureException", text)
        return credentials.identity

    def _error(self, code: str, message: str) -> AWSError:
        return AWSError(self.status, code, message)

    def _parse(self, headers: Mapping[str, str]) -> _Claim:
        if "authorization" not in headers:
            raise self._error("MissingAuthenticationTokenException", "Missing Authentication Token")
        match = _AUTHORIZATION.fullmatch(headers["authorization"])
        if match is None:
            raise self._error("IncompleteSignatureException", "Authorization header not understood")
        key_id, date, region, service, names, signature = match.groups()
        return _Claim(key_id, date, region, service, tuple(names.split(";")), signature)

    def _credentials(self, claim: _Claim, headers: Mapping[str, str]) -> Credentials:
        found = self.identities.find(claim.access_key_id)
        if found is None or (headers.get("x-amz-security-token") != found.session_token):
            text = "The security token included in the request is invalid."
            raise self._error("UnrecognizedClientException", text)
        if self.identities.expired(found):
            text = "The security token included in the request is expired"
            raise self._error("ExpiredTokenException", text)
        return found

    def _timestamp(self, claim: _Claim, headers: Mapping[str, str]) -> str:
        text = headers.get("x-amz-date", "")
        try:
            signed = dt.datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        except ValueError:
            raise self._error("IncompleteSignatureException", "X-Amz-Date is needed") from None
        behind_s = self.clock.seconds() - signed.timestamp()
        if abs(behind_s) > SKEW_MAX_S:
            word = "expired" if behind_s > 0 else "not yet current"
            raise self._error("InvalidSignatureException", f"Signature {word}: {text}")
        if not text.startswith(claim.date):
            raise self._error("InvalidSignatureException", "Date in Credential scope differs")
        return text


def _must_be_signed(headers: Mapping[str, str]) -> set[str]:
    return {key for key in headers if key == "host" or key.startswith("x-amz-")} | {"host"}


def _signature(request: Request, claim: _Claim, secret: str, timestamp: str) -> str:
    scope = f"{claim.date}/{claim.region}/{claim.service}/aws4_request"
    digest = hashlib.sha256(_canonical_request(request, claim.signed_headers)).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _canonical_request(request: Request, names: tuple[str, ...]) -> bytes:
    headers = "".join(
        f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in sorted(names)
    )
    # every service but S3 signs the path encoded once more than it is sent
    path = quote(request.path or "/", safe="/-_.~")
    parts = (
        request.method,
        path,
        _canonical_query(request.query),
        headers,
        ";".join(sorted(names)),
        hashlib.sha256(request.body).hexdigest(),
    )
    return "\n".join(parts).encode()


def _canonical_query(query: str) -> str:
    pairs = [item.partition("=") for item in query.split("&") if item]
    encoded = sorted((_encode(key), _encode(value)) for key, _, value in pairs)
    return "&".join(f"{key}={value}" for key, value in encoded)


def _encode(text: str) -> str:
    return quote(unquote(text), safe="-_.~")
