"""Proof that the attack tests can fail: each defence is taken out once, and its test must notice.

    python tests/attacks/mutants.py            every mutant; some minutes
    python tests/attacks/mutants.py replay kms only those whose name holds one of the words
    ... --no-baseline                          without running every test unchanged first

The packages are copied to a temporary folder and put in front of the installed ones by an
environment of its own, so that both the test and the enclave process it starts, which ignores every
other way of choosing code, run the changed copy. The table is ``mutants.toml``. Every test is run
without a change first and must pass.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {
    "latensgate_shared": "shared",
    "latensgate_enclave": "enclave",
    "latensgate": "sdk/python",
    "latensgate_parent": "parent",
}
TIMEOUT_S = 240


class StaleError(Exception):
    """An entry of the table that says nothing: its place is gone, or the code does not load."""


@dataclass(frozen=True)
class Edit:
    """One place that is replaced."""

    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """Change the text of the file.

        Raises:
            StaleError: The place is gone: find where the defence stands now.
        """
        if self.old not in text:
            raise StaleError(f"{self.file} no longer holds {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutant:
    """A defence that is taken out, and the test that must fail then.

    Attributes:
        name: Of the defence.
        test: ``file::test`` below tests/attacks.
        edits: All of them together take the defence out: some stand twice.
    """

    name: str
    test: str
    edits: tuple[Edit, ...]


def load_mutants() -> list[Mutant]:
    """Read the table."""
    table = tomllib.loads((REPOSITORY / "tests/attacks/mutants.toml").read_text())
    return [
        Mutant(entry["name"], entry["test"], tuple(Edit(**edit) for edit in entry["edit"]))
        for entry in table["mutant"]
    ]


class Lab:
    """Copies of the packages, and an environment that runs them."""

    def __init__(self, folder: Path) -> None:
        self.code = folder / "code"
        self._environment = folder / "environment"
        for package, parent in PACKAGES.items():
            source = REPOSITORY / parent / package
            shutil.copytree(
                source, self.code / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        # Beside the package, where the simulator looks for it.
        shutil.copyfile(REPOSITORY / "enclave/policy.toml", self.code / "policy.toml")
        venv.create(self._environment, with_pip=False, symlinks=True)
        site = next(self._environment.glob("lib/python*/site-packages"))
        installed = sysconfig.get_path("purelib")
        own = [str(self.code), str(REPOSITORY / "sim"), installed]
        (site / "mutants.pth").write_text("\n".join(own))

    def _run(self, *arguments: str) -> tuple[int, str]:
        finished = subprocess.run(
            [str(self._environment / "bin/python"), "-B", *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
        return finished.returncode, finished.stdout.decode()

    def complaint(self, test: str) -> str | None:
        """Run one test against the copies; return why it failed, or None."""
        options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
        status, output = self._run("-m", "pytest", *options, f"tests/attacks/{test}")
        if status == 0:
            return None
        reasons = [line for line in output.splitlines() if line.startswith("E  ")]
        if status != 1 or not reasons:
            raise StaleError(f"{test} did not run:\n{output}")
        return reasons[0].removeprefix("E").strip()

    def notices(self, mutant: Mutant) -> str | None:
        """Take the defence out, run the test, put the defence back."""
        originals = {edit.file: (self.code / edit.file).read_text() for edit in mutant.edits}
        try:
            for edit in mutant.edits:
                self._apply(edit)
            self._must_import()
            return self.complaint(mutant.test)
        finally:
            for file, text in originals.items():
                (self.code / file).write_text(text)

    def _apply(self, edit: Edit) -> None:
        path = self.code / edit.file
        path.write_text(edit.applied(path.read_text()))

    def _must_import(self) -> None:
        """A change that stops the enclave from starting would prove nothing."""
        modules = "latensgate_enclave.__main__, latensgate.client, latensgate_parent.app"
        status, output = self._run("-c", f"import {modules}")
        if status:
            raise StaleError(f"the changed code does not load:\n{output}")


def main(words: list[str]) -> int:
    """Run the mutants; 1 if a test passes without its defence, or fails with all of them."""
    asked = [word for word in words if word != "--no-baseline"]
    chosen = [
        each for each in load_mutants() if not asked or any(word in each.name for word in asked)
    ]
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="latensgate-mutants-") as folder:
        lab = Lab(Path(folder))
        wrong += [
            f"{test} fails as it is: {complaint}"
            for test in sorted({each.test for each in chosen if asked == words})
            if (complaint := lab.complaint(test))
        ]
        for each in chosen:
            started = time.monotonic()
            try:
                complaint = lab.notices(each)
                verdict = f"noticed: {complaint}" if complaint else "NOT NOTICED"
                wrong += [] if complaint else [f"{each.name} is not noticed"]
            except StaleError as error:
                verdict = f"STALE: {error}"
                wrong.append(f"{each.name}: {error}")
            tell(f"{time.monotonic() - started:5.1f} s  {each.name}\n         {verdict}")
    tell(f"{len(chosen)} defences taken out; {len(wrong)} faults")
    for fault in wrong:
        tell(fault)
    return 1 if wrong else 0


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
