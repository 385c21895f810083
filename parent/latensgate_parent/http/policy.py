"""``/api/policy``: the tenant's signed settings, as the parent stores them.

Form and signature are checked, so that a mistake is told to who made it and not to every caller
afterwards. What they are worth is judged in the enclave, under the root that came inside the seal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request

from latensgate_parent.clock import to_rfc3339
from latensgate_parent.http.access import TheServices, permitted
from latensgate_parent.http.auth import Caller, Scope
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.json_body import body_of, read_body
from latensgate_parent.http.schemas_policy import SignedSettings, StoredPolicy
from latensgate_parent.store.interfaces import StoredSettings
from latensgate_shared.errors import ErrorCode
from latensgate_shared.jcs import canonicalize
from latensgate_shared.limits import TENANT_SETTINGS_MAX_BYTES
from latensgate_shared.settings import SettingsError, parse_settings
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from latensgate_shared.settings import TenantSettings

router = APIRouter(tags=["policy"])

Reader = Annotated[Caller, Depends(permitted(Scope.POLICY_READ))]
Writer = Annotated[Caller, Depends(permitted(Scope.POLICY_WRITE))]


@router.get("/api/policy", summary="Settings of the tenant")
async def get_policy(caller: Reader, services: TheServices) -> StoredPolicy:
    """Return the tenant's newest signed settings, exactly as its root key signed them.

    Whether they are the tenant's is for the reader to check: by the root key that it knows. Scope
    `policy:read`.
    """
    found = await services.store.settings(caller.tenant.tenant_id)
    if found is None:
        raise GatewayError(ErrorCode.ERR_NOT_FOUND, "This tenant has no settings.")
    return _shown(found)


@router.put("/api/policy", summary="Store settings", openapi_extra=body_of(SignedSettings))
async def put_policy(request: Request, caller: Writer, services: TheServices) -> StoredPolicy:
    """Store settings that the tenant's root key signed; they apply from the next request on.

    The root key must be that of the stored ones, and the version above theirs; the same document
    again changes nothing. An error names the field at fault in `error.param`. Scope `policy:write`.
    """
    body = await read_body(request, SignedSettings)
    document = _document(body)
    settings = _checked(document, caller.tenant.tenant_id)
    _same_root(await services.store.settings(settings.tenant_id), settings)
    stored = StoredSettings(settings.tenant_id, settings.version, document, int(services.clock()))
    if not await services.store.insert_settings(stored):
        stored = await _same(services, stored)
    services.settings.changed(stored)
    return _shown(stored)


def _document(body: SignedSettings) -> bytes:
    try:
        return canonicalize({"settings": body.settings, "signature": body.signature})
    except JSONError as error:
        raise _bad("settings", error.detail) from None


def _checked(document: bytes, tenant_id: str) -> TenantSettings:
    try:
        settings = parse_settings(document)
    except SettingsError as error:
        raise _bad(error.field, error.detail.partition(": ")[2]) from None
    if settings.tenant_id != tenant_id:
        raise _bad("settings.tenant_id", "the tenant of this API key expected")
    return settings


def _same_root(standing: StoredSettings | None, sent: TenantSettings) -> None:
    """Refuse settings of another root: who has an API key alone must not shut the tenant out.

    Raises:
        GatewayError: ``ERR_SETTINGS_REFUSED``.
    """
    if standing is not None and parse_settings(standing.document).root != sent.root:
        raise GatewayError(
            ErrorCode.ERR_SETTINGS_REFUSED,
            "settings.root: the root key of the stored settings expected. If the tenant has a new "
            "one, whoever runs the gateway has to forget the stored settings first "
            "(latensgate-admin tenant forget-settings).",
            param="settings.root",
        )


async def _same(services: TheServices, sent: StoredSettings) -> StoredSettings:
    """Return what is stored if it is what was sent, sent twice.

    Raises:
        GatewayError: ``ERR_SETTINGS_REFUSED``: other settings, of this version or a later one.
    """
    found = await services.store.settings(sent.tenant_id)
    if found is not None and found.document == sent.document:
        return found
    newest = sent.version if found is None else found.version
    raise GatewayError(
        ErrorCode.ERR_SETTINGS_REFUSED,
        f"settings.version: above {newest}, the stored one, expected.",
        param="settings.version",
    )


def _bad(field: str, problem: str) -> GatewayError:
    return GatewayError(ErrorCode.ERR_POLICY_INVALID, f"{field}: {problem}.", param=field)


def _shown(stored: StoredSettings) -> StoredPolicy:
    outer = parse_json_object(stored.document, max_bytes=TENANT_SETTINGS_MAX_BYTES)
    return StoredPolicy.model_validate(
        {**outer, "version": stored.version, "stored_at": to_rfc3339(stored.stored_at_s)}
    )
