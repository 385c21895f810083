"""The keys of the simulated KMS in one Region: moto keeps them, this decides who may use them.

moto's own authorisation is left alone (it knows next to none); permission is key policy first,
then grants, with AWS's words for a refusal (facts B4).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from moto.kms.models import Grant, Key, KmsBackend

from latensgate_sim.errors import AWSError
from latensgate_sim.key_policy import Access, Effect, action_matches, evaluate, parse_policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latensgate_sim.identity import Identity

_ARN: Final = re.compile(r"arn:aws:kms:([a-z0-9-]+):(\d{12}):((?:key|alias)/.+)")
_CIPHERTEXT_KEY_ID_CHARS: Final = 36
"""moto writes the key id in front of a ciphertext."""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a key that needs permission.

    Attributes:
        operation: For example ``Decrypt``.
        key: moto's key.
        key_id: How the caller named it, or None.
        encryption_context: As sent.
        extra: Further condition keys.
    """

    operation: str
    key: Key
    key_id: str | None = None
    encryption_context: Mapping[str, str] = field(default_factory=dict[str, str])
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def condition_keys(self, identity: Identity) -> dict[str, tuple[str, ...]]:
        """Return every condition key a policy may test, in lower case."""
        key = self.key
        found: dict[str, tuple[str, ...]] = {
            "aws:PrincipalArn": (identity.principal_arn,),
            "aws:PrincipalAccount": (identity.account,),
            "aws:userid": (identity.user_id,),
            "aws:SecureTransport": ("true",),
            "aws:RequestedRegion": (str(key.region),),
            "kms:CallerAccount": (identity.account,),
            "kms:KeyOrigin": (str(key.origin),),
            "kms:KeySpec": (str(key.key_spec),),
            "kms:KeyUsage": (str(key.key_usage),),
            "kms:MultiRegion": (str(key.multi_region).lower(),),
            "kms:ResourceAliases": tuple(key.aliases),
            **self.extra,
        }
        for name, value in self.encryption_context.items():
            found[f"kms:EncryptionContext:{name}"] = (value,)
        if self.encryption_context:
            found["kms:EncryptionContextKeys"] = tuple(self.encryption_context)
        if self.key_id is not None and "alias/" in self.key_id:
            found["kms:RequestAlias"] = ("alias/" + self.key_id.partition("alias/")[2],)
        return {name.lower(): values for name, values in found.items() if values}


class KeyRing:
    """All keys of one Region, of all accounts."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._backends: dict[str, KmsBackend] = {}

    def backend(self, account: str) -> KmsBackend:
        """Return moto's KMS of one account; it is this ring's own and no global one."""
        if account not in self._backends:
            self._backends[account] = KmsBackend(self.region, account)
        return self._backends[account]

    def resolve(self, key_id: str, account: str) -> Key:
        """Find a key by id, ARN, alias or alias ARN; short forms mean the caller's account.

        Raises:
            AWSError: NotFoundException.
        """
        match = _ARN.fullmatch(key_id)
        if match is not None:
            region, account, name = match.groups()
            if region != self.region:
                raise _not_found(f"Invalid arn {region}")
            key_id = name.removeprefix("key/")
        backend = self.backend(account)
        if key_id.startswith("alias/"):
            for key in backend.keys.values():
                if key_id in key.aliases:
                    return key
            raise _not_found(f"Alias arn:aws:kms:{self.region}:{account}:{key_id} is not found.")
        if key_id not in backend.keys:
            raise _not_found(
                f"Key 'arn:aws:kms:{self.region}:{account}:key/{key_id}' does not exist"
            )
        return backend.keys[key_id]

    def of_ciphertext(self, blob: bytes) -> Key:
        """Find the key that a ciphertext was made under.

        Raises:
            AWSError: InvalidCiphertextException, without a message as AWS sends it.
        """
        key_id = blob[:_CIPHERTEXT_KEY_ID_CHARS].decode("ascii", "replace")
        for backend in self._backends.values():
            if key_id in backend.keys:
                return backend.keys[key_id]
        raise AWSError(400, "InvalidCiphertextException")

    def authorize(self, identity: Identity, use: Use) -> None:
        """Let the use pass or refuse it: key policy, then grants, then the caller's own account.

        Raises:
            AWSError: AccessDeniedException with HTTP 400, as KMS answers.
        """
        action = f"kms:{use.operation}"
        arn = str(use.key.arn)
        access = Access(action, arn, identity, use.condition_keys(identity))
        effect = evaluate(parse_policy(str(use.key.policy)), access)
        if effect is Effect.EXPLICIT_DENY:
            raise denied(identity, action, arn, "with an explicit deny in a resource-based policy")
        if effect is Effect.IMPLICIT_DENY and not _granted(identity, use):
            reason = f"because no resource-based policy allows the {action} action"
            raise denied(identity, action, arn, reason)
        if use.key.account_id != identity.account and not action_matches(
            identity.iam_actions, action
        ):
            reason = f"because no identity-based policy allows the {action} action"
            raise denied(identity, action, arn, reason)

    def store_policy(self, identity: Identity, key: Key, policy: str, *, bypass: bool) -> None:
        """Put a key policy, unless it would lock its author out and ``bypass`` is not set.

        Raises:
            AWSError: MalformedPolicyDocumentException.
        """
        parsed = parse_policy(policy)
        use = Use("PutKeyPolicy", key)
        access = Access("kms:PutKeyPolicy", str(key.arn), identity, use.condition_keys(identity))
        if not bypass and evaluate(parsed, access) is not Effect.ALLOW:
            text = "The new key policy will not allow you to update the key policy in the future."
            raise AWSError(400, "MalformedPolicyDocumentException", text)
        key.policy = policy


def check_usable(key: Key) -> None:
    """Refuse a key that is disabled or about to be deleted.

    Raises:
        AWSError: DisabledException or KMSInvalidStateException.
    """
    if key.key_state == "PendingDeletion":
        raise AWSError(400, "KMSInvalidStateException", f"{key.arn} is pending deletion.")
    if not key.enabled:
        raise AWSError(400, "DisabledException", f"{key.arn} is disabled.")


def denied(identity: Identity, action: str, arn: str, reason: str) -> AWSError:
    """Make AWS's refusal (facts B4); KMS sends it with HTTP 400, not 403."""
    text = f"User: {identity.caller_arn} is not authorized to perform: {action} on resource: {arn}"
    return AWSError(400, "AccessDeniedException", f"{text} {reason}")


def _not_found(message: str) -> AWSError:
    return AWSError(400, "NotFoundException", message)


def _granted(identity: Identity, use: Use) -> bool:
    return any(_grant_covers(grant, identity, use) for grant in use.key.grants.values())


def _grant_covers(grant: Grant, identity: Identity, use: Use) -> bool:
    operations: Sequence[str] = grant.operations
    if use.operation not in operations:
        return False
    account_root = f"arn:aws:iam::{identity.account}:root"
    if grant.grantee_principal not in {identity.principal_arn, identity.caller_arn, account_root}:
        return False
    constraints: Mapping[str, Mapping[str, str]] = grant.constraints or {}
    equals = constraints.get("EncryptionContextEquals")
    if equals is not None and dict(equals) != dict(use.encryption_context):
        return False
    subset = constraints.get("EncryptionContextSubset") or {}
    return subset.items() <= use.encryption_context.items()


def default_policy(account: str) -> str:
    """Return the policy of a key that was made without one: all to the account."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]})
