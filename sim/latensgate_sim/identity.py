"""Who calls: identities of the simulated accounts and the credentials that sign for them."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latensgate_sim.clock import Clock


@dataclass(frozen=True, slots=True)
class Identity:
    """An IAM user or a role session.

    Attributes:
        account: 12 digits.
        caller_arn: As STS states it, for example ``arn:aws:sts::…:assumed-role/Role/session``.
        principal_arn: What policies name: for a session the ARN of its role.
        user_id: As STS states it.
        iam_actions: Action patterns that its own IAM policy allows, for example ``kms:*``. They
            count only where a key policy delegates to the account.
    """

    account: str
    caller_arn: str
    principal_arn: str
    user_id: str
    iam_actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client signs with.

    Attributes:
        expires_s: Seconds since 1970, or None for those of a user.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None
    identity: Identity
    expires_s: float | None = None


class IdentityStore:
    """All credentials that the simulated AWS knows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Credentials] = {}

    def find(self, access_key_id: str) -> Credentials | None:
        """Return the credentials of an access key id, expired or not."""
        return self._known.get(access_key_id)

    def expired(self, credentials: Credentials) -> bool:
        """Whether they have ended."""
        return credentials.expires_s is not None and credentials.expires_s <= self._clock.seconds()

    def revoke(self, access_key_id: str) -> None:
        """Forget an access key."""
        self._known.pop(access_key_id, None)

    def user(self, account: str, name: str, iam_actions: tuple[str, ...] = ("*",)) -> Credentials:
        """Make a user with a long-lived access key."""
        arn = f"arn:aws:iam::{account}:user/{name}"
        identity = Identity(account, arn, arn, "AIDA" + _unique(), iam_actions)
        return self._keep("AKIA", None, identity, None)

    def role_session(
        self,
        account: str,
        role: str,
        session: str = "i-0123456789abcdef0",
        *,
        lifetime_s: float = 21_600,
        iam_actions: tuple[str, ...] = (),
    ) -> Credentials:
        """Make a role session as an instance profile gives it: token, six hours."""
        identity = Identity(
            account,
            f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
            f"arn:aws:iam::{account}:role/{role}",
            f"AROA{_unique()}:{session}",
            iam_actions,
        )
        expires_s = self._clock.seconds() + lifetime_s
        return self._keep("ASIA", secrets.token_urlsafe(96), identity, expires_s)

    def _keep(
        self, prefix: str, token: str | None, identity: Identity, expires_s: float | None
    ) -> Credentials:
        key_id = prefix + _unique()
        made = Credentials(key_id, secrets.token_urlsafe(30), token, identity, expires_s)
        self._known[key_id] = made
        return made


def _unique() -> str:
    return "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))
