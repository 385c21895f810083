"""Which modules a worker loads to find names, and the committed list of them.

python tests/names_modules.py    writes enclave/loaded-modules-ner.txt anew

Needs requirements/ner.lock (make test-ner installs it). The image carries what the list names and
no more of spaCy, so the worker is looked at as it is there: without the metadata of installed
distributions, where libraries would look for plug-ins.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from latensgate_enclave.ner.nest import worker_command
from loaded_modules import NOT_OF_THE_IMAGE, sections, written
from paths import REPOSITORY

LIST: Final = REPOSITORY / "enclave/loaded-modules-ner.txt"
HEADER: Final = """\
# Every module that the process with the model for names has loaded once it has found some. Flavour
# ner of the image has these and no more of spaCy. tests/ner compares a running one with this list.
# After a change that is meant: PYTHONPATH=tests .venv/bin/python tests/names_modules.py
"""
TEXTS: Final = (
    "Angela Merkel met Barack Obama in Berlin on Monday, at 9 o'clock, for $5 million.",
    "Müller & Söhne GmbH, 東京, Владимир, 🙂 https://example.com/a?b=c a@b.example 1,5 %",
    "don't can't I'm he's U.S. Dr. Smith's co-worker\n\n\tOne.Two...Three -- 'four' \"five\"",
    "word " * 2_000,
    " ",
    "",
)
_LOOK: Final = """
import importlib.metadata, json, sys
importlib.metadata.distributions = lambda **_: iter(())
from pathlib import Path
from latensgate_enclave.ner import worker
find = worker.load_finder(Path(sys.argv[1]), sys.argv[2])
for text in json.loads(sys.argv[3]):
    find(text)
print(json.dumps({
    name: getattr(module, "__file__", None)
    for name, module in sys.modules.items() if module is not None
}))
"""


def worker_modules() -> dict[str, str | None]:
    """Return what a worker has loaded, with its files.

    Raises:
        FileNotFoundError: The model is not installed.
    """
    command = worker_command()
    if command is None:
        raise FileNotFoundError("requirements/ner.lock is not installed")
    look = [sys.executable, "-I", "-B", "-c", _LOOK, *command[-2:], json.dumps(TEXTS)]
    done = subprocess.run(look, check=True, stdout=subprocess.PIPE, env={"HOME": "/nonexistent"})
    modules: dict[str, str | None] = json.loads(done.stdout)
    return modules


def listed(modules: dict[str, str | None]) -> str:
    """Return the text of the list: files of others, and the standard library."""
    standard = sys.stdlib_module_names
    found = [
        name
        for name, file in modules.items()
        if file is not None or name.partition(".")[0] in standard
    ]
    of_machine = {name for name in found if name.startswith("_sysconfigdata")}
    left_out = NOT_OF_THE_IMAGE - {"typing_extensions"} | of_machine
    return written(sections(found, left_out), HEADER)


if __name__ == "__main__":
    LIST.write_text(listed(worker_modules()), encoding="ascii")
    print(f"written: {LIST.relative_to(REPOSITORY)}")  # noqa: T201  # a command
