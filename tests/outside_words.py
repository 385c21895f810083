"""The words that outside suites are run with: as published, and renamed.

The scripted model may look at requests and schemas alone. So every suite is run a second time with
other prompts, tool names, properties and model names, which nothing can have known beforehand.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import cast

JSON = str | int | float | bool | None | list["JSON"] | dict[str, "JSON"]
_TEXTS = frozenset({"content", "text", "description", "input", "instructions", "name"})


@dataclass(frozen=True)
class Words:
    """What one run of the suites says.

    Attributes:
        name: ``published`` or ``renamed``.
        model: Alias of a model behind OpenAI's own interface, which takes all of its fields.
        bedrock_model: Alias of a model of Bedrock that can do all that Bedrock can.
        reasoning_model: Alias whose name makes suites ask for reasoning.
        embedding_model: Alias of an embedding model.
    """

    name: str
    model: str
    bedrock_model: str
    reasoning_model: str
    embedding_model: str

    def of(self, text: str) -> str:
        """Return a text as this run says it."""
        return text if self.name == "published" else codecs.encode(text, "rot13")

    def renamed(self, value: JSON) -> JSON:
        """Return a request with every prompt, tool name and property of this run."""
        return value if self.name == "published" else _renamed(value)

    def node(self, base_url: str) -> str:
        """Return what the scripts for Node are given."""
        return json.dumps(
            {
                "base_url": base_url,
                "api_key": "any",
                "model": self.bedrock_model,
                "embedding_model": self.embedding_model,
                "unknown_model": self.of("no-such-model"),
                "system": self.of("Answer in one sentence."),
                "prompt": self.of("What is the capital of France?"),
                "tool": self.of("get_weather"),
                "tool_description": self.of("Current weather of a place."),
                "tool_result": self.of("It is sunny."),
                "property": self.of("location"),
                "schema": self.of("place"),
            }
        )


PUBLISHED = Words(
    "published", "gpt-6-astra", "claude-outside", "gpt-5-outside", "text-embedding-3-small"
)
RENAMED = Words("renamed", "zeta-lyra-77", "vega-quill-3", "o3-qualm-zephyr", "fjord-vectors-9")
RUNS = (PUBLISHED, RENAMED)


def _renamed(value: JSON) -> JSON:
    if isinstance(value, list):
        return [_renamed(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: _member(key, one) for key, one in value.items()}


def _member(key: str, value: JSON) -> JSON:
    if key in _TEXTS and isinstance(value, str):
        return codecs.encode(value, "rot13")
    if key == "properties" and isinstance(value, dict):
        return {codecs.encode(name, "rot13"): _renamed(one) for name, one in value.items()}
    if key == "required" and isinstance(value, list):
        return [codecs.encode(cast("str", name), "rot13") for name in value]
    return _renamed(value)
