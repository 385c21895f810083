"""Where a gateway is, and that an API key may travel there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from latensgate.config import is_loopback
from latensgate.verify.errors import ConfigurationError

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """The root of a gateway, or of one tenant of it.

    Attributes:
        base_url: Without a slash at its end; paths such as ``/api/health`` follow it.
        host: Host name or address, without brackets.
        port: TCP port.
        secure: Whether it is reached by TLS.
        loopback: Whether it is this machine; only then it may be without TLS.
    """

    base_url: str
    host: str
    port: int
    secure: bool
    loopback: bool

    @classmethod
    def parse(cls, base_url: str) -> GatewayAddress:
        """Read a base URL.

        Raises:
            ConfigurationError: No http(s) URL, one with user, query or fragment, or plain HTTP to
                another machine: API keys would travel in the clear.
        """
        parts, port = _split(base_url)
        host = parts.hostname or ""
        loopback, secure = is_loopback(host), parts.scheme == "https"
        if not secure and not loopback:
            raise ConfigurationError(
                "base_url: https:// expected; plain http is for this machine alone (127.0.0.1)"
            )
        root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        return cls(root, host, port or _DEFAULT_PORTS[parts.scheme], secure, loopback)


def _split(base_url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise ConfigurationError("base_url: not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ConfigurationError("base_url: https://HOST or http://127.0.0.1:PORT expected")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("base_url: without user name, query and fragment expected")
    if not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise ConfigurationError("base_url: visible ASCII characters expected")
    return parts, port
