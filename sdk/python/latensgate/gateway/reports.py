"""Health, models and usage, as the gateway reports them. None of it is authenticated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate.gateway import read
from latensgate_shared import ed25519, formats
from latensgate_shared.calls import BedrockState, EnclaveState, KMSState
from latensgate_shared.error_answers import parse_error_answer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.jcs import canonicalize
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate_shared.strict_json import JSONObject, JSONValue

_STATUSES: Final = ("ok", "degraded", "unavailable")
_ENCLAVE: Final = {*EnclaveState, "unreachable"}
_KMS: Final = {*KMSState, "unknown"}
_BEDROCK: Final = {*BedrockState, "unknown"}
_HEALTH: Final = frozenset({"status", "enclave", "kms", "bedrock", "checked_at"})
_ENVELOPE: Final = frozenset({"error", "code", "correlation_id", "hint"})
_STATUS_ONLY: Final = frozenset({"status"})
_UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What the parent says of its enclaves.

    Attributes:
        status: ``ok``, ``degraded`` or ``unavailable``.
        enclave: State of the best enclave, or ``unreachable``.
        ready: Enclaves that take requests.
        total: All enclaves.
        kms: What KMS said last, or ``unknown``.
        bedrock: What the last check of the upstream account said, or ``unknown``.
        checked_at: When that enclave last answered.
    """

    status: str
    enclave: str
    ready: int
    total: int
    kms: str
    bedrock: str
    checked_at: datetime | None

    @property
    def serves(self) -> bool:
        """Whether at least one enclave takes requests."""
        return self.status != "unavailable"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One of the operator's model names.

    Attributes:
        model_id: The name.
        owned_by: Who offers it.
        kind: ``chat`` or ``embeddings``.
        shutdown_date: When its provider retires the model, if that is known.
    """

    model_id: str
    owned_by: str
    kind: str = "chat"
    shutdown_date: str | None = None


@dataclass(frozen=True, slots=True)
class UsageCounts:
    """What was counted.

    Attributes:
        requests: Those for which a model ran.
        prompt_tokens: Of those requests.
        completion_tokens: Of their answers.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class EnclaveUsage:
    """What one enclave counted for the tenant, and what pins the operator to it.

    Attributes:
        receipt_key: 64 hex digits.
        issued_at: Of the totals.
        usage: The tenant's counts.
        totals_hash: ``sha384:…`` of the totals of all tenants.
        signature: The enclave's over them, 128 hex digits.
    """

    receipt_key: str
    issued_at: datetime
    usage: UsageCounts
    totals_hash: str
    signature: str


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Usage of the tenant.

    Attributes:
        usage: Sum over ``enclaves``, computed here.
    """

    tenant_id: str
    usage: UsageCounts
    enclaves: tuple[EnclaveUsage, ...]


def parse_health(value: JSONObject, *, status: int) -> HealthReport:
    """Read the answer of ``GET /api/health``; its 503 holds the error envelope besides.

    Raises:
        JSONError: Another form, or an error beside it that is not of an unavailable gateway.
    """
    unavailable = status == _UNAVAILABLE
    members = formats.members(value, "health", _HEALTH | _ENVELOPE if unavailable else _HEALTH)
    if unavailable:
        _check_envelope({name: members[name] for name in _ENVELOPE})
    counts = formats.members(
        members["enclave"], "health.enclave", frozenset({"status", "ready", "total"})
    )
    return HealthReport(
        status=read.one_of(members["status"], "health.status", _STATUSES),
        enclave=read.one_of(counts["status"], "health.enclave.status", _ENCLAVE),
        ready=formats.integer(counts["ready"], "health.enclave.ready"),
        total=formats.integer(counts["total"], "health.enclave.total"),
        kms=_state(members["kms"], "health.kms", _KMS),
        bedrock=_state(members["bedrock"], "health.bedrock", _BEDROCK),
        checked_at=read.moment_or_none(members["checked_at"], "health.checked_at"),
    )


def _check_envelope(envelope: JSONObject) -> None:
    if parse_error_answer(canonicalize(envelope)).error.code is not (
        ErrorCode.ERR_ENCLAVE_UNAVAILABLE
    ):
        raise JSONError("health.code: ERR_ENCLAVE_UNAVAILABLE expected")


def _state(value: JSONValue, what: str, allowed: set[str]) -> str:
    return read.one_of(
        formats.members(value, what, _STATUS_ONLY)["status"], f"{what}.status", allowed
    )


def parse_models(value: JSONObject) -> tuple[ModelInfo, ...]:
    """Read the answer of ``GET /api/models``.

    Raises:
        JSONError: Another form.
    """
    members = formats.members(value, "models", frozenset({"object", "data"}))
    return tuple(_model(item) for item in read.array(members["data"], "models.data"))


def _model(value: JSONValue) -> ModelInfo:
    what = "models.data"
    required = frozenset({"id", "object", "created", "owned_by"})
    members = formats.members(value, what, required, frozenset({"kind", "shutdown_date"}))
    retired = members.get("shutdown_date")
    return ModelInfo(
        read.name(members["id"], f"{what}.id"),
        read.name(members["owned_by"], f"{what}.owned_by"),
        read.one_of(members.get("kind", "chat"), f"{what}.kind", {"chat", "embeddings"}),
        None if retired is None else read.name(retired, f"{what}.shutdown_date"),
    )


def parse_usage(value: JSONObject) -> UsageReport:
    """Read the answer of ``GET /api/usage``.

    Raises:
        JSONError: Another form, or a sum that is not that of its parts.
    """
    members = formats.members(value, "usage", frozenset({"tenant_id", "usage", "enclaves"}))
    enclaves = tuple(_enclave(item) for item in read.array(members["enclaves"], "usage.enclaves"))
    parts = [item.usage for item in enclaves]
    total = UsageCounts(
        sum(part.requests for part in parts),
        sum(part.prompt_tokens for part in parts),
        sum(part.completion_tokens for part in parts),
    )
    if _counts(members["usage"], "usage.usage") != total:
        raise JSONError("usage.usage: the sum over the enclaves expected")
    return UsageReport(formats.tenant_id(members["tenant_id"], "usage.tenant_id"), total, enclaves)


def _enclave(value: JSONValue) -> EnclaveUsage:
    what = "usage.enclaves"
    required = frozenset({"receipt_key", "issued_at", "usage", "totals_hash", "signature"})
    members = formats.members(value, what, required)
    return EnclaveUsage(
        formats.hex_text(members["receipt_key"], f"{what}.receipt_key", ed25519.PUBLIC_KEY_BYTES),
        read.moment(members["issued_at"], f"{what}.issued_at"),
        _counts(members["usage"], f"{what}.usage"),
        formats.sha384_digest(members["totals_hash"], f"{what}.totals_hash"),
        formats.hex_text(members["signature"], f"{what}.signature", ed25519.SIGNATURE_BYTES),
    )


def _counts(value: JSONValue, what: str) -> UsageCounts:
    names = ("requests", "prompt_tokens", "completion_tokens")
    members = formats.members(value, what, frozenset(names))
    return UsageCounts(*(formats.integer(members[name], f"{what}.{name}") for name in names))
