"""Policies, as the rest of the engine knows them; what they are stands in ``latensgate_shared``.

Tools check a policy before its tenant signs it, so its form and its join are shared; what it does
to a text is here alone (`apply`, `custom`).
"""

from __future__ import annotations

from latensgate_shared.pii_names import Action, Direction
from latensgate_shared.pii_policy import NO_OPINION, CustomRecognizer, Floor, Policy, Rule
from latensgate_shared.pii_policy_document import DEFAULT_THRESHOLD, parse_floor, parse_policy

__all__ = [
    "DEFAULT_THRESHOLD",
    "NO_OPINION",
    "Action",
    "CustomRecognizer",
    "Direction",
    "Floor",
    "Policy",
    "Rule",
    "parse_floor",
    "parse_policy",
]
