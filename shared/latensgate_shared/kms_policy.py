"""The one key policy under which the enclave takes its service secret, and the rule of equality.

The template is the file ``kms_key_policy.json.tftpl`` beside this module; Terraform's
``templatefile`` and Python's ``string.Template`` both read it. The enclave renders it with its own
PCRs, as its NSM states them, and demands that the policy on the key is equal (DESIGN 3.3): parsed
JSON, a scalar equals a list of one, lists are sets, nothing extra. Equal spelling, not equal
meaning: two policies that AWS would treat alike but that are written otherwise differ here, because
judging meaning is where such checks go wrong. docs/adr/0008 says what each statement stops.
"""

from __future__ import annotations

import hashlib
import pkgutil
import re
from dataclasses import InitVar, asdict, dataclass
from string import Template
from typing import Final

from latensgate_shared import limits
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import JSONObject, JSONValue, parse_json_object

TEMPLATE_NAME: Final = "kms_key_policy.json.tftpl"
CONTEXT_SERVICE: Final = "latensgate"

_DIGEST: Final = r"sha384:[0-9a-f]{96}"
_ROLE_ARN: Final = (
    r"arn:{partition}:iam::{account}:role/(?:[\w+=,.@-]{{1,128}}/){{0,8}}[\w+=,.@-]{{1,64}}"
)
"""IAM: names of 1 to 64 of these characters, below a path; no star, quote, dollar or backslash."""
_PCR: Final = r"(?!0{96})[0-9a-f]{96}"
"""Not all zeros: those are the PCRs of debug enclaves, which KMS takes for a match."""
_FORMS: Final = {
    "account_id": r"[0-9]{12}",
    "partition": r"aws(?:-[a-z]{1,8}){0,3}",
    "pcr0": _PCR,
    "pcr1": _PCR,
    "pcr2": _PCR,
    "context_service": r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?",
    "context_release": r"[0-9A-Za-z.+-]{1,64}",
    "context_deployment_digest": _DIGEST,
}


class KeyPolicyError(LatensgateError):
    """A key policy that is not the template's, or values that the template must not take."""

    code = ErrorCode.ERR_KMS_KEY_UNFIT


@dataclass(frozen=True, slots=True)
class KeyPolicyParameters:
    """What the template is rendered with; an instance can only hold values of these forms.

    Attributes:
        account_id: 12 digits; both roles are of this account.
        partition: ``aws``, ``aws-cn``, ``aws-us-gov``.
        service_role_arn: Role of the parent instance, under which the enclave calls KMS.
        key_admin_role_arn: Role that may only read, disable and delete; another one.
        pcr0: 96 lower-case hex digits, not all zero.
        pcr1: The same.
        pcr2: The same.
        context_service: Encryption context ``service``.
        context_release: Encryption context ``release``: a software version.
        context_deployment_digest: Encryption context ``deployment``: ``sha384:`` + 96 hex.

    Raises:
        KeyPolicyError: A value of another form.
    """

    account_id: str
    partition: str
    service_role_arn: str
    key_admin_role_arn: str
    pcr0: str
    pcr1: str
    pcr2: str
    context_service: str
    context_release: str
    context_deployment_digest: str

    def __post_init__(self) -> None:
        for name, form in _FORMS.items():
            self._check(name, form)
        role = _ROLE_ARN.format(partition=self.partition, account=self.account_id)
        for name in ("service_role_arn", "key_admin_role_arn"):
            self._check(name, role)
        if self.service_role_arn == self.key_admin_role_arn:
            raise KeyPolicyError("key policy: service role and key administrator are one role")

    def _check(self, name: str, form: str) -> None:
        value: object = getattr(self, name)
        if type(value) is not str or re.fullmatch(form, value, re.ASCII) is None:
            raise KeyPolicyError(f"key policy: {name} is not of the form that the template takes")

    def encryption_context(self) -> dict[str, str]:
        """The exact context of every call under this key."""
        return {
            "service": self.context_service,
            "release": self.context_release,
            "deployment": self.context_deployment_digest,
        }


_COMPARED: Final = object()
"""Proof that the comparison took place."""


