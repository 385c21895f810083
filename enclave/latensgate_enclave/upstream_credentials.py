"""The credentials of upstreams: in memory only, gone with the process, from the operator alone.

The parent carries them sealed. What it could do with a key of its own, it cannot do here: a
credential counts only under a signature of the measured `upstream_operator_key`, and an older one
never replaces a newer one (ADR 0039).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_enclave.events import Event
from latensgate_shared.calls_upstream import UpstreamCredentialAnswer
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import REQUEST_WINDOW_S
from latensgate_shared.upstream_credential import confirm, open_credential

if TYPE_CHECKING:
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.events import EventLog
    from latensgate_enclave.keys import KeyRing
    from latensgate_enclave.measured import Deployment
    from latensgate_shared.calls_upstream import UpstreamCredentialCall
    from latensgate_shared.upstream_credential import UpstreamCredential

_MS_PER_S = 1_000


class UpstreamCredentials:
    """Holds one credential for each upstream that asks one.

    Args:
        deployment: Names the upstreams and the operator's key.
        clock: Enclave time.
        keys: Credentials are sealed to the keys that requests are.
        log: The enclave's event log.
    """

    def __init__(
        self, deployment: Deployment, clock: EnclaveClock, keys: KeyRing, log: EventLog
    ) -> None:
        self._operator_key = bytes.fromhex(deployment.upstream_operator_key)
        asking = deployment.upstreams.items()
        self._asking = tuple(sorted(n for n, each in asking if each.credential == "bearer"))
        self._clock = clock
        self._keys = keys
        self._log = log
        self._held: dict[str, UpstreamCredential] = {}

    def answer(self, call: UpstreamCredentialCall) -> UpstreamCredentialAnswer:
        """Take a credential if there is one; say which are missing.

        Raises:
            LatensgateError: It was refused; the one in use stays.
        """
        confirmed = None
        if call.sealed is not None and call.upstream is not None and call.attestation_hash:
            try:
                confirmed = self._accept(call.attestation_hash, call.upstream, call.sealed)
            except LatensgateError as error:
                self._log.emit(Event.UPSTREAM_CREDENTIAL_REFUSED, code=error.code.number)
                raise
            self._log.emit(Event.UPSTREAM_CREDENTIAL_ACCEPTED)
        missing = [name for name in self._asking if name not in self._held]
        return UpstreamCredentialAnswer(",".join(missing) or None, confirmed)

    def _accept(self, attestation_hash: str, upstream: str, sealed: bytes) -> bytes:
        opened = open_credential(
            self._keys.opening_keys(),
            attestation_hash=attestation_hash,
            upstream=upstream,
            sealed=sealed,
            operator_key=self._operator_key,
        )
        publication = self._keys.find(opened.key_id).publication
        if publication.attestation_hash != attestation_hash:
            raise LatensgateError(
                "the attestation that the operator verified is not the one of this key",
                code=ErrorCode.ERR_OUTER_MISMATCH,
            )
        if upstream not in self._asking:
            raise LatensgateError(
                "no upstream of this name takes a credential", code=ErrorCode.ERR_NOT_FOUND
            )
        self._check_time(opened.credential)
        self._held[upstream] = opened.credential
        return confirm(opened.answer_secret)

    def _check_time(self, credential: UpstreamCredential) -> None:
        age_ms = abs(self._clock.now_ms() - credential.issued_at_ms)
        if age_ms > REQUEST_WINDOW_S * _MS_PER_S:
            raise LatensgateError(
                f"the credential was sealed more than {REQUEST_WINDOW_S} s from enclave time",
                code=ErrorCode.ERR_REQUEST_AGE,
            )
        held = self._held.get(credential.upstream)
        if held is not None and credential.issued_at_ms <= held.issued_at_ms:
            raise LatensgateError(
                "a credential that was sealed later is held", code=ErrorCode.ERR_REPLAY
            )

    def bearer(self, upstream: str) -> str:
        """Return the key of an upstream.

        Raises:
            LatensgateError: ``ERR_UPSTREAM_CREDENTIAL``: none was delivered since the start.
        """
        held = self._held.get(upstream)
        if held is None:
            raise LatensgateError(
                "this enclave holds no credential of the upstream",
                code=ErrorCode.ERR_UPSTREAM_CREDENTIAL,
            )
        return held.secret
