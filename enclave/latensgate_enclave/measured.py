"""The measured configuration: `policy.toml`, `deployment.toml`, `trust.toml` and its `ca.pem`.

All of it lies in the image and counts into its PCRs, so whoever accepts the measurements has
accepted these values. Nothing here is read from the environment or the parent. Files are parsed
strictly: an unknown or missing key refuses to start, since a typo must not turn a rule off.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import tomllib
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import MODEL_TIMEOUT_MAX_MS

if TYPE_CHECKING:
    from pathlib import Path

_Account = Annotated[str, Meta(pattern="^[0-9]{12}\\Z")]
_Region = Annotated[str, Meta(pattern="^[a-z]{2}(-[a-z]+)+-[0-9]\\Z")]
_RoleARN = Annotated[
    str, Meta(pattern="^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}\\Z")
]
_ModelId = Annotated[str, Meta(pattern="^[A-Za-z0-9._:/-]{1,256}\\Z")]
_Alias = Annotated[str, Meta(min_length=1, max_length=256)]
_SHA256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}\\Z")]
_Positive = Annotated[int, Meta(ge=1)]
_ModelTimeout = Annotated[int, Meta(ge=1, le=MODEL_TIMEOUT_MAX_MS)]


class MeasuredConfigurationError(LatensgateError):
    """A measured file is not what this release understands; the enclave does not start."""

    code = ErrorCode.ERR_CONFIGURATION


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table with exactly these keys."""


class ModelRoute(_Strict, frozen=True):
    """Where an alias leads.

    Attributes:
        model_id: Bedrock model or inference profile id.
        region: AWS Region of the call; one of the deployment's.
        capabilities: Row of the policy's capability table.
    """

    model_id: _ModelId
    region: _Region
    capabilities: str


class Deployment(_Strict, frozen=True):
    """`deployment.toml`: the operator's own values, in the last ramdisk (so in PCR0 and PCR2).

    Attributes:
        account: AWS account that every credential must belong to, 12 digits.
        regions: AWS Regions that may be called; the first one holds KMS and STS.
        service_role_arn: The only principal of the KMS key policy that may decrypt.
        key_admin_role_arn: May disable and delete the key, nothing else.
        invocation_logging: What Bedrock invocation logging does: stops service, or is flagged.
        models: Alias → route.
    """

    account: _Account
    regions: Annotated[tuple[_Region, ...], Meta(min_length=1)]
    service_role_arn: _RoleARN
    key_admin_role_arn: _RoleARN
    invocation_logging: Literal["refuse", "flag"]
    models: dict[_Alias, ModelRoute]


class CallLimits(_Strict, frozen=True):
    """How much is worked on at once, and for how long.

    Attributes:
        model_timeout_ms: Deadline of one model call, milliseconds; receipts of longer ones would
            lie beyond what clients accept.
        max_concurrent: Calls worked on at once; more are refused at once.
    """

    model_timeout_ms: _ModelTimeout
    max_concurrent: _Positive


class Policy(_Strict, frozen=True):
    """`policy.toml`: common to all deployments of a release.

    Attributes:
        calls: Limits of calls.
        capabilities: Row name → what models of that row can do.
        pii: The floor, in the form that the PII engine parses.
    """

    calls: CallLimits
    capabilities: dict[str, frozenset[str]]
    pii: dict[str, object]


class Trust(_Strict, frozen=True):
    """`trust.toml`: the TLS roots that egress believes, and nothing else.

    Attributes:
        flavour: `sim` images differ from production in this file and `ca.pem` alone.
        tls_root_sha256: SHA-256 of the DER of every certificate in `ca.pem`.
    """

    flavour: Literal["production", "sim"]
    tls_root_sha256: Annotated[frozenset[_SHA256], Meta(min_length=1)]


class MeasuredConfiguration(_Strict, frozen=True):
    """All of it, with the digests that the manifest states.

    Attributes:
        policy: `policy.toml`.
        policy_digest: `sha384:` + hex of that file's bytes.
        deployment: `deployment.toml`.
        deployment_digest: `sha384:` + hex of that file's bytes.
        trust: `trust.toml`.
        ca_pem: The certificates that `trust.toml` names.
    """

    policy: Policy
    policy_digest: str
    deployment: Deployment
    deployment_digest: str
    trust: Trust
    ca_pem: str


_Table = TypeVar("_Table", bound=_Strict)


def parse_table(name: str, raw: bytes, kind: type[_Table]) -> _Table:
    """Parse one TOML file into its struct.

    Raises:
        MeasuredConfigurationError: Names the file, the key and what was expected.
    """
    try:
        return msgspec.convert(tomllib.loads(raw.decode()), kind, strict=True)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise MeasuredConfigurationError(f"{name}: {error}") from None


def load_measured_configuration(folder: Path) -> MeasuredConfiguration:
    """Read and check the four measured files.

    Raises:
        MeasuredConfigurationError: Names the file, the key and what was expected.
    """
    raw_policy, raw_deployment = _read(folder, "policy.toml"), _read(folder, "deployment.toml")
    configuration = MeasuredConfiguration(
        policy=parse_table("policy.toml", raw_policy, Policy),
        policy_digest=_digest(raw_policy),
        deployment=parse_table("deployment.toml", raw_deployment, Deployment),
        deployment_digest=_digest(raw_deployment),
        trust=parse_table("trust.toml", _read(folder, "trust.toml"), Trust),
        ca_pem=_read(folder, "ca.pem").decode("ascii", errors="replace"),
    )
    _check_roles(configuration.deployment)
    _check_models(configuration.deployment, configuration.policy)
    _check_roots(configuration.trust, configuration.ca_pem)
    return configuration


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise MeasuredConfigurationError(f"{name}: {error.strerror}") from None


def _digest(raw: bytes) -> str:
    return "sha384:" + hashlib.sha384(raw).hexdigest()


def _check_roles(deployment: Deployment) -> None:
    for key in ("service_role_arn", "key_admin_role_arn"):
        if f"::{deployment.account}:" not in getattr(deployment, key):
            raise MeasuredConfigurationError(f"deployment.toml {key}: a role of another account")


def _check_models(deployment: Deployment, policy: Policy) -> None:
    for alias, route in deployment.models.items():
        if route.region not in deployment.regions:
            raise MeasuredConfigurationError(
                f"deployment.toml models.{alias}.region: not one of regions"
            )
        if route.capabilities not in policy.capabilities:
            raise MeasuredConfigurationError(
                f"deployment.toml models.{alias}.capabilities: policy.toml has no such row"
            )


def _check_roots(trust: Trust, ca_pem: str) -> None:
    blocks = re.findall(
        "-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", ca_pem, re.DOTALL
    )
    try:
        found = frozenset(
            hashlib.sha256(ssl.PEM_cert_to_DER_cert(block)).hexdigest() for block in blocks
        )
    except ValueError:
        raise MeasuredConfigurationError("ca.pem: a certificate is not base64") from None
    if found != trust.tls_root_sha256:
        raise MeasuredConfigurationError(
            "ca.pem: its certificates are not exactly those of trust.toml tls_root_sha256"
        )
