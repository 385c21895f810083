"""Held requests, for those who poll and those who decide. Everything is judged in the enclave.

A request is claimed in the store before its enclave is asked, so that of two decisions at one
moment one is presented; and the enclave runs none twice whatever is presented. If this process dies
in between, its successor says of what ran that nobody knows its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from latensgate_parent.http.answers import unary_answer
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.receipts import read_receipt
from latensgate_parent.limits import HOLD_RETRY_AFTER_S, HOLDS_LISTED_MAX_COUNT
from latensgate_parent.link.interfaces import EnclaveError, InferenceReply
from latensgate_parent.store.held_forms import HoldState
from latensgate_parent.store.interfaces import StoreError
from latensgate_shared.calls_hold import HoldDecideCall, HoldViewCall
from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_parent.clock import Clock
    from latensgate_parent.http.backlog import Backlog, Tasks
    from latensgate_parent.http.receipts import ReceiptWriter
    from latensgate_parent.http.settings_shelf import SettingsShelf
    from latensgate_parent.link.interfaces import HoldingFleet, OpenInference
    from latensgate_parent.store.held_forms import HoldStore, StoredHold
    from latensgate_parent.store.interfaces import StoredAnswer, StoredReceipt
    from latensgate_shared.calls_hold import HoldViewAnswer

_ENDS: Final = {
    HoldState.LOST: ErrorCode.ERR_HOLD_LOST,
    HoldState.UNKNOWN: ErrorCode.ERR_OUTCOME_UNKNOWN,
    HoldState.EXPIRED: ErrorCode.ERR_HOLD_EXPIRED,
}
"""What is answered of a request that has no answer and gets none."""
_AFTER: Final = {
    ErrorCode.ERR_HOLD_LOST: HoldState.LOST,
    ErrorCode.ERR_OUTCOME_UNKNOWN: HoldState.UNKNOWN,
    ErrorCode.ERR_INTERNAL: HoldState.UNKNOWN,
}
"""What an enclave's refusal of a decision means; after any other the request still waits."""


