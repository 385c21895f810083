"""How many requests a minute: a sliding window for each tenant, and for each address."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from math import ceil, floor
from typing import TYPE_CHECKING, Final, Protocol

from latensgate_parent.http.addresses import parse_address
from latensgate_parent.limits import RATE_BUCKETS_MAX_COUNT, RATE_WINDOW_S

if TYPE_CHECKING:
    from latensgate_parent.http.errors import Header

_IPV6_NETWORK_BITS: Final = 64
"""One subscriber has at least this much of IPv6 (RFC 6177), so it counts as one address."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a bucket says about one request.

    Attributes:
        limit: Requests a minute.
        remaining: How many more at this moment.
        reset_s: Whole seconds, at least 1, after which ``remaining`` begins to grow again.
        retry_after_s: None if this request is permitted; else whole seconds to wait.
    """

    limit: int
    remaining: int
    reset_s: int
    retry_after_s: int | None


class RateLimiter(Protocol):
    """Counts requests, here or in a service that several parents share."""

    async def take(self, bucket: str, limit_per_minute: int, now: float) -> Allowance:
        """Count a request if it is permitted; the caller refuses what is not.

        Args:
            bucket: Whose requests are counted together: a tenant id, or ``address_bucket``.
            limit_per_minute: Of this bucket; 0 permits nothing.
            now: Seconds from any start, the same for all calls.
        """
        ...


@dataclass(slots=True)
class _Window:
    """Requests by the second in which they came, oldest first, and their sum."""

    seconds: deque[list[int]] = field(default_factory=deque[list[int]])
    total: int = 0


class MemoryRateLimiter:
    """A sliding window in this process, exact to the second.

    Within any ``RATE_WINDOW_S`` seconds no more than the limit gets through, which neither a fixed
    window nor a bucket that refills can say.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        # Apart, or somebody with very many addresses could have tenants' windows forgotten.
        self._addresses: OrderedDict[str, _Window] = OrderedDict()

    async def take(self, bucket: str, limit_per_minute: int, now: float) -> Allowance:
        """See ``RateLimiter.take``."""
        return self.take_now(bucket, limit_per_minute, now)

    def take_now(self, bucket: str, limit_per_minute: int, now: float) -> Allowance:
        """Do what ``take`` does."""
        window = self._window(bucket)
        second = floor(now)
        _drop_old(window, second)
        permitted = window.total < limit_per_minute
        if permitted:
            _count(window, second)
        oldest = window.seconds[0][0] if window.seconds else second
        reset_s = max(1, ceil(oldest + RATE_WINDOW_S + 1 - now))
        return Allowance(
            limit_per_minute,
            max(0, limit_per_minute - window.total),
            reset_s,
            None if permitted else reset_s,
        )

    def _window(self, bucket: str) -> _Window:
        windows = self._addresses if ":" in bucket else self._windows
        window = windows.get(bucket)
        if window is None:
            if len(windows) >= RATE_BUCKETS_MAX_COUNT:
                windows.popitem(last=False)
            window = windows[bucket] = _Window()
        else:
            windows.move_to_end(bucket)
        return window


def _drop_old(window: _Window, second: int) -> None:
    while window.seconds and window.seconds[0][0] < second - RATE_WINDOW_S:
        window.total -= window.seconds.popleft()[1]


def _count(window: _Window, second: int) -> None:
    if window.seconds and window.seconds[-1][0] >= second:  # later: a clock went back
        window.seconds[-1][1] += 1
    else:
        window.seconds.append([second, 1])
    window.total += 1


def address_bucket(host: str) -> str:
    """Return the bucket of a peer's address; IPv6 addresses of one /64 share it."""
    address = parse_address(host)
    if address is None:
        return "address:none"  # a UNIX socket, a test
    if isinstance(address, ipaddress.IPv6Address):
        return f"address:{ipaddress.ip_network((int(address), _IPV6_NETWORK_BITS), strict=False)}"
    return f"address:{address}"


def rate_headers(allowance: Allowance) -> list[Header]:
    """Return what a limited answer carries.

    ``RateLimit`` and ``RateLimit-Policy`` as draft-ietf-httpapi-ratelimit-headers has them; the
    ``X-`` ones for older clients, their reset in seconds to wait.
    """
    limit, remaining, reset = allowance.limit, allowance.remaining, allowance.reset_s
    headers = [
        (b"ratelimit", b'"default";r=%d;t=%d' % (remaining, reset)),
        (b"ratelimit-policy", b'"default";q=%d;w=%d' % (limit, RATE_WINDOW_S)),
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-remaining", b"%d" % remaining),
        (b"x-ratelimit-reset", b"%d" % reset),
    ]
    if allowance.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % allowance.retry_after_s))
    return headers
