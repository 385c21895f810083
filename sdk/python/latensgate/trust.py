"""What a client shares with its copies: exchange, carrier, state file, data keys."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

from latensgate.carrier import ClientT
from latensgate.data_keys import DataKey, DataKeyError, checked_data_key
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import Generator

    from latensgate.attested import Attested
    from latensgate.carrier import Carrier
    from latensgate.data_keys import DataKeyProvider
    from latensgate.exchange import Exchange
    from latensgate.exchange_steps import NeedAttested, NeedDataKey, Received, Send
    from latensgate.state import StateFiles

log: Final = logging.getLogger("latensgate")
"""Event words and error codes alone; never content, headers or keys."""


class RenewalCancelledError(Exception):
    """A renewal that was ended from outside, with its event loop for example."""


@dataclass(frozen=True, slots=True)
class TrustParts:
    """What does not depend on who drives the exchange.

    Attributes:
        exchange: Rules and memory.
        root: The gateway's address without a slash at its end.
        state: Where verified attestations are kept, or None.
        provider: Makes data keys, or None.
    """

    exchange: Exchange
    root: str
    state: StateFiles | None = None
    provider: DataKeyProvider | None = None


class Trust(Generic[ClientT]):
    """One client's trust, whoever drives it.

    Attributes:
        parts: Shared with whoever carries for it.
        carrier: Carries sealed bytes.
    """

    def __init__(self, parts: TrustParts, carrier: Carrier[ClientT]) -> None:
        self.parts = parts
        self.carrier = carrier

    @property
    def client(self) -> ClientT:
        """The HTTP client that carries."""
        return self.carrier.client

    @property
    def exchange(self) -> Exchange:
        """Rules and memory."""
        return self.parts.exchange

    @property
    def root(self) -> str:
        """The gateway's address without a slash at its end."""
        return self.parts.root

    def in_this_process(self) -> None:
        """Leave behind what belongs to threads that were not forked with this process."""
        self.exchange.cell.in_this_process()
        self.exchange.store.in_this_process()
        self.exchange.held.in_this_process()
        pin = self.exchange.sealer.options.pin
        if pin is not None:
            pin.in_this_process()

    def held(self, need: NeedAttested) -> Attested | None:
        """Return what may be sealed to now, without asking anybody."""
        attester = self.exchange.attester
        return self.exchange.cell.usable(attester.now(), need.stale)

    def restored(self, need: NeedAttested) -> Attested | None:
        """Take what an earlier process has verified; it is verified again."""
        if (
            self.parts.state is None
            or need.stale is not None
            or self.exchange.cell.peek() is not None
        ):
            return None
        attester = self.exchange.attester
        found = self.parts.state.load(
            policy=attester.policy, admitted=attester.admitted, at=attester.now()
        )
        return None if found is None else self.exchange.cell.keep(found)

    def kept(self, attested: Attested, stale: Attested | None) -> Attested:
        """Hold what was verified, here and on disk, in place of what was found stale."""
        if self.parts.state is not None:
            if stale is not None:
                self.parts.state.forget(stale)
            self.parts.state.store(attested)
        return self.exchange.cell.keep(attested)

    def made_data_key(self, need: NeedDataKey) -> DataKey:
        """Make a data key.

        Raises:
            DataKeyError: There is no provider, or it has none.
        """
        if self.parts.provider is None:
            raise DataKeyError("KMS envelope: a data_key_provider expected with kms_key_arn")
        try:
            made: object = self.parts.provider.data_key(need.key_arn, need.context)
        except LatensgateError:
            raise
        except Exception as error:  # the application's own code; nothing was sent
            name = type(error).__name__
            raise DataKeyError(f"KMS envelope: the data_key_provider failed ({name})") from error
        return checked_data_key(made)

    def begins_renewal(self) -> bool:
        """Whether this caller is the one to attest again in the background."""
        return self.exchange.cell.begin_renewal(self.exchange.attester.now())

    def end_renewal(self, failed: BaseException | None) -> None:
        """Say how the renewal went; requests go on under the old keys as long as they may."""
        if failed is not None:
            log.warning("attestation not renewed: %s", type(failed).__name__)
        self.exchange.cell.end_renewal(self.exchange.attester.now(), failed=failed is not None)


def concluded(talk: Generator[Send, Received, Attested], received: Received) -> Attested:
    """Give an attestation its one answer.

    Raises:
        LatensgateError: It was not good.
    """
    try:
        talk.send(received)
    except StopIteration as end:
        attested: Attested = end.value
        return attested
    raise TypeError("an attestation is one question")
