"""The policy applied to a text that comes in pieces, without waiting for its end.

The text is scanned in windows that end at fixed places of the text, not where a piece happens to
end; so the result does not depend on how the text was cut. What has left the window is final. A
window is cut at white space only, never inside a finding nor within `GUARD_CHARS` of its end, where
a finding might still be growing, and not between groups of digits. The scan of the next window
sees `CONTEXT_CHARS` before the cut again. Where no finding is longer than the guard, that is what
a scan of the whole text finds.

Held back are at most `HELD_MAX_CHARS`, and typically some 200: the guard, a step, and what is left
of a word. Text without white space, as a long code, is cut at that bound wherever no finding lies.
A finding that is longer than the bound is replaced at once, and what follows of it is dropped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from latensgate_enclave.pii.apply import acted_on
from latensgate_enclave.pii.replacing import Acted, outside, replaced_text
from latensgate_enclave.pii.restore import known_spans
from latensgate_shared.limits import PII_TEXT_COST_CHARS
from latensgate_shared.pii_names import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latensgate_enclave.pii.findings import Finding
    from latensgate_enclave.pii.scanner import Scanner
    from latensgate_enclave.pii.surrogates import Surrogates
    from latensgate_enclave.pii.tally import Budget, Tally
    from latensgate_shared.pii_names import Direction
    from latensgate_shared.pii_policy import Policy

STEP_CHARS: Final = 128
"""A window ends after every so many characters."""
GUARD_CHARS: Final = 96
"""Longer than a telephone number, a payment card or an account number with its separators."""
CONTEXT_CHARS: Final = 128
"""Seen again before a cut: an engine looks for context words in 96 characters."""
HELD_MAX_CHARS: Final = 512
"""Held back at most, counted from what is final to the end of a window."""
_KEPT_CHARS: Final = 2 * CONTEXT_CHARS
_TAKEN_CHARS: Final = 4_096
"""Of a piece at once: what is left is copied after each window, so a long piece goes in parts."""
_GROWTH: Final = 4
"""While a long finding is replaced, its window ends only after a quarter more: that many scans stay
linear in its length."""


class WindowedScan:
    """Scans one text that comes in pieces.

    Args:
        engine: Finds.
        policy: The effective policy.
        direction: Where the text goes.
        tally: Counts over all texts of the answer.
        budget: Of the answer.
        known: Surrogates that may stand in the text, and are no findings.
    """

    __slots__ = (
        "_budget",
        "_direction",
        "_engine",
        "_final",
        "_known",
        "_policy",
        "_swallowing",
        "_tally",
        "_text",
        "_window_end",
        "_window_start",
    )

    def __init__(  # noqa: PLR0913  # who scans, by what, where to, and what is kept over the texts
        self,
        engine: Scanner,
        policy: Policy,
        direction: Direction,
        *,
        tally: Tally,
        budget: Budget,
        known: Surrogates | None = None,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._direction = direction
        self._tally = tally
        self._budget = budget
        self._known = known
        self._text = ""
        self._window_start = self._final = 0
        self._window_end = STEP_CHARS
        self._swallowing = False

    def push(self, piece: str) -> str:
        """Take the next piece; return what is final now, as the policy wants it.

        Raises:
            PIIHardFailError: A category was found that the policy refuses.
            PIITooLargeError: The budget is used up.
            PIIEngineError: A scan could not be completed.
        """
        told: list[str] = []
        for start in range(0, len(piece), _TAKEN_CHARS):
            self._text += piece[start : start + _TAKEN_CHARS]
            while len(self._text) >= self._window_end:
                told.append(self._advanced(self._window_end))
        return "".join(told)

    def end(self) -> str:
        """Return what was held back: nothing follows.

        Raises:
            LatensgateError: As `push`.
        """
        size = len(self._text)
        return self._finished(self._scanned(size), size) if size > self._final else ""

    def _advanced(self, end: int) -> str:
        """Scan the window that ends here, and make final what is."""
        acted = self._scanned(end)
        grown = (end - self._window_start) // _GROWTH if self._swallowing else 0
        self._window_end += max(STEP_CHARS, grown)
        return self._finished(acted, self._cut(acted, end))

    def _scanned(self, end: int) -> tuple[Acted, ...]:
        """Return what the policy acts on in the window, counted from its start."""
        self._budget.spend_chars(STEP_CHARS + PII_TEXT_COST_CHARS)
        window = self._text[self._window_start : end]
        found: Iterable[Finding] = self._engine.scan(
            window, categories=self._policy.categories(self._direction)
        )
        if found and self._known is not None:
            found = outside(found, known_spans(self._known, window), window)
        return acted_on(window, found, self._policy, self._direction)

    def _cut(self, acted: tuple[Acted, ...], end: int) -> int:
        """Return up to where the text is final."""
        latest = end - GUARD_CHARS
        cut = self._boundary(acted, latest, self._final)
        if cut > self._final or end - self._final <= HELD_MAX_CHARS - STEP_CHARS:
            return cut
        cut = max(self._final, end - HELD_MAX_CHARS // 2)
        inside = [each for each in self._placed(acted) if each[0] < cut < each[1]]
        start = min((first for first, _ in inside), default=cut)
        return start if start > self._final else cut

    def _boundary(self, acted: tuple[Acted, ...], latest: int, earliest: int) -> int:
        """Return the last place to cut at, up to `latest`; `earliest` where there is none."""
        spans = self._placed(acted)
        place = latest
        while place > earliest:
            if not _may_cut(self._text, place):
                place -= 1
                continue
            # A finding that ends at the guard may still be growing: it stays whole.
            inside = [first for first, last in spans if first < place <= last]
            if not inside:
                return place
            place = min(inside)
        return earliest

    def _placed(self, acted: tuple[Acted, ...]) -> list[tuple[int, int]]:
        offset = self._window_start
        return [(offset + each.finding.start, offset + each.finding.end) for each in acted]

    def _finished(self, acted: tuple[Acted, ...], cut: int) -> str:
        """Return the text up to a cut as the policy wants it, and go on behind it."""
        here = [
            each
            for each, (first, last) in zip(acted, self._placed(acted), strict=True)
            if last > self._final and first < cut
        ]
        told = self._replaced(here, cut)
        offset = self._window_start
        self._swallowing = any(
            each.action > Action.FLAG and offset + each.finding.end > cut for each in here
        )
        self._final = cut
        if not self._swallowing:
            self._window_start = self._context_start(cut)
        self._forget()
        return told

    def _replaced(self, here: list[Acted], cut: int) -> str:
        offset = self._window_start
        new: list[Acted] = []
        start = self._final
        for each in here:
            first, last = offset + each.finding.start, offset + each.finding.end
            if first >= self._final:
                new.append(each)
            elif each.action <= Action.FLAG:
                pass  # its beginning was counted already
            elif self._swallowing:
                start = max(start, min(last, cut))  # its beginning was replaced already
            else:
                new.append(each)  # it was not known to be one: what is left of it is replaced
        self._tally.add(new, self._direction)
        self._tally.verdict()
        self._budget.spend_findings(len(new))
        clipped = [_clipped(each, offset, start, cut) for each in new]
        inside = [each for each in clipped if each.finding.start < each.finding.end]
        return replaced_text(self._text[start:cut], inside, None)

    def _context_start(self, cut: int) -> int:
        earliest = max(0, cut - _KEPT_CHARS)
        place = max(0, cut - CONTEXT_CHARS)
        while place > earliest and not _may_cut(self._text, place):
            place -= 1
        return place

    def _forget(self) -> None:
        """Drop what no window will see again."""
        by = self._window_start
        if by:
            self._text = self._text[by:]
            self._window_start = 0
            self._final -= by
            self._window_end -= by


def changes(policy: Policy, direction: Direction) -> bool:
    """Whether a policy could change or refuse something of a text."""
    return any(rule.action > Action.FLAG for rule in policy.acting(direction).values())


def _may_cut(text: str, place: int) -> bool:
    """Whether no finding of several words is likely to lie across a place behind the start."""
    if not text[place - 1].isspace():
        return False
    before, after = text[max(0, place - 2)], text[place : place + 1]
    return not ((before.isdigit() or before in "-.)") and (after.isdigit() or after in "(+-."))


def _clipped(acted: Acted, offset: int, start: int, end: int) -> Acted:
    """Return what of a finding of a window lies in a stretch of the text, counted from there."""
    finding = acted.finding
    first = min(max(offset + finding.start, start), end) - start
    last = min(max(offset + finding.end, start), end) - start
    return Acted(replace(finding, start=first, end=last), acted.action)
