"""Limits that only the parent has: one number each, its unit in its name, its reason beside it.

What parent and others share stands in ``latensgate_shared.limits``.
"""

from __future__ import annotations

from typing import Final

from latensgate_shared.limits import MIB

# --- who calls, and how often ---
AUTH_CACHE_S: Final = 2.0
"""How long a found API key is remembered: another parent may revoke it."""
AUTH_CACHE_MAX_COUNT: Final = 10_000
"""Keys remembered at once, about 1 KiB each; the oldest goes first and is asked for again."""
RATE_WINDOW_S: Final = 60
"""Limits are told by the minute."""
RATE_BUCKETS_MAX_COUNT: Final = 100_000
"""Tenants and addresses counted at once, at most 10 KiB each when busy; the longest idle goes."""

# --- requests under way ---
INFERENCE_MAX_OPEN: Final = 1_024
"""Sealed requests at once; what CALLS_MAX_OPEN admits on one connection to an enclave."""
HELD_BODIES_MAX_BYTES: Final = 512 * MIB
"""Bodies of sealed requests held at once: 25 of the largest, or 1,024 of 512 KiB."""
BODY_READ_TIMEOUT_S: Final = 30.0
"""From a request's head to the end of its body; as long as the enclave waits for it."""
