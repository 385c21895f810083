"""`make fuzz`: run every target for a while, keep the corpus, write down the branches reached.

Each target runs in a process of its own under atheris (libFuzzer), two at a time. New inputs that
reach new branches stay in `tests/fuzz/corpus/<target>/`; a crash is kept in `tests/fuzz/findings/`
and makes this command exit 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from fuzz_targets import TARGETS

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FINDINGS = HERE / "findings"
PARALLEL = 2
DOCUMENT = HERE.parent.parent / "docs" / "fuzzing.md"


class Summary(TypedDict):
    """Counts of one file in coverage's JSON report."""

    covered_branches: int
    num_branches: int


class Report(TypedDict):
    """One file in coverage's JSON report."""

    summary: Summary


def python(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run this interpreter with the test helpers on its path."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    return subprocess.run(command, check=False, capture_output=True, env=environment)


def run_target(name: str, seconds: int) -> bool:
    """Fuzz one target; return whether it survived.

    libFuzzer works in a scratch folder seeded from the corpus; afterwards only inputs that reach
    something new go back, so the committed corpus stays small.
    """
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(exist_ok=True)
    with TemporaryDirectory() as scratch:
        for number, seed in enumerate(TARGETS[name].seeds):
            Path(scratch, f"seed-{number}").write_bytes(seed)
        base = [str(HERE / "run_target.py"), name]
        flags = ["-max_len=4096", "-timeout=10", f"-artifact_prefix={FINDINGS}/{name}-"]
        fuzz = [*base, scratch, str(corpus), f"-max_total_time={seconds}", *flags]
        survived = python(*fuzz)
        log = FINDINGS / f"{name}.log"
        log.write_bytes(survived.stdout + survived.stderr)
        python(str(HERE / "replay.py"), name, scratch).check_returncode()
    print(f"{name}: {'survived' if survived.returncode == 0 else f'FAILED, see {log}'}")
    return survived.returncode == 0


def runs_of(name: str) -> str:
    """Return libFuzzer's own count of executions, from its last status line."""
    log = FINDINGS / f"{name}.log"
    if not log.exists():
        return "-"
    done = [line for line in log.read_text(errors="replace").splitlines() if "Done " in line]
    return done[-1].split("Done ")[1].split(" ")[0] if done else "-"


def branches_reached(name: str) -> str:
    """Replay the corpus under coverage; return what it reaches of each module named."""
    modules = TARGETS[name].modules
    with TemporaryDirectory() as folder:
        data, report = Path(folder, "data"), Path(folder, "report.json")
        shared = [f"--data-file={data}", "--rcfile=/dev/null"]
        replay = [f"--source={','.join(modules)}", str(HERE / "replay.py"), name]
        python("-m", "coverage", "run", "--branch", *shared, *replay).check_returncode()
        python("-m", "coverage", "json", *shared, "-q", "-o", str(report)).check_returncode()
        files = json.loads(report.read_bytes())["files"]
    return ", ".join(_reached(module, files) for module in modules)


def _reached(module: str, files: dict[str, Report]) -> str:
    path = module.replace(".", "/") + ".py"
    summary = next(report["summary"] for file, report in files.items() if file.endswith(path))
    short = module.removeprefix("latensgate_").removeprefix("latensgate.")
    return f"{short} {summary['covered_branches']} of {summary['num_branches']}"


HEAD = """# Fuzzing

Written by `make fuzz`. Each target takes arbitrary bytes; anything but a typed error is a finding.
Most targets read their input as a script that edits a good example and signs, seals or frames it
again, so that the steps behind the first are reached. The corpus is replayed by `make test`.

Branches: what the committed corpus reaches of each module that the target is meant for. A run of
some targets alone replaces their rows.

| target | seconds | executions | corpus files | branches reached by the corpus |
|---|---|---|---|---|
"""


def rows_so_far() -> dict[str, str]:
    """Return the rows that the page holds, by target."""
    lines = DOCUMENT.read_text().splitlines() if DOCUMENT.exists() else []
    named = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    return {name: row for name, row in named.items() if name in TARGETS}


def write_document(names: list[str], seconds: int) -> None:
    """Write docs/fuzzing.md: the rows of these targets anew, the others as they were."""
    rows = rows_so_far()
    for name in names:
        size = len(list((CORPUS / name).iterdir()))
        cells = (name, str(seconds), runs_of(name), str(size), branches_reached(name))
        rows[name] = f"| {' | '.join(cells)} |"
    DOCUMENT.write_text(HEAD + "".join(f"{rows[name]}\n" for name in sorted(rows)))


def main() -> int:
    """Fuzz the named targets, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    arguments = parser.parse_args()
    names: list[str] = arguments.target or sorted(TARGETS)
    seconds: int = arguments.seconds
    with ThreadPoolExecutor(PARALLEL) as pool:
        survived = list(pool.map(run_target, names, repeat(seconds)))
    write_document(names, seconds)
    return 0 if all(survived) else 1


if __name__ == "__main__":
    sys.exit(main())
