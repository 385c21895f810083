"""Tenant settings and surrogates through the whole product: command line, parent, enclave, SDK."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from gateway_stack import GatewayStack, gateway_stack
from latensgate import Latensgate
from latensgate.errors import LatensgateClientError
from latensgate_parent.limits import SETTINGS_REMEMBERED_S
from settings_examples import Root

EMAIL = "ann.smith@example.com"
DRAFT = """
[policy.rules.EMAIL_ADDRESS]
"*" = { action = "pseudonymise" }
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    with gateway_stack(tmp_path_factory.mktemp("policy")) as made:
        yield made


def run(stack: GatewayStack, *words: str) -> dict[str, object]:
    """Run a command as a person's script does; its JSON."""
    environment = {**os.environ, **stack.environment, "LATENSGATE_TENANT": stack.tenant_id}
    command = [sys.executable, "-m", "latensgate.cli.__main__", *words, "--json"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    told: dict[str, object] = json.loads(done.stdout)
    return {**told, "code": done.returncode}


def client(stack: GatewayStack, folder: Path, **more: object) -> Latensgate:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENSGATE_CONFIG_DIR", str(stack.folder))
        patch.setenv("LATENSGATE_STATE_DIR", str(folder))
        return Latensgate(simulated=True, base_url=stack.url, api_key=stack.api_key, **more)  # type: ignore[arg-type]  # by the tests


def replace_stored(stack: GatewayStack, document: bytes, version: int) -> None:
    """What a malicious operator can do to the parent's database."""
    with closing(sqlite3.connect(stack.database)) as database, database:
        database.execute("delete from tenant_settings")
        database.execute(
            "insert into tenant_settings (tenant_id, version, document, stored_at_s)"
            " values (?,?,?,1)",
            (stack.tenant_id, version, document),
        )


def test_settings_from_the_command_line_to_the_receipt(
    running: GatewayStack, tmp_path: Path
) -> None:
    root = run(running, "tenant", "init")
    (running.folder / f"{running.tenant_id}.policy.toml").write_text(DRAFT)
    assert run(running, "policy", "check")["code"] == 0
    assert run(running, "policy", "sign")["code"] == 0
    assert run(running, "policy", "push")["pushed"] is True
    shown = run(running, "policy", "show")
    assert (shown["code"], shown["verdict"]) == (0, "verified")
    tenant_root = str(root["tenant_root"])

    with client(running, tmp_path / "state", tenant_root=tenant_root) as asking:
        model = asking.models.list().data[0].id
        asks: ChatCompletionUserMessageParam = {
            "role": "user",
            "content": f"Please repeat {EMAIL} to me",
        }
        answer = asking.chat.completions.create(model=model, messages=[asks])
        assert EMAIL in str(answer.choices[0].message.content)
        pieces = asking.chat.completions.create(model=model, messages=[asks], stream=True)
        streamed = "".join(each.choices[0].delta.content or "" for each in pieces if each.choices)
        assert EMAIL in streamed

    pins = list((tmp_path / "state" / "settings").iterdir())
    assert [pin.read_text() for pin in pins] == ["1"]

    for document, version in (
        (Root().document(running.tenant_id, 5), 5),  # self-made
        (b"{}", 9),
    ):
        replace_stored(running, document, version)
        time.sleep(SETTINGS_REMEMBERED_S + 0.2)  # the parent's own memory
        with (
            client(running, tmp_path / f"state{version}", tenant_root=tenant_root) as asking,
            pytest.raises(LatensgateClientError, match="SETTINGS"),
        ):
            asking.chat.completions.create(model=model, messages=[asks])
