"""What a front end or a guest does that no correct one does."""

from __future__ import annotations


class VhostError(Exception):
    """The other side broke the protocol; the session ends."""
