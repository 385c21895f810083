"""Which modules an enclave process has really loaded, and the committed list of them.

python tests/loaded_modules.py    writes enclave/loaded-modules.txt anew
"""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from latensgate_sim.world import World
from observed import Observed
from paths import REPOSITORY
from soak_driver import MIX, Driver, Tally
from stack import running_stack

LIST: Final = REPOSITORY / "enclave/loaded-modules.txt"
CALLS: Final = 120
OWN: Final = ("latensgate_shared", "latensgate_enclave")
STANDARD: Final = f"standard library, Python {sysconfig.get_python_version()}"
SECTIONS: Final = ("own", "third party", STANDARD)
NOT_OF_THE_IMAGE: Final = frozenset(
    {
        "__main__",  # the wrapper that looks
        "_distutils_hack",  # setuptools puts it into every development environment
        "typing_extensions",  # msgspec takes it where it is installed; core images have none
        "sitecustomize",
        "usercustomize",
    }
)
HEADER: Final = f"""\
# Every module that an enclave process has loaded once it has answered, streamed, refused and been
# cancelled. tests/architecture/test_image_modules.py compares a running process with this list.
# After a change that is meant: PYTHONPATH=tests .venv/bin/python tests/{Path(__file__).name}
"""


def loaded(folder: Path) -> Mapping[str, str | None]:
    """Start an enclave, put every kind of call to it, and return its modules and their files."""
    apart = Observed(folder / "enclave", seen=folder / "seen")
    with World() as world, running_stack(folder, world, apart) as stack:
        with stack.link() as link:
            stack.open_gate(link)
        tally = asyncio.run(Driver(stack.process.listen, CALLS, on_call=_ignore).run())
        missing = set(MIX) - set(tally.calls)
        if missing:
            raise ValueError(f"kinds of calls that did not come: {missing}")
        return apart.look(stack.process.process.pid)["modules"]


def _ignore(_: Tally) -> None:
    pass


def sections(
    modules: Iterable[str], left_out: frozenset[str] = NOT_OF_THE_IMAGE
) -> dict[str, list[str]]:
    """Sort modules into the sections of the list."""
    parts: dict[str, list[str]] = {name: [] for name in SECTIONS}
    for module in sorted(set(modules) - left_out):
        top = module.partition(".")[0]
        if top.startswith("__editable__"):
            continue  # how this repository's packages are installed for development
        if top in OWN:
            parts["own"].append(module)
        elif top in sys.stdlib_module_names:
            parts[STANDARD].append(module)
        else:
            parts["third party"].append(module)
    return parts


def written(parts: Mapping[str, Iterable[str]], header: str = HEADER) -> str:
    """Return the text of the list."""
    blocks = ["\n".join([f"# {name}", *modules]) for name, modules in parts.items()]
    return "\n\n".join([header.rstrip(), *blocks]) + "\n"


def committed() -> dict[str, list[str]]:
    """Read the list."""
    parts: dict[str, list[str]] = {}
    for block in LIST.read_text(encoding="ascii").split("\n\n")[1:]:
        title, *modules = block.strip().split("\n")
        parts[title.removeprefix("# ")] = modules
    return parts


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        LIST.write_text(written(sections(loaded(Path(scratch)))), encoding="ascii")
    print(f"written: {LIST.relative_to(REPOSITORY)}")  # noqa: T201  # a command
