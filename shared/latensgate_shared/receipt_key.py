"""Everything that the receipt key of an enclave signs: each kind of statement under its own label.

All labels stand here, together, so that no two can be taken for each other: they differ, none
begins with another, and each ends in a zero byte, which JCS never holds. A new kind of statement
gets a line here and nowhere else (docs/spec/receipts.md; ADR 0006).
"""

from __future__ import annotations

from typing import Final

RECEIPT_LABEL: Final = b"latensgate/1 receipt\x00"
"""Followed by the JCS of a receipt's public part."""
USAGE_LABEL: Final = b"latensgate/1 usage\x00"
"""Followed by the JCS of usage totals."""
