"""What is done with personal data: rules by category and direction, and how policies join.

A policy document is ``{"rules": {CATEGORY: {DIRECTION: {"action": …, "threshold": …}}}}``. Both
keys may be ``"*"``; the more exact rule wins, the category before the direction. What a document
does not name, it has no opinion on. The floor is the same shape in the measured TOML.

The join of the floor with a request's policy takes the strictest action and the lowest threshold
of each cell, so a request can only tighten.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final, TypeGuard, TypeVar

from latensgate_enclave.pii.errors import PolicyError
from latensgate_enclave.pii.findings import NAME_CATEGORIES, Category
from latensgate_shared import jcs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from latensgate_shared.strict_json import JSONObject

DEFAULT_THRESHOLD: Final = 0.35
"""Score from which a rule acts where it does not say; Presidio's customary one."""
ANY: Final = "*"
T = TypeVar("T")


class Action(IntEnum):
    """What happens to a finding; the order is that of strictness."""

    ALLOW = 0
    FLAG = 1
    PSEUDONYMISE = 2
    MASK = 3
    FAIL = 4


class Direction(Enum):
    """Where a text goes."""

    PROMPT = "prompt"
    ANSWER = "answer"
    TOOL_ARGUMENTS = "tool_arguments"
    TOOL_RESULTS = "tool_results"


_ACTIONS: Final = {action.name.lower(): action for action in Action}
_CATEGORIES: Final = {category.value: category for category in Category}
_ANY_CATEGORY: Final = {
    name: category for name, category in _CATEGORIES.items() if category not in NAME_CATEGORIES
}
"""What ``*`` stands for: names must be named (ADR 0045)."""
_DIRECTIONS: Final = {direction.value: direction for direction in Direction}
_LATER: Final = frozenset({"hold"})
"""Members of the design that this release refuses rather than ignores."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One cell.

    Attributes:
        action: What happens.
        threshold: Lowest score, 0 to 1, of a finding that it happens to.
    """

    action: Action = Action.ALLOW
    threshold: float | None = None

    def joined(self, other: Rule) -> Rule:
        """Return the strictest action at the lowest threshold."""
        asked = [rule.threshold for rule in (self, other) if rule.threshold is not None]
        return Rule(max(self.action, other.action), min(asked, default=None))

    def acts_on(self, score: float) -> bool:
        """Whether a finding of this score is acted on."""
        return self.action > Action.ALLOW and score >= (self.threshold or 0)


NO_OPINION: Final = Rule()


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by category and direction; a missing cell has no opinion, and so allows.

    Attributes:
        rules: Only cells with an opinion.
    """

    rules: Mapping[tuple[Category, Direction], Rule]
    _acting: Mapping[Direction, Mapping[Category, Rule]] = field(
        init=False, repr=False, compare=False
    )
    _categories: Mapping[Direction, frozenset[Category]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Sort the cells by direction, once: every text of every request asks for them."""
        acting: dict[Direction, dict[Category, Rule]] = {direction: {} for direction in Direction}
        for (category, direction), rule in self.rules.items():
            if rule.action > Action.ALLOW:
                acting[direction][category] = rule
        object.__setattr__(self, "_acting", acting)
        categories = {direction: frozenset(rules) for direction, rules in acting.items()}
        object.__setattr__(self, "_categories", categories)

    def joined(self, other: Policy) -> Policy:
        """Return the policy that is at least as strict as both in every cell."""
        return Policy(
            {
                cell: self.rules.get(cell, NO_OPINION).joined(other.rules.get(cell, NO_OPINION))
                for cell in {**self.rules, **other.rules}
            }
        )

    def acting(self, direction: Direction) -> Mapping[Category, Rule]:
        """Return the rules of one direction that do anything."""
        return self._acting[direction]

    def categories(self, direction: Direction) -> frozenset[Category]:
        """Return the categories of `acting`."""
        return self._categories[direction]

    def digest(self) -> str:
        """Name the policy: ``sha384:`` and the hex SHA-384 of its canonical JSON, all cells."""
        document: JSONObject = {
            category.value: {
                direction.value: _described(self.rules.get((category, direction), NO_OPINION))
                for direction in Direction
            }
            for category in Category
        }
        return f"sha384:{hashlib.sha384(jcs.canonicalize({'rules': document})).hexdigest()}"


