"""What the suites of tests/conformance/outside are run against, and what they need installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from latensgate_sim.deployment import Alias
from outside_words import RUNS
from paths import REPOSITORY

MODEL = Alias("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
EMBEDDINGS = Alias("cohere.embed-v4:0", "cohere-embed-v4")
ALIASES: dict[str, str | Alias] = {
    **{words.bedrock_model: MODEL for words in RUNS},
    **{words.reasoning_model: MODEL for words in RUNS},
    **{words.embedding_model: EMBEDDINGS for words in RUNS},
}
OPENAI_ALIASES = {words.model: "simulated-model" for words in RUNS}
OPENAI_ROW = "openai-chat"
VENV = REPOSITORY / ".venv"


def needed(path: Path, made_by: str) -> Path:
    """Return what was installed beforehand; without it skip loudly, and fail in CI."""
    if path.exists():
        return path
    told = f"{path.relative_to(REPOSITORY)} is not there: {made_by}"
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(told)
