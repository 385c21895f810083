"""The SDK's client as a command makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from latensgate import Latensgate
from latensgate.gateway.connection import tls_context

if TYPE_CHECKING:
    from latensgate.config import Wanted
    from latensgate_shared.strict_json import JSONObject


def sealed_client(
    wanted: Wanted, *, policy: JSONObject | None = None, tenant_root: str | None = None
) -> Latensgate:
    """Make a client with what the command line says; whoever asks closes it.

    Args:
        wanted: Where, who and what is trusted.
        policy: Joins what floor and tenant settings ask for.
        tenant_root: 64 hex digits: whose settings are applied.

    Raises:
        ConfigurationError: Something is missing or of another form.
    """
    carrier = None
    if wanted.ca_file is not None:
        carrier = httpx.Client(verify=tls_context(wanted.ca_file))
    return Latensgate(
        api_key=wanted.api_key,
        tenant=wanted.tenant,
        base_url=wanted.base_url,
        simulated=wanted.simulated,
        http_client=carrier,
        policy=policy,
        tenant_root=tenant_root,
    )
