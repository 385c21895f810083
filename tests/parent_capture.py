"""Everything that the operator of a parent could look at: memory, files, log, metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx

from capture import Leak, search
from gateway_stack import GatewayStack


def parent_pid(stack: GatewayStack) -> int:
    assert stack.dev.gateway is not None
    return stack.dev.gateway.process.pid


def files(stack: GatewayStack) -> dict[str, bytes]:
    """Return everything that the parent has written: database, its log of writes, output."""
    folder = stack.dev.plan.folder
    found = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(name.endswith("latensgate.db-wal") for name in found)
    log = stack.dev.world.folder / "parent.log"
    return {**found, "log": log.read_bytes()}


def _opened(pid: int) -> dict[str, bytes]:
    """Return whatever else the process has open, files without a name among them."""
    found: dict[str, bytes] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            if entry.is_file():
                found[f"open: {entry.readlink()}"] = entry.read_bytes()
    return found


def metrics(stack: GatewayStack) -> bytes:
    return httpx.get(f"{stack.dev.plan.operator_url}/metrics", trust_env=False).content


def everything(stack: GatewayStack) -> dict[str, bytes]:
    """Return all but the memory, by place."""
    return {**files(stack), **_opened(parent_pid(stack)), "metrics": metrics(stack)}


def _memory(pid: int) -> Iterator[tuple[str, bytes]]:
    """Yield every private region of a process that can be read and written."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as held:
        for line in maps:
            place, rights, *_ = line.split()
            if not re.match("rw.p", rights):
                continue
            start, end = (int(part, 16) for part in place.split("-"))
            try:
                held.seek(start)
                yield place, held.read(end - start)
            except (OSError, ValueError):
                continue  # vvar and the like, or gone meanwhile


def memory_leaks(pid: int, secrets: list[str]) -> list[Leak]:
    """Search a process, region by region."""
    found: list[Leak] = []
    for place, data in _memory(pid):
        found += search({f"memory {place}": data}, secrets)
    return found
