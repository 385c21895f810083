"""Policy documents, read strictly (docs/spec/policy.md): every error names its field.

``{"rules": {CATEGORY: {DIRECTION: RULE}}, "lists": {"deny": …, "allow": …}, "recognizers": …}``
Both keys of a rule may be ``"*"``; the more exact rule wins, the category before the direction.
What a document does not name, it has no opinion on. The floor is the same shape in measured TOML,
with ``ranges`` besides.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeGuard

from latensgate_shared.limits import (
    HOLD_MAX_S,
    HOLD_MIN_S,
    POLICY_CONTEXT_MAX_COUNT,
    POLICY_LIST_MAX_COUNT,
    POLICY_PATTERN_MAX_CHARS,
    POLICY_RECOGNIZERS_MAX_COUNT,
    POLICY_TERM_MAX_CHARS,
)
from latensgate_shared.pii_names import NAME_CATEGORIES, OF_POLICIES, Action, Category, Direction
from latensgate_shared.pii_policy import (
    Cell,
    CustomRecognizer,
    Floor,
    HoldTerms,
    Policy,
    PolicyError,
    Rule,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_THRESHOLD: Final = 0.35
"""Score from which a rule acts where it does not say; Presidio's customary one."""
DEFAULT_SCORE: Final = 0.85
"""Of a custom recognizer that does not say."""
ANY: Final = "*"
_ACTIONS: Final = {action.name.lower(): action for action in Action}
_CATEGORIES: Final = {category.value: category for category in Category}
_OF_ANY: Final = tuple(category for category in Category if category not in NAME_CATEGORIES)
_DIRECTIONS: Final = {direction.value: direction for direction in Direction}
HELD_DIRECTIONS: Final = frozenset({Direction.PROMPT, Direction.TOOL_RESULTS})
"""Only what comes from the caller can be held (ADR 0053)."""
_HELD_ONLY: Final = "only in the directions prompt and tool_results can anything be held"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,63}")
_WORD: Final = re.compile(r"[a-z0-9]{1,32}")
_PRINTABLE: Final = re.compile(r"[ -~]+")


def parse_policy(document: object, *, name: str = "policy") -> Policy:
    """Read a policy as JSON or TOML gives it.

    Args:
        document: The parsed document: ``policy`` of a sealed request or of tenant settings.
        name: What errors call it.

    Raises:
        PolicyError: A member that is unknown, of the wrong type or outside its range; names its
            path.
    """
    members = _members(document, name)
    _refuse_unknown(members, {"rules", "lists", "recognizers", "hold"}, name)
    return _policy(members, name)


def parse_floor(document: object, *, name: str = "pii") -> Floor:
    """Read the measured floor: a policy, and the ranges within which settings may loosen it.

    Raises:
        PolicyError: As ``parse_policy``; also a range that is not looser than its rule.
    """
    members = _members(document, name)
    known = {"rules", "lists", "recognizers", "hold", "ranges", "allow_lists"}
    _refuse_unknown(members, known, name)
    policy = _policy(members, name)
    allow_lists = members.get("allow_lists", False)
    if not isinstance(allow_lists, bool):
        raise PolicyError(f"{name}.allow_lists", "true or false expected")
    if policy.exempting:
        raise PolicyError(f"{name}.lists.allow", "none in a floor expected")
    ranges_path = f"{name}.ranges"
    ranges = _cells(_members(members.get("ranges", {}), ranges_path), ranges_path)
    return Floor(
        policy,
        {
            cell: _looser(loosest, policy.rules[cell], f"{ranges_path}.{cell[0].value}")
            for cell, loosest in ranges.items()
            if cell in policy.rules
        },
        allow_lists,
    )


def _looser(loosest: Rule, rule: Rule, field: str) -> Rule:
    if loosest.action > rule.action or loosest.hold:
        raise PolicyError(field, "a rule no stricter than the floor's own expected")
    threshold = max(loosest.threshold or 0, rule.threshold or 0)
    return replace(loosest, threshold=threshold, hold=rule.hold)


