"""Our own stack for the comparison, with a fake upstream that every gateway shares."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

from cryptography.hazmat.primitives import serialization
from rich.console import Console

from gateway_stack import GatewayStack
from latensgate_sim.dev_stack import DevStack, StackOptions
from latensgate_sim.openai_upstream import HOST
from latensgate_sim.tls import EndpointCA

HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Upstream:
    """The fake one, running.

    Attributes:
        ca_path: Root of its certificate, PEM.
    """

    port: int
    ca_path: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/v1"


class RivalsStack(DevStack):
    """Parent, enclave and simulated AWS; the fake upstream stands where the simulated one would.

    Attributes:
        upstream: Once it has started.
    """

    upstream: Upstream

    def start_parent(self) -> None:
        """Start the upstream, lead the way to its host there, and start the parent."""
        port = self._life.enter_context(_upstream(self.world.ca, self.world.folder))
        self.upstream = Upstream(port, self.world.ca_path)
        settings = self.plan.settings.read_text(encoding="utf-8")
        was = f'"{HOST}:443" = "127.0.0.1:{self.world.ports[HOST]}"'
        assert was in settings
        changed = settings.replace(was, f'"{HOST}:443" = "127.0.0.1:{port}"')
        self.plan.settings.write_text(changed, encoding="utf-8")
        super().start_parent()


@contextmanager
def _upstream(ca: EndpointCA, folder: Path) -> Generator[int]:
    """Start the fake upstream with a certificate for its name and for 127.0.0.1."""
    issued = ca.issue([HOST])
    key_pem = issued.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate = folder / "rivals-upstream.pem"
    certificate.touch(mode=0o600)
    certificate.write_bytes(key_pem + issued.pem.encode("ascii"))
    command = [sys.executable, str(HERE / "rivals_upstream.py"), str(certificate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def rivals_stack(folder: Path, models: list[str]) -> Generator[tuple[GatewayStack, Upstream]]:
    """Start our stack; these models are answered by the fake upstream."""
    options = StackOptions(
        model="scripted",
        port=0,
        enclaves=1,
        openai_aliases={model: model for model in models},
        requests_per_minute=10_000_000,
    )
    own = {
        "LATENSGATE_CONFIG_DIR": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    quiet = Console(file=io.StringIO())
    with mock.patch.dict(os.environ, own), RivalsStack(options, quiet) as dev:
        yield GatewayStack(dev, folder), dev.upstream
