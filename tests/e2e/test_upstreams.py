"""An OpenAI-compatible upstream through the whole product: SDK, gateway, enclave, TLS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from gateway_stack import GatewayStack, gateway_stack
from latensgate_sim.dev_stack import StackOptions
from latensgate_sim.openai_upstream import OpenAIUpstream

MODEL = "house-model"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[GatewayStack]:
    folder = tmp_path_factory.mktemp("upstreams")
    options = StackOptions(model="scripted", port=0, enclaves=1, openai_aliases={MODEL: "scripted"})
    with gateway_stack(folder, options) as made:
        yield made


def upstream(stack: GatewayStack) -> OpenAIUpstream:
    server = stack.dev.world.config.openai
    assert server is not None
    return server


def chat(stack: GatewayStack, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "latensgate.cli", "chat", "--simulated", "--model", MODEL]
    return subprocess.run(
        [*command, *words],
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_chat_is_answered_by_the_upstream_with_the_pushed_key(stack: GatewayStack) -> None:
    done = chat(stack, "Hello there")
    assert "You said: Hello there" in done.stdout
    assert upstream(stack).keys_seen[-1] == f"Bearer {upstream(stack).key}"


def planted(stack: GatewayStack) -> list[Path]:
    """Return files of the parent, and of what enclaves and parent wrote, that hold the key."""
    secret = upstream(stack).key.encode()
    folder = stack.dev.world.folder
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink() and secret in file.read_bytes()
    ]


def test_the_key_is_nowhere_on_the_parents_disk_nor_in_any_log(stack: GatewayStack) -> None:
    chat(stack, "Hello")
    assert planted(stack) == []
    control = stack.dev.plan.folder / "control"  # a leak would be found
    control.write_text(f"x{upstream(stack).key}x")
    assert planted(stack) == [control]
    control.unlink()


def test_a_restarted_enclave_has_forgotten_it_and_says_what_to_do(stack: GatewayStack) -> None:
    stack.dev.restart_enclave(0)
    assert stack.dev.gateway is not None
    stack.dev.gateway.wait_ready()
    done = chat(stack, "Hello")
    assert done.returncode != 0
    assert "upstream-credential push" in done.stdout + done.stderr
    stack.dev.push_upstream_credential()
    assert "You said: Hello" in chat(stack, "Hello").stdout
