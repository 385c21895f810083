"""health, models, usage, keys, config: what is shown, what is said when it goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast

import click
import pytest

from cli_fixtures import Machine
from gateway_stand_in import (
    API_KEY,
    KEY_ID,
    MADE_SECRET,
    error,
    health_members,
    unavailable_health,
)
from latensgate.cli import dev
from latensgate.cli.__main__ import cli
from latensgate.cli.exit_codes import DONE, KIND_TO_CODE, ExitCode
from latensgate.cli.failures import exit_code_of, failure_of
from latensgate.verify.errors import KINDS, VERDICTS
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject
from paths import REPOSITORY


def test_health(machine: Machine) -> None:
    result = machine.run("health")
    assert result.exit_code == DONE
    assert "2 of 2 ready" in result.output
    assert machine.told("health")["kms"] == "released"
    machine.stand_in.routes["GET /api/health"] = unavailable_health()
    assert machine.run("health").exit_code == ExitCode.LATER
    assert machine.told("health")["status"] == "unavailable"
    nobody: JSONObject = {"status": "unreachable", "ready": 0, "total": 0}
    told = health_members(enclave=nobody, checked_at=None, status="degraded")
    machine.stand_in.routes["GET /api/health"] = 200, told
    assert "never" in machine.run("health").output


def test_public_commands_send_no_key(machine: Machine) -> None:
    machine.run("health")
    assert "Authorization" not in machine.stand_in.asked[-1].headers


def test_models(machine: Machine) -> None:
    assert "claude-3.5-sonnet" in machine.run("models").output
    assert machine.told("models")["models"][0]["id"] == "claude-3.5-sonnet"
    machine.stand_in.routes["GET /api/models"] = 200, {"object": "list", "data": []}
    assert "names no models" in machine.run("models").output


def test_usage(machine: Machine) -> None:
    assert "1,112" in machine.run("usage").output
    assert machine.told("usage")["usage"]["completion_tokens"] == 1_112


def test_keys_are_listed_without_secrets(machine: Machine) -> None:
    result = machine.run("keys", "list")
    assert KEY_ID in result.output
    assert "production-pipeline" in result.output
    assert machine.told("keys", "list")["keys"][0]["status"] == "active"


def test_a_new_key_is_shown_once(machine: Machine) -> None:
    result = machine.run("keys", "create", "ci", "--scope", "audit:read", "--expiry", "12h")
    assert result.exit_code == DONE
    assert result.output.splitlines().count(MADE_SECRET) == 1
    assert json.loads(machine.stand_in.asked[-1].body) == {
        "name": "ci",
        "scopes": ["audit:read"],
        "expiry": "12h",
    }
    told = machine.told("keys", "create", "ci", "--expiry", "never")
    assert told["key"]["secret"] == MADE_SECRET
    assert json.loads(machine.stand_in.asked[-1].body)["expiry"] is None


def test_keys_are_revoked_and_rotated(machine: Machine) -> None:
    assert (
        f"{KEY_ID} (production-pipeline) is revoked."
        in machine.run("keys", "revoke", KEY_ID).output
    )
    result = machine.run("keys", "rotate", KEY_ID, "--grace", "none")
    assert MADE_SECRET in result.output
    assert json.loads(machine.stand_in.asked[-1].body) == {"grace": None}
    assert machine.told("keys", "rotate", KEY_ID)["key"]["replaces"] == KEY_ID
    assert machine.run("keys", "revoke", "key_1").exit_code == ExitCode.USAGE


# --- what goes wrong ---

REFUSALS = {
    "unauthenticated": (ErrorCode.ERR_UNAUTHENTICATED, ExitCode.UNAUTHENTICATED),
    "forbidden": (ErrorCode.ERR_FORBIDDEN, ExitCode.UNAUTHENTICATED),
    "limited": (ErrorCode.ERR_RATE_LIMITED, ExitCode.LATER),
    "absent": (ErrorCode.ERR_NOT_FOUND, ExitCode.REFUSED),
    "store": (ErrorCode.ERR_STORE_UNAVAILABLE, ExitCode.LATER),
}


@pytest.mark.parametrize(("code", "ending"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals_have_their_exit_code(machine: Machine, code: ErrorCode, ending: ExitCode) -> None:
    machine.stand_in.routes["GET /api/keys"] = error(code, "No\x1b[2J.")
    machine.stand_in.headers["Retry-After"] = "7"
    result = machine.run("keys", "list")
    assert result.exit_code == ending
    assert f"({code.name})" in result.stderr
    assert "correlation-1" in result.stderr
    assert "wait 7 s" in result.stderr
    assert "\x1b[2J" not in result.output
    told = machine.told("keys", "list")
    assert (told["code"], told["verdict"]) == (code.name, ending.verdict)


def test_what_is_no_gateway(machine: Machine) -> None:
    machine.stand_in.routes["GET /api/health"] = 200, b"<html>"
    result = machine.run("health")
    assert result.exit_code == ExitCode.PROTOCOL
    assert "is not a gateway's" in result.stderr


def test_nobody_there(machine: Machine) -> None:
    result = machine.run("health", "--base-url", "http://127.0.0.1:9")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "latensgate doctor" in result.stderr


def test_without_address_or_key(machine: Machine) -> None:
    machine.config.unlink()
    assert "base_url" in machine.run("health").stderr
    machine.own(api_key="")
    result = machine.run("models")
    assert result.exit_code == ExitCode.USAGE
    assert "LATENSGATE_KEY" in result.stderr
    assert machine.run("health").exit_code == DONE
    machine.environment["LATENSGATE_KEY"] = API_KEY
    assert machine.run("models").exit_code == DONE


# --- configuration ---


def test_config_show_says_where_each_value_came_from(machine: Machine) -> None:
    told = machine.told("config", "show", "--simulated", "--tenant", "tnt_00000001")
    assert told["values"]["tenant"] == {"value": "tnt_00000001", "origin": "command line"}
    assert told["values"]["api_key"]["value"] == "lg_test_AAA…"
    assert told["values"]["base_url"]["origin"] == str(machine.config)
    assert told["faults"] == []
    machine.environment["LATENSGATE_TENANT"] = "tnt_00000002"
    shown = machine.run("config", "show", "--simulated")
    assert shown.exit_code == DONE
    assert "tnt_00000002  (LATENSGATE_TENANT)" in shown.output
    assert "SIMULATED root" in shown.output


def test_config_show_names_what_is_missing(machine: Machine) -> None:
    machine.config.unlink()
    result = machine.run("config", "show")
    assert result.exit_code == ExitCode.USAGE
    assert result.output.count("✗") == 4
    machine.own()
    assert "Amazon's root" in machine.run("config", "show").output


# --- every command ---


def commands() -> list[list[str]]:
    found: list[list[str]] = []

    def walk(command: click.Command, path: list[str]) -> None:
        found.append(path)
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(inner, [*path, name])

    walk(cli, [])
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help(machine: Machine, path: list[str]) -> None:
    result = machine.run(*path, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert machine.run(*path, "--no-such-option").exit_code == ExitCode.USAGE or path == ["dev"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(machine: Machine, shell: str) -> None:
    result = machine.run("completion", shell)
    assert result.exit_code == 0
    assert "_LATENSGATE_COMPLETE" in result.output


def test_without_a_terminal_there_are_no_colours(machine: Machine) -> None:
    del machine.environment["NO_COLOR"]
    assert "\x1b" not in machine.run("health").output


# --- exit codes ---


def test_the_page_lists_every_exit_code() -> None:
    page = (REPOSITORY / "docs" / "exit-codes.md").read_text()
    for code in ExitCode:
        assert f"| {code:d} | `{code.verdict}` |" in page
        assert code.meaning in page or code is DONE
    assert page.count("| 0 | `verified` |") == 2


def test_every_kind_and_every_error_code_has_an_exit_code() -> None:
    assert set(KINDS) == set(KIND_TO_CODE)
    for verdict in VERDICTS:
        assert failure_of(verdict("x")).exit_code is KIND_TO_CODE[verdict.kind]
    endings = {code: exit_code_of(code) for code in ErrorCode}
    assert DONE not in endings.values()
    assert endings[ErrorCode.ERR_ANSWER_TRUNCATED] is ExitCode.ANSWER
    assert endings[ErrorCode.ERR_OVERLOADED] is ExitCode.LATER
    assert endings[ErrorCode.ERR_PII_HARD_FAIL] is ExitCode.REFUSED


# --- the process ---


CLOSED = ("/bin/sh", "-c", 'exec "$@" >&-', "sh")


def run_process(
    machine: Machine, *arguments: str, shell: tuple[str, ...] = ()
) -> subprocess.Popen[bytes]:
    given = {name: value for name, value in machine.environment.items() if value is not None}
    return subprocess.Popen(
        [*shell, sys.executable, "-m", "latensgate.cli", *arguments],
        env={"PATH": os.environ["PATH"], **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize("form", ["--json", "--limit=25"])
def test_a_reader_that_goes_away_is_no_fault(machine: Machine, form: str) -> None:
    process = run_process(machine, "audit", "list", form)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == ExitCode.BROKEN_PIPE


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_of_json_that_goes_away_is_told_as_one(machine: Machine, buffered: str) -> None:
    machine.environment["PYTHONUNBUFFERED"] = buffered
    process = run_process(machine, "config", "show", "--json")
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (ExitCode.BROKEN_PIPE, b"")


def test_a_closed_output_leaves_the_exit_code(machine: Machine) -> None:
    process = run_process(machine, "config", "show", "--json", shell=CLOSED)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (DONE, b"")


FULL = ("/bin/sh", "-c", '"$@" > /dev/full', "sh")


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_full_disk_is_told_and_is_no_fault_of_the_program(
    machine: Machine, buffered: str, form: tuple[str, ...]
) -> None:
    machine.environment["PYTHONUNBUFFERED"] = buffered
    process = run_process(machine, "config", "show", *form, shell=FULL)
    _, err = process.communicate(timeout=30)
    told = b"Error: the output is not whole: No space left on device\n"
    assert (process.returncode, err) == (ExitCode.OUTPUT, told)


def test_ctrl_c_ends_in_one_line(machine: Machine) -> None:
    def slow(_asked: object) -> tuple[int, JSONObject]:
        time.sleep(3)
        return 200, {}

    machine.stand_in.routes["GET /api/health"] = slow
    process = run_process(machine, "health")
    deadline = time.monotonic() + 30
    while not machine.stand_in.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(2)
    out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert (out, err.strip()) == (b"", b"")


def test_dev_passes_its_options_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def run(command: list[str]) -> ExitCode:
        started.append(command)
        return DONE

    monkeypatch.setattr(dev, "run_child", run)
    options = ["--model", "scripted", "--enclaves", "1", "--bedrock", "--fault", "kms-down"]
    assert machine.run("dev", *options, "--port", "8700").exit_code == DONE
    assert started[0][1:] == [
        *("-m", "latensgate_sim", "--model", "scripted", "--enclaves", "1", "--bedrock"),
        *("--fault", "kms-down", "--port", "8700"),
    ]


def test_dev_says_how_to_install_what_is_missing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "MODULE", "latensgate_sim_that_is_not_there")
    result = machine.run("dev")
    assert result.exit_code == ExitCode.STACK
    assert "make run" in result.stderr


Wait: TypeAlias = "Callable[[subprocess.Popen[bytes], float | None], int]"


@pytest.mark.parametrize(("status", "code"), [(0, DONE), (3, ExitCode.STACK)])
def test_dev_ends_as_its_child_does(status: int, code: ExitCode) -> None:
    assert dev.run_child([sys.executable, "-c", f"raise SystemExit({status})"]) is code


def test_dev_waits_for_its_child_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float | None] = []
    real = cast("Wait", vars(subprocess.Popen)["wait"])

    def wait(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    mark = tmp_path / "done"
    program = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    assert dev.run_child([sys.executable, "-c", program]) is DONE
    assert mark.exists()


@pytest.mark.parametrize("asked", ["twice", "too long"])
def test_dev_kills_a_child_that_does_not_end(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cast("Wait", vars(subprocess.Popen)["wait"])
    calls: list[int] = []

    def wait(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        calls.append(1)
        if len(calls) == 1 or (len(calls) == 2 and asked == "twice"):
            raise KeyboardInterrupt
        if len(calls) == 2:
            raise subprocess.TimeoutExpired("x", 1)
        return real(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    program = "import time; time.sleep(60)"
    assert dev.run_child([sys.executable, "-c", program]) is ExitCode.INTERRUPTED
