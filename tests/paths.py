"""Where the tests find published vectors and our own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
OWN_VECTORS = REPOSITORY / "tests" / "vectors"


def published(*parts: str) -> Path:
    """Return a path below the folder of published vectors, or skip loudly where it is absent.

    The folder is ``$LATENSGATE_VECTORS``, by default ``../shared/vectors`` beside the checkout.
    With ``CI=true`` an absent folder fails instead.
    """
    root = Path(os.environ.get("LATENSGATE_VECTORS") or REPOSITORY.parent / "shared" / "vectors")
    path = root.joinpath(*parts)
    if path.exists():
        return path
    message = f"published vectors not found at {path}; set LATENSGATE_VECTORS to their folder"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)
