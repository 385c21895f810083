"""The policy applied: texts scanned, findings counted, masked or refused."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from latensgate_enclave.pii.errors import PIIHardFailError, PIITooLargeError
from latensgate_enclave.pii.findings import (
    Category,
    Finding,
    by_position,
    merge,
    without_explained,
)
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

_PAIR: Final = 2
_REPLACED: Final = frozenset({Action.MASK, Action.PSEUDONYMISE})


@dataclass(frozen=True, slots=True)
class TextPart:
    """One text of a request or an answer.

    Attributes:
        text: The text.
        direction: Where it goes.
        hint: Words that say what it is, as the name of the JSON member that holds it.
        continues: Whether it goes on where the part before it, of the same direction, ends.
    """

    text: str
    direction: Direction
    hint: str = ""
    continues: bool = False


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
    """Texts after their policy, in the order in which they were given.

    Attributes:
        texts: With placeholders where the policy masks.
        verdict: What was found.
        changed: Whether any text is another one than was given.
    """

    texts: tuple[str, ...]
    verdict: Verdict
    changed: bool


class Budget:
    """What one request, or one answer, may make the engine do, over all its texts."""

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
    scan = _Scan(engine, policy, budget or Budget())
    given = list(parts)
    start = 0
    for end in range(1, len(given) + 1):
        if end == len(given) or not given[end].continues:
            scan.take(given[start:end])
            start = end
    changed = any(part.text is not text for part, text in zip(given, scan.texts, strict=True))
    return ScannedTexts(tuple(scan.texts), scan.tally.verdict(), changed)


class _Scan:
    """One scan on its way over many texts."""

    __slots__ = ("_budget", "_engine", "_policy", "tally", "texts")

    def __init__(self, engine: Tier1Engine, policy: Policy, budget: Budget) -> None:
        self._engine = engine
        self._policy = policy
        self._budget = budget
        self.tally = _Tally()
        self.texts: list[str] = []

    def take(self, parts: list[TextPart]) -> None:
        """Scan parts that are read as one text: each alone, and what lies across their borders."""
        direction = parts[0].direction
        rules = self._policy.acting(direction)
        across = self._across(parts, direction) if len(parts) > 1 else ()
        start = 0
        for part in parts:
            end = start + len(part.text)
            found = self._found(part.text, direction, part.hint)
            acted = _acted_on(found, rules) if found else ()
            self.tally.add(acted, direction, rules)
            if across:
                clipped = [_clipped(each, start, end) for each in across]
                inside = [each for each in clipped if each.start < each.end]
                acted = tuple(sorted([*acted, *inside], key=by_position))
            self.texts.append(_masked(part.text, acted, rules))
            start = end

    def _across(self, parts: list[TextPart], direction: Direction) -> tuple[Finding, ...]:
        """Find what no part holds alone, as a number split over two; counted once.

        Looked for in all parts together, and in each pair alone: what follows a number in a third
        part may make it the beginning of a word, and no number.
        """
        starts = list(accumulate([len(part.text) for part in parts], initial=0))
        count = len(parts)
        pairs = [(first, first + 2) for first in range(count - 1)] if count > _PAIR else []
        across: list[Finding] = []
        for first, last in [(0, count), *pairs]:
            text = "".join([part.text for part in parts[first:last]])
            borders = [start - starts[first] for start in starts[first + 1 : last]]
            across.extend(
                _moved(each, starts[first])
                for each in self._found(text, direction, parts[first].hint)
                if bisect_right(borders, each.start) < bisect_left(borders, each.end)
            )
        rules = self._policy.acting(direction)
        acted = _acted_on(merge(across), rules)
        self.tally.add(acted, direction, rules)
        return acted

    def _found(self, text: str, direction: Direction, hint: str) -> tuple[Finding, ...]:
        self._budget.spend_chars(len(text) + PII_TEXT_COST_CHARS)
        categories = self._policy.categories(direction)
        if not categories:
            return ()
        found = self._engine.scan(text, categories=categories, hint=hint)
        self._budget.spend_findings(len(found))
        return found


def _moved(finding: Finding, by: int) -> Finding:
    return replace(finding, start=finding.start + by, end=finding.end + by)


def _clipped(finding: Finding, start: int, end: int) -> Finding:
    """Return what of a finding lies between two places, counted from the first of them."""
    return replace(
        finding, start=max(finding.start, start) - start, end=min(finding.end, end) - start
    )


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
    if not findings:
        return text  # the very same: nothing was changed
    for finding in findings:
        if rules[finding.category].action not in _REPLACED:
            continue
        if named is not None and finding.start < done:
            named = max(named, finding, key=_length)
        else:
            parts += [placeholder(named), text[done : finding.start]]
            named = finding
        done = max(done, finding.end)
    return text if named is None else "".join([*parts, placeholder(named), text[done:]])


def placeholder(finding: Finding | None) -> str:
    """Return what stands in the text for a masked finding, as ``<EMAIL_ADDRESS>``."""
    return "" if finding is None else f"<{finding.category.value}>"


def _length(finding: Finding) -> tuple[int, float]:
    return finding.end - finding.start, finding.score
