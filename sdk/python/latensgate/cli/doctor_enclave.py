"""The doctor's steps at the gateway and behind it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latensgate.cli.chat_ask import Ask, AskError, SealedAsker
from latensgate.cli.chat_once import model_name
from latensgate.cli.doctor_findings import FoundError, found_of
from latensgate.cli.doctor_network import Road, clock_words
from latensgate.cli.exit_codes import ExitCode
from latensgate.cli.failures import failure_of
from latensgate.cli.live import attest_live
from latensgate.cli.simple import short_hash
from latensgate.gateway import GatewayAddress, GatewayRefusedError
from latensgate.gateway.audit import AuditQuery
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from latensgate.attested import Attested
    from latensgate.cli.live import LiveAttestation
    from latensgate.cli.session import Session
    from latensgate.gateway import GatewayClient


@dataclass(slots=True)
class Visit:
    """What one visit of the gateway brings to light.

    Attributes:
        session: Settings and connections.
        attested: After ``attest``.
    """

    session: Session
    attested: Attested | None = None
    _public: GatewayClient | None = None

    @property
    def address(self) -> GatewayAddress:
        """Where the gateway is."""
        return GatewayAddress.parse(self.session.base_url)

    @property
    def road(self) -> Road:
        """The way there."""
        return Road(self.address, self.session.wanted.ca_file)

    def name(self) -> str:
        """Resolve the host name."""
        return self.road.name()

    def connect(self) -> str:
        """Open a TCP connection."""
        return self.road.connect()

    def handshake(self) -> str:
        """Do a TLS handshake."""
        return self.road.handshake()

    @property
    def public(self) -> GatewayClient:
        """One connection for all public routes."""
        if self._public is None:
            self._public = self.session.gateway()
        return self._public

    def health(self) -> str:
        """Ask for the health."""
        try:
            report = self.public.health()
        except LatensgateError as error:
            raise found_of(error) from None
        told = (
            f"{report.status}: {report.ready} of {report.total} enclaves ready, KMS {report.kms},"
            f" Bedrock {report.bedrock}"
        )
        if report.serves:
            return told
        raise FoundError(told, _HEALTH_ADVICE.get(report.kms, _WAIT), ExitCode.LATER)

    def clock(self) -> str:
        """Compare the clocks."""
        if self.public.last_answer is None:
            try:
                self.public.health()
            except LatensgateError as error:
                raise found_of(error) from None
        answer = self.public.last_answer
        if answer is None:
            raise FoundError("no answer", "", ExitCode.UNREACHABLE)
        return clock_words(answer)

    def attest(self) -> str:
        """Attest, with a fresh nonce."""
        try:
            live = attest_live(self.public, self.session.policy)
        except LatensgateError as error:
            raise found_of(error) from None
        if live.attested is None:
            raise _refused(live)
        self.attested = live.attested
        attestation = live.attested.attestation
        return (
            f"{attestation.status}: {attestation.document.module_id}, 18 steps,"
            f" {short_hash(attestation.attestation_hash)}"
        )

    def route(self) -> str:
        """Ask for the very enclave that was attested, as every sealed request is routed."""
        if self.attested is None:
            raise FoundError("nothing was attested", "", ExitCode.UNTRUSTED)
        key_id = self.attested.attestation.manifest.hpke_keys[0].key_id
        try:
            found = self.public.attestation(key_id=key_id)
        except LatensgateError as error:
            raise found_of(
                error, "The operator's routing is wrong, or the enclave just left."
            ) from None
        if found.attestation_hash != self.attested.attestation.attestation_hash:
            return f"key {key_id}: the enclave has a newer document meanwhile"
        return f"key {key_id}"

    def key(self) -> str:
        """Use the API key on routes of several scopes: what it may do is seen by doing it."""
        gateway = self.session.tenant_gateway()
        probes: tuple[tuple[str, Callable[[], object]], ...] = (
            ("inference:read", gateway.models),
            ("audit:read", lambda: gateway.audit_page(AuditQuery(limit=1))),
            ("keys:read", gateway.keys),
        )
        may = [scope for scope, probe in probes if _permits(probe)]
        if "inference:read" not in may:
            raise FoundError(
                f"accepted, but without inference:read (it has {', '.join(may) or 'none of ours'})",
                "Ask your operator for a key with the scope inference:read.",
                ExitCode.UNAUTHENTICATED,
            )
        if "keys:read" in may:
            may = list(self._listed_scopes(gateway)) or may
        return f"accepted; it permits {', '.join(may)}"

    def _listed_scopes(self, gateway: GatewayClient) -> tuple[str, ...]:
        """All scopes of this key, where the list tells it from the tenant's others."""
        own = self.session.found.api_key or ""
        listed = gateway.keys()
        active = [key for key in listed if key.status == "active"]
        found = [key for key in active if own.startswith(key.hint.rstrip("…"))]
        return found[0].scopes if len(found) == 1 else ()

    def sealed_request(self) -> str:
        """Seal a request without a message; the enclave's own signed refusal proves the way."""
        try:
            ask = Ask(model_name(self.session, None), stream=False)
            with closing(SealedAsker(self.session.wanted)) as asker:
                asker.ask([], ask, lambda _text: None)
        except LatensgateError as error:
            raise found_of(error) from None
        except AskError as error:
            return _refusal_words(error)
        raise FoundError(
            "the enclave answered a request that has no message",
            "This gateway's enclave runs another release than this client knows.",
            ExitCode.PROTOCOL,
        )


_WAIT = "Wait a moment and ask again; then ask your operator."
_HEALTH_ADVICE = {
    "denied": "KMS releases no keys to this image: the operator's key policy names another one.",
    "unfit": "The operator's KMS key or its policy is not the one that the image demands.",
    "unconfigured": "The gateway has not told its enclaves the KMS key yet.",
}


def _refused(live: LiveAttestation) -> FoundError:
    advice = {
        ExitCode.CLOCK: "Set this machine's clock with NTP; the enclave takes its time from AWS.",
        ExitCode.MEASUREMENTS: "A new release? Compare it with the operator's list before you"
        " accept it. Do not send anything until then.",
        ExitCode.UNTRUSTED: "A developer's stack? Then say --simulated. Else: do not send anything"
        " there.",
    }
    error = live.error
    detail = "the attestation was refused" if error is None else failure_of(error).message
    return FoundError(detail, advice.get(live.code, "Do not send anything there."), live.code)


def _permits(probe: Callable[[], object]) -> bool:
    """Whether the key has the scope; any other refusal is the finding."""
    try:
        probe()
    except GatewayRefusedError as error:
        if error.code is ErrorCode.ERR_FORBIDDEN:
            return False
        advice = ""
        if error.code is ErrorCode.ERR_UNAUTHENTICATED:
            advice = "Revoked, expired, or of another gateway: ask your operator for a new key."
        raise found_of(error, advice) from None
    except LatensgateError as error:
        raise found_of(error) from None
    return True


def _refusal_words(error: AskError) -> str:
    receipt = error.receipt
    if receipt is None or error.failure.code != ErrorCode.ERR_REQUEST_INVALID.name:
        raise FoundError(error.failure.message, error.failure.hint, error.failure.exit_code)
    return f"sealed, opened, refused as it should be, receipt {receipt.audit_receipt_id} verified"
