"""Stock Presidio, for comparison only, and what of its findings ours are held to.

Its suffix list is the one in its package: as it comes it would fetch one over the network.
"""

from __future__ import annotations

import logging
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from latensgate_enclave.ner.model import MODEL_PACKAGE
from latensgate_enclave.pii.findings import Category

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

THRESHOLD: Final = 0.35


class Result(Protocol):
    """A finding of Presidio's."""

    entity_type: str
    start: int
    end: int
    score: float


class Analyzer(Protocol):
    """Presidio's engine."""

    def analyze(self, text: str, language: str, *, score_threshold: float) -> list[Result]:
        """Find."""
        ...


class Placed(NamedTuple):
    """A finding of anybody's."""

    category: str
    start: int
    end: int


def stock_patterns() -> Analyzer:
    """Return Presidio's engine without a language model: pattern recognizers alone."""
    presidio, nlp = _presidio()
    registry = presidio.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    registry.remove_recognizer("SpacyRecognizer")
    nothing = nlp.NoOpNlpEngine([{"lang_code": "en", "model_name": "none"}])
    nothing.load()
    return cast("Analyzer", presidio.AnalyzerEngine(registry=registry, nlp_engine=nothing))


def stock_with_spacy() -> Analyzer:
    """Return Presidio's engine as it is customarily set up, with spaCy's small model."""
    presidio, nlp = _presidio()
    models = [{"lang_code": "en", "model_name": MODEL_PACKAGE}]
    engine = nlp.NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": models}
    ).create_engine()
    return cast("Analyzer", presidio.AnalyzerEngine(nlp_engine=engine))


class _Presidio(Protocol):
    def RecognizerRegistry(self) -> _Registry: ...  # noqa: N802 - the library's name
    def AnalyzerEngine(self, **parts: object) -> object: ...  # noqa: N802 - the library's name


class _Registry(Protocol):
    def load_predefined_recognizers(self, *, languages: Sequence[str]) -> None: ...
    def remove_recognizer(self, name: str) -> None: ...


class _NLPEngine(Protocol):
    def load(self) -> None: ...


class _Provider(Protocol):
    def create_engine(self) -> object: ...


class _NLP(Protocol):
    def NoOpNlpEngine(self, models: object) -> _NLPEngine: ...  # noqa: N802 - the library's name
    def NlpEngineProvider(self, *, nlp_configuration: object) -> _Provider: ...  # noqa: N802


def _presidio() -> tuple[_Presidio, _NLP]:
    # Ours may have planted shells; Presidio as it comes needs its own packages.
    if not hasattr(sys.modules.get("presidio_analyzer"), "AnalyzerEngine"):
        for name in [n for n in sys.modules if n.partition(".")[0] == "presidio_analyzer"]:
            del sys.modules[name]
    for name in ("presidio-analyzer", "tldextract"):
        logging.getLogger(name).disabled = True
    # By name, since `make setup` installs presidio-analyzer without what it depends on.
    tldextract = import_module("tldextract")
    offline = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    cast("dict[str, object]", vars(tldextract))["extract"] = offline
    presidio, nlp = (
        import_module("presidio_analyzer"),
        import_module("presidio_analyzer.nlp_engine"),
    )
    return cast("_Presidio", presidio), cast("_NLP", nlp)


_OURS: Final = {category.value for category in Category}
_BARE: Final = re.compile(r"(?![a-z]+://|www\.)", re.IGNORECASE)
_DECIMAL: Final = re.compile(r"\d{1,3}(\.\d{1,3}){1,3}")
_SSN: Final = re.compile(r"\d{3}-\d{2}-\d{4}")
_ACCOUNT: Final = re.compile(r"\baccount:? \Z", re.IGNORECASE)
_FEW_DIGITS, _MOST_DIGITS = 9, 15


def listed_loss(text: str, lost: Placed) -> str | None:
    """Return why a finding is left out on purpose (docs/adr/0012 and 0044), or None."""
    value = text[lost.start : lost.end]
    digits = sum(character.isdigit() for character in value)
    reasons = {
        f"{lost.category}: no category here": lost.category not in _OURS,
        "URL: domain without a scheme": lost.category == "URL" and bool(_BARE.match(value)),
        "PHONE_NUMBER: fewer than nine digits, no context word": lost.category == "PHONE_NUMBER"
        and digits < _FEW_DIGITS,
        "PHONE_NUMBER: part of an IPv4 address or a decimal": lost.category == "PHONE_NUMBER"
        and bool(_DECIMAL.search(value)),
        "PHONE_NUMBER: a social security number, found as one": bool(_SSN.fullmatch(value)),
        "PHONE_NUMBER: an account number, found as one": lost.category == "PHONE_NUMBER"
        and bool(_ACCOUNT.search(text, 0, lost.start)),
        "PHONE_NUMBER: more than fifteen digits": lost.category == "PHONE_NUMBER"
        and digits > _MOST_DIGITS,
        "PHONE_NUMBER: part of a path": lost.category == "PHONE_NUMBER"
        and text[lost.start - 1 : lost.start] == "/",
        "CREDIT_CARD: no known issuer, no context word": lost.category == "CREDIT_CARD",
        "IP_ADDRESS: letters alone": lost.category == "IP_ADDRESS" and not digits,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def placed(results: Iterable[Result]) -> list[Placed]:
    """Return what Presidio found in our form."""
    return [Placed(each.entity_type, each.start, each.end) for each in results]


def is_met(text: str, theirs: Placed, ours: Iterable[Placed]) -> bool:
    """Whether a finding of theirs is one of ours: the same category over half of the same place."""
    for each in ours:
        shared = min(theirs.end, each.end) - max(theirs.start, each.start)
        joined = max(theirs.end, each.end) - min(theirs.start, each.start)
        if each.category == theirs.category and shared * 2 >= joined:
            return True
    return _is_inside(text, theirs, ours)


def _is_inside(text: str, theirs: Placed, ours: Iterable[Placed]) -> bool:
    places = [place for place in range(theirs.start, theirs.end) if text[place].isalnum()]
    same = [each for each in ours if each.category == theirs.category]
    return all(any(each.start <= place < each.end for each in same) for place in places)
