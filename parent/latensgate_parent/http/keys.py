"""``/api/keys``: the API keys of a tenant."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Request

from latensgate_parent import api_keys
from latensgate_parent.clock import optional_rfc3339, to_rfc3339
from latensgate_parent.http.access import TheServices, permitted
from latensgate_parent.http.auth import Caller, Scope, require
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.json_body import body_of, read_body
from latensgate_parent.http.schemas import (
    APIKeyId,
    APIKeyList,
    APIKeyMade,
    APIKeyRotated,
    APIKeyShown,
    CreateKey,
    RotateKey,
)
from latensgate_parent.limits import (
    KEY_LIFE_MAX_S,
    KEYS_ACTIVE_MAX_COUNT,
    KEYS_MAX_COUNT,
    ROTATION_GRACE_MAX_S,
)
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from latensgate_parent.api_keys import NewKey
    from latensgate_parent.http.context import Services
    from latensgate_parent.store.interfaces import APIKey

router = APIRouter(tags=["keys"])

Reader = Annotated[Caller, Depends(permitted(Scope.KEYS_READ))]
Writer = Annotated[Caller, Depends(permitted(Scope.KEYS_WRITE))]

_CREATED: Final = 201


@router.get("/api/keys", summary="All keys of the tenant")
async def get_keys(caller: Reader, services: TheServices) -> APIKeyList:
    """List the tenant's API keys, newest first, with revoked and expired ones.

    No listing ever holds a full key: only its SHA-256 digest is stored. Scope `keys:read`.
    """
    now = services.clock()
    keys = await services.store.keys(caller.tenant.tenant_id)
    return APIKeyList(keys=[APIKeyShown.model_validate(_members(key, now)) for key in keys])


@router.post(
    "/api/keys", summary="Make a key", status_code=_CREATED, openapi_extra=body_of(CreateKey)
)
async def post_keys(request: Request, caller: Writer, services: TheServices) -> APIKeyMade:
    """Make an API key. The full key is in this answer and is never shown again.

    A caller gives only scopes that its own key has; a key with `admin` gives any. The new key is
    `lg_live_…` or `lg_test_…` as the caller's is. Scope `keys:write`.
    """
    body = await read_body(request, CreateKey)
    name, life_s = _name(body.name), _duration("expiry", body.expiry, KEY_LIFE_MAX_S)
    scopes = _scopes(body.scopes)
    for scope in scopes:
        require(caller, scope)
    await _check_count(services, caller.tenant.tenant_id)
    new = api_keys.make_key(
        caller.tenant.tenant_id,
        name,
        scopes,
        now_s=int(services.clock()),
        life_s=life_s,
        test=api_keys.is_test(caller.key),
    )
    await services.store.insert_key(new.stored)
    return APIKeyMade.model_validate(_members(new.stored, services.clock()) | {"key": new.full})


@router.delete("/api/keys/{key_id}", summary="Revoke a key")
async def delete_key(key_id: APIKeyId, caller: Writer, services: TheServices) -> APIKeyShown:
    """Revoke a key; doing it again changes nothing.

    It is refused at once by this parent, and by others after at most two seconds. Any key of the
    tenant may be revoked, also one with more scopes: stopping a leak must not wait. Scope
    `keys:write`.
    """
    now = int(services.clock())
    revoked = await services.store.revoke_key(caller.tenant.tenant_id, key_id, now)
    if revoked is None:
        raise _no_such_key()
    services.authenticator.forget(revoked.digest)
    return APIKeyShown.model_validate(_members(revoked, now))


@router.post(
    "/api/keys/{key_id}/rotate",
    summary="Replace a key",
    status_code=_CREATED,
    openapi_extra=body_of(RotateKey, required=False),
)
async def rotate_key(
    key_id: APIKeyId, request: Request, caller: Writer, services: TheServices
) -> APIKeyRotated:
    """Replace a key by a new one with its name and scopes; the old one works on for a while.

    Who rotates gets the new secret, so the caller's key must have every scope of the old one. A key
    that is revoked or expired cannot be rotated. Scope `keys:write`.
    """
    body = await read_body(request, RotateKey, optional=True)
    grace_s = _duration("grace", body.grace, ROTATION_GRACE_MAX_S)
    expiry_s = _duration("expiry", body.expiry, KEY_LIFE_MAX_S)
    old = await services.store.key(caller.tenant.tenant_id, key_id)
    if old is None:
        raise _no_such_key()
    for scope in old.scopes:
        require(caller, scope)
    now = int(services.clock())
    _check_active(old, now)
    life_s = expiry_s if "expiry" in body.model_fields_set else _life(old)
    new = api_keys.make_key(
        old.tenant_id, old.name, old.scopes, now_s=now, life_s=life_s, test=api_keys.is_test(old)
    )
    await _replace(services, _ended(old, now, grace_s), new)
    told = _members(new.stored, now) | {"key": new.full, "replaces": old.key_id}
    return APIKeyRotated.model_validate(told)


async def _replace(services: Services, old: APIKey, new: NewKey) -> None:
    await _check_count(services, old.tenant_id, active_max=KEYS_MAX_COUNT)
    try:
        is_replaced = await services.store.rotate_key(old, new.stored)
    finally:
        services.authenticator.forget(old.digest)
    if not is_replaced:
        raise _not_active("revoked")


def _ended(old: APIKey, now_s: int, grace_s: int | None) -> APIKey:
    if grace_s is None:
        return replace(old, revoked_at_s=now_s)
    end_s = now_s + grace_s
    if old.expires_at_s is not None:
        end_s = min(end_s, old.expires_at_s)
    return replace(old, expires_at_s=end_s)


def _life(key: APIKey) -> int | None:
    return None if key.expires_at_s is None else key.expires_at_s - key.created_at_s


async def _check_count(
    services: Services, tenant_id: str, active_max: int = KEYS_ACTIVE_MAX_COUNT
) -> None:
    """Refuse one key too many; two at the same moment may both get through, which does no harm."""
    keys, now = await services.store.keys(tenant_id), services.clock()
    active = sum(api_keys.status_of(key, now) == "active" for key in keys)
    if active >= active_max or len(keys) >= KEYS_MAX_COUNT:
        raise GatewayError(
            ErrorCode.ERR_REQUEST_INVALID,
            f"At most {active_max} active keys expected, and {KEYS_MAX_COUNT} with the ended ones.",
        )


def _check_active(key: APIKey, now_s: int) -> None:
    status = api_keys.status_of(key, now_s)
    if status != "active":
        raise _not_active(status)


def _not_active(status: str) -> GatewayError:
    return GatewayError(
        ErrorCode.ERR_REQUEST_INVALID,
        f"key_id: an active key expected, found one that is {status}.",
        param="key_id",
    )


def _no_such_key() -> GatewayError:
    return GatewayError(ErrorCode.ERR_NOT_FOUND, "This tenant has no such key.", param="key_id")


def _name(name: str) -> str:
    try:
        return api_keys.check_name(name)
    except ValueError as error:
        raise _bad("name", error) from None


def _scopes(scopes: list[Scope]) -> list[Scope]:
    if len(set(scopes)) != len(scopes):
        raise GatewayError(
            ErrorCode.ERR_REQUEST_INVALID, "scopes: none twice expected.", param="scopes"
        )
    return scopes


def _duration(name: str, text: str | None, max_s: int) -> int | None:
    try:
        return None if text is None else api_keys.parse_duration(text, max_s)
    except ValueError as error:
        raise _bad(name, error) from None


def _bad(name: str, error: ValueError) -> GatewayError:
    return GatewayError(ErrorCode.ERR_REQUEST_INVALID, f"{name}: {error}.", param=name)


def _members(key: APIKey, now_s: float) -> dict[str, object]:
    return {
        "id": key.key_id,
        "name": key.name,
        "hint": key.hint,
        "scopes": list(key.scopes),
        "status": api_keys.status_of(key, now_s),
        "created_at": to_rfc3339(key.created_at_s),
        "expires_at": optional_rfc3339(key.expires_at_s),
        "revoked_at": optional_rfc3339(key.revoked_at_s),
    }
