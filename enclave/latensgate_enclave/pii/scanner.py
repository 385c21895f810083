"""What the policy needs of an engine, whichever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from latensgate_enclave.pii.findings import Category, Finding


class Scanner(Protocol):
    """Finds personal data in one text."""

    @property
    def digest(self) -> str:
        """Name of everything that decides what is found."""
        ...

    def waits(self, categories: frozenset[Category]) -> bool:
        """Whether a scan for these waits for another process: it must not hold up an event loop."""
        ...

    def scan(
        self, text: str, *, categories: frozenset[Category] = ..., hint: str = ""
    ) -> tuple[Finding, ...]:
        """Find personal data in a text; see ``Tier1Engine.scan``."""
        ...
