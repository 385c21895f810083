"""What happens between parent and enclaves, for the log: a kind, a name, a code; never a secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from latensgate_shared.errors import ErrorCode


class LinkEventKind(StrEnum):
    """What happened."""

    CONNECTED = "enclave_connected"
    CONNECT_FAILED = "enclave_connect_failed"
    DISCONNECTED = "enclave_disconnected"
    STATE = "enclave_state"
    """Its health has changed; the detail names the three states."""
    HEALTH_FAILED = "enclave_health_failed"
    CREDENTIALS_DELIVERED = "credentials_delivered"
    CREDENTIALS_FAILED = "credentials_failed"
    GATE_OPENED = "kms_gate_opened"
    GATE_FAILED = "kms_gate_failed"
    WRAPPED_SECRET_STORED = "wrapped_secret_stored"  # noqa: S105  # a name of an event
    PUBLISHED = "attestation_published"
    """A document is archived and its keys are routed; the detail names its hash."""
    PUBLISH_FAILED = "attestation_failed"
    USAGE_STORED = "usage_stored"
    USAGE_FAILED = "usage_failed"
    INTERNAL = "enclave_keeper_failed"
    """A fault of our own; the detail names the kind of exception alone."""
    TUNNEL_REFUSED = "egress_refused"
    TUNNEL_FAILED = "egress_failed"


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """One line of the log.

    Attributes:
        kind: What happened.
        enclave: Where it listens; the destination for egress; empty where there is none.
        code: Of the error, if it is one.
        detail: For operators: states, addresses, times; never content, never a secret.
    """

    kind: LinkEventKind
    enclave: str = ""
    code: ErrorCode | None = None
    detail: str = ""


EventSink: TypeAlias = Callable[[LinkEvent], None]
