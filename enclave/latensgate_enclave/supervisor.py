"""Keeps the enclave fit to serve: time, KMS gate, key rotation, credentials.

Service is open only while the KMS gate is. A denial closes it at once and drops every HPKE key; an
unreachable KMS is borne for a bounded time. What a closed gate answers is the code of its reason.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from latensgate_enclave.events import Event
from latensgate_enclave.hardening import wipe
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import (
    CLOCK_REFRESH_S,
    IDENTITY_CHECK_S,
    KEY_ROTATION_S,
    KMS_GATE_CHECK_S,
    KMS_GATE_GRACE_S,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from latensgate_enclave.aws.sigv4 import Credentials
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.events import EventLog
    from latensgate_enclave.gate import KMSGate, OpenGate
    from latensgate_enclave.identity import UpstreamIdentity
    from latensgate_enclave.keys import KeyRing, ManifestFacts

_BORNE = frozenset(
    {ErrorCode.ERR_KMS_UNREACHABLE, ErrorCode.ERR_UPSTREAM_IDENTITY, ErrorCode.ERR_UPSTREAM}
)
"""Nobody has judged: KMS was not reached, or could not be asked for want of checked credentials."""


class Supervisor:
    """Owns the state of the gate.

    Args:
        clock: Enclave time.
        identity: The credentials in use.
        gate: Judges the KMS key.
        keys: Rotated and dropped from here only.
        log: The enclave's event log.
    """

    def __init__(
        self,
        clock: EnclaveClock,
        identity: UpstreamIdentity,
        gate: KMSGate,
        keys: KeyRing,
        log: EventLog,
    ) -> None:
        self._clock = clock
        self._identity = identity
        self._gate = gate
        self._keys = keys
        self._log = log
        self._lock = asyncio.Lock()  # so that no rotation can overtake a denial
        self._opened: OpenGate | None = None
        self._target: tuple[str, bytes] | None = None
        self._closed_because = ErrorCode.ERR_ENCLAVE_UNAVAILABLE
        self._judged_at_s = 0
        self._rotated_at_s = 0

    @property
    def closed_because(self) -> ErrorCode | None:
        """Why there is no service; None while the gate is open."""
        self._lapse()
        return self._closed_because if self._opened is None else None

    def require_open(self) -> None:
        """Pass while the gate is open.

        Raises:
            LatensgateError: With the code of why it is not.
        """
        self._lapse()
        if self._opened is None:
            raise LatensgateError("the KMS gate is not open", code=self._closed_because)

    def _lapse(self) -> None:
        """Close once the grace is over, whoever holds up the check that would find out.

        The check waits for the lock, and the parent has it for as long as it lets a
        `configure_kms` of its own wait for KMS.
        """
        if self._opened is not None and self._age_s() > KMS_GATE_GRACE_S:
            self._close(ErrorCode.ERR_KMS_UNREACHABLE)

    def _age_s(self) -> int:
        return self._clock.now_s() - self._judged_at_s

    async def accept_credentials(self, credentials: Credentials) -> None:
        """Check and use credentials that the parent delivered.

        Raises:
            LatensgateError: They did not pass; the ones in use stay.
        """
        try:
            await self._identity.accept(credentials)
        except LatensgateError as error:
            self._log.emit(Event.CREDENTIALS_REFUSED, code=error.code.number)
            raise
        self._log.emit(Event.CREDENTIALS_ACCEPTED)

    async def configure_kms(self, key_arn: str, wrapped_secret: bytes | None) -> bytes:
        """Open the gate with a key that the parent names; return the wrapped service secret.

        Raises:
            LatensgateError: The gate did not open; if it was open before, it stays so.
        """
        async with self._lock:
            opened = await self._judge(key_arn, wrapped_secret)
            # Told the same again, it keeps its keys: generations must not pile up.
            await self._adopt(opened, told_again=self._facts() == opened.facts)
            self._target = key_arn, opened.wrapped_secret
            return opened.wrapped_secret

    async def recheck_gate(self) -> None:
        """Ask KMS again; close on a denial, or when it was unreachable for too long."""
        async with self._lock:
            if self._target is None:
                return
            try:
                opened = await self._judge(*self._target)
                await self._adopt(opened, told_again=self._opened is not None)
            except LatensgateError as error:
                if error.code not in _BORNE or self._age_s() > KMS_GATE_GRACE_S:
                    self._close(error.code)

    async def _judge(self, key_arn: str, wrapped_secret: bytes | None) -> OpenGate:
        try:
            opened = await self._gate.open(key_arn, wrapped_secret)
        except LatensgateError as error:
            self._log.emit(Event.KMS_GATE_DENIED, code=error.code.number)
            if self._opened is None:
                self._closed_because = error.code
            raise
        self._judged_at_s = self._clock.now_s()
        return opened

    def _facts(self) -> ManifestFacts | None:
        return self._opened.facts if self._opened is not None else None

    async def _adopt(self, opened: OpenGate, *, told_again: bool) -> None:
        """Make keys of what KMS released, unless the gate is open with the same already."""
        try:
            if not told_again:
                await self._rotate(opened)
        finally:
            if self._opened is not opened:
                wipe(opened.service_secret)

    async def _rotate(self, opened: OpenGate) -> None:
        before = self._opened
        await self._keys.rotate(opened.service_secret, opened.facts)
        if self._opened is not before:
            self._keys.drop()
            raise LatensgateError("the gate closed meanwhile", code=self._closed_because)
        self._rotated_at_s = self._clock.now_s()
        if before is not None and before is not opened:
            wipe(before.service_secret)
        self._opened = opened
        self._log.emit(Event.KEYS_ROTATED)

    def _close(self, because: ErrorCode) -> None:
        if self._opened is not None:
            wipe(self._opened.service_secret)
        self._opened = None
        self._closed_because = because
        self._keys.drop()

    async def rotate_if_due(self) -> None:
        """Make new HPKE keys once an hour."""
        async with self._lock:
            due = self._clock.now_s() - self._rotated_at_s >= KEY_ROTATION_S
            if self._opened is not None and due:
                await self._rotate(self._opened)

    async def run(self) -> None:
        """Do all of it on timers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(CLOCK_REFRESH_S, self._clock.refresh))
            tasks.create_task(self._every(IDENTITY_CHECK_S, self._identity.recheck))
            tasks.create_task(self._every(KMS_GATE_CHECK_S, self.recheck_gate))
            tasks.create_task(self._every(CLOCK_REFRESH_S, self.rotate_if_due))

    async def _every(self, period_s: int, task: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period_s)
            try:
                await task()
            except LatensgateError as error:
                self._log.emit(Event.CHECK_FAILED, code=error.code.number)

    def stop(self) -> None:
        """Drop every key: the enclave ends."""
        self._close(ErrorCode.ERR_ENCLAVE_UNAVAILABLE)
