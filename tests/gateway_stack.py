"""The whole product for tests: parent, enclaves, simulated AWS, as in the developer's stack.

Clients are the real SDK and the real command line, with a configuration folder of their own.
"""

from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from rich.console import Console

from latensgate_sim.dev_stack import DevStack, StackOptions


@dataclass
class GatewayStack:
    """A running stack.

    Attributes:
        dev: Its processes.
        folder: Configuration and state of its clients.
    """

    dev: DevStack
    folder: Path

    @property
    def url(self) -> str:
        return self.dev.plan.url

    @property
    def tenant_id(self) -> str:
        assert self.dev.tenant is not None
        return self.dev.tenant.tenant_id

    @property
    def api_key(self) -> str:
        assert self.dev.tenant is not None
        return self.dev.tenant.api_key

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a client process."""
        return {**self.dev.client_environment, "LATENSGATE_CONFIG_DIR": str(self.folder)}

    @property
    def database(self) -> Path:
        return self.dev.plan.folder / "latensgate.db"

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Read the parent's database, as its operator can."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            return list(database.execute(query, values))

    def kill_parent(self) -> None:
        """Kill -9, and reap."""
        assert self.dev.gateway is not None
        self.dev.gateway.process.kill()
        self.dev.gateway.process.wait()

    def kill_enclave(self, number: int) -> None:
        """Kill -9, and reap."""
        process = self.dev.enclaves[number].process
        process.kill()
        process.wait()


@contextmanager
def gateway_stack(folder: Path, options: StackOptions | None = None) -> Generator[GatewayStack]:
    """Start a stack with the scripted model; `folder` gets its clients' configuration and state."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "LATENSGATE_CONFIG_DIR": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    wanted = options or StackOptions(model="scripted", port=0)
    quiet = Console(file=io.StringIO())
    with mock.patch.dict(os.environ, own), DevStack(wanted, quiet) as dev:
        yield GatewayStack(dev, folder)
