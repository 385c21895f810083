"""The same behaviour with every major version of the official client that is supported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paths import REPOSITORY

VERSIONS = {"openai1_60": "1.60.0", "openai1": "1.109.1", "openai2": "2.54.0"}
TESTS = (
    "tests/sdk/test_sdk_chat.py",
    "tests/sdk/test_sdk_helpers.py",
    "tests/sdk/test_sdk_operations.py",
)


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.timeout(600)
def test_the_chat_tests_pass_with(name: str) -> None:
    folder = Path(sys.prefix) / name
    if not folder.exists():
        message = f"{folder} not found; `make openai` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    said = subprocess.run(
        [sys.executable, "-c", "import openai; print(openai.__version__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == VERSIONS[name]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:cov", *TESTS],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:]
