"""STS GetCallerIdentity: to which account do the credentials of the parent belong?

Wire: the AWS query protocol, version 2011-06-15, which answers in XML. No XML library is used: the
answer is a fixed tree of elements with text, so a reader of eight lines is enough, and it knows no
entities, no document type, no comments and no processing instructions to be attacked with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_enclave.aws.sigv4 import SigningScope
from latensgate_enclave.http1 import HttpRequest
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from latensgate_enclave.http1 import HttpResponse

_OK: Final = 200
_TOO_MANY: Final = 429
_SERVER_ERRORS: Final = 500
_BODY: Final = b"Action=GetCallerIdentity&Version=2011-06-15"


class IdentityError(LatensgateError):
    """The credentials are refused, or the answer does not say whose they are."""

    code = ErrorCode.ERR_UPSTREAM_IDENTITY


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Whose credentials they are.

    Attributes:
        account: 12 digits.
        arn: Of the role session or user; names people sometimes, so never in ``repr``.
    """

    account: str
    arn: str = field(repr=False)


def caller_identity_request(region: str) -> HttpRequest:
    """Return the unsigned GetCallerIdentity request to the endpoint of a Region."""
    fields = (("content-type", "application/x-www-form-urlencoded; charset=utf-8"),)
    return HttpRequest("POST", f"sts.{region}.amazonaws.com", "/", fields, _BODY)


def sts_scope(region: str) -> SigningScope:
    """Return the signing scope of the endpoint of a Region."""
    return SigningScope(region, "sts")


def parse_caller_identity(response: HttpResponse) -> CallerIdentity:
    """Read the answer to GetCallerIdentity.

    Raises:
        IdentityError: With ``ERR_UPSTREAM`` if STS is overloaded or broken and may answer later;
            otherwise the credentials are refused or the answer is not understood.
    """
    if response.status == _TOO_MANY or response.status >= _SERVER_ERRORS:
        detail = f"STS: answered with HTTP {response.status}"
        raise IdentityError(detail, code=ErrorCode.ERR_UPSTREAM)
    if response.status != _OK:
        raise IdentityError(f"STS: refused the credentials with HTTP {response.status}")
    fields = _leaves(response.body)
    account, arn = (fields.get(f"{_RESULT}/{name}", "") for name in ("Account", "Arn"))
    match = _ARN.fullmatch(arn)
    if not match or match["account"] != account:
        raise IdentityError("STS: an account and an ARN of the same account expected")
    return CallerIdentity(account, arn)


_LEVELS: Final = 3
_RESULT: Final = "/GetCallerIdentityResponse/GetCallerIdentityResult"
_ARN: Final = re.compile(r"arn:aws(?:-us-gov)?:(?:iam|sts)::(?P<account>[0-9]{12}):[!-~]{1,1024}")
_PROLOGUE: Final = re.compile(r'(?:<\?xml version="1\.0"(?: encoding="(?i:utf-8)")?\?>)?\s*+')
_TOKEN: Final = re.compile(
    r'<(?P<end>/?)(?P<name>[A-Za-z]{1,64})(?: xmlns="[!#-%\'-;=?-~]{1,128}")?\s?>(?P<text>[^<>&]*+)'
)


def _leaves(body: bytes) -> dict[str, str]:
    """Return the texts of the elements by their paths.

    Raises:
        IdentityError: Not well-formed, an element twice, or anything but elements and text.
    """
    text = body.decode("latin-1")  # every byte is a character; ASCII is asked of what is used
    at = _end_of(_PROLOGUE.match(text))
    path: list[str] = []
    leaves: dict[str, str] = {}
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or (not path and (leaves or token["end"])):
            raise IdentityError("STS: the answer is not the XML that the service model describes")
        at = token.end()
        _step(token, path, leaves)
    if path:
        raise IdentityError("STS: the XML of the answer is cut short")
    return leaves


def _end_of(match: re.Match[str] | None) -> int:
    return match.end() if match else 0


def _step(token: re.Match[str], path: list[str], leaves: dict[str, str]) -> None:
    if token["end"]:
        if path.pop() != token["name"] or token["text"].strip():
            raise IdentityError("STS: the elements of the answer do not match")
        return
    path.append(token["name"])
    if len(path) > _LEVELS:
        raise IdentityError("STS: the XML of the answer is deeper than the service model's")
    key = "/" + "/".join(path)
    if key in leaves:
        raise IdentityError("STS: an element stands twice in the answer")
    leaves[key] = token["text"]
