"""Who calls: API keys, their scopes, and the tenant they belong to (DESIGN 9).

Only the SHA-256 digest of a key is stored. A key has 256 random bits, so a plain digest cannot be
searched, and a lookup by digest tells nothing by its time.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.fields import single
from latensgate_parent.http.flights import Flights
from latensgate_parent.limits import AUTH_CACHE_MAX_COUNT, AUTH_CACHE_S
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latensgate_parent.http.errors import Header
    from latensgate_parent.store.interfaces import APIKey, Tenant, TenantStore

_KEY: Final = re.compile(rb"lg_(?:live|test)_[A-Za-z0-9_-]{43}")
_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([^ ]+)")  # RFC 9110, 11.1: any case


class Scope(StrEnum):
    """Everything that a key may permit; the set is closed."""

    INFERENCE_READ = "inference:read"
    AUDIT_READ = "audit:read"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    POLICY_READ = "policy:read"
    POLICY_WRITE = "policy:write"
    APPROVALS_WRITE = "approvals:write"
    ADMIN = "admin"
    """Everything of its own tenant."""


SCOPES: Final = frozenset(scope.value for scope in Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was authenticated."""

    tenant: Tenant
    key: APIKey


@dataclass(frozen=True, slots=True)
class _Cached:
    caller: Caller
    until: float


class Authenticator:
    """Finds the caller of a request.

    A key that was found is remembered for ``AUTH_CACHE_S``, since another process may revoke it;
    its end and its tenant's are looked at each time.

    Args:
        store: Where keys are.
        clock: Seconds since 1970.
        monotonic: Seconds from any start; for the age of what is remembered.
    """

    def __init__(
        self,
        store: TenantStore,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._cache: dict[bytes, _Cached] = {}
        self._flights: Flights[bytes, Caller | None] = Flights(AUTH_CACHE_S)
        self._changes = 0

    async def authenticate(self, headers: Sequence[Header], tenant_in_url: str | None) -> Caller:
        """Return the caller.

        Args:
            headers: As ASGI gives them.
            tenant_in_url: The tenant whose URL was called, if it was one's.

        Raises:
            GatewayError: ``ERR_UNAUTHENTICATED``; ``ERR_REQUEST_INVALID`` for two credentials;
                ``ERR_NOT_FOUND`` if the URL is another tenant's.
            StoreError: Nobody can be authenticated now.
        """
        digest = sha256(presented_key(headers)).digest()
        cached = self._cache.get(digest)
        if cached is not None and self._monotonic() < cached.until:
            caller = cached.caller
        else:
            found = await self._flights.join(digest, self._look_up)
            if found is None:
                raise _unauthenticated("This API key is not known here.")
            caller = found
        self._check_ends(caller)
        if tenant_in_url is not None and tenant_in_url != caller.tenant.tenant_id:
            raise GatewayError(ErrorCode.ERR_NOT_FOUND, "There is nothing here for this key.")
        return caller

    def forget(self, digest: bytes) -> None:
        """Drop what is remembered of a key: it was just revoked or rotated here."""
        self._changes += 1  # a lookup under way may have read the old state
        self._flights.part(digest)
        self._cache.pop(digest, None)

    def forget_all(self) -> None:
        """Drop everything that is remembered: a tenant was changed."""
        self._changes += 1
        self._flights.part_all()
        self._cache.clear()

    async def _look_up(self, digest: bytes) -> Caller | None:
        until, changes = self._monotonic() + AUTH_CACHE_S, self._changes
        found = await self._store.authenticate(digest)
        if found is None:
            self._cache.pop(digest, None)
            return None
        key, tenant = found
        caller = Caller(tenant, key)
        if changes == self._changes:
            self._remember(digest, _Cached(caller, until))
        return caller

    def _remember(self, digest: bytes, cached: _Cached) -> None:
        self._cache.pop(digest, None)
        if len(self._cache) >= AUTH_CACHE_MAX_COUNT:
            del self._cache[next(iter(self._cache))]
        self._cache[digest] = cached

    def _check_ends(self, caller: Caller) -> None:
        """Refuse what was ended by somebody whatever the clock says now, and what ends by itself.

        When a key was revoked is for people: a clock that is set back must not bring it to life.
        """
        key, tenant = caller.key, caller.tenant
        if key.revoked_at_s is not None:
            raise _unauthenticated("This API key was revoked.")
        if key.expires_at_s is not None and key.expires_at_s <= self._clock():
            raise _unauthenticated("This API key has expired.")
        if tenant.disabled_at_s is not None:
            raise _unauthenticated("The tenant of this API key is disabled.")


def presented_key(headers: Sequence[Header]) -> bytes:
    """Return the full key that a request presents.

    Raises:
        GatewayError: ``ERR_UNAUTHENTICATED``: none, or not of the form of a key;
            ``ERR_REQUEST_INVALID``: both headers, or one of them twice.
    """
    authorization = single(headers, b"authorization")
    key = single(headers, b"x-api-key")
    if authorization is not None:
        if key is not None:
            raise GatewayError(
                ErrorCode.ERR_REQUEST_INVALID,
                "Authorization and X-API-Key: expected one of them, found both.",
                param="Authorization",
            )
        bearer = _BEARER.fullmatch(authorization)
        key = bearer[1] if bearer else b""
    if key is None:
        raise _unauthenticated("No API key: Authorization: Bearer or X-API-Key expected.")
    if _KEY.fullmatch(key) is None:
        raise _unauthenticated(
            "This is no API key: lg_live_ or lg_test_ and 43 characters expected."
        )
    return key


def require(caller: Caller, scope: str) -> None:
    """Refuse a caller whose key does not permit something; ``admin`` permits all of its tenant.

    Raises:
        GatewayError: ``ERR_FORBIDDEN``; the message names the scope.
    """
    if scope not in caller.key.scopes and Scope.ADMIN not in caller.key.scopes:
        raise GatewayError(
            ErrorCode.ERR_FORBIDDEN, f"This API key does not have the scope {scope}."
        )


def _unauthenticated(message: str) -> GatewayError:
    return GatewayError(ErrorCode.ERR_UNAUTHENTICATED, message)
