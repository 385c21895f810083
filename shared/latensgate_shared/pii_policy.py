"""Policies about personal data as values, and how they join (docs/spec/policy.md).

The join is a lattice: the strictest action, hold if any asks, the lowest threshold, deny terms and
recognizers united. An allow list exempts a value from the rules that stand beside it in the same
document and from no others, so a value is let through only where everyone who rules on it allows
it: allow lists are intersected, and who has no opinion takes no part. Therefore a join is never
weaker than any of its parts. Who may loosen at all, and how far, is said by ``Floor`` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from latensgate_shared import jcs
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.pii_names import Action, Category, Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latensgate_shared.strict_json import JSONObject, JSONValue

Cell: TypeAlias = tuple[Category, Direction]


class PolicyError(LatensgateError):
    """A policy that is not what the specification says; names the field.

    Attributes:
        field: Path of the member at fault, for example ``rules.EMAIL_ADDRESS.prompt.action``.
    """

    code = ErrorCode.ERR_POLICY_INVALID

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Rule:
    """One cell.

    Attributes:
        action: What happens.
        threshold: Lowest score, 0 to 1, of a finding that it happens to.
        hold: Whether the request waits for an approver.
    """

    action: Action = Action.ALLOW
    threshold: float | None = None
    hold: bool = False

    def joined(self, other: Rule) -> Rule:
        """Return the strictest action at the lowest threshold."""
        asked = [rule.threshold for rule in (self, other) if rule.threshold is not None]
        return Rule(
            max(self.action, other.action), min(asked, default=None), self.hold or other.hold
        )

    def acts_on(self, score: float) -> bool:
        """Whether a finding of this score is acted on."""
        return (self.action > Action.ALLOW or self.hold) and score >= (self.threshold or 0)


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """How requests wait for an approver; None: no opinion.

    Attributes:
        show_content: Whether approvers see what would be forwarded, sealed to their keys.
        expires_s: How long an approver has, in seconds.
    """

    show_content: bool | None = None
    expires_s: int | None = None

    def joined(self, other: HoldTerms) -> HoldTerms:
        """Show only if everyone who has an opinion does; the shortest time."""
        shows = [each.show_content for each in (self, other) if each.show_content is not None]
        times = [each.expires_s for each in (self, other) if each.expires_s is not None]
        return HoldTerms(all(shows) if shows else None, min(times, default=None))

    def to_json(self) -> JSONObject:
        """Return the opinions alone."""
        told: JSONObject = {"show_content": self.show_content, "expires_s": self.expires_s}
        return {name: value for name, value in told.items() if value is not None}


NO_OPINION: Final = Rule()
Rules: TypeAlias = Mapping[Cell, Rule]
Acting: TypeAlias = Mapping[Category, Rule]


@dataclass(frozen=True, slots=True, order=True)
class CustomRecognizer:
    """A recognizer that a policy brings.

    Attributes:
        name: For explanations.
        pattern: RE2 syntax, ASCII.
        score: Confidence of a match.
        context: Lower-case words that raise the score when one stands before a match.
        category: Name of the category that its findings count as.
    """

    name: str
    pattern: str
    score: float
    context: tuple[str, ...] = ()
    category: str = Category.CUSTOM.value


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by category and direction; a missing cell has no opinion, and so allows.

    Attributes:
        rules: Those that exempt no value. Only cells with an opinion.
        exempting: Allow list, case-folded → the rules that it exempts from.
        deny: Terms that are findings of `Category.DENY_LISTED`.
        recognizers: What is looked for besides.
        hold: How requests wait for an approver.
    """

    rules: Rules
    exempting: Mapping[frozenset[str], Rules] = field(default_factory=dict[frozenset[str], Rules])
    deny: frozenset[str] = frozenset()
    recognizers: frozenset[CustomRecognizer] = frozenset()
    hold: HoldTerms = HoldTerms()
    _acting: Mapping[Direction, Acting] = field(init=False, repr=False, compare=False)
    _categories: Mapping[Direction, frozenset[Category]] = field(
        init=False, repr=False, compare=False
    )
    _allowed: frozenset[str] = field(init=False, repr=False, compare=False)
    _sought: frozenset[Category] = field(init=False, repr=False, compare=False)
    _pseudonymises: bool = field(init=False, repr=False, compare=False)
    _holds: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Sort the cells by direction, once: every text of every request asks for them."""
        acting = _by_direction(_united(self.rules, *self.exempting.values()))
        object.__setattr__(self, "_acting", acting)
        categories = {direction: frozenset(rules) for direction, rules in acting.items()}
        object.__setattr__(self, "_categories", categories)
        object.__setattr__(self, "_allowed", frozenset[str]().union(*self.exempting))
        object.__setattr__(self, "_sought", frozenset[Category]().union(*categories.values()))
        rules = [rule for found in acting.values() for rule in found.values()]
        pseudonymises = any(rule.action is Action.PSEUDONYMISE for rule in rules)
        object.__setattr__(self, "_pseudonymises", pseudonymises)
        object.__setattr__(self, "_holds", any(rule.hold for rule in rules))

    def joined(self, other: Policy) -> Policy:
        """Return the policy that is at least as strict as both for every value."""
        lists = [*self.exempting, *other.exempting]
        return Policy(
            _united(self.rules, other.rules),
            {
                allowed: _united(self.exempting.get(allowed, {}), other.exempting.get(allowed, {}))
                for allowed in lists
            },
            self.deny | other.deny,
            self.recognizers | other.recognizers,
            self.hold.joined(other.hold),
        )

    @property
    def pseudonymises(self) -> bool:
        """Whether any rule gives a value a surrogate."""
        return self._pseudonymises

    @property
    def sought(self) -> frozenset[Category]:
        """The categories that any direction acts on."""
        return self._sought

    def acting(self, direction: Direction) -> Acting:
        """Return the rules of one direction that do anything, for a value on no allow list."""
        return self._acting[direction]

    def acting_on(self, direction: Direction, value: str) -> Acting:
        """Return the rules of one direction for a value that was found."""
        if not self._allowed or (folded := value.casefold()) not in self._allowed:
            return self._acting[direction]
        left = [rules for allowed, rules in self.exempting.items() if folded not in allowed]
        return _by_direction(_united(self.rules, *left))[direction]

    def categories(self, direction: Direction) -> frozenset[Category]:
        """Return the categories of `acting`."""
        return self._categories[direction]

    def rule(self, cell: Cell) -> Rule | None:
        """Return the rule of a cell for a value on no allow list; None without an opinion."""
        return _united(self.rules, *self.exempting.values()).get(cell)

    @property
    def holds(self) -> bool:
        """Whether any cell asks for an approver."""
        return self._holds

    @property
    def has_exemptions(self) -> bool:
        """Whether any value is on an allow list."""
        return bool(self._allowed)

    def digest(self) -> str:
        """Name the policy: ``sha384:`` and the hex SHA-384 of its canonical JSON."""
        return f"sha384:{hashlib.sha384(jcs.canonicalize(self.to_json())).hexdigest()}"

    def to_json(self) -> JSONObject:
        """Return all of it in one form: equal policies give equal objects."""
        exempting: list[JSONValue] = [
            {"allow": [*allowed], "rules": _described(self.exempting[frozenset(allowed)])}
            for allowed in sorted(sorted(allowed) for allowed in self.exempting)
        ]
        terms: JSONObject = {} if self.hold == HoldTerms() else {"hold": self.hold.to_json()}
        return {
            **terms,
            "rules": _described(self.rules),
            "exempting": exempting,
            "deny": [*sorted(self.deny)],
            "recognizers": [
                {
                    "name": each.name,
                    "pattern": each.pattern,
                    "score": each.score,
                    "context": [*each.context],
                    "category": each.category,
                }
                for each in sorted(self.recognizers)
            ],
        }


def _united(*layers: Rules) -> dict[Cell, Rule]:
    united: dict[Cell, Rule] = {}
    for rules in layers:
        for cell, rule in rules.items():
            united[cell] = united[cell].joined(rule) if cell in united else rule
    return united


def _by_direction(rules: Rules) -> dict[Direction, dict[Category, Rule]]:
    acting: dict[Direction, dict[Category, Rule]] = {direction: {} for direction in Direction}
    for (category, direction), rule in rules.items():
        if rule.action > Action.ALLOW or rule.hold:
            acting[direction][category] = rule
    return acting


def _described(rules: Rules) -> JSONObject:
    described: dict[str, JSONObject] = {}
    for (category, direction), rule in rules.items():
        if rule != NO_OPINION:
            described.setdefault(category.value, {})[direction.value] = {
                "action": rule.action.name.lower(),
                "hold": rule.hold,
                "threshold": rule.threshold,
            }
    return {**described}


Layer: TypeAlias = tuple[str, Policy]
"""Who asks (``floor``, ``settings`` or ``request``), and for what."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The measured floor: what nobody may weaken, and how far tenant settings may.

    Attributes:
        policy: In force for everyone.
        ranges: Cell → the loosest rule that tenant settings may put in its place.
        allow_lists: Whether an allow list of tenant settings exempts from the floor, too.
    """

    policy: Policy
    ranges: Rules = field(default_factory=dict[Cell, Rule])
    allow_lists: bool = False

    def layers(self, settings: Policy | None, request: Policy | None) -> tuple[Layer, ...]:
        """Return what is joined, by the name of who asks for it; the floor as settings leave it."""
        floor = self.policy if settings is None else self._left_by(settings)
        named = (("floor", floor), ("settings", settings), ("request", request))
        return tuple([(name, policy) for name, policy in named if policy is not None])

    def _left_by(self, settings: Policy) -> Policy:
        loosened = {
            cell: self.ranges[cell] if cell in self.ranges and settings.rule(cell) else rule
            for cell, rule in self.policy.rules.items()
        }
        allowed: Iterable[frozenset[str]] = settings.exempting if self.allow_lists else ()
        base = replace(self.policy, rules=loosened)  # whatever else it asks for, nobody may drop
        for each in allowed:  # a document has one allow list at most
            base = replace(base, rules={}, exempting={each: loosened})
        return base

    def effective(self, settings: Policy | None, request: Policy | None) -> Policy:
        """Return what is applied; a request can only tighten."""
        return joined_layers(self.layers(settings, request))


def joined_layers(layers: Sequence[Layer]) -> Policy:
    """Join layers, of which there is at least one: the only one as it is."""
    effective = layers[0][1]
    for _, policy in layers[1:]:
        effective = effective.joined(policy)
    return effective
