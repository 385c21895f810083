"""The operator's page: its commands run, its settings and metrics are those of the code."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from latensgate_parent.admin.__main__ import cli
from latensgate_parent.link.egress import EgressCounters
from latensgate_parent.metrics import Metrics
from latensgate_parent.settings import Settings, VerifierSettings
from paths import REPOSITORY
from surface_bench import ToldFleet

PAGE = (REPOSITORY / "docs/runbooks/operate.md").read_text()
COMMANDS = re.findall(
    r"^latensgate-admin --config parent\.toml ((?:tenant|key) .*)$", PAGE, re.MULTILINE
)


def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENSGATE_PARENT_DATABASE", f"sqlite:///{tmp_path}/latensgate.db")
    found = {"TENANT": "", "KEY": ""}
    assert len(COMMANDS) == 9
    for command in COMMANDS:
        words = [found.get(word, word) for word in shlex.split(command)]
        done = CliRunner().invoke(cli, words, input="y\n")  # for what asks before it does it
        assert done.exit_code == 0, done.output
        for name, form in (("TENANT", "tnt_[0-9a-f]{8}"), ("KEY", "key_[0-9a-f]{16}")):
            if seen := re.search(form, done.output):
                found[name] = seen[0]
    with (
        closing(sqlite3.connect(tmp_path / "latensgate.db")) as running,
        closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
    ):
        running.backup(copy)  # what `.backup` of the shell does
        assert copy.execute("pragma integrity_check").fetchone() == ("ok",)


def test_its_table_holds_every_setting() -> None:
    rows = set(re.findall(r"^\| `\[{0,2}([a-z0-9_.]+)\]{0,2}` \|", PAGE, re.MULTILINE))
    known = {each.name for each in fields(Settings)} - {"verifier"}
    known |= {f"verifier.{each.name}" for each in fields(VerifierSettings)}
    assert known <= rows


def test_its_metrics_exist() -> None:
    metrics = Metrics()
    metrics.watch(ToldFleet(), EgressCounters())  # type: ignore[arg-type]  # only its statuses
    shown = metrics.exposition().decode()
    named = set(re.findall(r"`(latensgate_[a-z_]+)", PAGE)) - {"latensgate_parent"}
    assert len(named) >= 12
    for name in named:
        assert f"# TYPE {name} " in shown, name
