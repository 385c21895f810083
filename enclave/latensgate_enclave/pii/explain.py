"""What a policy does to texts, told finding by finding, with the reason of each."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate_enclave.pii.apply import TextScan
from latensgate_enclave.pii.evidence import evidence_of
from latensgate_shared.limits import PII_EVIDENCE_MAX_COUNT
from latensgate_shared.pii_names import Action
from latensgate_shared.pii_policy import NO_OPINION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from latensgate_enclave.pii.apply import TextPart
    from latensgate_enclave.pii.evidence import Evidence
    from latensgate_enclave.pii.findings import Finding
    from latensgate_enclave.pii.protection import Protection
    from latensgate_enclave.pii.replacing import Acted
    from latensgate_enclave.pii.tally import Budget
    from latensgate_shared.pii_policy import Rule
    from latensgate_shared.strict_json import JSONObject


@dataclass(frozen=True, slots=True, repr=False)
class ExplainedTexts:
    """Texts under a policy.

    Attributes:
        given: As they came.
        forwarded: With what would stand in the place of findings.
        findings: Of each text, as JSON.
        counts: Of what is acted on, by category and direction.
        refused: Of what refuses the whole.
    """

    given: Sequence[TextPart]
    forwarded: Sequence[str]
    findings: Sequence[list[JSONObject]]
    counts: Mapping[str, Mapping[str, int]]
    refused: Mapping[str, Mapping[str, int]]

    def to_json(self, *, is_forwarded: bool) -> list[JSONObject]:
        """Return one object for each text; where all is refused nothing is forwarded."""
        told = zip(self.given, self.forwarded, self.findings, strict=True)
        return [
            {
                "direction": part.direction.value,
                "hint": part.hint,
                "original": part.text,
                "forwarded": text if is_forwarded else None,
                "findings": [*findings],
            }
            for part, text, findings in told
        ]


def explain_texts(protection: Protection, parts: list[TextPart], budget: Budget) -> ExplainedTexts:
    """Scan texts as `Protection.scan_request` does, and tell.

    Raises:
        LatensgateError: As `scan_texts`; a policy that refuses raises nothing here.
    """
    surrogates = protection.giving()
    if surrogates is not None:
        surrogates.avoid([part.text for part in parts])
    findings: list[list[JSONObject]] = []

    def witness(part: TextPart, found: Iterable[Finding], acted: tuple[Acted, ...]) -> None:
        findings.append([*_explained(protection, part, [*found], acted)])

    scan = TextScan(protection.scanner, protection.policy, budget, surrogates, None)
    scan.witness = witness
    scan.take_all(parts)
    return ExplainedTexts(parts, scan.texts, findings, scan.tally.counts(), scan.tally.refused())


def _explained(
    protection: Protection, part: TextPart, found: list[Finding], acted: tuple[Acted, ...]
) -> Iterator[JSONObject]:
    actions = {each.finding: each.action for each in acted}
    reasons = _reasons(protection, part, found)
    for finding in found:
        fate = "acted" if finding in actions else _fate(protection, part, finding)
        yield _told(protection, part, finding, fate, reasons[finding])
    alone = set(found)
    for finding in actions:
        if finding not in alone:  # a number split over two texts that are read as one
            yield _told(protection, part, finding, "across", [])


def _fate(protection: Protection, part: TextPart, finding: Finding) -> str:
    """Say why nothing happens to a finding."""
    strict, lenient = _rules(protection, part, finding)
    if not strict.acts_on(finding.score):
        return "below_threshold"
    return "covered" if lenient.acts_on(finding.score) else "allow_listed"


def _rules(protection: Protection, part: TextPart, finding: Finding) -> tuple[Rule, Rule]:
    """Return the rule of any value, and the rule of this one, which may be on an allow list."""
    policy, value = protection.policy, part.text[finding.start : finding.end]
    category, direction = finding.category, part.direction
    return (
        policy.acting(direction).get(category, NO_OPINION),
        policy.acting_on(direction, value).get(category, NO_OPINION),
    )


def _told(
    protection: Protection, part: TextPart, finding: Finding, fate: str, reasons: list[Evidence]
) -> JSONObject:
    strict, lenient = _rules(protection, part, finding)
    rule = strict if fate in {"below_threshold", "allow_listed"} else lenient
    layers = [*_layers(protection, part, finding, rule)]
    return {
        "category": finding.category.value,
        "offset": finding.start,
        "length": finding.end - finding.start,
        "score": round(finding.score, 4),
        "threshold": rule.threshold or 0,
        "action": rule.action.name.lower(),
        "hold": rule.hold,
        "fate": fate,
        "recognizer": finding.recognizer,
        "decided_by": [each["layer"] for each in layers if each["decides"]],
        "layers": [*layers],
        "evidence": [_evidence_json(each) for each in reasons],
    }


def _layers(
    protection: Protection, part: TextPart, finding: Finding, effective: Rule
) -> Iterator[JSONObject]:
    """Tell what each layer asks for; those that have no opinion are left out."""
    value = part.text[finding.start : finding.end]
    for name, policy in protection.layers:
        rule = policy.rule((finding.category, part.direction))
        if rule is None:
            continue
        left = policy.acting_on(part.direction, value).get(finding.category, NO_OPINION)
        allowed = policy.acting(part.direction).get(finding.category, NO_OPINION) != left
        yield {
            "layer": name,
            "action": rule.action.name.lower(),
            "hold": rule.hold,
            "threshold": rule.threshold or 0,
            "allow_listed": allowed,
            "decides": not allowed and rule.action is effective.action > Action.ALLOW,
        }


def _reasons(
    protection: Protection, part: TextPart, found: list[Finding]
) -> dict[Finding, list[Evidence]]:
    """Give each finding the matches that lie in it, the best first.

    Findings of one category do not overlap, so a match lies in one of them at most.
    """
    reasons: dict[Finding, list[Evidence]] = {each: [] for each in found}
    if not found:
        return reasons
    of_category: dict[object, list[Finding]] = defaultdict(list)
    for finding in found:
        of_category[finding.category].append(finding)
    starts = {category: [each.start for each in own] for category, own in of_category.items()}
    told = evidence_of(
        protection.scanner,
        part.text,
        categories=frozenset(each.category for each in found),
        hint=part.hint,
    )
    for each in told:
        own = of_category[each.category]
        place = bisect_right(starts.get(each.category, []), each.start) - 1
        if place >= 0 and each.end <= own[place].end:
            reasons[own[place]].append(each)
    return {finding: _best(matches) for finding, matches in reasons.items()}


def _best(matches: list[Evidence]) -> list[Evidence]:
    """Return the best ones; a match that is read in two ways counts once."""
    once: dict[tuple[object, ...], Evidence] = {}
    for each in matches:
        once.setdefault((each.start, each.end, each.recognizer, each.pattern), each)
    ordered = sorted(once.values(), key=lambda each: (-each.score, each.start, each.recognizer))
    return ordered[:PII_EVIDENCE_MAX_COUNT]


def _evidence_json(each: Evidence) -> JSONObject:
    return {
        "source": each.source,
        "recognizer": each.recognizer,
        "offset": each.start,
        "length": each.end - each.start,
        "score": round(each.score, 4),
        "pattern": each.pattern,
        "pattern_score": each.pattern_score,
        "validated_score": each.validated_score,
        "context": [{"word": word, "distance": distance} for word, distance in each.context],
        "reading": each.reading,
    }
