"""The recipes for clients that every test run has: run as they stand on their page."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from gateway_stack import gateway_stack
from paths import REPOSITORY
from proxy_process import ProxyProcess, proxy_process

PAGE = REPOSITORY / "docs/recipes/clients.md"
ADDRESS = "http://127.0.0.1:8788"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Generator[ProxyProcess]:
    folder = tmp_path_factory.mktemp("recipes")
    with gateway_stack(folder) as stack, proxy_process(stack.environment) as running:
        yield running


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(PAGE.read_text()) if found == kind]


def test_python(proxy: ProxyProcess, tmp_path: Path) -> None:
    script = tmp_path / "recipe.py"
    script.write_text("\n".join(blocks("python")).replace(ADDRESS, proxy.root))
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "sky" in ran.stdout
    assert re.search(r"aud_[0-9a-f]{16} simulated", ran.stdout)


@pytest.mark.parametrize("number", [0, 1])
def test_curl(proxy: ProxyProcess, number: int) -> None:
    command = blocks("sh")[number].replace(ADDRESS, proxy.root)
    ran = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ("[DONE]" in ran.stdout) == (number == 1)


def test_every_page_is_in_the_index() -> None:
    index = (PAGE.parent / "README.md").read_text()
    for page in PAGE.parent.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index
