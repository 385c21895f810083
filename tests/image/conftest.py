"""Images take inputs by name and hash from mirrors: `make test-image` assembles them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("LATENSGATE_IMAGE") else ["test_*.py"]
