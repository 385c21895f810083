"""What a running proxy shows: a live table on a terminal, plain lines, or JSON for programs."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from queue import Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from latensgate.cli.simple import count, facts_table, list_table, plain, short_hash
from latensgate.cli.simple import state as shown_state
from latensgate.cli.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from latensgate.proxy.state import ProxyState, Served
    from latensgate_shared.strict_json import JSONObject

_REFRESH_S: Final = 0.5
_SHOWN_RECEIPTS: Final = 8
_UNREAD_MAX_COUNT: Final = 1_024


class JSONLines:
    """One JSON value a line, for programs.

    A thread of its own writes them: a program that stops reading must not stop the proxy. What it
    leaves unread beyond ``_UNREAD_MAX_COUNT`` lines is dropped, the newest first.
    """

    def __init__(self) -> None:
        self._listens = False
        self._unread: Queue[JSONObject] = Queue(_UNREAD_MAX_COUNT)
        Thread(target=self._write, name="lines", daemon=True).start()

    def _write(self) -> None:
        with suppress(OSError, ValueError):  # the program went away: requests go on
            while True:
                sys.stdout.write(json.dumps(self._unread.get()) + "\n")
                sys.stdout.flush()

    def _tell(self, value: JSONObject) -> None:
        with suppress(Full):
            self._unread.put_nowait(value)

    def listening(self, proxy: ProxyState, where: str) -> None:
        """Say where it listens and what was proven."""
        self._listens = True
        self._tell({"event": "listening", "address": where, **proxy.snapshot()})

    def served(self, request: Served) -> None:
        """A request ended."""
        self._tell({"event": "request", **request.to_json()})

    def attestation(self, state: ProxyState) -> None:
        """The attestation, or a fault of it, changed."""
        if not self._listens:
            return
        told = state.snapshot()
        kept = {name: told[name] for name in ("status", "ready", "attestation", "fault")}
        self._tell({"event": "attestation", **kept})

    async def run(self) -> None:
        """Nothing needs to be drawn."""


class PlainLines:
    """A line where it begins, and one whenever the attestation changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def listening(self, proxy: ProxyState, where: str) -> None:
        """Say where it listens and what was proven."""
        self._last = _sentence(proxy)
        self._say(f"Listening on {where}")
        self._say(self._last)

    def served(self, request: Served) -> None:
        """Not told: a log of requests is a log of habits."""

    def attestation(self, state: ProxyState) -> None:
        """Tell a change; a renewal that brought the same word is none."""
        said = _sentence(state)
        if said != self._last and self._last:
            self._last = said
            self._say(said)

    async def run(self) -> None:
        """Nothing needs to be drawn."""

    def _say(self, text: str) -> None:
        self._console.print(Text(printable(text)), soft_wrap=True)


class LiveView:
    """The state on a terminal, drawn anew when it changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._proxy: ProxyState | None = None
        self._where = ""
        self._changed = True

    def listening(self, proxy: ProxyState, where: str) -> None:
        """Show it from now on."""
        self._proxy, self._where = proxy, where

    def served(self, request: Served) -> None:
        """Show it with the next drawing."""
        del request
        self._changed = True

    def attestation(self, state: ProxyState) -> None:
        """Show it with the next drawing."""
        del state
        self._changed = True

    async def run(self) -> None:
        """Draw until cancelled."""
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            ticks = 0
            while True:
                if self._proxy is not None and (self._changed or not ticks % 10):
                    self._changed = False
                    live.update(screen(self._proxy, self._where), refresh=True)
                ticks += 1
                await asyncio.sleep(_REFRESH_S)


def screen(proxy: ProxyState, where: str) -> RenderableType:
    """Return the whole picture."""
    parts: list[RenderableType] = [Text("Latensgate proxy", "bold"), _facts(proxy, where)]
    if proxy.fault is not None:
        parts.append(plain(f"Not renewed: {proxy.fault.message}", "bold red"))
    if not proxy.ready:
        parts.append(Text("No enclave is proven: requests are refused with 503.", "bold red"))
    if proxy.receipts:
        parts.append(_receipts(proxy))
    parts.append(Text("Ctrl-C stops it.", "dim"))
    return Group(*parts)


def _facts(proxy: ProxyState, where: str) -> Table:
    rows: list[tuple[str, RenderableType]] = [
        ("listening", plain(where)),
        ("gateway", plain(proxy.trust.root)),
        ("status", shown_state(proxy.word)),
    ]
    proof = proxy.proof
    if proof is not None:
        ends = proof.sealable_until.astimezone().strftime("%H:%M:%S")
        rows += [
            ("attestation", plain(short_hash(proof.attestation_hash))),
            ("image (PCR0)", plain(short_hash(proof.enclave_image_sha))),
            ("policy", plain(short_hash(proof.attestation.manifest.policy_digest))),
            ("sealing", plain(f"{proof.suite}, until {ends}")),
        ]
    ended = sum(n for (_, outcome), n in proxy.counts.items() if outcome != "answered")
    rows.append(("requests", plain(f"{count(proxy.total)}, {count(ended)} of them not answered")))
    return facts_table(rows)


def _receipts(proxy: ProxyState) -> Table:
    table = list_table("receipt", "request", "outcome", "ms", "tokens")
    for one in list(proxy.receipts)[:_SHOWN_RECEIPTS]:
        table.add_row(
            plain(one.receipt_id or ""),
            plain(one.route),
            shown_state(one.outcome),
            str(one.took_ms),
            str(one.usage.get("total_tokens", "")),
        )
    return table


def _sentence(proxy: ProxyState) -> str:
    proof = proxy.proof
    if proof is None or not proxy.ready:
        why = "" if proxy.fault is None else f" ({proxy.fault.message})"
        return f"Unproven: requests are refused with 503{why}"
    late = "" if proxy.fault is None else f"; not renewed: {proxy.fault.message}"
    return f"Sealed to an enclave that is {proof.status}: {proof.attestation_hash}{late}"
