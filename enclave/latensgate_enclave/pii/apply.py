"""The policy applied: texts scanned, findings counted, replaced or refused."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

from latensgate_enclave.pii.findings import by_position, merge, without_explained
from latensgate_enclave.pii.replacing import Acted, outside, replaced_text
from latensgate_enclave.pii.restore import known_spans
from latensgate_enclave.pii.tally import Budget, Tally, Verdict
from latensgate_enclave.values import Value
from latensgate_shared.limits import PII_TEXT_COST_CHARS
from latensgate_shared.pii_policy import NO_OPINION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from latensgate_enclave.pii.findings import Finding
    from latensgate_enclave.pii.scanner import Scanner
    from latensgate_enclave.pii.surrogates import Surrogates
    from latensgate_shared.pii_names import Direction
    from latensgate_shared.pii_policy import Policy

_PAIR: Final = 2


class TextPart(Value, frozen=True):
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


class ScannedText(Value, frozen=True):
    """A text after its policy.

    Attributes:
        text: With placeholders where the policy masks.
        verdict: What was found.
    """

    text: str
    verdict: Verdict


class ScannedTexts(Value, frozen=True):
    """Texts after their policy, in the order in which they were given.

    Attributes:
        texts: With placeholders where the policy masks, and surrogates where it pseudonymises.
        verdict: What was found.
        changed: Whether any text is another one than was given.
    """

    texts: tuple[str, ...]
    verdict: Verdict
    changed: bool


def apply(
    text: str, findings: Iterable[Finding], policy: Policy, direction: Direction
) -> ScannedText:
    """Apply a policy to what was found in one text; what would get a surrogate is masked.

    Raises:
        PIIHardFailError: A category was found that the policy refuses.
    """
    acted = acted_on(text, findings, policy, direction)
    tally = Tally()
    tally.add(acted, direction)
    return ScannedText(replaced_text(text, acted, None), tally.verdict())


def scan_texts(  # noqa: PLR0913  # who scans, by what, what, and what is kept over the texts
    engine: Scanner,
    policy: Policy,
    parts: Iterable[TextPart],
    *,
    budget: Budget | None = None,
    surrogates: Surrogates | None = None,
    known: Surrogates | None = None,
    witness: Witness | None = None,
) -> ScannedTexts:
    """Scan many texts and apply the policy to all of them, or to none.

    Args:
        engine: Finds.
        policy: The effective policy.
        parts: System and user texts, JSON scalars and member names of tool arguments and
            results, file names: whatever will be forwarded or returned.
        budget: Shared by the calls for one request.
        surrogates: Gives surrogates to what the policy pseudonymises; None: that is masked.
        known: Surrogates that may stand in the texts, and are no findings: in answers.
        witness: Is told of each text what was found in it.

    Raises:
        PIITooLargeError: The budget is used up, or one text is too long.
        PIIEngineError: A scan could not be completed.
        PIIHardFailError: A category was found that the policy refuses; counts over all parts.
    """
    given = list(parts)
    if surrogates is not None:
        surrogates.avoid([part.text for part in given])
    scan = TextScan(engine, policy, budget or Budget(), surrogates, known)
    scan.witness = witness
    scan.take_all(given)
    changed = scan.texts != [part.text for part in given]
    return ScannedTexts(tuple(scan.texts), scan.tally.verdict(), changed)


Witness: TypeAlias = "Callable[[TextPart, Iterable[Finding], tuple[Acted, ...]], None]"
"""Is told of each text what was found in it, and what the policy acts on."""


class TextScan:
    """One scan on its way over many texts."""

    __slots__ = (
        "_budget",
        "_engine",
        "_known",
        "_policy",
        "_surrogates",
        "tally",
        "texts",
        "witness",
    )

    def __init__(
        self,
        engine: Scanner,
        policy: Policy,
        budget: Budget,
        surrogates: Surrogates | None,
        known: Surrogates | None,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._budget = budget
        self._surrogates = surrogates
        self._known = known
        self.tally = Tally()
        self.texts: list[str] = []
        self.witness: Witness | None = None

    def take_all(self, given: list[TextPart]) -> None:
        """Scan all parts, those that go on together."""
        start = 0
        for end in range(1, len(given) + 1):
            if end == len(given) or not given[end].continues:
                self._take(given[start:end])
                start = end

    def _take(self, parts: list[TextPart]) -> None:
        """Scan parts that are read as one text: each alone, and what lies across their borders."""
        direction = parts[0].direction
        across = self._across(parts, direction) if len(parts) > 1 else ()
        start = 0
        for part in parts:
            end = start + len(part.text)
            found = self._found(part.text, direction, part.hint)
            acted = acted_on(part.text, found, self._policy, direction) if found else ()
            self.tally.add(acted, direction)
            if across:
                clipped = [_clipped(each, start, end) for each in across]
                inside = [each for each in clipped if each.finding.start < each.finding.end]
                acted = tuple(sorted([*acted, *inside], key=_by_position))
            self.texts.append(replaced_text(part.text, acted, self._surrogates))
            if self.witness is not None:
                self.witness(part, found, acted)
            start = end

    def _across(self, parts: list[TextPart], direction: Direction) -> tuple[Acted, ...]:
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
        if not across:
            return ()
        whole = "".join([part.text for part in parts])
        acted = acted_on(whole, merge(across), self._policy, direction)
        self.tally.add(acted, direction)
        return acted

    def _found(self, text: str, direction: Direction, hint: str) -> Iterable[Finding]:
        self._budget.spend_chars(len(text) + PII_TEXT_COST_CHARS)
        categories = self._policy.categories(direction)
        if not categories:
            return ()
        found = self._engine.scan(text, categories=categories, hint=hint)
        self._budget.spend_findings(len(found))
        if found and self._known is not None:
            return outside(found, known_spans(self._known, text), text)
        return found


def _moved(finding: Finding, by: int) -> Finding:
    return replace(finding, start=finding.start + by, end=finding.end + by)


def _clipped(acted: Acted, start: int, end: int) -> Acted:
    """Return what of a finding lies between two places, counted from the first of them."""
    finding = acted.finding
    first, last = max(finding.start, start) - start, min(finding.end, end) - start
    return Acted(replace(finding, start=first, end=last), acted.action)


def _by_position(acted: Acted) -> tuple[int, int, str]:
    return by_position(acted.finding)


def acted_on(
    text: str, findings: Iterable[Finding], policy: Policy, direction: Direction
) -> tuple[Acted, ...]:
    """Return the findings that a policy acts on, in the order of their place."""
    rules = policy.acting(direction)
    # The policy first and overlaps second: a finding that nobody asked for hides none.
    if not policy.has_exemptions:
        wanted = [
            each for each in findings if rules.get(each.category, NO_OPINION).acts_on(each.score)
        ]
        left = without_explained(wanted, rank=lambda each: rules[each.category].action)
        return tuple([Acted(each, rules[each.category].action) for each in left])
    actions: dict[Finding, Acted] = {}
    for each in findings:
        value = text[each.start : each.end]
        rule = policy.acting_on(direction, value).get(each.category, NO_OPINION)
        if rule.acts_on(each.score):
            actions[each] = Acted(each, rule.action)
    left = without_explained(actions, rank=lambda each: actions[each].action)
    return tuple([actions[each] for each in left])
