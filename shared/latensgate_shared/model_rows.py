"""Rows of the capability table whose models make embeddings.

``deployment.toml`` names the row of each model and the parent tells clients which models are for
what; what each row can do stands in the measured ``policy.toml``, which the parent does not have. A
test compares the two.
"""

from __future__ import annotations

from typing import Final

EMBEDDING_ROWS: Final = frozenset(
    {"titan-embed-v2", "cohere-embed-v3", "cohere-embed-v4", "nova-embed-2", "openai-embed"}
)
"""The others are of models that chat, and answer Responses too."""
