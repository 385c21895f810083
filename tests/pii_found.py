"""What tier 1 finds of one category in a text."""

from __future__ import annotations

from latensgate_enclave.pii import Category, Tier1Engine


def found(engine: Tier1Engine, text: str, category: Category, hint: str = "") -> list[str]:
    """Return the pieces of the text, in their order."""
    findings = engine.scan(text, categories=frozenset({category}), hint=hint)
    return [text[finding.start : finding.end] for finding in findings]
