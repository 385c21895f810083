"""The whole product with its enclave in a machine: SDK, parent, AF_VSOCK, image, simulated AWS."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from gateway_stack import GatewayStack
from latensgate import Latensgate, errors, receipt_of
from latensgate.cli.__main__ import cli
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate_sim.dev_stack import StackOptions
from latensgate_sim.vm.qemu import QEMU
from latensgate_sim.vm.stack import MachineStack, VirtualEnclave
from qemu_machines import ANSWER_TIMEOUT_S
from stack import MODEL


@pytest.fixture(scope="module")
def product(qemu: QEMU, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    folder = tmp_path_factory.mktemp("product")
    own = {
        "LATENSGATE_CONFIG_DIR": str(folder),
        "LATENSGATE_STATE_DIR": str(folder / "state"),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    options = StackOptions(model="scripted", enclaves=1, port=0)
    with mock.patch.dict(os.environ, own):
        for name in ("LATENSGATE_KEY", "LATENSGATE_TENANT", "LATENSGATE_BASE_URL"):
            os.environ.pop(name, None)
        with (
            (folder / "said").open("w") as said,
            MachineStack(qemu, options, Console(file=said)) as dev,
        ):
            yield GatewayStack(dev, folder)


@pytest.fixture
def client(product: GatewayStack) -> Iterator[Latensgate]:
    with Latensgate(base_url=product.url, simulated=True, timeout=ANSWER_TIMEOUT_S) as made:
        yield made


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(each) for each in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


def test_an_answer_with_its_proof(client: Latensgate) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Why is the sky blue?"}]
    )
    assert answer.choices[0].message.content == "You said: Why is the sky blue?"
    receipt = receipt_of(answer)
    assert (receipt.status, receipt.outcome) == ("simulated", "answered")


def test_a_streamed_answer(client: Latensgate) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "word " * 200}],
        stream=True,
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said.startswith("You said: word word")


def test_the_receipt_is_of_the_image(product: GatewayStack, tmp_path: Path) -> None:
    kept = tmp_path / "receipt.json"
    asked = run("chat", "--simulated", "--json", "--save-receipt", kept, "Hello.")
    assert asked.exit_code == DONE, asked.output
    checked: dict[str, Any] = json.loads(run("verify", kept, "--simulated", "--json").stdout)
    assert checked["verdict"] == "simulated"
    enclave = product.dev.enclaves[0]
    assert isinstance(enclave, VirtualEnclave)
    assert enclave.device.measurements.hex() == product.dev.deployed.measurements
    attested = json.loads(run("attest", "--simulated", "--json").stdout)
    assert product.dev.deployed.measurements["PCR0"] in json.dumps(attested)


def test_without_the_words_that_accept_a_simulator_nothing_is_sent(product: GatewayStack) -> None:
    before = product.rows("SELECT COUNT(*) FROM receipts")
    assert run("chat", "Hello.").exit_code == ExitCode.UNTRUSTED
    assert product.rows("SELECT COUNT(*) FROM receipts") == before


def test_another_image_is_refused(product: GatewayStack) -> None:
    text = (product.folder / "dev.toml").read_text()
    right = product.dev.deployed.measurements["PCR2"]
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    folder = product.folder / "other"
    folder.mkdir(mode=0o700)
    changed = folder / "dev.toml"
    changed.touch(mode=0o600)
    changed.write_text(text.replace(right, wrong))
    own = {"LATENSGATE_CONFIG_DIR": str(folder), "LATENSGATE_STATE_DIR": str(folder / "state")}
    with (
        mock.patch.dict(os.environ, own),
        Latensgate(base_url=product.url, simulated=True, timeout=ANSWER_TIMEOUT_S) as client,
        pytest.raises(errors.AttestationError),
    ):
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello."}]
        )


def test_a_killed_machine_is_told_as_an_enclave_that_is_gone_and_comes_back(
    product: GatewayStack, client: Latensgate
) -> None:
    product.dev.restart_enclave(0)
    product.dev.enclaves[0].wait_listening(ANSWER_TIMEOUT_S)
    assert product.dev.gateway is not None
    product.dev.gateway.wait_ready(ANSWER_TIMEOUT_S)
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Again?"}]
    )
    assert answer.choices[0].message.content == "You said: Again?"
