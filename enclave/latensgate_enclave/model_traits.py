"""What one model can do: a row of the measured capability table (`policy.toml`).

A word that is missing takes something away and never adds: what a row does not name is emulated
where that is possible and refused otherwise.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from latensgate_enclave.values import Value

Capability: TypeAlias = Literal[
    "sampling",
    "tools",
    "forced_tools",
    "tools_streaming",
    "parallel_off",
    "strict_tools",
    "json_schema",
    "images",
    "documents",
    "audio",
    "reasoning_effort",
    "reasoning_thinking",
    "reasoning_nova",
    "system_mid",
    "prefill",
    "service_tier",
    "audio_out",
    "logit_bias",
    "logprobs",
    "moderation",
    "penalties",
    "prediction",
    "seed",
    "verbosity",
    "web_search",
]
CAPABILITIES: Final[frozenset[str]] = frozenset(get_args(Capability))
"""All words that a row of a chat model may hold; docs/compatibility.md says what each is."""
EMBEDDINGS: Final = frozenset(
    {"embed_titan_v2", "embed_cohere_v3", "embed_cohere_v4", "embed_nova_2", "embed_openai"}
)
"""The row of an embedding model holds exactly one of these words and no other."""


class ModelTraits(Value, frozen=True):
    """What one model takes.

    Attributes:
        able: Words of `CAPABILITIES`, or one of `EMBEDDINGS`.
    """

    able: frozenset[str] = CAPABILITIES

    def can(self, capability: Capability) -> bool:
        """Whether the row names it."""
        return capability in self.able

    @property
    def embeds(self) -> bool:
        """Whether the model makes embeddings, and nothing else."""
        return bool(self.able & EMBEDDINGS)

    def without(self, *capabilities: Capability) -> ModelTraits:
        """Return the traits of a model that cannot do these."""
        return ModelTraits(self.able.difference(capabilities))
