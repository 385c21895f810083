"""OpenAI's Node clients and the Vercel AI SDK through the proxy; each check is a test."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from typing import Any

import pytest

from outside_stack import VENV, needed
from outside_words import Words
from paths import REPOSITORY
from proxy_process import ProxyProcess

SCRIPTS = REPOSITORY / "tests/conformance/outside/node"
FOLDER = VENV / "outside_node"
CLIENT_CHECKS = (
    "models",
    "chat",
    "stream",
    "stream_helper",
    "stream_given_up",
    "tools",
    "tools_stream",
    "tool_runner",
    "structured_output",
    "embeddings",
    "responses",
    "responses_stream",
    "responses_tools",
    "unknown_model",
    "bad_request",
)
VERCEL_CHECKS = (
    "text",
    "stream",
    "tools",
    "object",
    "embeddings",
    "responses",
    "responses_stream",
)
CASES = [
    *(("clients.mjs", client, name) for client in ("openai6", "openai7") for name in CLIENT_CHECKS),
    *(("vercel.mjs", "", name) for name in VERCEL_CHECKS),
]


@cache
def _checks(script: str, client: str, told: str) -> dict[str, dict[str, Any]]:
    """Run a script once for all its checks."""
    needed(FOLDER / "node_modules", "make outside (it needs node and npm)")
    node = shutil.which("node")
    assert node is not None
    arguments = [client, told] if client else [told]
    ran = subprocess.run(
        [node, str(SCRIPTS / script), *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert found, ran.stderr
    return {one["name"]: one for one in found}


@pytest.mark.parametrize(("script", "client", "name"), CASES)
def test_check_passes(
    proxy: ProxyProcess, words: Words, script: str, client: str, name: str
) -> None:
    found = _checks(script, client, words.node(proxy.base_url))[name]
    assert found["passed"], found["error"]


@pytest.mark.parametrize(
    ("script", "names"), [("clients.mjs", CLIENT_CHECKS), ("vercel.mjs", VERCEL_CHECKS)]
)
def test_every_check_of_a_script_is_listed(script: str, names: tuple[str, ...]) -> None:
    text = (SCRIPTS / script).read_text().partition("const checks = {")[2].partition("\n};")[0]
    assert [
        line.split("(")[0].split(":")[0].split()[-1]
        for line in text.splitlines()
        if line[:2] == "  " and line[2:3].strip() and line[2] not in "})"
    ] == list(names)
