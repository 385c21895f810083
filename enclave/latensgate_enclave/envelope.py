"""The KMS envelope: a body under a data key of the tenant's own KMS key (DESIGN 3.6).

The tenant's key policy names the PCRs that it accepts; changing it cuts this enclave off within the
300 s that an opened data key is remembered.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from latensgate_enclave.aws import kms
from latensgate_enclave.gate import GateError
from latensgate_enclave.hardening import wipe
from latensgate_shared.hpke_primitives import Concealed
from latensgate_shared.kms_envelope import DATA_KEY_BYTES, EnvelopeError, encryption_context
from latensgate_shared.limits import (
    TENANT_DATA_KEY_CACHE_MAX_COUNT,
    TENANT_DATA_KEY_CACHE_S,
)

if TYPE_CHECKING:
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.gate import KMSClient, Recipient
    from latensgate_shared.sealed_plaintext import KMSEnvelope


class TenantKeys(Concealed):
    """Opens data keys of tenants and remembers them for a short time."""

    __slots__ = ("_cache", "_client", "_clock", "_recipient", "_regions")

    def __init__(
        self, client: KMSClient, recipient: Recipient, clock: EnclaveClock, regions: frozenset[str]
    ) -> None:
        self._client = client
        self._recipient = recipient
        self._clock = clock
        self._regions = regions
        self._cache: OrderedDict[bytes, tuple[int, bytearray]] = OrderedDict()

    async def data_key(self, envelope: KMSEnvelope, tenant_id: str) -> bytearray:
        """Return the 32-byte data key. Use it before the next `await`: then it may be wiped.

        Raises:
            LatensgateError: `ERR_KMS_DENIED` by the tenant's key policy, `ERR_KMS_UNREACHABLE`,
                or `ERR_KMS_ENVELOPE` for everything else.
        """
        index = hashlib.sha256(
            b"\x00".join((tenant_id.encode(), envelope.key_arn.encode(), envelope.wrapped_data_key))
        ).digest()
        now_s = self._clock.now_s()
        self._forget_ended(now_s)
        cached = self._cache.get(index)
        if cached:
            return cached[1]
        data_key = await self._decrypt(envelope, tenant_id)
        self._forget(index)  # of somebody who asked at the same time
        self._cache[index] = now_s, data_key
        if len(self._cache) > TENANT_DATA_KEY_CACHE_MAX_COUNT:
            self._forget(next(iter(self._cache)))
        return data_key

    def _forget_ended(self, now_s: int) -> None:
        # All of them: a key whose tenant never calls again must not stay for that.
        ended = [
            index
            for index, (opened_s, _) in self._cache.items()
            if now_s - opened_s >= TENANT_DATA_KEY_CACHE_S
        ]
        for index in ended:
            self._forget(index)

    def _forget(self, index: bytes) -> None:
        _, data_key = self._cache.pop(index, (0, bytearray()))
        wipe(data_key)

    async def _decrypt(self, envelope: KMSEnvelope, tenant_id: str) -> bytearray:
        try:
            key = kms.parse_key_arn(envelope.key_arn)
            if key.region not in self._regions:
                raise EnvelopeError("the tenant's KMS key is not in a measured Region")
            request = kms.decrypt_request(
                key,
                envelope.wrapped_data_key,
                context=encryption_context(tenant_id),
                document=await self._recipient.document(),
            )
            blob = await self._client.ask(request, key, lambda it: kms.parse_decrypt(it, key))
            data_key = self._recipient.open(blob)
        except (kms.KMSUnfitError, kms.KeyArnError, GateError) as error:
            raise EnvelopeError(error.detail) from None
        if len(data_key) != DATA_KEY_BYTES:
            raise EnvelopeError(f"a data key of {DATA_KEY_BYTES} bytes expected")
        return data_key
