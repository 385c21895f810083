"""The local proxy: the plain OpenAI API on this machine, sealed from here on (docs/proxy.md).

Every request goes through the SDK's own exchange; nothing here seals, opens or verifies.
"""

from __future__ import annotations
