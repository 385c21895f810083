"""The gateway's pages in a real Chromium: they render, and no policy blocks a part of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway_stack import GatewayStack, gateway_stack
from latensgate_sim.dev_stack import StackOptions

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("Chromium is needed in CI: apt-get install chromium")
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium to test the pages")
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    options = StackOptions(model="scripted", port=0, enclaves=1)
    with gateway_stack(tmp_path_factory.mktemp("pages"), options) as running:
        yield running


def render(chromium: str, url: str, folder: Path) -> tuple[str, str]:
    """Return the text that a reader sees and what the browser's console says."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += [f"--user-data-dir={folder}", "--virtual-time-budget=3000", "--dump-dom", url]
    done = subprocess.run(
        [chromium, *words], capture_output=True, text=True, check=True, timeout=60
    )
    body = done.stdout.partition("<body")[2]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)), "\n".join(console)


def test_reference_page(stack: GatewayStack, chromium: str, tmp_path: Path) -> None:
    text, console = render(chromium, f"{stack.url}/", tmp_path)
    for expected in ("Quickstart", "POST /api/inference", "ERR_ENCLAVE_TIMEOUT", "Limits"):
        assert expected in text
    assert console == ""


def test_verify_page(stack: GatewayStack, chromium: str, tmp_path: Path) -> None:
    told = httpx.get(f"{stack.url}/api/attestation", trust_env=False).json()["attestation_hash"]
    text, console = render(chromium, f"{stack.url}/verify?hash={told}", tmp_path)
    assert "simulated" in text
    assert "PCR0" in text
    assert "proves nothing to you" in text
    assert console == ""


@pytest.mark.parametrize("wrong", ["sha384:00", "%3Cscript%3Ealert(1)%3C/script%3E"])
def test_verify_page_with_a_wrong_hash(
    stack: GatewayStack, chromium: str, tmp_path: Path, wrong: str
) -> None:
    text, console = render(chromium, f"{stack.url}/verify?hash={wrong}", tmp_path)
    assert "sha384" in text
    assert console == "" or "400" in console
