"""Who may ask the proxy: programs of this machine, and no web page (docs/adr/0037). No I/O.

A browser is the one program of this machine that runs other people's code. What keeps it out:

* ``Host`` must name this machine: a name that was rebound to 127.0.0.1 is still another name.
* ``Origin``, where a browser sends it, must be the proxy's own; there are no CORS header fields.
* ``Sec-Fetch-Site`` must not say that another site asks.
* Requests with a body must say that it is JSON, which no form and no simple request can.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate.config import is_loopback
from latensgate.proxy.answers import JSON_TYPE, Refusal
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable

_HOST_FORM: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253}))(?::\d{1,5})?")
_BEARER: Final = "bearer "
_NOT_CROSS: Final = frozenset({"none", "same-origin"})
TOKEN_MIN_CHARS: Final = 16
"""Shorter ones can be tried out: nothing slows a program of this machine down."""
_TOKEN_FORM: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of itself.

    Attributes:
        method: HTTP method.
        path: Decoded, without query.
        headers: By lower-case name; where one came twice, its values.
    """

    method: str
    path: str
    headers: dict[str, list[str]] = field(repr=False)

    @classmethod
    def of(cls, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Asked:
        """Read what an ASGI server hands over."""
        found: dict[str, list[str]] = {}
        for name, value in headers:
            found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        return cls(method, path, found)

    def one(self, name: str) -> str | None:
        """Return the value of a field; None if it is not there exactly once."""
        values = self.headers.get(name, [])
        return values[0] if len(values) == 1 else None


def checked_token(token: str) -> bytes:
    """Return a token that can be demanded.

    Raises:
        ValueError: Too short, or not visible ASCII.
    """
    if len(token) < TOKEN_MIN_CHARS or not _TOKEN_FORM.fullmatch(token):
        raise ValueError(f"token: {TOKEN_MIN_CHARS} visible ASCII characters or more expected")
    return token.encode("ascii")


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one proxy.

    Attributes:
        token: What every request must carry, or None.
        names_host: Whether ``Host`` is checked: a UNIX socket has no address that could be rebound.
    """

    token: bytes | None = field(default=None, repr=False)
    names_host: bool = True

    def refusal(self, asked: Asked) -> Refusal | None:
        """Return why a request is refused, or None."""
        return self._host(asked) or _site(asked) or self._token(asked) or _body(asked)

    def _host(self, asked: Asked) -> Refusal | None:
        if not self.names_host or names_this_machine(asked.one("host") or ""):
            return None
        return _forbidden("Host: localhost or a loopback address expected", "host")

    def _token(self, asked: Asked) -> Refusal | None:
        if self.token is None:
            return None
        said = asked.one("authorization") or ""
        given = said[len(_BEARER) :] if said.lower().startswith(_BEARER) else ""
        if hmac.compare_digest(given.encode("latin-1"), self.token):
            return None
        return Refusal(
            ErrorCode.ERR_UNAUTHENTICATED,
            "this proxy wants its token as the API key (--token, LATENSGATE_PROXY_TOKEN)",
            headers=(("www-authenticate", "Bearer"),),
        )


def names_this_machine(host: str) -> bool:
    """Whether a ``Host`` names this machine, with any port: a forwarded one differs."""
    found = _HOST_FORM.fullmatch(host)
    return found is not None and is_loopback(found[1] or found[2])


def _site(asked: Asked) -> Refusal | None:
    origin = asked.headers.get("origin")
    if origin is not None and origin != [f"http://{asked.one('host')}"]:
        return _forbidden("Origin: web pages may not use this proxy", "origin")
    if any(value not in _NOT_CROSS for value in asked.headers.get("sec-fetch-site", ())):
        return _forbidden("Sec-Fetch-Site: web pages may not use this proxy", "sec-fetch-site")
    return None


def _body(asked: Asked) -> Refusal | None:
    if asked.method != "POST":
        return None
    said = (asked.one("content-type") or "").partition(";")[0].strip().lower()
    if said == JSON_TYPE:
        return None
    return Refusal(
        ErrorCode.ERR_REQUEST_INVALID,
        f"Content-Type: {JSON_TYPE} expected",
        status=415,
        param="content-type",
    )


def _forbidden(message: str, param: str) -> Refusal:
    return Refusal(ErrorCode.ERR_FORBIDDEN, message, param=param)
