"""AWS Signature Version 4 for requests without a query.

Source: AWS General Reference, "Create a signed AWS API request". A pure function: the time is an
argument, because inside the enclave it comes from attestation documents and not from a clock that
the parent sets. botocore signs the same requests in the tests and must agree.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import AWS_CREDENTIAL_MAX_CHARS

if TYPE_CHECKING:
    from latensgate_enclave.http1 import HttpRequest

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_ACCESS_KEY_ID: Final = re.compile(r"[A-Za-z0-9_]{16,128}")
_SECRET: Final = re.compile(f"[!-~]{{1,{AWS_CREDENTIAL_MAX_CHARS}}}")
_SCOPE: Final = re.compile(r"[a-z0-9-]{1,32}")
_SEGMENT_REFUSED: Final = frozenset({"", ".", ".."})


class CredentialsError(MalformedError):
    """Credentials that AWS cannot have issued."""


class SigningError(MalformedError):
    """A request that has no single canonical form."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """AWS credentials, as they came from the parent: usable, and trusted for nothing.

    Attributes:
        access_key_id: Names the key; not secret.
        secret_access_key: Never in ``repr``.
        session_token: Of temporary credentials; never in ``repr``.

    Raises:
        CredentialsError: A part is outside its character set or too long.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    _keys: dict[str, bytes] = field(
        default_factory=dict[str, bytes], init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not _ACCESS_KEY_ID.fullmatch(self.access_key_id):
            raise CredentialsError("AWS credentials: the access key id is outside its form")
        for secret in (self.secret_access_key, self.session_token):
            if secret is not None and not _SECRET.fullmatch(secret):
                raise CredentialsError("AWS credentials: a secret is outside its character set")

    def signing_key(self, scope_text: str) -> bytes:
        """Return the key of one day, Region and service; credentials live some hours at most."""
        key = self._keys.get(scope_text)
        if key is None:
            key = b"AWS4" + self.secret_access_key.encode()
            for part in scope_text.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._keys[scope_text] = key
        return key


@dataclass(frozen=True, slots=True)
class SigningScope:
    """What a signature is good for.

    Attributes:
        region: As in ``eu-central-1``.
        service: As in ``kms``.

    Raises:
        SigningError: A part is outside its character set.
    """

    region: str
    service: str

    def __post_init__(self) -> None:
        if not _SCOPE.fullmatch(self.region) or not _SCOPE.fullmatch(self.service):
            raise SigningError("SigV4: region or service is outside its character set")


def sign(
    request: HttpRequest, credentials: Credentials, scope: SigningScope, *, at_s: int
) -> HttpRequest:
    """Return the request with ``x-amz-date``, ``x-amz-security-token`` and ``authorization``.

    Args:
        request: Every field that it has is signed.
        credentials: Whose request it is.
        scope: Region and service of the endpoint.
        at_s: Seconds since 1970; AWS admits 300 s to either side of its own time.

    Raises:
        SigningError: The path has empty or dot segments, or a field stands twice: AWS would put
            the canonical form together in another way than we do.
    """
    stamp = _stamp(at_s)
    added: tuple[tuple[str, str], ...] = (("x-amz-date", stamp),)
    if credentials.session_token is not None:
        added += (("x-amz-security-token", credentials.session_token),)
    headers = request.headers + added
    canonical, names = _canonical_request(request, headers)
    scope_text = f"{stamp[:8]}/{scope.region}/{scope.service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope_text}\n{sha256(canonical.encode()).hexdigest()}"
    key = credentials.signing_key(scope_text)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    authorization = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope_text}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return request.with_fields(*added, ("authorization", authorization))


@lru_cache(maxsize=4)  # many requests are signed in one second
def _stamp(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=256)  # paths name models of the measured deployment
def _canonical_path(path: str) -> str:
    """Encode once more what is on the wire in encoded form: so for every service but S3."""
    segments = path.split("/")[1:]
    if not _SEGMENT_REFUSED.isdisjoint(segments) and segments != [""]:
        raise SigningError("SigV4: the path has an empty or a dot segment")
    return quote(path, safe="/~")


def _canonical_request(
    request: HttpRequest, headers: tuple[tuple[str, str], ...]
) -> tuple[str, str]:
    """Return the canonical request and its list of signed fields."""
    path = _canonical_path(request.path)
    fields = {name.lower(): " ".join(value.split()) for name, value in headers}
    if len(fields) != len(headers) or "host" in fields:
        raise SigningError("SigV4: a field stands twice")
    fields["host"] = request.host
    ordered = sorted(fields.items())
    names = ";".join(name for name, _ in ordered)
    lines = [request.method, path, ""]
    lines += [f"{name}:{value}" for name, value in ordered]
    lines += ["", names, sha256(request.body).hexdigest()]
    return "\n".join(lines), names
