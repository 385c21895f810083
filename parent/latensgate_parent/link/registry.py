"""Which enclave holds which HPKE key: by key id alone (DESIGN 3.5).

A key id is routed only after the document that published it is archived: whoever finds its hash in
a receipt must find the document, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate_parent.limits import KEY_KEPT_AFTER_S
from latensgate_parent.link.events import LinkEvent, LinkEventKind
from latensgate_parent.link.interfaces import EnclaveLostError
from latensgate_parent.link.open_calls import malformed
from latensgate_parent.store.interfaces import ArchivedDocument
from latensgate_shared.cose import attestation_hash, parse_sign1, signed_digest
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import ATTESTATION_DOCUMENT_MAX_BYTES
from latensgate_shared.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_parent.link.events import EventSink
    from latensgate_parent.link.member import Member
    from latensgate_parent.store.interfaces import DocumentStore
    from latensgate_shared.calls import AttestationAnswer
    from latensgate_shared.manifest import Manifest


@dataclass(frozen=True, slots=True)
class _Published:
    member: Member
    manifest: Manifest
    attestation_hash: str


class KeyRegistry:
    """Key id → enclave, for this parent's enclaves.

    Args:
        store: Where documents are archived.
        now_s: Seconds since 1970.
        events: The log.
    """

    def __init__(self, store: DocumentStore, now_s: Callable[[], int], events: EventSink) -> None:
        self._store = store
        self._now_s = now_s
        self._events = events
        self._holders: dict[str, _Published] = {}
        self._newest: dict[Member, _Published] = {}

    def holder(self, key_id: str) -> Member | None:
        """Return the enclave that holds a key (16 hex digits)."""
        published = self._holders.get(key_id)
        return None if published is None else published.member

    def newest(self, member: Member) -> Manifest | None:
        """Return the newest manifest that is known of an enclave."""
        published = self._newest.get(member)
        return None if published is None else published.manifest

    async def learn(self, member: Member, answer: AttestationAnswer) -> None:
        """Archive what an enclave publishes, then route its keys; the same again changes nothing.

        Raises:
            EnclaveLostError: The answer is no document with its manifest.
            StoreError: It could not be archived; its keys are not routed.
        """
        known = (*self._holders.values(), *self._newest.values())
        if any(published.attestation_hash == answer.attestation_hash for published in known):
            return
        manifest = _checked(answer)
        await self._store.archive(
            ArchivedDocument(
                answer.attestation_hash, answer.document, answer.manifest, self._now_s()
            )
        )
        self._route(_Published(member, manifest, answer.attestation_hash))
        self._events(
            LinkEvent(LinkEventKind.PUBLISHED, member.name, detail=answer.attestation_hash)
        )

    def _route(self, published: _Published) -> None:
        member, manifest = published.member, published.manifest
        newest = self._newest.get(member)
        if newest is None or _is_newer(manifest, newest.manifest):
            self._newest[member] = published
        for key in manifest.hpke_keys:
            self._holders.setdefault(key.key_id, published)
        self._holders = {
            key_id: held for key_id, held in self._holders.items() if self._is_kept(held)
        }

    def _is_kept(self, held: _Published) -> bool:
        newest = self._newest[held.member]
        if held is newest:
            return True
        same_process = held.manifest.receipt_public_key == newest.manifest.receipt_public_key
        return same_process and self._now_s() <= held.manifest.not_after + KEY_KEPT_AFTER_S


def _is_newer(manifest: Manifest, than: Manifest) -> bool:
    """Whether it replaces what was newest; another receipt key means that the enclave restarted."""
    restarted = manifest.receipt_public_key != than.receipt_public_key
    return restarted or manifest.not_before >= than.not_before


def _checked(answer: AttestationAnswer) -> Manifest:
    """Read the manifest; refuse a document under a name that is not its own.

    Whether the document is to be believed is for verifiers; it is only archived here.
    """
    try:
        message = parse_sign1(answer.document, max_bytes=ATTESTATION_DOCUMENT_MAX_BYTES)
        manifest = parse_manifest(answer.manifest)
    except MalformedError as error:
        raise malformed(error) from None
    if attestation_hash(signed_digest(message)) != answer.attestation_hash:
        raise EnclaveLostError("attestation: the hash is not that of the document")
    return manifest
