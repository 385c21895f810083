"""An image that finds names, in a machine: spaCy and its model under our init, over vsock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_client import Client, chat
from latensgate_eif.assemble import NAMES_MEMORY_BYTES
from latensgate_sim.vm.qemu import QEMU
from latensgate_sim.vm.stack import start_enclave
from latensgate_sim.world import World
from qemu_machines import opened, patient, simulated_image
from stack import Stack

MASK = {"rules": {"PERSON": {"prompt": {"action": "mask"}}}}


@pytest.fixture(scope="module")
def stack(qemu: QEMU, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with World() as world:
        built, config = simulated_image(world, tmp_path_factory.mktemp("names"), names=True)
        assert built.image.default_memory_bytes == NAMES_MEMORY_BYTES
        enclave = start_enclave(qemu, world, built, "names", world.tunnel.path)
        try:
            yield opened(world, enclave, config)
        finally:
            enclave.stop()


def test_names_are_masked_before_the_model_sees_them(stack: Stack) -> None:
    text = "Please write to Angela Merkel about the invoice."
    with patient(Path(stack.process.listen)) as link:
        client = Client.attest(stack, link)
        answer = client.send(link, client.seal(chat(text), client.fields(policy=MASK)))
    assert answer.code is None
    (sent,) = stack.world.home.bedrock.seen
    assert b"about the invoice" in sent
    assert b"Merkel" not in sent
