"""Builds the PII engine that the measured policy asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_enclave.ner.model import MODEL_DIGEST
from latensgate_enclave.ner.nest import worker_command
from latensgate_enclave.ner.pool import NamesPool
from latensgate_enclave.pii.engine import EngineSettings, Tier1Engine
from latensgate_enclave.pii.errors import PIINoNamesError
from latensgate_enclave.pii.two_tier import TwoTierEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate_enclave.measured import PIIEngine
    from latensgate_enclave.pii.scanner import Scanner


def build_engine(measured: PIIEngine, monotonic_ns: Callable[[], int]) -> Scanner:
    """Load recognizers and, if names are looked for, the model; takes 0.2 s, and 2 s with it.

    Raises:
        PIIEngineError: What the policy names does not load.
        PIINoNamesError: Names are to be looked for, and the image carries no model.
    """
    tier1 = Tier1Engine(
        EngineSettings(phone_regions=measured.phone_regions, languages=measured.languages)
    )
    if measured.names == "none":
        return tier1
    command = worker_command()
    if command is None:
        raise PIINoNamesError("policy.toml asks for names, and the image carries no model")
    return TwoTierEngine(tier1, NamesPool(command, measured.workers, monotonic_ns), MODEL_DIGEST)