@dataclass(frozen=True, slots=True)
class HoldDesk:
    """Answers for held requests.

    Attributes:
        store: Where they are.
        fleet: Who holds them.
        settings: The tenants' newest settings.
        receipts: Makes receipts durable.
        tasks: What outlives its request.
        backlog: What the store did not confirm.
        holder: Names this process.
        clock: Seconds since 1970.
    """

    store: HoldStore
    fleet: HoldingFleet
    settings: SettingsShelf
    receipts: ReceiptWriter
    tasks: Tasks
    backlog: Backlog
    holder: str
    clock: Clock = field(repr=False)

    async def one(self, tenant_id: str, pending_id: str) -> StoredHold:
        """Return a held request of a tenant, as it stands now.

        Raises:
            GatewayError: ``ERR_NOT_FOUND``.
            StoreError: The store does not answer.
        """
        found = await self.store.hold(tenant_id, pending_id)
        if found is None:
            raise GatewayError(
                ErrorCode.ERR_NOT_FOUND, "This tenant has no such request.", param="pending_id"
            )
        return self._now(found)

    async def newest(self, tenant_id: str) -> Sequence[StoredHold]:
        """Return the newest held requests of a tenant; raises ``StoreError``."""
        found = await self.store.holds(tenant_id, HOLDS_LISTED_MAX_COUNT)
        return [self._now(each) for each in found]

    def _now(self, hold: StoredHold) -> StoredHold:
        if hold.state is HoldState.PENDING and hold.expires_at_s <= self.clock():
            return replace(hold, state=HoldState.EXPIRED)
        return hold

    async def answer(self, tenant_id: str, pending_id: str) -> StoredAnswer:
        """Return the answer of a held request, sealed to its caller.

        Raises:
            GatewayError: ``ERR_HELD``: it still waits, or runs; or there will never be one.
        """
        hold = await self.one(tenant_id, pending_id)
        if hold.answer is not None:
            return hold.answer
        code = _ENDS.get(hold.state)
        if code is not None:
            raise GatewayError(code, code.hint)
        what = "It is being answered." if hold.state is HoldState.RUNNING else "Nobody has decided."
        raise GatewayError(ErrorCode.ERR_HELD, what, retry_after_s=HOLD_RETRY_AFTER_S)

    async def view(
        self, tenant_id: str, pending_id: str, approver: bytes
    ) -> tuple[StoredHold, HoldViewAnswer, bytes]:
        """Return what an approver may see of a request that waits.

        Raises:
            GatewayError: It does not wait any more.
            EnclaveError: The enclave refuses.
        """
        hold = await self._waiting(tenant_id, pending_id)
        newest = await self._newest_settings(hold)
        call = HoldViewCall(hold.pending_state, newest, len(hold.settings), approver)
        try:
            answer, view = await self.fleet.named(hold.enclave).view(call, _body(hold))
        except EnclaveError as error:
            await self._lost(hold, error)
            raise _told(error) from None
        return hold, answer, view

    async def _lost(self, hold: StoredHold, error: EnclaveError) -> None:
        """Tell whoever polls, if the enclave says that it does not hold this request."""
        if error.code is ErrorCode.ERR_HOLD_LOST and await self.store.claim_hold(
            hold.tenant_id, hold.pending_id, self.holder
        ):
            self._settle(hold, HoldState.LOST)

    async def decide(
        self, tenant_id: str, pending_id: str, decision: bytes, correlation_id: str
    ) -> HoldState:
        """Present a decision; return when the enclave has taken it.

        The answer is waited for in the background: an approver need not.

        Raises:
            GatewayError: It does not wait any more, or the enclave refused the decision.
            EnclaveLostError: The connection ended; nobody knows whether it ran.
            StoreError: Nothing was presented.
        """
        hold = await self._waiting(tenant_id, pending_id)
        newest = await self._newest_settings(hold)
        call = HoldDecideCall(hold.pending_state, newest, len(hold.settings), decision)
        if not await self.store.claim_hold(tenant_id, pending_id, self.holder):
            raise _decided()
        try:
            opened = await self.fleet.named(hold.enclave).decide(call, _body(hold))
        except BaseException as error:  # also a cancel: what was presented must not stay running
            self._settle(hold, _state_after(error))
            if isinstance(error, EnclaveError):
                raise _told(error) from None
            raise
        self.tasks.start(self._collect(hold, opened, correlation_id))
        return HoldState.RUNNING

    # --- what an approver set going ---

    async def _collect(self, hold: StoredHold, opened: OpenInference, correlation_id: str) -> None:
        """Bring a decided request to its end: receipt first, then the answer."""
        try:
            content = b"".join([piece async for piece in opened.pieces()])
            end = await opened.end()
            receipt = read_receipt(end, opened.receipt_id, self.receipts.now_ms())
            reply = InferenceReply(opened.receipt_id, content, end)
            answer, code = unary_answer(reply, hold.attestation_hash, correlation_id)
        except BaseException:  # also a cancel: what ran must not stay running
            self._settle(hold, HoldState.UNKNOWN)
            raise
        finally:
            await opened.aclose()
        state = _state_of(code)
        self.backlog.add(
            lambda: self._end(hold, receipt, state, answer),
            lambda: self._settle(hold, HoldState.UNKNOWN),
        )

    async def _end(
        self, hold: StoredHold, receipt: StoredReceipt, state: HoldState, answer: StoredAnswer
    ) -> None:
        """Store the receipt, then the answer; safe to repeat."""
        await self.receipts.store(receipt)
        await self.store.settle_hold(hold.tenant_id, hold.pending_id, state, answer)

    def _settle(
        self, hold: StoredHold, state: HoldState, answer: StoredAnswer | None = None
    ) -> None:
        """Write where a request stands, again and again until the store has it."""
        self.backlog.add(
            lambda: self.store.settle_hold(hold.tenant_id, hold.pending_id, state, answer)
        )

    async def _waiting(self, tenant_id: str, pending_id: str) -> StoredHold:
        hold = await self.one(tenant_id, pending_id)
        if hold.state is HoldState.PENDING:
            return hold
        code = _ENDS.get(hold.state)
        raise _decided() if code is None else GatewayError(code, code.hint)

    async def _newest_settings(self, hold: StoredHold) -> bytes:
        return await self.settings.document(hold.tenant_id) or hold.settings


def _body(hold: StoredHold) -> bytes:
    return hold.settings + hold.sealed_request


def _state_of(code: ErrorCode | None) -> HoldState:
    if code is None:
        return HoldState.ANSWERED
    return HoldState.DENIED if code is ErrorCode.ERR_HOLD_DENIED else HoldState.FAILED


def _state_after(error: BaseException) -> HoldState:
    """Return where a request stands whose decision was not taken, as far as is known."""
    if isinstance(error, EnclaveError):
        return _AFTER.get(error.code, HoldState.PENDING)
    return HoldState.PENDING if isinstance(error, StoreError) else HoldState.UNKNOWN


def _decided() -> GatewayError:
    return GatewayError(
        ErrorCode.ERR_REQUEST_INVALID,
        "pending_id: a request that waits expected, this one was decided.",
        param="pending_id",
    )


def _told(error: LatensgateError) -> GatewayError:
    return GatewayError(error.code, error.code.hint)
