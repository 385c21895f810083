"""`make run` as a new user sees it: one command, a proven chat, and nothing left after Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest


def processes_of(folder: str) -> list[str]:
    """Command lines of all processes that name this folder."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if folder in line:
            found.append(line)
    return found


@pytest.mark.timeout(240)
def test_one_command_shows_a_proven_chat_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "latensgate_sim", "--model", "scripted", "--port", "0"]
    environment = os.environ | {
        "LATENSGATE_CONFIG_DIR": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "COLUMNS": "200",
    }
    with subprocess.Popen(
        [*command, "--question", "What is a receipt?"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C stops it" in line:
                break
        shown = "".join(lines)
        url = re.search(r"http://127\.0\.0\.1:\d+", shown)
        folder = re.search(r"\S*latensgate-sim-\w+", shown)
        assert url is not None, shown
        assert folder is not None, shown
        assert httpx.get(f"{url[0]}/api/health", trust_env=False).status_code == 200
        assert (tmp_path / "dev.toml").stat().st_mode & 0o777 == 0o600
        assert len(processes_of(folder[0])) == 3  # gateway and two enclaves
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert "What is a receipt?" in shown
    assert re.search(r"Receipt aud_[0-9a-f]{16}", shown)
    assert "Receipt is signed by the key in it" in shown
    assert "✗" not in shown
    assert "nothing is left running" in rest
    assert not Path(folder[0]).exists()
    assert not (tmp_path / "dev.toml").exists()
    assert processes_of(folder[0]) == []