@dataclass(frozen=True, slots=True)
class VerifiedKeyPolicy:
    """A key policy found equal to the template.

    Attributes:
        policy: As it stands on the key.
        digest: ``sha384:`` + hex; the manifest's ``kms_key_policy_digest``.
    """

    policy: JSONObject
    digest: str
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _COMPARED:
            raise TypeError("verified key policies are made by verify_key_policy and nothing else")


def render_key_policy_text(parameters: KeyPolicyParameters) -> str:
    """Return the policy's JSON text, as Terraform renders it too (for ``CreateKey``)."""
    template = pkgutil.get_data("latensgate_shared", TEMPLATE_NAME)
    if template is None:
        raise KeyPolicyError("key policy: this installation cannot read its template")
    return Template(template.decode()).substitute(asdict(parameters))


def render_key_policy(parameters: KeyPolicyParameters) -> JSONObject:
    """Return the policy that the key of this release and deployment must have.

    No value can leave its JSON string: ``KeyPolicyParameters`` admits no quote or backslash.
    """
    text = render_key_policy_text(parameters)
    return parse_json_object(text.encode(), max_bytes=limits.KMS_KEY_POLICY_MAX_BYTES)


def key_policy_digest(policy: JSONObject) -> str:
    """Return ``sha384:`` + hex of SHA-384 over the JCS of the canonical form.

    Equal policies, and only they, have equal digests.

    Raises:
        KeyPolicyError: A value that no policy has: null, a number, a list in a list.
    """
    return "sha384:" + hashlib.sha384(canonicalize(_canonical(policy))).hexdigest()


def policies_equal(one: JSONObject, other: JSONObject) -> bool:
    """Whether two policies are the same: a scalar equals a list of one, lists are sets.

    Raises:
        KeyPolicyError: As ``key_policy_digest``.
    """
    return canonicalize(_canonical(one)) == canonicalize(_canonical(other))


def verify_key_policy(
    untrusted_policy_text: str, parameters: KeyPolicyParameters
) -> VerifiedKeyPolicy:
    """Verify that the text which KMS returned is the policy that it must be.

    Args:
        untrusted_policy_text: ``Policy`` of KMS ``GetKeyPolicy``.
        parameters: From the measured deployment and the enclave's own PCRs.

    Raises:
        KeyPolicyError: It differs (``ERR_KMS_KEY_UNFIT``); the text names the statements by Sid
            where they are ours, never by what they say.
    """
    try:
        data = untrusted_policy_text.encode()
        policy = parse_json_object(data, max_bytes=limits.KMS_KEY_POLICY_MAX_BYTES)
        equal = policies_equal(policy, expected := render_key_policy(parameters))
    except UnicodeEncodeError:
        raise KeyPolicyError("key policy: text with a lone surrogate") from None
    except MalformedError as error:
        raise KeyPolicyError(f"key policy: {error.detail}") from None
    if not equal:
        raise KeyPolicyError(f"key policy: not the template's: {_difference(policy, expected)}")
    return VerifiedKeyPolicy(policy, key_policy_digest(policy), _COMPARED)


def _canonical(value: JSONValue) -> JSONValue:
    """Return the form in which equal policies are the same JSON."""
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    if isinstance(value, list):
        return _canonical_set(value)
    if isinstance(value, str):
        return value
    raise KeyPolicyError("key policy: a value that is neither text, list nor object")


def _canonical_set(items: list[JSONValue]) -> JSONValue:
    if any(isinstance(item, list) for item in items):
        raise KeyPolicyError("key policy: a list within a list")
    unique = {canonicalize(item): item for item in map(_canonical, items)}
    ordered = [unique[key] for key in sorted(unique)]
    return ordered[0] if len(ordered) == 1 else ordered


def _difference(policy: JSONObject, expected: JSONObject) -> str:
    """Say which statements differ, in words of the template only."""
    found, wanted = _statements(policy), _statements(expected)
    missing = sorted(sid for text, sid in wanted.items() if text not in found)
    extra = sum(text not in wanted for text in found)
    if not missing and not extra:
        return "members beside the statements differ"
    return f"statements missing or changed: {', '.join(missing) or 'none'}; others found: {extra}"


def _statements(policy: JSONObject) -> dict[bytes, str]:
    statements = policy.get("Statement")
    items = statements if isinstance(statements, list) else [statements]
    return {
        canonicalize(_canonical(item)): str(item.get("Sid", "unnamed"))
        for item in items
        if isinstance(item, dict)
    }
