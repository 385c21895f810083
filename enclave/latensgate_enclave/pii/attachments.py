"""What a policy says of attachments: nobody can look into them, so they go on or they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_enclave.pii.errors import PIIHardFailError
from latensgate_shared.pii_names import Action, Category, Direction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate_shared.pii_policy import Policy

    Tell = Callable[[Mapping[str, Mapping[str, int]]], None]

_NAME = Category.ATTACHMENT.value


def judge_attachments(count: int, policy: Policy, tell: Tell) -> None:
    """Let so many attachments of a prompt go on, or refuse them.

    An action that would change an attachment refuses it: nothing in it can be masked.

    Args:
        count: Of what no scan can look into.
        policy: The effective one.
        tell: Is told what the receipt counts, also where it refuses.

    Raises:
        PIIHardFailError: The policy lets no attachment through.
    """
    rule = policy.acting(Direction.PROMPT).get(Category.ATTACHMENT)
    if not count or rule is None:
        return
    counts = {_NAME: {Direction.PROMPT.value: count}}
    tell(counts)
    if rule.action > Action.FLAG:
        raise PIIHardFailError(counts)