def _described(rule: Rule) -> JSONObject:
    return {"action": rule.action.name.lower(), "threshold": rule.threshold}


def parse_policy(document: object, *, name: str = "policy") -> Policy:
    """Read a policy as JSON or TOML gives it.

    Args:
        document: The parsed document: ``policy`` of a sealed request, or the floor's table.
        name: What errors call it.

    Raises:
        PolicyError: A member that is unknown, of the wrong type, outside its range or not
            supported by this release; names its path.
    """
    members = _members(document, name)
    _refuse_unknown(members, {"rules"}, name)
    rules_path = f"{name}.rules"
    cells: dict[tuple[Category, Direction], tuple[int, Rule]] = {}
    for cell, exactness, rule in _rules(_members(members.get("rules", {}), rules_path), rules_path):
        if cell not in cells or exactness > cells[cell][0]:
            cells[cell] = exactness, rule
    return Policy({cell: rule for cell, (_, rule) in cells.items()})


def _rules(
    by_category: Mapping[str, object], path: str
) -> Iterator[tuple[tuple[Category, Direction], int, Rule]]:
    for category_name, by_direction in by_category.items():
        place = f"{path}.{_known(category_name, _CATEGORIES, path)}"
        for direction_name, value in _members(by_direction, place).items():
            field = f"{place}.{_known(direction_name, _DIRECTIONS, place)}"
            rule = _rule(value, field)
            exactness = 2 * (category_name != ANY) + (direction_name != ANY)
            for category in _expanded(category_name, _CATEGORIES, _ANY_CATEGORY):
                for direction in _expanded(direction_name, _DIRECTIONS, _DIRECTIONS):
                    yield (category, direction), exactness, rule


def _expanded(name: str, known: Mapping[str, T], every: Mapping[str, T]) -> tuple[T, ...]:
    return tuple(every.values()) if name == ANY else (known[name],)


def _rule(value: object, field: str) -> Rule:
    members = _members(value, field)
    _refuse_unknown(members, {"action", "threshold"}, field)
    action = _action(members.get("action"), f"{field}.action")
    threshold = _threshold(members.get("threshold"), f"{field}.threshold")
    if threshold is None and action > Action.ALLOW:
        # Said here and not at the scan: a floor that acts must not be loosened by a request
        # whose own threshold is higher than the default.
        threshold = DEFAULT_THRESHOLD
    return Rule(action, threshold)


def _action(value: object, field: str) -> Action:
    action = _ACTIONS.get(value) if isinstance(value, str) else None
    if action is None:
        raise PolicyError(field, f"one of {', '.join(_ACTIONS)} expected")
    if action is Action.PSEUDONYMISE:
        raise PolicyError(field, "pseudonymise is not supported by this release; use mask")
    return action


def _threshold(value: object, field: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise PolicyError(field, "a number from 0 to 1 expected")
    return float(value)


def _members(value: object, field: str) -> dict[str, object]:
    if not _is_object(value):
        raise PolicyError(field, "an object expected")
    return value


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)  # JSON and TOML have no other keys than text


def _refuse_unknown(members: Mapping[str, object], known: set[str], field: str) -> None:
    for name in members:
        if name in _LATER:
            raise PolicyError(f"{field}.{name}", "not supported by this release")
        if name not in known:
            raise PolicyError(field, f"only {', '.join(sorted(known))} expected, found another")


def _known(name: str, known: Mapping[str, object], field: str) -> str:
    if name != ANY and name not in known:
        raise PolicyError(field, f"* or one of {', '.join(known)} expected as a member's name")
    return name
