"""The doctor's steps from this machine to the gateway's door."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from latensgate.cli.doctor_findings import FoundError, NotNeededError
from latensgate.cli.exit_codes import ExitCode
from latensgate.cli.text import duration, utc
from latensgate.gateway.connection import tls_context, tls_reason

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate.gateway import GatewayAddress
    from latensgate.gateway.connection import Answer

CONNECT_TIMEOUT_S: Final = 10.0
SKEW_MAX: Final = timedelta(seconds=60)
"""What the protocol forgives between client and enclave."""
_EXPIRES_SOON: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Road:
    """The way to one gateway.

    Attributes:
        address: Where it is.
        ca_file: Authorities in PEM form in the place of the usual ones.
    """

    address: GatewayAddress
    ca_file: Path | None = None

    @property
    def proxy(self) -> str | None:
        """Proxy on the way, as the environment names it."""
        if self.address.loopback or urllib.request.proxy_bypass(self.address.host):
            return None
        found = urllib.request.getproxies()
        return found.get("https" if self.address.secure else "http") or found.get("all")

    def name(self) -> str:
        """Resolve the host name."""
        self._refuse_by_proxy()
        host, port = self.address.host, self.address.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise FoundError(
                f"{host} does not resolve",
                "Check base_url for a slip, and this machine's DNS.",
                ExitCode.UNREACHABLE,
            ) from None
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        return f"{host}: {', '.join(list(addresses)[:4])}"

    def connect(self) -> str:
        """Open a TCP connection and close it."""
        self._refuse_by_proxy()
        host, port = self.address.host, self.address.port
        began = datetime.now(UTC)
        try:
            socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise FoundError(
                f"{host}:{port}: {error.strerror or 'no answer in time'}",
                "Does the gateway run there (make run, latensgate dev)? Does a firewall stand"
                " between?",
                ExitCode.UNREACHABLE,
            ) from None
        return f"port {port}, {_ms(datetime.now(UTC) - began)}"

    def handshake(self) -> str:
        """Do a TLS handshake, verified as every request verifies it."""
        if not self.address.secure:
            raise NotNeededError("plain http to this machine itself")
        self._refuse_by_proxy()
        host, port = self.address.host, self.address.port
        own = tls_context(self.ca_file)
        context = own if isinstance(own, ssl.SSLContext) else ssl.create_default_context()
        try:
            with (
                socket.create_connection((host, port), CONNECT_TIMEOUT_S) as raw,
                context.wrap_socket(raw, server_hostname=host) as peer,
            ):
                return _certificate_words(peer)
        except ssl.SSLError as error:
            raise FoundError(
                f"TLS failed: {tls_reason(error)}",
                "A private authority? Name its PEM file with --ca or in SSL_CERT_FILE.",
                ExitCode.UNREACHABLE,
            ) from None
        except OSError as error:
            raise FoundError(
                f"TLS failed: {error.strerror or 'no answer in time'}",
                "What listens there does not speak TLS.",
                ExitCode.UNREACHABLE,
            ) from None

    def _refuse_by_proxy(self) -> None:
        if self.proxy is not None:
            raise NotNeededError("the proxy of this environment does that")


def _certificate_words(peer: ssl.SSLSocket) -> str:
    told = peer.version() or "TLS"
    ends = (peer.getpeercert() or {}).get("notAfter")
    if not isinstance(ends, str):
        return told
    at = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)
    left = at - datetime.now(UTC)
    soon = f" (in {duration(left)}: soon)" if left < _EXPIRES_SOON else ""
    return f"{told}, certificate until {utc(at)[:10]}{soon}"


def clock_words(answer: Answer) -> str:
    """Compare this machine's clock with the Date field of an answer."""
    date = answer.headers.get("Date")
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        raise NotNeededError("the gateway sends no Date") from None
    ours = answer.sent + (answer.received - answer.sent) / 2
    apart = abs(ours - theirs)
    if apart > SKEW_MAX:
        raise FoundError(
            f"this machine says {utc(ours)}, the gateway says {utc(theirs)}",
            "One of the two clocks is wrong; the step below asks the enclave itself. Set this one"
            " with NTP (timedatectl set-ntp true).",
            ExitCode.CLOCK,
        )
    return f"{duration(apart)} apart"


def _ms(span: timedelta) -> str:
    return f"{span / timedelta(milliseconds=1):.0f} ms"
