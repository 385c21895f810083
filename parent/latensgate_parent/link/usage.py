"""Usage totals: fetched from an enclave and checked before they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_parent.link.open_calls import malformed
from latensgate_parent.store.interfaces import StoredUsage
from latensgate_shared.ed25519 import verify_ed25519
from latensgate_shared.errors import MalformedError
from latensgate_shared.usage import parse_usage_totals, usage_signing_input

if TYPE_CHECKING:
    from latensgate_parent.link.enclave import ConnectedEnclave


async def fetch_usage(link: ConnectedEnclave, receipt_key: bytes) -> StoredUsage:
    """Ask for the totals as they stand now.

    Args:
        link: The enclave.
        receipt_key: Its public receipt key by its manifest, 32 bytes.

    Raises:
        EnclaveError: It refused.
        EnclaveLostError: No whole answer, or one that this key has not signed.
    """
    signed = await link.usage()
    try:
        totals = parse_usage_totals(signed.totals)
        verify_ed25519(receipt_key, usage_signing_input(signed.totals), signed.signature)
    except MalformedError as error:
        raise malformed(error) from None
    return StoredUsage(receipt_key.hex(), totals.issued_at, signed.totals, signed.signature)
