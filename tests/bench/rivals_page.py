"""The section of docs/benchmarks.md about other gateways, and its plot."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from rivals_plot import Panel, plot
from rivals_upstream import TOKENS

from paths import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "benchmarks.md"
PLOT: Final = REPOSITORY / "docs" / "benchmarks-rivals.svg"
BEGIN: Final = "<!-- begin: written by make bench-rivals -->"
END: Final = "<!-- end of make bench-rivals -->"
_Row: TypeAlias = tuple[str, list[str]]
METHOD: Final = """\
**What is sent.** A prompt of 1 KB, answered with 64 tokens, by one fake server of OpenAI's
interface over TLS: the same bytes for all. CPU and times are of one request at a time. Tokens
come as fast as they leave, each in a write of its own; or paced, one each 4 ms, as models do: then
CPU is mostly that of waking up, and what it costs depends on the machine. First tokens are of paced
streams. Rounds are interleaved. CPU is that of the quietest of many bursts of four, alike for all,
because neighbours only add; of a streamed token it is a stream of 64 tokens less one of 4, divided
by 60. "Added" is the gateway's p50 (p99) less the direct path's p50 (p99) of the same run. Resident
memory is the sum of all processes after the load.

**What each does.** Latensgate: parent and enclave, two processes; PII scan of prompt and answer
with the shipped policy, opening and sealing, a signed receipt, rate limit and key check. It is the
whole product, and nothing is taken off. The enclave is a process here, in no virtual machine: this
is no Nitro hardware. LiteLLM and Portkey: one worker each, no database, no plug-ins; LiteLLM
checks its key. They do not seal, scan, sign or keep a receipt: answers are plain text on the way.

**What is left out.** Sealing and opening cost a client of Latensgate CPU that no gateway has: its
requests are sealed before anything is timed, and its answers are not opened. Requests reach every
gateway over plain HTTP on loopback. With 32 streams at once gateways, fake server and client share
the cores, and Latensgate has two processes to spread over them: that row is an order of magnitude.
Portkey runs over @hono/node-server 1.13.8: over the newest one of the range that it names, it
answers streams of such a server with 500. Of its added time to the first token, 25 ms are a pause
that it makes on purpose before the first event of a stream.
"""


@dataclass(frozen=True)
class Column:
    """The figures of one gateway, or of the direct path (no CPU, no processes).

    Attributes:
        whole_ms: A request, p50 and p99.
        first_ms: Until the first token, p50 and p99.
        streams_a_second: Of 64 tokens, 32 at once.
    """

    name: str
    version: str
    request_cpu_ms: float
    stream_cpu_ms: float
    token_cpu_us: float
    paced_cpu_us: float
    whole_ms: tuple[float, float]
    first_ms: tuple[float, float]
    streams_a_second: float
    rss_mib: float
    processes: int

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}".strip()


def rows(columns: Sequence[Column]) -> list[_Row]:
    """Return the table; the first column is the direct path."""
    direct, gateways = columns[0], columns[1:]

    def row(label: str, told: Callable[[Column], str], *, way: bool = False) -> _Row:
        return (label, [f"({told(direct)})" if way else "", *map(told, gateways)])

    return [
        row("CPU of a request, ms", lambda c: f"{c.request_cpu_ms:.2f}"),
        row("CPU of a stream of 64 tokens, ms", lambda c: f"{c.stream_cpu_ms:.2f}"),
        row("CPU of a streamed token, µs", lambda c: f"{c.token_cpu_us:.0f}"),
        row("CPU of a streamed token, paced, µs", lambda c: f"{c.paced_cpu_us:.0f}"),
        *_added("time of a request", [c.whole_ms for c in columns]),
        *_added("first token", [c.first_ms for c in columns]),
        row("streams a second, 32 at once", lambda c: f"{c.streams_a_second:.1f}", way=True),
        row("tokens a second, the same", lambda c: f"{c.streams_a_second * TOKENS:,.0f}", way=True),
        row("resident memory, MiB", lambda c: f"{c.rss_mib:.0f}"),
        row("processes", lambda c: str(c.processes)),
    ]


def _added(label: str, times_ms: Sequence[tuple[float, float]]) -> list[_Row]:
    """Return p50 and p99 less those of the direct path, which comes first."""
    made: list[_Row] = []
    for at, name in enumerate(("p50", "p99")):
        way_ms, *others_ms = (each[at] for each in times_ms)
        cells = [f"{each - way_ms:.2f}" for each in others_ms]
        made.append((f"{label}, added, {name}, ms", [f"({way_ms:.2f})", *cells]))
    return made


def panels(columns: Sequence[Column]) -> list[Panel]:
    """Return what the plot shows."""
    way_ms, gateways = columns[0].first_ms[0], columns[1:]
    names = [column.title for column in gateways]

    def panel(title: str, values: list[float]) -> Panel:
        return Panel(title, list(zip(names, values, strict=True)))

    return [
        panel("CPU of a request, ms", [c.request_cpu_ms for c in gateways]),
        panel("CPU of a streamed token, µs", [c.token_cpu_us for c in gateways]),
        panel("First token, added, p50, ms", [c.first_ms[0] - way_ms for c in gateways]),
        panel(
            "Streams a second, 32 at once (more is better)", [c.streams_a_second for c in gateways]
        ),
    ]


def section(columns: Sequence[Column], rounds: int) -> str:
    """Return the section between its markers."""
    lines = [BEGIN, "", "## beside other gateways", "", _surroundings(rounds), ""]
    lines += [f"![Latensgate, LiteLLM and Portkey]({PLOT.name})", ""]
    lines.append("| | " + " | ".join(column.title for column in columns) + " |")
    lines.append("|---" + "|---:" * len(columns) + "|")
    lines += [f"| {label} | " + " | ".join(cells) + " |" for label, cells in rows(columns)]
    return "\n".join([*lines, "", METHOD, END])


def _surroundings(rounds: int) -> str:
    """Describe where and when the figures were taken."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    node = subprocess.check_output(["node", "--version"], text=True).strip()
    today = datetime.now(tz=UTC).date().isoformat()
    return (
        f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, Node {node}, {today}; "
        f"{rounds} rounds; load of the machine {os.getloadavg()[2]:.1f} (15 minutes).\n"
        "Ratios within one run are what counts. In brackets: the direct path itself."
    )


def page_with(text: str, part: str) -> str:
    """Return the page with this section in place of the old one, or at its end."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and not end:
        raise SystemExit(f"{PAGE.name} has lost its marker {END}")
    return before + part + after if begin else f"{text.rstrip()}\n\n{part}\n"


def write_page(columns: Sequence[Column], rounds: int, *, only_print: bool) -> None:
    """Print the section, and write it and its plot."""
    part = section(columns, rounds)
    print(part)
    if not only_print:
        PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), part), encoding="utf-8")
        PLOT.write_text(plot(panels(columns)), encoding="utf-8")
