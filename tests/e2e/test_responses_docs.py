"""Every snippet and link of docs/responses.md; what it lists is what the enclave admits."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_stack import GatewayStack, gateway_stack
from latensgate_enclave.responses_wire import ResponsesWire
from latensgate_sim.dev_stack import StackOptions
from paths import REPOSITORY

PAGE = (REPOSITORY / "docs/responses.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SAID = (
    r"^.+\ncompleted answered\n$",
    r"^.+\ncompleted answered\n$",
    r"^get_weather \['city'\]\nTool result: sunny\n$",
    r"^City\n$",
    r"^2 256\nanswered\n$",
)
"""What each of them prints, in their order."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    options = StackOptions(model="scripted", port=0)
    with gateway_stack(tmp_path_factory.mktemp("responses"), options) as running:
        yield running


def test_nothing_is_left_out() -> None:
    assert len(SNIPPETS) == len(SAID)


@pytest.mark.parametrize("number", range(len(SAID)))
def test_snippets(number: int, stack: GatewayStack, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SNIPPETS[number]],
        cwd=tmp_path,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SAID[number], done.stdout, re.DOTALL), done.stdout


def test_every_member_is_listed() -> None:
    honoured = PAGE.partition("### What is refused")[0]
    for name in ResponsesWire.__struct_fields__:
        assert re.search(rf"`{name}\b", honoured), name


def test_links() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (REPOSITORY / "docs" / target).exists(), target