def _policy(members: Mapping[str, object], name: str) -> Policy:
    rules_path = f"{name}.rules"
    rules = _cells(_members(members.get("rules", {}), rules_path), rules_path)
    deny, allow = _lists(members.get("lists", {}), f"{name}.lists")
    recognizers = _recognizers(members.get("recognizers", []), f"{name}.recognizers")
    named = {Category(each.category) for each in recognizers}
    if deny:
        named.add(Category.DENY_LISTED)
    for category in named & OF_POLICIES:
        for direction in Direction:
            # Terms and patterns that nobody gave a rule are there to be kept from the model.
            rules.setdefault((category, direction), Rule(Action.MASK, DEFAULT_THRESHOLD))
    found, terms = frozenset(recognizers), _hold_terms(members.get("hold", {}), f"{name}.hold")
    if allow:
        return Policy({}, {allow: rules}, deny, found, terms)
    return Policy(rules, {}, deny, found, terms)


def _hold_terms(value: object, path: str) -> HoldTerms:
    members = _members(value, path)
    _refuse_unknown(members, {"show_content", "expires_s"}, path)
    shows, expires_s = members.get("show_content"), members.get("expires_s")
    if shows is not None and not isinstance(shows, bool):
        raise PolicyError(f"{path}.show_content", "true or false expected")
    if expires_s is not None and not _is_time(expires_s):
        raise PolicyError(f"{path}.expires_s", f"{HOLD_MIN_S} to {HOLD_MAX_S} seconds expected")
    return HoldTerms(shows, expires_s)


def _is_time(value: object) -> TypeGuard[int]:
    return type(value) is int and HOLD_MIN_S <= value <= HOLD_MAX_S


def _cells(by_category: Mapping[str, object], path: str) -> dict[Cell, Rule]:
    cells: dict[Cell, tuple[int, Rule]] = {}
    for cell, exactness, rule in _rules(by_category, path):
        if cell not in cells or exactness > cells[cell][0]:
            cells[cell] = exactness, rule
    return {cell: rule for cell, (_, rule) in cells.items()}


def _rules(by_category: Mapping[str, object], path: str) -> Iterator[tuple[Cell, int, Rule]]:
    for category_name, by_direction in by_category.items():
        place = f"{path}.{_known(category_name, _CATEGORIES, path)}"
        for direction_name, value in _members(by_direction, place).items():
            field = f"{place}.{_known(direction_name, _DIRECTIONS, place)}"
            rule = _rule(value, field)
            exactness = 2 * (category_name != ANY) + (direction_name != ANY)
            for category in _OF_ANY if category_name == ANY else (_CATEGORIES[category_name],):
                for direction in (
                    Direction if direction_name == ANY else (Direction(direction_name),)
                ):
                    if rule.hold and direction not in HELD_DIRECTIONS:
                        # What is asked for is refused rather than ignored (ADR 0053).
                        raise PolicyError(f"{field}.hold", _HELD_ONLY)
                    yield (category, direction), exactness, rule


def _rule(value: object, field: str) -> Rule:
    members = _members(value, field)
    _refuse_unknown(members, {"action", "threshold", "hold"}, field)
    action = _action(members.get("action"), f"{field}.action")
    threshold = _fraction(members.get("threshold"), f"{field}.threshold")
    hold = members.get("hold", False)
    if not isinstance(hold, bool):
        raise PolicyError(f"{field}.hold", "true or false expected")
    if threshold is None and (action > Action.ALLOW or hold):
        # Said here and not at the scan: a floor that acts must not be loosened by a request
        # whose own threshold is higher than the default.
        threshold = DEFAULT_THRESHOLD
    return Rule(action, threshold, hold)


def _action(value: object, field: str) -> Action:
    action = _ACTIONS.get(value) if isinstance(value, str) else None
    if action is None:
        raise PolicyError(field, f"one of {', '.join(_ACTIONS)} expected")
    return action


