"""Findings of earlier messages: a chat sends its whole history with every turn.

What is kept are places and categories, never a text. The key of an entry is a MAC of the text and
of all that decides what is found, under a key made from this enclave's own random one, the tenant
and the conversation secret that only the client knows. So an entry can be met by nobody else:
neither another tenant nor another conversation can tell by the time of an answer what was said.
Each entry carries a MAC of its own, and one that is not what was stored denies.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, cast

from latensgate_enclave.pii.errors import PIICacheError
from latensgate_enclave.pii.findings import ALL_CATEGORIES, Category, Finding
from latensgate_shared.limits import PII_CACHE_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latensgate_enclave.pii.scanner import Scanner

_LABEL: Final = b"latensgate/1 findings\x00"
_PACKED: Final = struct.Struct("<IIHHd")
_MAC_BYTES: Final = 32
_ENTRY_COST_BYTES: Final = 250
"""Of the objects around an entry: key, value, and their place in the table."""
_MIN_CHARS: Final = 64
"""Shorter texts are scanned faster than they are looked up."""
_CATEGORIES: Final = tuple(Category)
_NUMBER_OF: Final = {category: number for number, category in enumerate(_CATEGORIES)}


class FindingsCache:
    """Bounded, for all tenants; the least recently used entries go first. For threads.

    Args:
        key: 32 random bytes of this enclave, used for nothing else; by default new ones.
        max_bytes: Of all entries together.
    """

    __slots__ = ("_entries", "_key", "_lock", "_max_bytes", "_names", "_size_bytes")

    def __init__(self, key: bytes | None = None, max_bytes: int = PII_CACHE_MAX_BYTES) -> None:
        self._key = secrets.token_bytes(_MAC_BYTES) if key is None else key
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._names: list[str] = []  # of recognizers: few, and the same for every text

    def scanner(
        self, engine: Scanner, tenant_id: str, conversation_secret: bytes | None
    ) -> Scanner:
        """Return the engine with this cache before it; without a conversation the engine itself."""
        if conversation_secret is None:
            return engine
        tenant = tenant_id.encode()
        bound = b"%s%d %s%s" % (_LABEL, len(tenant), tenant, conversation_secret)
        return CachedScanner(self, engine, hmac.digest(self._key, bound, "sha256"))

    def load(self, place: bytes, key: bytes) -> tuple[Finding, ...] | None:
        """Return what was stored, or None.

        Raises:
            PIICacheError: It is not what was stored; it is forgotten.
        """
        with self._lock:
            entry = self._entries.get(place)
            if entry is None:
                return None
            self._entries.move_to_end(place)
        packed = entry[:-_MAC_BYTES]
        if not hmac.compare_digest(_mac(key, place, packed), entry[-_MAC_BYTES:]):
            self.forget(place)
            raise PIICacheError("stored findings are not what was stored")
        return tuple(self._unpacked(packed))

    def store(self, place: bytes, key: bytes, findings: tuple[Finding, ...]) -> None:
        """Keep findings, and let the oldest go."""
        with self._lock:
            packed = b"".join([self._packed(finding) for finding in findings])
            entry = packed + _mac(key, place, packed)
            if len(entry) + _ENTRY_COST_BYTES > self._max_bytes:
                return
            self._drop(place)
            self._entries[place] = entry
            self._size_bytes += len(entry) + _ENTRY_COST_BYTES
            while self._size_bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def forget(self, place: bytes) -> None:
        """Drop one entry."""
        with self._lock:
            self._drop(place)

    def _drop(self, place: bytes) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self._size_bytes -= len(entry) + _ENTRY_COST_BYTES

    def _packed(self, finding: Finding) -> bytes:
        if finding.recognizer not in self._names:
            self._names.append(finding.recognizer)
        name = self._names.index(finding.recognizer)
        number = _NUMBER_OF[finding.category]
        return _PACKED.pack(finding.start, finding.end, number, name, finding.score)

    def _unpacked(self, packed: bytes) -> list[Finding]:
        rows = cast("Iterator[tuple[int, int, int, int, float]]", _PACKED.iter_unpack(packed))
        return [
            Finding(_CATEGORIES[number], start, end, score, self._names[name])
            for start, end, number, name, score in rows
        ]


class CachedScanner:
    """An engine behind the cache, for one tenant's one conversation."""

    __slots__ = ("_cache", "_engine", "_key", "digest")

    def __init__(self, cache: FindingsCache, engine: Scanner, key: bytes) -> None:
        self._cache = cache
        self._engine = engine
        self._key = key
        self.digest = engine.digest

    def waits(self, categories: frozenset[Category]) -> bool:
        """Whether a scan for these may wait for another process."""
        return self._engine.waits(categories)

    def scan(
        self,
        text: str,
        *,
        categories: frozenset[Category] = ALL_CATEGORIES,
        hint: str = "",
    ) -> tuple[Finding, ...]:
        """Return what was found in this text before, or scan it; see ``Tier1Engine.scan``.

        Raises:
            PIICacheError: What was stored is not what is there now; the next scan is a new one.
            PIIEngineError: As the engine.
            PIITooLargeError: As the engine.
        """
        if len(text) < _MIN_CHARS:
            return self._engine.scan(text, categories=categories, hint=hint)
        place = self._place(text, categories, hint)
        found = self._cache.load(place, self._key)
        if found is None:
            found = self._engine.scan(text, categories=categories, hint=hint)
            self._cache.store(place, self._key, found)
        return found

    def _place(self, text: str, categories: frozenset[Category], hint: str) -> bytes:
        asked = sum(1 << _NUMBER_OF[category] for category in categories)
        told = hint.encode("utf-8", "surrogatepass")
        head = f"{self.digest} {asked:x} {len(told)} ".encode()
        data = head + told + text.encode("utf-8", "surrogatepass")
        # SHA-384 first: one pass over a long text, and the MAC over what is short.
        return hmac.digest(self._key, hashlib.sha384(data).digest(), "sha256")


def _mac(key: bytes, place: bytes, packed: bytes) -> bytes:
    return hmac.digest(key, place + packed, "sha256")
