"""The tenant's own URL: ``/t/<tenant_id>/…`` or ``<tenant_id>.<tenant domain>`` (DESIGN 9)."""

from __future__ import annotations

import re
from typing import Final

from latensgate_parent.http.errors import GatewayError
from latensgate_shared.errors import ErrorCode

_PREFIX: Final = "/t/"
_TENANT_ID: Final = re.compile(r"tnt_[0-9a-f]{8}")


def split(path: str, host: str | None, tenant_domain: str | None) -> tuple[str | None, str]:
    """Return the tenant that a URL names, if any, and the path without it.

    Args:
        path: As ASGI gives it: decoded, without query.
        host: Value of the Host field, with or without port.
        tenant_domain: Domain whose first labels are tenants; None: host names say nothing.

    Raises:
        GatewayError: ``ERR_NOT_FOUND``: no tenant has this form, or host and path name two.
    """
    by_host = _tenant_of_host(host, tenant_domain) if tenant_domain and host else None
    if not path.startswith(_PREFIX):
        return by_host, path
    by_path, slash, rest = path[len(_PREFIX) :].partition("/")
    if not _TENANT_ID.fullmatch(by_path) or by_host not in {None, by_path}:
        raise _nothing()
    return by_path, slash + rest or "/"


def _tenant_of_host(host: str, tenant_domain: str) -> str | None:
    name = host.lower().partition(":")[0].rstrip(".")
    label, dot, domain = name.partition(".")
    if not dot or domain != tenant_domain.lower() or not label.startswith("tnt_"):
        return None
    if not _TENANT_ID.fullmatch(label):
        raise _nothing()
    return label


def _nothing() -> GatewayError:
    return GatewayError(ErrorCode.ERR_NOT_FOUND, "There is no such tenant URL.")
