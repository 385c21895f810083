"""Write docs/openapi.json: the OpenAPI document as the gateway's code makes it.

    python scripts/gen_openapi.py

A test compares the file with what this makes, so neither can change without the other.
"""

from __future__ import annotations

import json
from pathlib import Path

from latensgate_parent.http.openapi import describe
from latensgate_parent.http.surface import routes_only

PAGE = Path(__file__).parent.parent / "docs" / "openapi.json"
PUBLIC_URL = "https://gateway.example"


def document() -> str:
    """Return the file's text."""
    described = describe(routes_only(), PUBLIC_URL)
    return json.dumps(described, indent=1, ensure_ascii=False, sort_keys=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
