"""Every snippet, table row and link of docs/sdk.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_stack import GatewayStack, gateway_stack
from latensgate.client import ClientOptions
from latensgate.errors import error_class
from latensgate_shared.errors import ErrorCode
from latensgate_sim.dev_stack import StackOptions
from paths import REPOSITORY

PAGE = (REPOSITORY / "docs/sdk.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SAID = (
    r"sha384:[0-9a-f]{96} aud_[0-9a-f]{16}\nsimulated",
    r"^simulated \S+ \S+\nsha384:[0-9a-f]{96} xwing ",
    r"^claude-3.5-sonnet$",
    r"answered \{.*\} False",
    r"^ERR_PII_HARD_FAIL False refused$",
    r"Hello",
    r"(aud_[0-9a-f]{16} .*\n){2}",
)
"""What each of them prints, in their order."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    options = StackOptions(model="scripted", port=0)
    with gateway_stack(tmp_path_factory.mktemp("sdk"), options) as running:
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
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SAID[number], done.stdout, re.MULTILINE), done.stdout


def test_every_error_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (`ERR.*`) \| (yes|no) \|$", PAGE, re.MULTILINE)
    told = {
        code: (name, retry == "yes")
        for name, codes, retry in rows
        for code in re.findall(r"\w+", codes)
    }
    assert told == {
        code.name: (
            error_class(code, code.http_status).__name__,
            # The client has sealed anew once already: another try is of no use.
            code.retryable and code is not ErrorCode.ERR_KEY_STALE,
        )
        for code in ErrorCode
    }


def test_every_option_is_in_the_table() -> None:
    table = PAGE.partition("## Options")[2].partition("## Receipts")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    options = {*ClientOptions.__annotations__, "api_key", "base_url", "http_client"}
    assert told == options - {"default_query"}  # there, and refused with every request


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert [link for link in links if not (REPOSITORY / "docs" / link).exists()] == []
