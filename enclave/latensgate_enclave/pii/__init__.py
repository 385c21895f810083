"""Personal data: found by tier 1, handled by policy, refused where anything goes wrong."""

from __future__ import annotations

from latensgate_enclave.pii.apply import ScannedText, ScannedTexts, TextPart, apply, scan_texts
from latensgate_enclave.pii.engine import EngineSettings, Tier1Engine
from latensgate_enclave.pii.errors import (
    PIIEngineError,
    PIIHardFailError,
    PIITooLargeError,
)
from latensgate_enclave.pii.findings import Category, Finding
from latensgate_enclave.pii.policy import (
    Action,
    Direction,
    Floor,
    Policy,
    Rule,
    parse_floor,
    parse_policy,
)
from latensgate_enclave.pii.tally import Budget, Verdict
from latensgate_shared.pii_policy import PolicyError

__all__ = [
    "Action",
    "Budget",
    "Category",
    "Direction",
    "EngineSettings",
    "Finding",
    "Floor",
    "PIIEngineError",
    "PIIHardFailError",
    "PIITooLargeError",
    "Policy",
    "PolicyError",
    "Rule",
    "ScannedText",
    "ScannedTexts",
    "TextPart",
    "Tier1Engine",
    "Verdict",
    "apply",
    "parse_floor",
    "parse_policy",
    "scan_texts",
]
