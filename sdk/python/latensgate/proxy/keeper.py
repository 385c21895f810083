"""Keeps the attestation fresh while nobody asks, and notes when it cannot.

Requests renew it too, as in the SDK; the claim that both make keeps them from doing it at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import openai

from latensgate.errors import LatensgateClientError
from latensgate.exchange_steps import NeedAttested

if TYPE_CHECKING:
    from latensgate.proxy.state import ProxyState
    from latensgate.transport_async import AsyncTrust

LOOK_S: Final = 5.0
"""Between two looks at the keys' age."""
PAUSE_S: Final = 30.0
"""After an attestation that failed while nothing may be sealed to."""
PATIENCE_S: Final = 30.0
"""For one attestation."""


class Keeper:
    """Looks after one proxy's attestation."""

    def __init__(self, trust: AsyncTrust, state: ProxyState, look_s: float = LOOK_S) -> None:
        self._trust, self._state, self._look_s = trust, state, look_s
        self._not_before_s = 0.0

    async def prove(self) -> None:
        """Attest now, or fail.

        Raises:
            LatensgateClientError: The enclave was not proven to be one that is accepted.
            openai.APIConnectionError: The gateway was not reached.
        """
        await self._trust.proven(PATIENCE_S)
        self._state.proven()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._look_s)
            await self.look()

    async def look(self) -> None:
        """Attest again if it is time."""
        now_s = asyncio.get_running_loop().time()
        if self._trust.begins_renewal():
            self._trust.end_renewal(await self._try())
        elif self._trust.held(NeedAttested()) is None and now_s >= self._not_before_s:
            if await self._try() is not None:
                self._not_before_s = now_s + PAUSE_S
        elif self._state.fault is not None and not self._due():
            self._state.proven()  # a request renewed it meanwhile

    def _due(self) -> bool:
        cell, now = self._trust.exchange.cell, self._trust.exchange.attester.now()
        held = cell.peek()
        return held is None or held.due(now)

    async def _try(self) -> Exception | None:
        try:
            await self.prove()
        except LatensgateClientError as error:
            self._state.failed(error.error_code.name, error.message)
            return error
        except openai.APIConnectionError as error:
            name = type(error.__cause__).__name__
            self._state.failed("", f"the gateway was not reached ({name})")
            return error
        return None
