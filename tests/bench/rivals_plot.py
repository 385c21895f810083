"""Bars in SVG: a panel a figure, a bar a gateway. Small enough that no library is worth it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH, BAR, GAP, TITLE = 720, 20, 6, 34
_LEFT, _RIGHT, _EDGE = 150, 90, 10
_COLOURS: Final = ("#1f6f5c", "#9aa5b1", "#c3b091")
"""Ours first; readable on white, and by people who see no red or green."""


@dataclass(frozen=True)
class Panel:
    """One figure.

    Attributes:
        bars: Name and value of each; a bar starts at zero.
    """

    title: str
    bars: Sequence[tuple[str, float]]

    @property
    def height(self) -> int:
        return TITLE + len(self.bars) * (BAR + GAP)


def plot(panels: Sequence[Panel]) -> str:
    """Return the whole picture."""
    height = sum(panel.height for panel in panels) + 2 * _EDGE
    font = 'font-family="sans-serif" font-size="13" fill="#222"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {font}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    top = _EDGE
    for panel in panels:
        lines += _drawn(panel, top)
        top += panel.height
    return "\n".join([*lines, "</svg>", ""])


def _drawn(panel: Panel, top: int) -> list[str]:
    longest = max((value for _, value in panel.bars), default=0.0) or 1.0
    room = WIDTH - _LEFT - _RIGHT
    lines = [f'<text x="{_EDGE}" y="{top + 20}" font-weight="bold">{escape(panel.title)}</text>']
    for place, (name, value) in enumerate(panel.bars):
        y = top + TITLE + place * (BAR + GAP)
        length = max(value, 0.0) / longest * room
        colour = _COLOURS[place % len(_COLOURS)]
        lines += [
            f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{y + 15}">{value:,.2f}</text>',
        ]
    return lines
