"""The measured configuration: `policy.toml`, `deployment.toml`, `trust.toml` and its `ca.pem`.

All of it lies in the image and counts into its PCRs, so whoever accepts the measurements has
accepted these values. Nothing here is read from the environment or the parent. Files are parsed
strictly: an unknown or missing key refuses to start, since a typo must not turn a rule off.
"""

from __future__ import annotations

import hashlib
import tomllib
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from latensgate_enclave.measured_upstreams import (
    MeasuredConfigurationError,
    ModelRoute,
    OpenAIUpstream,
    Region,
    Strict,
    Upstreams,
    certificates,
    check_route,
    check_upstreams,
)
from latensgate_enclave.pii.languages import DEFAULT_LANGUAGES
from latensgate_enclave.pii.phones import DEFAULT_REGIONS
from latensgate_shared.limits import (
    MODEL_TIMEOUT_MAX_MS,
    PII_NER_WORKERS_MAX_COUNT,
    STREAM_COALESCE_MAX_MS,
)
from latensgate_shared.stream_shape import StreamPad, StreamShape

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CallLimits",
    "Deployment",
    "MeasuredConfiguration",
    "MeasuredConfigurationError",
    "ModelRoute",
    "OpenAIUpstream",
    "Policy",
    "Trust",
    "load_measured_configuration",
    "parse_table",
]

_Account = Annotated[str, Meta(pattern="^[0-9]{12}\\Z")]
_RoleARN = Annotated[
    str, Meta(pattern="^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}\\Z")
]
_Alias = Annotated[str, Meta(min_length=1, max_length=256)]
_PublicKey = Annotated[str, Meta(pattern="^([0-9a-f]{64})?\\Z")]
_SHA256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}\\Z")]
_PhoneRegion = Annotated[str, Meta(pattern="^[A-Z]{2}\\Z")]
_Language = Annotated[str, Meta(pattern="^[a-z]{2}\\Z")]
_Positive = Annotated[int, Meta(ge=1)]
_ModelTimeout = Annotated[int, Meta(ge=1, le=MODEL_TIMEOUT_MAX_MS)]


class Deployment(Strict, frozen=True):
    """`deployment.toml`: the operator's own values, in the last ramdisk (so in PCR0 and PCR2).

    Attributes:
        account: AWS account that every credential must belong to, 12 digits.
        regions: AWS Regions that may be called; the first one holds KMS and STS.
        service_role_arn: The only principal of the KMS key policy that may decrypt.
        key_admin_role_arn: May disable and delete the key, nothing else.
        invocation_logging: What Bedrock invocation logging does: stops service, or is flagged.
        models: Alias → route.
        upstreams: Name → server that speaks OpenAI's interface.
        upstream_operator_key: Ed25519 public key, hex: whoever holds its other half, and nobody
            else, may give the enclave credentials of upstreams. Empty: nobody.
    """

    account: _Account
    regions: Annotated[tuple[Region, ...], Meta(min_length=1)]
    service_role_arn: _RoleARN
    key_admin_role_arn: _RoleARN
    invocation_logging: Literal["refuse", "flag"]
    models: dict[_Alias, ModelRoute]
    upstreams: Upstreams = msgspec.field(default_factory=dict[str, OpenAIUpstream])
    upstream_operator_key: _PublicKey = ""


class CallLimits(Strict, frozen=True):
    """How much is worked on at once, and for how long.

    Attributes:
        model_timeout_ms: Deadline of one model call, milliseconds; receipts of longer ones would
            lie beyond what clients accept.
        max_concurrent: Calls worked on at once; more are refused at once.
    """

    model_timeout_ms: _ModelTimeout
    max_concurrent: _Positive


class PIIEngine(Strict, frozen=True):
    """What the PII engine looks for, and with how much.

    Attributes:
        phone_regions: ISO 3166-1 codes whose national telephone numbers count by themselves.
        languages: ISO 639-1 codes whose context words count.
        names: Whether names are looked for: with `spacy` the image must carry the pinned model.
        workers: Processes that look for names: one for each processor that may be spent.
    """

    phone_regions: Annotated[tuple[_PhoneRegion, ...], Meta(max_length=32)] = DEFAULT_REGIONS
    languages: Annotated[tuple[_Language, ...], Meta(max_length=16)] = DEFAULT_LANGUAGES
    names: Literal["none", "spacy"] = "none"
    workers: Annotated[int, Meta(ge=1, le=PII_NER_WORKERS_MAX_COUNT)] = 2


class StreamFloor(Strict, frozen=True):
    """In what shape streams leave, at least; a request can only tighten it.

    Attributes:
        pad: Padding of content records.
        coalesce_ms: Milliseconds between two ticks on which content leaves; 0: as it comes.
    """

    pad: StreamPad = "padme"
    coalesce_ms: Annotated[int, Meta(ge=0, le=STREAM_COALESCE_MAX_MS)] = 0

    def joined(self, asked: StreamShape | None) -> StreamShape:
        """Return the shape of an answer whose request asks for one, or for none."""
        return StreamShape(self.pad, self.coalesce_ms).joined(asked)


class Policy(Strict, frozen=True):
    """`policy.toml`: common to all deployments of a release.

    Attributes:
        calls: Limits of calls.
        capabilities: Row name → what models of that row can do.
        pii: The floor, in the form that the PII engine parses.
        pii_engine: What is looked for.
        stream: In what shape streams leave.
    """

    calls: CallLimits
    capabilities: dict[str, frozenset[str]]
    pii: dict[str, object]
    pii_engine: PIIEngine = PIIEngine()
    stream: StreamFloor = StreamFloor()


class Trust(Strict, frozen=True):
    """`trust.toml`: the TLS roots that egress believes, and nothing else.

    Attributes:
        flavour: `sim` images differ from production in this file and `ca.pem` alone.
        tls_root_sha256: SHA-256 of the DER of every certificate in `ca.pem`.
        replaces_upstream_roots: Believe upstreams under `ca.pem`, too, whatever roots their tables
            name: so one `deployment.toml` serves both flavours (ADR 0038).
    """

    flavour: Literal["production", "sim"]
    tls_root_sha256: Annotated[frozenset[_SHA256], Meta(min_length=1)]
    replaces_upstream_roots: bool = False


class MeasuredConfiguration(Strict, frozen=True):
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


_Table = TypeVar("_Table", bound=Strict)


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
    check_upstreams(deployment.upstreams, deployment.upstream_operator_key)
    for alias, route in deployment.models.items():
        check_route(alias, route, deployment.regions, deployment.upstreams)
        if route.capabilities not in policy.capabilities:
            raise MeasuredConfigurationError(
                f"deployment.toml models.{alias}.capabilities: policy.toml has no such row"
            )


def _check_roots(trust: Trust, ca_pem: str) -> None:
    found = frozenset(hashlib.sha256(der).hexdigest() for der in certificates(ca_pem, "ca.pem"))
    if found != trust.tls_root_sha256:
        raise MeasuredConfigurationError(
            "ca.pem: its certificates are not exactly those of trust.toml tls_root_sha256"
        )
