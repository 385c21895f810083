"""Machines of these tests. `make test-qemu` runs them; `make test` leaves this folder out.

Asked for, they run: a QEMU or an image that cannot be built is an error of every test, not a skip.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latensgate_eif.store import default_store
from latensgate_sim.vm.image import BuiltImage
from latensgate_sim.vm.qemu import QEMU, obtain_qemu
from latensgate_sim.world import World
from paths import REPOSITORY
from qemu_machines import simulated_image

collect_ignore_glob = [] if os.environ.get("LATENSGATE_QEMU") else ["test_*.py"]
TIMEOUT_S = 1_800
"""For one test with its boot, on a machine that is busy with other things."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


@pytest.fixture(scope="session")
def qemu() -> QEMU:
    return obtain_qemu(default_store(), REPOSITORY, say)


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World() as made:
        yield made


@pytest.fixture(scope="session")
def image(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuiltImage, Path]:
    """The image of ``world``, and the folder of its measured files."""
    return simulated_image(world, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def built(image: tuple[BuiltImage, Path]) -> BuiltImage:
    return image[0]


@pytest.fixture(scope="session")
def config(image: tuple[BuiltImage, Path]) -> Path:
    return image[1]
