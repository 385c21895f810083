"""The trusted worker: what runs inside the enclave image besides ``latensgate_shared``."""

from typing import Final

VERSION: Final = "0.1.0"
"""Of this release; part of the manifest and of the KMS encryption context."""
