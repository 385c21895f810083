"""Tier 2: names, found by spaCy in processes of its own (ADR 0045).

Apart from `pii`, so that a worker loads nothing of the engine, and the engine nothing of spaCy.
"""
