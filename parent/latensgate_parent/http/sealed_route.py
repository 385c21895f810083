"""Putting the sealed route together, and its life: what is done at start, and at the end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from latensgate_parent.http.backlog import BACKGROUND_ID, Backlog, Tasks
from latensgate_parent.http.body import Room
from latensgate_parent.http.hold_desk import HoldDesk
from latensgate_parent.http.hold_shelf import HoldShelf
from latensgate_parent.http.idempotency import Idempotency
from latensgate_parent.http.inference import Inference, InferenceParts
from latensgate_parent.http.receipts import ReceiptWriter
from latensgate_parent.http.settings_shelf import SettingsShelf
from latensgate_parent.limits import HOLD_ANSWER_KEPT_S, IDEMPOTENCY_EXPIRE_S
from latensgate_parent.store.interfaces import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from latensgate_parent.clock import Clock
    from latensgate_parent.http.auth import Authenticator
    from latensgate_parent.http.observer import Observer
    from latensgate_parent.http.rate_limit import RateLimiter
    from latensgate_parent.link.interfaces import Fleet, HoldingFleet
    from latensgate_parent.settings_forms import Network
    from latensgate_parent.store.interfaces import ReceiptStore, Store


@dataclass(frozen=True, slots=True)
class SealedRoute:
    """What the sealed route keeps over requests.

    Attributes:
        store: Where everything is kept.
        receipts: ``receipts.orphan`` is what the link calls with receipts nobody waits for.
        idempotency, backlog, tasks, room, observer, clock: Its parts.
        holder: Names this process.
        settings: Signed settings of tenants.
        holds: Keeps requests that wait for an approver.
    """

    store: Store
    receipts: ReceiptWriter
    idempotency: Idempotency
    backlog: Backlog
    tasks: Tasks
    room: Room
    observer: Observer
    clock: Clock
    holder: str
    settings: SettingsShelf
    holds: HoldShelf

    @classmethod
    def over(
        cls,
        store: Store,
        observer: Observer,
        clock: Clock = time.time,
        *,
        receipts: ReceiptStore | None = None,
    ) -> Self:
        """Build it over a store.

        Args:
            store: Where everything is kept.
            observer: Is told of what should not happen.
            clock: Seconds since 1970.
            receipts: The same store where receipts are written, if somebody counts there.
        """
        holder, backlog = uuid4().hex, Backlog(observer)
        idempotency = Idempotency(store, backlog, holder, clock)
        return cls(
            store=store,
            receipts=ReceiptWriter(receipts or store, backlog, idempotency, clock),
            idempotency=idempotency,
            backlog=backlog,
            tasks=Tasks(),
            room=Room(),
            observer=observer,
            clock=clock,
            holder=holder,
            settings=SettingsShelf(store),
            holds=HoldShelf(store, clock),
        )

    def inference(
        self,
        authenticator: Authenticator,
        limiter: RateLimiter,
        fleet: Fleet,
        *,
        monotonic: Clock = time.monotonic,
        trusted_proxies: Sequence[Network] = (),
    ) -> Inference:
        """Return the route; limiter and clock are those of all routes."""
        return Inference(
            InferenceParts(
                authenticator=authenticator,
                limiter=limiter,
                fleet=fleet,
                receipts=self.receipts,
                idempotency=self.idempotency,
                backlog=self.backlog,
                tasks=self.tasks,
                room=self.room,
                monotonic=monotonic,
                trusted_proxies=trusted_proxies,
                settings=self.settings,
                holds=self.holds,
            )
        )

    def desk(self, fleet: HoldingFleet) -> HoldDesk:
        """Return what answers for held requests."""
        return HoldDesk(
            self.store,
            fleet,
            self.settings,
            self.receipts,
            self.tasks,
            self.backlog,
            self.holder,
            self.clock,
        )

    async def start(self) -> int:
        """Do what an only parent does before it listens; return how many requests it gives up.

        What another process left running was dispatched by nobody who could still answer.

        Raises:
            StoreError: It must not listen.
        """
        given_up = await self.store.abandon(self.holder)
        return given_up + await self.store.abandon_holds(self.holder)

    async def expire_for_ever(self) -> None:
        """Remove expired records now and then; runs until it is cancelled."""
        while True:
            try:
                now_s = int(self.clock())
                await self.store.expire(now_s)
                await self.store.expire_holds(now_s - HOLD_ANSWER_KEPT_S)
            except StoreError:
                pass  # next time
            except Exception as error:  # noqa: BLE001  # a fault of ours must not end it
                self.observer.failed_unexpectedly(BACKGROUND_ID, error)
            await asyncio.sleep(IDEMPOTENCY_EXPIRE_S)

    async def finish(self, timeout_s: float) -> bool:
        """Wait for requests that run without their callers, then for writes; False: not in time.

        New requests must be refused by now (``Gateway.drain``).
        """
        ends_at = time.monotonic() + timeout_s
        done = await self.tasks.wait(timeout_s)
        return await self.backlog.wait(max(0.0, ends_at - time.monotonic())) and done
