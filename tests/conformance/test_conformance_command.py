"""``latensgate conformance``: the published sets, and what it says of broken implementations."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from latensgate.cli.__main__ import cli
from latensgate.conformance import runner
from latensgate.conformance.case import (
    INVALID_CASE,
    UNSUPPORTED,
    Answer,
    Arguments,
    Case,
    CaseError,
    Expectation,
    disagreement,
)
from latensgate.conformance.load import load_cases
from latensgate.conformance.operations import OPERATIONS, perform
from latensgate.conformance.runner import Command, ImplementationError, in_process, run
from latensgate.conformance.serve import answer_line, answer_lines
from paths import OWN_VECTORS, published

SELF = f"{shlex.quote(sys.executable)} -m latensgate.cli conformance answer"
PADDING = OWN_VECTORS / "padding"


def command(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["conformance", *map(str, arguments)], input=stdin)


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "implementation.py"
    path.write_text("import json, sys\n" + body)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


# --- published sets ---


def test_every_published_set_agrees() -> None:
    result = command("run", "--json", published("nitro"), published("standards"), published("aci"))
    told = json.loads(result.output)
    assert told["problems"] == []
    assert result.exit_code == 0
    counts = {name: row["cases"] for name, row in told["folders"].items()}
    assert counts == {
        "aci": 4,
        "cose": 9,
        "hpke": 4,
        "jcs": 114,
        "merkle-published": 195,
        "nitro/attestation": 113,
        "nitro/foreign": 1,
        "nitro/mutations": 47,
        "nitro/synthetic-pki": 125,
        "x-wing": 3,
    }


# --- run ---


def test_ours_over_the_line_protocol_agree_as_they_do_in_process() -> None:
    result = command("run", OWN_VECTORS, "--implementation", SELF)
    assert result.exit_code == 0, result.output
    assert "All cases agree." in result.output


def test_the_table_names_every_folder() -> None:
    result = command("run", PADDING, OWN_VECTORS / "merkle")
    assert result.exit_code == 0
    assert "padding" in result.output
    assert "merkle" in result.output


WRONG_BY_ONE = """
for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps({"id": case["id"], "ok": True, "output": {"padded": case["input"]["length"]}}))
"""


def test_a_broken_implementation_makes_the_exit_code_1(tmp_path: Path) -> None:
    result = command("run", PADDING, "--implementation", script(tmp_path, WRONG_BY_ONE))
    assert result.exit_code == 1
    assert "output: 'padded' is" in result.output
    assert "disagree." in result.output


def test_many_disagreements_are_told_in_part_and_all_in_json(tmp_path: Path) -> None:
    lazy = script(tmp_path, WRONG_BY_ONE.replace('case["input"]["length"]', "-1"))
    result = command("run", PADDING, "--implementation", lazy)
    assert "more; --json has them all" in result.output
    told = json.loads(command("run", "--json", PADDING, "--implementation", lazy).output)
    assert told["disagree"] == len(told["problems"]) == told["cases"]
    assert set(told["problems"][0]) == {"id", "operation", "problem", "why"}


def test_an_implementation_that_accepts_everything_is_found_out(tmp_path: Path) -> None:
    body = (
        'for l in sys.stdin: print(json.dumps({"id": json.loads(l)["id"], "ok": True,'
        ' "output": {}}))'
    )
    result = command("run", OWN_VECTORS / "receipt", "--implementation", script(tmp_path, body))
    assert result.exit_code == 1
    assert "but it accepted" in result.output


def test_unsupported_operations_are_counted_and_disagree(tmp_path: Path) -> None:
    body = (
        'for l in sys.stdin: print(json.dumps({"id": json.loads(l)["id"], "ok": False,'
        f' "error": "{UNSUPPORTED}"}}))'
    )
    told = json.loads(
        command(
            "run", "--json", OWN_VECTORS / "record", "--implementation", script(tmp_path, body)
        ).output
    )
    assert told["folders"]["record"]["unsupported"] == told["disagree"] == told["cases"]


CRASHES = {
    "exit status": "sys.exit('deliberate')",
    "no such output": "pass",
    "not JSON": "for l in sys.stdin: print('?')",
    "not an object": "for l in sys.stdin: print('[]')",
    "wrong id": 'for l in sys.stdin: print(json.dumps({"id": "x", "ok": True, "output": {}}))',
    "neither": 'for l in sys.stdin: print(json.dumps({"id": json.loads(l)["id"], "ok": True}))',
    "both": (
        'for l in sys.stdin: print(json.dumps({"id": json.loads(l)["id"], "ok": False,'
        ' "output": {}, "error": "x"}))'
    ),
    "flag and member differ": (
        'for l in sys.stdin: print(json.dumps({"id": json.loads(l)["id"], "ok": True,'
        ' "error": "x"}))'
    ),
    "too many": (
        'for l in sys.stdin: print(json.dumps({"id": json.loads(l)["id"], "ok": True,'
        ' "output": {}}))\nprint("{}")'
    ),
}


@pytest.mark.parametrize("body", CRASHES.values(), ids=CRASHES.keys())
def test_nonsense_makes_the_exit_code_3(tmp_path: Path, body: str) -> None:
    result = command("run", PADDING, "--implementation", script(tmp_path, body))
    assert result.exit_code == 3
    assert "the implementation gave no verdict" in result.output


@pytest.mark.parametrize("line", ["/nonexistent/implementation", "", "'unbalanced"])
def test_a_command_that_cannot_start_makes_the_exit_code_3(line: str) -> None:
    assert command("run", PADDING, "--implementation", line).exit_code == 3


def test_an_implementation_that_hangs_is_stopped(tmp_path: Path) -> None:
    hanging = Command(script(tmp_path, "import time; time.sleep(60)"), timeout_s=0.2)
    with pytest.raises(ImplementationError, match=r"no end after 0\.2 s"):
        hanging(load_cases([PADDING]))


def test_an_error_that_escapes_in_process_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_arguments: Arguments) -> dict[str, object]:
        raise RuntimeError

    monkeypatch.setitem(OPERATIONS, "padme", explode)
    result = command("run", PADDING)
    assert result.exit_code == 3
    assert "RuntimeError escaped" in result.output


def test_a_folder_named_twice_is_told() -> None:
    result = command("run", PADDING, PADDING)
    assert result.exit_code == 3
    assert "two cases have the id" in result.output


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", "", "no test vector"),
        ("a.json", "{}", "no test vector"),
        ("a.json", '{"operation"', "not as expected"),
        ("a.json", '{"operation": "padme"}', "not as expected"),
        ("a.json", '{"id": 1, "operation": "padme", "input": {}, "expect": {}}', "another kind"),
        ("a.json", '{"id": "a", "operation": "padme", "input": {}, "expect": 1}', "not an object"),
        ("a.json", '{"id": "a", "operation": "p", "input": {}, "expect": {}}', "neither"),
    ],
)
def test_folders_that_are_no_vectors_are_usage_errors(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    (tmp_path / name).write_text(content)
    result = command("run", tmp_path)
    assert result.exit_code == 2
    assert told in result.output


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    assert command("run", tmp_path / "absent").exit_code == 2
    assert command("run").exit_code == 2


# --- answer ---


def test_answer_answers_line_by_line() -> None:
    lines = (
        b'{"id":"1","operation":"padme","input":{"length":9}}\n'
        b"\n"
        b'{"id":"2","operation":"padme","input":{}}\n'
        b'{"id":"3","operation":"none","input":{}}\n'
        b"nonsense\n"
        b'{"id":"4","operation":"padme"}\n'
        b'{"id":"5","operation":"parse_manifest","input":{"manifest_base64":""}}\n'
    )
    result = command("answer", stdin=lines)
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.output.splitlines()] == [
        {"id": "1", "ok": True, "output": {"padded": 10}},
        {"id": "2", "ok": False, "error": INVALID_CASE},
        {"id": "3", "ok": False, "error": UNSUPPORTED},
        {"id": None, "ok": False, "error": INVALID_CASE},
        {"id": None, "ok": False, "error": INVALID_CASE},
        {"id": "5", "ok": False, "error": "ERR_MALFORMED"},
    ]


def test_answers_are_one_canonical_line_each() -> None:
    line = b'{"id":"1","operation":"padme","input":{"length":9}}'
    assert answer_line(line) == b'{"id":"1","ok":true,"output":{"padded":10}}\n'
    assert list(answer_lines([b" \n", line])) == [answer_line(line)]


# --- the parts ---

GIVEN = Arguments(
    {"text": "t", "number": 1, "flag": True, "hex": "00ff", "list": [], "nothing": None}
)


def test_arguments_are_read_by_name_and_kind() -> None:
    assert (GIVEN.text("text"), GIVEN.integer("number")) == ("t", 1)
    assert GIVEN.boolean("flag") is True
    assert GIVEN.hex("hex") == GIVEN.optional_hex("hex") == b"\x00\xff"
    assert GIVEN.optional_hex("nothing") is None
    assert GIVEN.optional_hex("absent") is None
    assert GIVEN.objects("list") == []
    assert GIVEN.value("nothing") is None


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("text", "number"),
        ("text", "absent"),
        ("integer", "flag"),
        ("integer", "text"),
        ("boolean", "number"),
        ("object", "list"),
        ("hex", "text"),
        ("base64", "text"),
        ("objects", "text"),
        ("hexes", "number"),
    ],
)
def test_arguments_of_another_kind_are_the_fault_of_the_case(method: str, name: str) -> None:
    with pytest.raises(CaseError, match=rf"'{name}'"):
        getattr(GIVEN, method)(name)


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("key_id", {"kem_id": 16, "private_key_hex": "00"}),
        (
            "hpke_open",
            {"kem_id": 32, "aead_id": 9, "private_key_hex": "", "enc_hex": "", "info_hex": ""},
        ),
    ],
)
def test_numbers_that_nobody_has_are_the_fault_of_the_case(
    operation: str, members: dict[str, int | str]
) -> None:
    assert perform(operation, {**members}).error == INVALID_CASE


@pytest.mark.parametrize(
    ("expect", "answer", "agrees"),
    [
        (Expectation(output={"a": 1}), Answer(output={"a": 1, "b": 2}), True),
        (Expectation(output={"a": 1}), Answer(output={"a": True}), False),
        (Expectation(output={"a": 1}), Answer(output={}), False),
        (Expectation(output={"a": "x" * 100}), Answer(output={"a": "y" * 100}), False),
        (Expectation(output={}), Answer(error="E"), False),
        (Expectation(error="E"), Answer(error="E"), True),
        (Expectation(error="E"), Answer(error="F"), False),
        (Expectation(error="E"), Answer(output={}), False),
        (Expectation(), Answer(error="E"), True),
        (Expectation(), Answer(error=UNSUPPORTED), False),
        (Expectation(), Answer(error=INVALID_CASE), False),
        (Expectation(), Answer(output={}), False),
    ],
)
def test_agreement(expect: Expectation, answer: Answer, *, agrees: bool) -> None:
    assert (disagreement(expect, answer) is None) is agrees


def test_a_missing_answer_is_never_taken_for_agreement() -> None:
    case = Case("f", "f/1", "padme", {"length": 1}, Expectation(output={"padded": 1}))
    assert run([case], in_process)[0].problem is None
    assert runner.IMPLEMENTATION_TIMEOUT_S > 0
    with pytest.raises(ImplementationError, match="1 questions, 0 answers"):
        Command(f"{shlex.quote(sys.executable)} -c pass")([case])
