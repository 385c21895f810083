"""Tenant settings as the enclave takes them: signed by the root that came inside the seal.

The parent supplies the document with each call and is believed in nothing about it. A request that
names no root gets no settings, whatever the parent supplies.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from latensgate_enclave.values import Value
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import SETTINGS_CACHE_MAX_BYTES, SETTINGS_CACHE_MAX_COUNT
from latensgate_shared.pii_policy import joined_layers
from latensgate_shared.pii_policy_document import parse_policy
from latensgate_shared.settings import SettingsError, parse_settings, require_settings

if TYPE_CHECKING:
    from latensgate_shared.pii_policy import Floor, Layer, Policy
    from latensgate_shared.sealed_plaintext import RequestFields
    from latensgate_shared.settings import TenantSettings

NO_SETTINGS: Final = "none"
"""What a receipt says where no settings were applied."""


class SettingsBook:
    """Reads settings, and remembers those that it read: a document comes with every call.

    Only what a document is by itself is remembered. Whether it is the one that a request demands is
    asked for each request anew. For threads.

    Args:
        max_count: Of documents; the oldest goes first.
        max_bytes: Of documents together: in memory a document takes some times its length.
    """

    def __init__(
        self,
        max_count: int = SETTINGS_CACHE_MAX_COUNT,
        max_bytes: int = SETTINGS_CACHE_MAX_BYTES,
    ) -> None:
        self._max_count = max_count
        self._bytes_left = max_bytes
        self._lock = threading.Lock()
        self._read: OrderedDict[bytes, tuple[TenantSettings, int]] = OrderedDict()

    def demanded(
        self, fields: RequestFields, document: bytes | None, tenant_id: str
    ) -> TenantSettings | None:
        """Return the settings that a request demands; None where it demands none.

        Raises:
            SettingsError: None were supplied, or others than are demanded.
        """
        root = fields.tenant_root
        if root is None:
            return None
        if document is None:
            raise SettingsError("document", "signed settings expected, none were supplied")
        return require_settings(
            self._parsed(document),
            root=root,
            tenant_id=tenant_id,
            min_version=fields.min_settings_version or 0,
        )

    def known(self, document: bytes) -> TenantSettings | None:
        """Return what was read of this document before, if it is remembered."""
        found = self._read.get(sha384(document).digest())
        return None if found is None else found[0]

    def _parsed(self, document: bytes) -> TenantSettings:
        name = sha384(document).digest()
        found = self._read.get(name)
        if found is not None:
            return found[0]
        settings = parse_settings(document)
        with self._lock:
            if self._read.setdefault(name, (settings, len(document)))[0] is settings:
                self._bytes_left -= len(document)
            while len(self._read) > self._max_count or self._bytes_left < 0:
                _, (_, size) = self._read.popitem(last=False)
                self._bytes_left += size
        return settings


class Applied(Value, frozen=True):
    """What is applied to one request.

    Attributes:
        policy: The effective one.
        settings: The tenant's, or None.
        layers: What the policy is joined of.
    """

    policy: Policy
    settings: TenantSettings | None
    layers: tuple[Layer, ...]

    @property
    def told(self) -> str:
        """What the receipt says of the settings."""
        return NO_SETTINGS if self.settings is None else self.settings.told


def applied(floor: Floor, fields: RequestFields, settings: TenantSettings | None) -> Applied:
    """Join the floor, the settings and the request's own policy.

    Raises:
        PolicyError: The request's policy is not what the specification says.
        LatensgateError: The settings name a KMS key, and the request is not wrapped under it.
    """
    if settings is not None and settings.kms_key_arn is not None:
        _require_envelope(fields, settings.kms_key_arn)
    own = None if settings is None else settings.policy
    asked = None if fields.policy is None else parse_policy(fields.policy)
    layers = floor.layers(own, asked)
    return Applied(joined_layers(layers), settings, layers)


def _require_envelope(fields: RequestFields, key_arn: str) -> None:
    if fields.kms_envelope is None or fields.kms_envelope.key_arn != key_arn:
        raise LatensgateError(
            "the tenant's settings name a KMS key; the request is not wrapped under it",
            code=ErrorCode.ERR_KMS_ENVELOPE,
        )
