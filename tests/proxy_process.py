"""``latensgate proxy`` as a process, for tests that use it as an application would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx


@dataclass(frozen=True)
class ProxyProcess:
    """A running proxy.

    Attributes:
        base_url: As an OpenAI client takes it, ``/v1`` included.
        process: Prints JSON lines.
        first: What it said when it listened.
    """

    base_url: str
    process: subprocess.Popen[str]
    first: dict[str, Any]

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/v1")

    def status(self) -> dict[str, Any]:
        """Ask the status route."""
        return cast("dict[str, Any]", httpx.get(f"{self.root}/status", trust_env=False).json())

    def line(self) -> dict[str, Any]:
        """Read the next line that it prints."""
        assert self.process.stdout is not None
        return cast("dict[str, Any]", json.loads(self.process.stdout.readline()))


def start_proxy(environment: Mapping[str, str], *arguments: object) -> subprocess.Popen[str]:
    """Start ``latensgate proxy --simulated --json``."""
    command = [sys.executable, "-m", "latensgate.cli", "proxy", "--simulated", "--json"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        env=dict(environment),
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(sys.prefix),
    )


@contextmanager
def proxy_process(
    environment: Mapping[str, str], *arguments: object, port: int = 0
) -> Generator[ProxyProcess]:
    """Run a proxy on a free port until the end of the block."""
    process = start_proxy(environment, "--port", port, *arguments)
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first.get("event") == "listening", first
        yield ProxyProcess(first["address"], process, first)
    finally:
        process.terminate()
        process.communicate(timeout=20)
