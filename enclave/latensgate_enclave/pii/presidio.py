"""Presidio's recognizers, loaded without what stands around them (ADR 0011).

Importing ``presidio_analyzer`` as it is loads spaCy, numpy and 1,200 more modules and opens
sockets. The recognizer modules themselves need none of that: a pattern table, context words and
check digits. So their parent packages are replaced by empty shells, and three of their imports by
stand-ins:

* ``regex``: patterns are compiled by RE2 in this package, so compiling does nothing; the one
  match that a validator asks for (the country format of an IBAN) is RE2's too. No backtracking
  expression can run on what users send, and no time-out can skip one.
* ``tldextract``: absent. It is what fetches the public suffix list over the network.
* ``presidio_analyzer.nlp_engine``: a name in annotations only.
"""

from __future__ import annotations

import logging
import re
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol, cast

from latensgate_enclave.pii.errors import PIIEngineError
from latensgate_enclave.pii.matching import Regex

if TYPE_CHECKING:
    from collections.abc import Sequence

PRESIDIO: Final = "presidio_analyzer"
_PACKAGES: Final = (
    "predefined_recognizers",
    "predefined_recognizers.generic",
    "predefined_recognizers.country_specific",
    "predefined_recognizers.country_specific.uk",
    "predefined_recognizers.country_specific.us",
)
_BASE_CLASSES: Final = {  # in the order in which they need each other
    "analysis_explanation": "AnalysisExplanation",
    "recognizer_result": "RecognizerResult",
    "entity_recognizer": "EntityRecognizer",
    "local_recognizer": "LocalRecognizer",
    "pattern": "Pattern",
    "pattern_recognizer": "PatternRecognizer",
}
_RECOGNIZERS: Final = {
    "CreditCardRecognizer": "generic.credit_card_recognizer",
    "CryptoRecognizer": "generic.crypto_recognizer",
    "DateRecognizer": "generic.date_recognizer",
    "IbanRecognizer": "generic.iban_recognizer",
    "IpRecognizer": "generic.ip_recognizer",
    "MacAddressRecognizer": "generic.mac_recognizer",
    "UuidRecognizer": "generic.uuid_recognizer",
    "NhsRecognizer": "country_specific.uk.uk_nhs_recognizer",
    "MedicalLicenseRecognizer": "country_specific.us.medical_license_recognizer",
    "UsBankRecognizer": "country_specific.us.us_bank_recognizer",
    "UsItinRecognizer": "country_specific.us.us_itin_recognizer",
    "UsPassportRecognizer": "country_specific.us.us_passport_recognizer",
    "UsSsnRecognizer": "country_specific.us.us_ssn_recognizer",
}


class PresidioPattern(Protocol):
    """One row of a recognizer's table."""

    name: str
    regex: str
    score: float


class PresidioRecognizer(Protocol):
    """What of a Presidio recognizer is used."""

    patterns: Sequence[PresidioPattern]
    context: Sequence[str]

    def validate_result(self, pattern_text: str) -> bool | None:
        """Whether the check digits are right; None where there are none."""
        ...

    def invalidate_result(self, pattern_text: str) -> bool | None:
        """Whether the text cannot be what the pattern took it for."""
        ...


def load_recognizers() -> dict[str, PresidioRecognizer]:
    """Load Presidio's recognizers by class name. Reads files; call it once, at start.

    Modules of these names that were loaded before stand in their place again afterwards.

    Raises:
        PIIEngineError: Presidio is absent, or not of the layout that is pinned.
    """
    before = {name: module for name, module in sys.modules.items() if _is_replaced(name)}
    for name in before:
        del sys.modules[name]
    try:
        _plant_shells()
        return {name: _instance(name, module) for name, module in _RECOGNIZERS.items()}
    except (ImportError, AttributeError, TypeError) as error:
        problem = type(error).__name__
    finally:
        _unplant(before)
    raise PIIEngineError(f"Presidio's recognizers do not load: {problem}")


def _is_replaced(name: str) -> bool:
    return name in {"regex", "tldextract"} or name.partition(".")[0] == PRESIDIO


def _plant_shells() -> None:
    spec = PathFinder.find_spec(PRESIDIO)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(PRESIDIO)
    root = spec.submodule_search_locations[0]
    sys.modules["regex"] = _regex_stand_in()
    shell = _shell(PRESIDIO, root)
    for package in _PACKAGES:
        _shell(f"{PRESIDIO}.{package}", f"{root}/{package.replace('.', '/')}")
    _shell(f"{PRESIDIO}.nlp_engine", "").__dict__["NlpArtifacts"] = object
    for module, name in _BASE_CLASSES.items():
        shell.__dict__[name] = getattr(import_module(f"{PRESIDIO}.{module}"), name)
    # A validator that fails would log the text it was given.
    logging.getLogger("presidio-analyzer").disabled = True


def _shell(name: str, path: str) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = [path] if path else []
    sys.modules[name] = module
    return module


def _unplant(before: dict[str, ModuleType]) -> None:
    planted = [name for name in sys.modules if _is_replaced(name)]
    for name in planted:
        if before or name == "regex":
            del sys.modules[name]
    sys.modules.update(before)


def _instance(name: str, module: str) -> PresidioRecognizer:
    loaded = import_module(f"{PRESIDIO}.predefined_recognizers.{module}")
    return cast("PresidioRecognizer", getattr(loaded, name)())


def _regex_stand_in() -> ModuleType:
    module = ModuleType("regex")
    module.__dict__.update(
        DOTALL=re.DOTALL,
        MULTILINE=re.MULTILINE,
        IGNORECASE=re.IGNORECASE,
        error=re.error,
        compile=_compile_nothing,
        match=_match,
    )
    return module


def _compile_nothing(_pattern: str, **_options: object) -> None:
    return None


def _match(pattern: str, text: str, **_options: object) -> bool:
    return Regex(pattern).starts(text.encode("latin-1"))
