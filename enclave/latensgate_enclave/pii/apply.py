"""The policy applied: texts scanned, findings counted, masked or refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate_enclave.pii.errors import PIIHardFailError, PIITooLargeError
from latensgate_enclave.pii.findings import Category, Finding, without_explained
from latensgate_enclave.pii.policy import NO_OPINION, Action, Direction, Policy
from latensgate_shared.limits import (
    PII_FINDINGS_MAX_COUNT,
    PII_REQUEST_MAX_CHARS,
    PII_TEXT_COST_CHARS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from latensgate_enclave.pii.engine import Tier1Engine
    from latensgate_enclave.pii.policy import Rule


@dataclass(frozen=True, slots=True)
class TextPart:
    """One text of a request or an answer.

    Attributes:
        text: The text.
        direction: Where it goes.
        hint: Words that say what it is, as the name of the JSON member that holds it.
    """

    text: str
    direction: Direction
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found and acted on, as numbers only.

    Attributes:
        counts: Findings by category name and direction name, as receipts carry them.
    """

    counts: Mapping[str, Mapping[str, int]]

    @property
    def detected(self) -> bool:
        """Whether anything was found that the policy acts on, if only to flag it."""
        return bool(self.counts)


@dataclass(frozen=True, slots=True)
class ScannedText:
    """A text after its policy.

    Attributes:
        text: With placeholders where the policy masks.
        verdict: What was found.
    """

    text: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ScannedTexts:
    """Texts after their policy, in the order in which they were given."""

    texts: tuple[str, ...]
    verdict: Verdict


class Budget:
    """What one request may make the engine do, over all its texts and both ways."""

    __slots__ = ("_chars_left", "_findings_left")

    def __init__(
        self,
        *,
        max_chars: int = PII_REQUEST_MAX_CHARS,
        max_findings: int = PII_FINDINGS_MAX_COUNT,
    ) -> None:
        self._chars_left = max_chars
        self._findings_left = max_findings

    def spend_chars(self, count: int) -> None:
        """Take code points off.

        Raises:
            PIITooLargeError: Not so many are left.
        """
        self._chars_left -= count
        if self._chars_left < 0:
            raise PIITooLargeError("the texts of the request are longer than one scan takes on")

    def spend_findings(self, count: int) -> None:
        """Take findings off.

        Raises:
            PIITooLargeError: Not so many are left.
        """
        self._findings_left -= count
        if self._findings_left < 0:
            raise PIITooLargeError("the texts of the request hold more findings than one scan may")


def apply(
    text: str, findings: Iterable[Finding], policy: Policy, direction: Direction
) -> ScannedText:
    """Apply a policy to what was found in one text.

    Raises:
        PIIHardFailError: A category was found that the policy refuses.
    """
    rules = policy.acting(direction)
    acted = _acted_on(findings, rules)
    tally = _Tally()
    tally.add(acted, direction, rules)
    return ScannedText(_masked(text, acted, rules), tally.verdict())


def scan_texts(
    engine: Tier1Engine, policy: Policy, parts: Iterable[TextPart], *, budget: Budget | None = None
) -> ScannedTexts:
    """Scan many texts and apply the policy to all of them, or to none.

    Args:
        engine: Tier 1.
        policy: The effective policy.
        parts: System and user texts, JSON scalars and member names of tool arguments and
            results, file names: whatever will be forwarded or returned.
        budget: Shared by the calls for one request.

    Raises:
        PIITooLargeError: The budget is used up, or one text is too long.
        PIIEngineError: A scan could not be completed.
        PIIHardFailError: A category was found that the policy refuses; counts over all parts.
    """
    budget = budget or Budget()
    rules = {direction: policy.acting(direction) for direction in Direction}
    tally = _Tally()
    texts: list[str] = []
    for part in parts:
        budget.spend_chars(len(part.text) + PII_TEXT_COST_CHARS)
        acting = rules[part.direction]
        if not acting:
            texts.append(part.text)
            continue
        found = engine.scan(part.text, categories=frozenset(acting), hint=part.hint)
        budget.spend_findings(len(found))
        acted = _acted_on(found, acting)
        tally.add(acted, part.direction, acting)
        texts.append(_masked(part.text, acted, acting))
    return ScannedTexts(tuple(texts), tally.verdict())


class _Tally:
    """Counts of what was acted on, and of what refuses the whole."""

    __slots__ = ("_acted", "_refused")

    def __init__(self) -> None:
        self._acted: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()

    def add(
        self, findings: tuple[Finding, ...], direction: Direction, rules: Mapping[Category, Rule]
    ) -> None:
        for finding in findings:
            cell = finding.category.value, direction.value
            self._acted[cell] += 1
            if rules[finding.category].action is Action.FAIL:
                self._refused[cell] += 1

    def verdict(self) -> Verdict:
        if self._refused:
            raise PIIHardFailError(_nested(self._refused))
        return Verdict(_nested(self._acted))


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (category, direction), count in sorted(counts.items()):
        nested.setdefault(category, {})[direction] = count
    return nested


def _acted_on(findings: Iterable[Finding], rules: Mapping[Category, Rule]) -> tuple[Finding, ...]:
    # The policy first and overlaps second: a finding that nobody asked for hides none.
    wanted = [
        finding
        for finding in findings
        if rules.get(finding.category, NO_OPINION).acts_on(finding.score)
    ]
    return without_explained(wanted, rank=lambda category: rules[category].action)


def _masked(text: str, findings: tuple[Finding, ...], rules: Mapping[Category, Rule]) -> str:
    """Put a placeholder for each stretch of masked findings; overlapping ones make one stretch.

    The whole stretch goes, under the name of its longest finding, so that no part of any of them
    is left beside the placeholder.
    """
    parts: list[str] = []
    done = 0
    named: Finding | None = None
    for finding in findings:
        if rules[finding.category].action is not Action.MASK:
            continue
        if named is not None and finding.start < done:
            named = max(named, finding, key=_length)
        else:
            parts += [placeholder(named), text[done : finding.start]]
            named = finding
        done = max(done, finding.end)
    return "".join([*parts, placeholder(named), text[done:]])


def placeholder(finding: Finding | None) -> str:
    """Return what stands in the text for a masked finding, as ``<EMAIL_ADDRESS>``."""
    return "" if finding is None else f"<{finding.category.value}>"


def _length(finding: Finding) -> tuple[int, float]:
    return finding.end - finding.start, finding.score
