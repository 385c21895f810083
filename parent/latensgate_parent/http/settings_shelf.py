"""The newest settings of each tenant, for every sealed request: remembered for moments.

The enclave judges them; whoever serves old ones is found out there. So a short memory does no harm:
after a change, requests that demand the new version fail for at most `SETTINGS_REMEMBERED_S` on
other parents, and not at all on the one that stored it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from latensgate_parent.http.flights import Flights
from latensgate_parent.limits import SETTINGS_REMEMBERED_S, SETTINGS_TENANTS_MAX_COUNT

if TYPE_CHECKING:
    from latensgate_parent.clock import Clock
    from latensgate_parent.store.interfaces import SettingsStore, StoredSettings


class SettingsShelf:
    """Remembers what the store said.

    Args:
        store: Has the settings.
        monotonic: Seconds from any start.
    """

    def __init__(self, store: SettingsStore, monotonic: Clock = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._flights: Flights[str, StoredSettings | None] = Flights(SETTINGS_REMEMBERED_S)
        self._known: OrderedDict[str, tuple[float, StoredSettings | None]] = OrderedDict()

    async def document(self, tenant_id: str) -> bytes | None:
        """Return the newest signed settings of a tenant, if there are any.

        Raises:
            StoreError: The store does not answer.
        """
        now = self._monotonic()
        found = self._known.get(tenant_id)
        if found is not None and now < found[0]:
            return _document(found[1])
        return _document(await self._flights.join(tenant_id, self._look_up))

    async def _look_up(self, tenant_id: str) -> StoredSettings | None:
        found = self._known.get(tenant_id)
        told = await self._store.settings(tenant_id)
        if self._known.get(tenant_id) is not found:  # changed meanwhile: it may be newer than told
            return self._newest(tenant_id, told)
        return self._remember(tenant_id, told)

    def changed(self, settings: StoredSettings) -> None:
        """Take what was stored just now."""
        self._newest(settings.tenant_id, settings)

    def _newest(self, tenant_id: str, told: StoredSettings | None) -> StoredSettings | None:
        known = self._known.get(tenant_id, (0.0, None))[1]
        if known is not None and (told is None or told.version < known.version):
            told = known
        return self._remember(tenant_id, told)

    def _remember(self, tenant_id: str, told: StoredSettings | None) -> StoredSettings | None:
        self._known[tenant_id] = self._monotonic() + SETTINGS_REMEMBERED_S, told
        self._known.move_to_end(tenant_id)
        if len(self._known) > SETTINGS_TENANTS_MAX_COUNT:
            self._known.popitem(last=False)
        return told


def _document(settings: StoredSettings | None) -> bytes | None:
    return None if settings is None else settings.document
