"""What stands in a text in the place of what was found in it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from latensgate_shared.pii_names import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from latensgate_enclave.pii.findings import Category, Finding
    from latensgate_enclave.pii.surrogates import Surrogates

_REPLACED: Final = frozenset({Action.MASK, Action.PSEUDONYMISE})


class Acted(NamedTuple):
    """A finding, and what happens to it."""

    finding: Finding
    action: Action


def placeholder(category: Category) -> str:
    """Return what stands in the text for a masked finding, as ``<EMAIL_ADDRESS>``."""
    return f"<{category.value}>"


def replaced_text(text: str, acted: Iterable[Acted], surrogates: Surrogates | None) -> str:
    """Replace what a policy masks or pseudonymises; the very same text where there is nothing.

    Findings that overlap make one stretch, which goes as a whole under the name of its longest
    finding, so that no part of any of them is left beside it. One that is to be masked has the
    whole masked.

    Args:
        text: The text.
        acted: Findings in the order of their place.
        surrogates: Of the request; None: what would get one is masked.
    """
    parts: list[str] = []
    done = 0
    for start, end, named, action in _stretches(acted):
        parts.append(text[done:start])
        if action is Action.PSEUDONYMISE and surrogates is not None:
            parts.append(surrogates.of(named.category, text[start:end]))
        else:
            parts.append(placeholder(named.category))
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def _stretches(acted: Iterable[Acted]) -> Iterator[tuple[int, int, Finding, Action]]:
    start = end = 0
    named: Finding | None = None
    action = Action.ALLOW
    for finding, asked in acted:
        if asked not in _REPLACED:
            continue
        if named is not None and finding.start < end:
            named = max(named, finding, key=_length)
            end, action = max(end, finding.end), max(action, asked)
            continue
        if named is not None:
            yield start, end, named, action
        start, end, named, action = finding.start, finding.end, finding, asked
    if named is not None:
        yield start, end, named, action


def _length(finding: Finding) -> tuple[int, float]:
    return finding.end - finding.start, finding.score


def outside(
    findings: Iterable[Finding], spans: Sequence[tuple[int, int]], text: str
) -> list[Finding]:
    """Return what of findings lies outside spans that are spoken for already.

    Args:
        findings: In any order.
        spans: In order, not overlapping.
        text: In which both lie; a rest without letter or digit is dropped.
    """
    if not spans:
        return list(findings)
    left: list[Finding] = []
    ends = [last for _, last in spans]
    for finding in findings:
        start = finding.start
        for first, last in spans[bisect_right(ends, start) :]:
            if first >= finding.end:
                break
            left.append(replace(finding, start=start, end=max(start, first)))
            start = last
        left.append(finding if start == finding.start else replace(finding, start=start))
    return [each for each in left if _has_content(text[each.start : each.end])]


def _has_content(text: str) -> bool:
    return any(character.isalnum() for character in text)
