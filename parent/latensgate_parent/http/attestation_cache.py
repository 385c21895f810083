"""Attestations without nonce, remembered for moments: public, the same for all, asked by many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_parent.limits import ATTESTATION_CACHE_S
from latensgate_shared.calls import AttestationAnswer, AttestationCall

if TYPE_CHECKING:
    from latensgate_parent.clock import Clock
    from latensgate_parent.link.interfaces import Enclave, Fleet


class AttestationCache:
    """Asks enclaves for attestations; an enclave is asked for the same one once in a while.

    What is remembered is bounded by the keys that enclaves hold: a key that none holds is refused
    before. It ends with the connection: who started again since has other keys, and clients that
    were told of the old ones would be refused as long as this lasts.

    Args:
        fleet: The enclaves.
        monotonic: Seconds from any start.
    """

    def __init__(self, fleet: Fleet, monotonic: Clock) -> None:
        self._fleet = fleet
        self._monotonic = monotonic
        self._known: dict[tuple[str, int, str | None], tuple[float, AttestationAnswer]] = {}

    async def ask(self, nonce: bytes | None, key_id: str | None) -> AttestationAnswer:
        """Return an attestation; with a nonce always a fresh one.

        Raises:
            EnclaveError: ``ERR_KEY_STALE``: no enclave holds the key; or as the enclave says.
        """
        enclave = self._fleet.ready() if key_id is None else self._fleet.holder_of(key_id)
        if nonce is not None:
            return await enclave.attestation(AttestationCall(nonce, key_id))
        return await self._published(enclave, key_id)

    async def _published(self, enclave: Enclave, key_id: str | None) -> AttestationAnswer:
        now, place = self._monotonic(), (enclave.name, enclave.links, key_id)
        self._known = {each: kept for each, kept in self._known.items() if kept[0] > now}
        kept = self._known.get(place)
        if kept is not None:
            return kept[1]
        answer = await enclave.attestation(AttestationCall(None, key_id))
        self._known[place] = (now + ATTESTATION_CACHE_S, answer)
        return answer