def _fraction(value: object, field: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise PolicyError(field, "a number from 0 to 1 expected")
    return float(value)


def _lists(value: object, path: str) -> tuple[frozenset[str], frozenset[str]]:
    members = _members(value, path)
    _refuse_unknown(members, {"deny", "allow"}, path)
    deny, allow = (_terms(members.get(name, []), f"{path}.{name}") for name in ("deny", "allow"))
    return deny, allow


def _terms(value: object, field: str) -> frozenset[str]:
    terms = _array(value, field, POLICY_LIST_MAX_COUNT)
    folded: set[str] = set()
    for number, term in enumerate(terms):
        if not isinstance(term, str) or not _is_term(term):
            raise PolicyError(
                f"{field}[{number}]",
                f"text of 1 to {POLICY_TERM_MAX_CHARS} characters without space around it expected",
            )
        folded.add(term.casefold())
    return frozenset(folded)


def _is_term(term: str) -> bool:
    """Whether it can be found, and be written in canonical JSON."""
    is_text = term.encode(errors="replace").decode() == term
    return is_text and 1 <= len(term) <= POLICY_TERM_MAX_CHARS and term == term.strip()


def _recognizers(value: object, field: str) -> tuple[CustomRecognizer, ...]:
    given = _array(value, field, POLICY_RECOGNIZERS_MAX_COUNT)
    return tuple(_recognizer(each, f"{field}[{number}]") for number, each in enumerate(given))


def _recognizer(value: object, field: str) -> CustomRecognizer:
    members = _members(value, field)
    _refuse_unknown(members, {"name", "pattern", "score", "context", "category"}, field)
    name, pattern = members.get("name"), members.get("pattern")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PolicyError(
            f"{field}.name", "a letter and at most 63 letters, digits, spaces, _ or - expected"
        )
    if not isinstance(pattern, str) or not _PRINTABLE.fullmatch(pattern):
        raise PolicyError(f"{field}.pattern", "RE2 syntax in printable ASCII expected")
    if len(pattern) > POLICY_PATTERN_MAX_CHARS:
        raise PolicyError(
            f"{field}.pattern", f"at most {POLICY_PATTERN_MAX_CHARS} characters expected"
        )
    score = _fraction(members.get("score"), f"{field}.score")
    return CustomRecognizer(
        name,
        pattern,
        DEFAULT_SCORE if score is None else score,
        _context(members.get("context", []), f"{field}.context"),
        _category(members.get("category", Category.CUSTOM.value), f"{field}.category"),
    )


def _context(value: object, field: str) -> tuple[str, ...]:
    found: list[str] = []
    for number, word in enumerate(_array(value, field, POLICY_CONTEXT_MAX_COUNT)):
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            raise PolicyError(
                f"{field}[{number}]", "a word of 1 to 32 lower-case letters and digits expected"
            )
        found.append(word)
    return tuple(sorted(set(found)))


def _category(value: object, field: str) -> str:
    if not isinstance(value, str) or value not in _CATEGORIES:
        raise PolicyError(field, f"one of {', '.join(_CATEGORIES)} expected")
    return value


def _array(value: object, field: str, max_count: int) -> list[object]:
    if not _is_array(value) or len(value) > max_count:
        raise PolicyError(field, f"a list of at most {max_count} expected")
    return value


def _is_array(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _members(value: object, field: str) -> dict[str, object]:
    if not _is_object(value):
        raise PolicyError(field, "an object expected")
    return value


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)  # JSON and TOML have no other keys than text


def _refuse_unknown(members: Mapping[str, object], known: set[str], field: str) -> None:
    if members.keys() - known:
        raise PolicyError(field, f"only {', '.join(sorted(known))} expected, found another")


def _known(name: str, known: Mapping[str, object], field: str) -> str:
    if name != ANY and name not in known:
        raise PolicyError(field, f"* or one of {', '.join(known)} expected as a member's name")
    return name
