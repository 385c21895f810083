"""One target under atheris: `run_target.py NAME [libFuzzer arguments]`."""

from __future__ import annotations

import sys

import atheris

INSTRUMENTED = [
    "latensgate_shared",
    "latensgate_enclave",
    "latensgate",
    "latensgate_eif",
    "fuzz_forms",
]

with atheris.instrument_imports(include=INSTRUMENTED):  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]  # no types
    from fuzz_targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)].run
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
