"""chat and doctor: what is shown before, during and after; and what is never done."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import openai
import pytest

from cli_fixtures import FakeSDK, Machine, answer_receipt, refused
from gateway_stand_in import error, unavailable_health
from latensgate.cli import chat, chat_talk, doctor_files, doctor_network
from latensgate.cli.chat_ask import SealedAsker, Turn, told
from latensgate.cli.doctor_findings import FoundError, NotNeededError
from latensgate.cli.doctor_network import Road, clock_words
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.gateway import GatewayAddress
from latensgate.gateway.connection import Answer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONValue

SIMULATED = "--simulated"
CLEAN = "Because of\ufffd[2J Rayleigh scattering."


def test_one_question(machine: Machine, sdk: FakeSDK) -> None:
    result = machine.run("chat", SIMULATED, "Why?")
    assert result.exit_code == DONE
    assert result.stdout == CLEAN + "\n"
    assert "✓ simulated · aud_0000000000000000 · answered · 5 in, 7 out" in result.stderr
    assert sdk.asked == [[{"role": "user", "content": "Why?"}]]
    assert sdk.asks[0].model == "claude-3.5-sonnet"
    assert not sdk.asks[0].stream
    assert sdk.closed == 1


def test_a_question_on_standard_input(machine: Machine, sdk: FakeSDK) -> None:
    machine.run("chat", SIMULATED, "--system", "Be brief.", "--model", "m", stdin="Why?\n")
    machine.run("chat", SIMULATED, "-", "--max-tokens", "5", stdin="Why?\n")
    assert [message["content"] for message in sdk.asked[0]] == ["Be brief.", "Why?"]
    assert (sdk.asks[0].model, sdk.asks[1].max_tokens) == ("m", 5)
    assert machine.run("chat", SIMULATED, stdin=" \n").exit_code == ExitCode.USAGE


def test_json(machine: Machine, sdk: FakeSDK) -> None:
    assert isinstance(sdk.answer, str)
    told = machine.told("chat", SIMULATED, "Why?")
    assert (told["answer"], told["verdict"], told["exit_code"]) == (sdk.answer, "simulated", 0)
    assert told["receipt"]["audit_receipt_id"] == "aud_0000000000000000"
    assert len(told["checks"]) == 10


def test_explained(machine: Machine, sdk: FakeSDK) -> None:
    result = machine.run("chat", SIMULATED, "--explain", "Why \x1b[2J?")
    assert result.exit_code == DONE
    state, question, answer = (
        result.output.index(text) for text in ("Simulated enclave", "Question", "Answer")
    )
    assert state < question < answer < result.output.index("Receipt aud_")
    assert result.output.count("✓") == 11
    assert "latensgate verify --simulated aud_0000000000000000" in result.output
    assert "\x1b" not in result.output
    assert sdk.asked


def test_the_receipt_is_kept_for_its_owner_alone(
    machine: Machine, sdk: FakeSDK, tmp_path: Path
) -> None:
    del sdk
    path = tmp_path / "receipt.json"
    machine.run("chat", SIMULATED, "--save-receipt", path, "Why?")
    assert path.stat().st_mode & 0o777 == 0o600
    assert machine.run("verify", path, SIMULATED).exit_code == ExitCode.SIMULATED
    result = machine.run("chat", SIMULATED, "--save-receipt", tmp_path / "no" / "x", "Why?")
    assert result.exit_code == ExitCode.UNREADABLE


def test_nothing_is_sent_where_nothing_was_proven(machine: Machine, sdk: FakeSDK) -> None:
    result = machine.run("chat", "--explain", "Why?")
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "at step 4" in result.stderr
    assert "--simulated" in result.stderr
    assert sdk.asked == []


def test_a_refusal_of_the_sdk_is_explained_by_its_step(machine: Machine, sdk: FakeSDK) -> None:
    sdk.answer = refused(ExitCode.UNTRUSTED, "ERR_ATTESTATION_INVALID")
    result = machine.run("chat", "Why?")
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "at step 4" in result.stderr
    result = machine.run("chat", SIMULATED, "Why?")
    assert "refused it" in result.stderr


def test_a_sealed_refusal_has_a_receipt(machine: Machine, sdk: FakeSDK) -> None:
    receipt = answer_receipt(machine.stand_in)
    sdk.answer = refused(ExitCode.REFUSED, "ERR_PII_HARD_FAIL", receipt=receipt)
    result = machine.run("chat", SIMULATED, "--explain", "Why?")
    assert result.exit_code == ExitCode.REFUSED
    assert "aud_0000000000000000" in result.output
    assert machine.told("chat", SIMULATED, "Why?")["code"] == "ERR_PII_HARD_FAIL"


def test_an_operator_without_models(machine: Machine, sdk: FakeSDK) -> None:
    machine.stand_in.routes["GET /api/models"] = 200, {"object": "list", "data": []}
    assert machine.run("chat", SIMULATED, "Why?").exit_code == ExitCode.USAGE
    assert sdk.asked == []


def test_a_receipt_that_does_not_verify_again_is_told(machine: Machine, sdk: FakeSDK) -> None:
    own = machine.stand_in
    own.entries[0], good = own.entries[1], own.entries[0]
    assert good != own.entries[0]
    text = machine.config.read_text().replace("a2a2", "b2b2")
    machine.config.write_text(text)
    result = machine.run("chat", SIMULATED, "Why?")
    assert result.exit_code == ExitCode.MEASUREMENTS
    assert sdk.asked


# --- conversations ---


def same(given: str | None) -> str | None:
    return given


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str | type[BaseException]]:
    """What a person types at a terminal."""
    typed: list[str | type[BaseException]] = []

    def read(prompt: str) -> str:
        assert prompt == "> "
        line = typed.pop(0) if typed else EOFError
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(chat, "asked_question", same)
    return typed


Lines = list[str | type[BaseException]]


def test_a_conversation_has_a_history(machine: Machine, sdk: FakeSDK, lines: Lines) -> None:
    lines += ["Why?", "", KeyboardInterrupt, "/model other", "And?", "/new", "Again?", "/quit"]
    result = machine.run("chat", SIMULATED, "--system", "Be brief.")
    assert result.exit_code == DONE
    assert result.output.index("Simulated enclave") < result.output.index(CLEAN)
    roles = [[message["role"] for message in turn] for turn in sdk.asked]
    assert roles == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user"],
    ]
    assert sdk.asks[1].model == "other"
    assert result.output.count("✓ simulated ·") == 3
    assert "(Ctrl-D or /quit ends)" in result.output


def test_commands_of_a_conversation(
    machine: Machine, sdk: FakeSDK, lines: Lines, tmp_path: Path
) -> None:
    path = tmp_path / "kept.json"
    lines += ["/explain", "Why?", "/explain", f"/save {path}", f"/save {tmp_path}/no/x"]
    lines += ["/attest", "/help", "/model"]
    result = machine.run("chat", SIMULATED, "--no-stream")
    assert "There is no receipt yet." in result.output
    assert "Place in the enclave's chain" in result.output
    assert path.exists()
    assert "✗" in result.output
    assert result.output.count("Simulated enclave") == 2
    assert result.output.count("/explain") == 2
    assert not sdk.asks[0].stream


@pytest.mark.parametrize(
    "stopped", [KeyboardInterrupt(), refused(ExitCode.LATER, "ERR_OVERLOADED")]
)
def test_a_turn_that_fails_is_forgotten(
    machine: Machine, sdk: FakeSDK, lines: Lines, stopped: BaseException
) -> None:
    sdk.answer = stopped
    lines += ["Why?", "And?"]
    result = machine.run("chat", SIMULATED)
    assert result.exit_code == DONE
    assert [len(turn) for turn in sdk.asked] == [1, 1]
    assert "refused it" in result.output or "forgotten" in result.output


def test_json_needs_a_question(machine: Machine, sdk: FakeSDK, lines: Lines) -> None:
    del lines
    assert machine.run("chat", SIMULATED, "--json").exit_code == ExitCode.USAGE
    assert sdk.asked == []


def test_a_terminal_begins_a_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    assert chat.asked_question(None) is None
    assert chat.asked_question("x") == "x"
    assert chat_talk.Conversation is not None


# --- what errors of the SDK mean ---


def test_errors_of_the_openai_client() -> None:
    request = httpx.Request("POST", "http://127.0.0.1")
    lost = openai.APIConnectionError(request=request)  # type: ignore[arg-type]  # openai 3 names httpx2
    lost.__cause__ = httpx.ConnectError("x")
    failure, receipt = told(lost)
    assert (failure.exit_code, receipt) == (ExitCode.UNREACHABLE, None)
    assert "ConnectError" in failure.message
    assert told(openai.OpenAIError("odd"))[0].exit_code is ExitCode.REFUSED


# --- doctor ---


def test_all_is_well(machine: Machine, sdk: FakeSDK) -> None:
    receipt = answer_receipt(machine.stand_in)
    sdk.answer = refused(ExitCode.REFUSED, "ERR_REQUEST_INVALID", receipt=receipt)
    result = machine.run("doctor", SIMULATED)
    assert result.exit_code == DONE
    assert "All is well, under a simulator's root" in result.output
    assert sdk.asked == [[]]
    told = machine.told("doctor", SIMULATED)
    assert (told["verdict"], told["exit_code"]) == ("simulated", DONE)
    assert [step["number"] for step in told["steps"]] == list(range(1, 14))
    assert {step["state"] for step in told["steps"]} == {"passed", "not run"}
    assert len(machine.told("doctor", SIMULATED, "--no-request")["steps"]) == 12


def failed(machine: Machine, *options: str) -> dict[str, int]:
    told = machine.told("doctor", SIMULATED, *options)
    return {step["title"]: step["exit_code"] for step in told["steps"] if step["state"] == "failed"}


def test_the_doctor_names_what_is_missing(machine: Machine, sdk: FakeSDK) -> None:
    machine.config.unlink()
    found = failed(machine)
    assert found["The gateway's address"] == ExitCode.USAGE
    assert found["Tenant and API key"] == ExitCode.UNAUTHENTICATED
    assert found["What you accept as an enclave"] == ExitCode.USAGE
    result = machine.run("doctor")
    assert result.exit_code == ExitCode.USAGE
    assert "Not well: the gateway's address and 2 more." in result.output
    assert sdk.asked == []


def test_files_that_others_may_read(machine: Machine, sdk: FakeSDK) -> None:
    del sdk
    machine.own(api_key="")
    machine.environment["LATENSGATE_KEY"] = "lg_test_" + "A" * 43
    machine.config.chmod(0o644)
    assert failed(machine, "--no-request") == {
        "Nobody else reads your configuration": ExitCode.USAGE
    }
    assert "chmod 600" in machine.run("doctor", SIMULATED, "--no-request").output


def test_nobody_listens(machine: Machine, sdk: FakeSDK) -> None:
    del sdk
    found = failed(machine, "--base-url", "http://127.0.0.1:9")
    assert found["The gateway listens"] == ExitCode.UNREACHABLE


DOCTOR = {
    "health": ("GET /api/health", unavailable_health(), "The gateway is healthy", ExitCode.LATER),
    "no gateway": ("GET /api/health", (200, b"x"), "The gateway is healthy", ExitCode.PROTOCOL),
    "no attestation": (
        "GET /api/attestation",
        error(ErrorCode.ERR_ENCLAVE_UNAVAILABLE),
        "The enclave is proven to be one that you accept",
        ExitCode.LATER,
    ),
    "wrong key": (
        "GET /api/models",
        error(ErrorCode.ERR_UNAUTHENTICATED),
        "The API key is accepted",
        ExitCode.UNAUTHENTICATED,
    ),
    "not now": (
        "GET /api/audit",
        error(ErrorCode.ERR_OVERLOADED),
        "The API key is accepted",
        ExitCode.LATER,
    ),
    "no list": ("GET /api/keys", (200, b"x"), "The API key is accepted", ExitCode.PROTOCOL),
}


@pytest.mark.usefixtures("sdk")
@pytest.mark.parametrize(("route", "reply", "title", "code"), DOCTOR.values(), ids=DOCTOR.keys())
def test_the_step_that_fails(
    machine: Machine, route: str, reply: tuple[int, bytes], title: str, code: ExitCode
) -> None:
    machine.stand_in.routes[route] = reply
    assert failed(machine, "--no-request")[title] == code


def test_a_key_without_the_scope_for_inference(machine: Machine, sdk: FakeSDK) -> None:
    del sdk
    machine.stand_in.scopes = {"audit:read"}
    assert failed(machine)["The API key is accepted"] == ExitCode.UNAUTHENTICATED
    machine.stand_in.scopes = {"inference:read"}
    shown = machine.run("doctor", SIMULATED, "--no-request").output
    assert "it permits inference:read" in shown


def test_a_simulator_without_the_word(machine: Machine, sdk: FakeSDK) -> None:
    result = machine.run("doctor")
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "Then say --simulated" in result.output
    assert sdk.asked == []


def test_an_enclave_that_answers_nothing_to_answer(machine: Machine, sdk: FakeSDK) -> None:
    assert failed(machine)["A sealed request goes all the way"] == ExitCode.PROTOCOL
    sdk.answer = refused(ExitCode.ANSWER, "ERR_ANSWER_INVALID")
    assert failed(machine)["A sealed request goes all the way"] == ExitCode.ANSWER
    machine.stand_in.routes["GET /api/models"] = 200, {"object": "list", "data": []}
    assert failed(machine)["A sealed request goes all the way"] == ExitCode.USAGE


def test_a_document_that_changed_meanwhile(machine: Machine, sdk: FakeSDK) -> None:
    receipt = answer_receipt(machine.stand_in)
    sdk.answer = refused(ExitCode.REFUSED, "ERR_REQUEST_INVALID", receipt=receipt)
    own = machine.stand_in

    def moving(asked: object) -> tuple[int, bytes]:
        del asked
        told = own.attestation(own.asked[-1])[1]
        assert isinstance(told, dict)
        if "nonce" not in own.asked[-1].query:
            told["attestation_hash"] = "sha384:" + "00" * 48
        return 200, json.dumps(told).encode()

    own.routes["GET /api/attestation"] = moving
    assert "newer document" in machine.run("doctor", SIMULATED).output


# --- the doctor's road ---


def road(url: str) -> Road:
    return Road(GatewayAddress.parse(url))


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_args: object, **_more: object) -> None:
        raise socket.gaierror(-2, "x")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(FoundError, match="does not resolve"):
        road("https://gateway.invalid").name()


def test_a_proxy_does_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    far = road("https://gateway.example")
    for step in (far.name, far.connect, far.handshake):
        with pytest.raises(NotNeededError, match="proxy"):
            step()
    monkeypatch.setenv("NO_PROXY", "gateway.example")
    assert far.proxy is None
    assert road("http://127.0.0.1:1").proxy is None


@pytest.fixture
def plain_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_listens_does_not_speak_tls(
    plain_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_network, "CONNECT_TIMEOUT_S", 0.2)
    with pytest.raises(FoundError, match="TLS failed"):
        road(f"https://127.0.0.1:{plain_server}").handshake()


def test_a_certificate_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    class Peer:
        def version(self) -> str:
            return "TLSv1.3"

        def getpeercert(self) -> dict[str, object]:
            return self.found

        found: dict[str, object]

    peer = Peer()
    peer.found = {"notAfter": "Jan  1 00:00:00 2000 GMT"}
    assert "until 2000-01-01" in doctor_network._certificate_words(peer)  # type: ignore[arg-type]  # a stand-in
    peer.found = {}
    assert doctor_network._certificate_words(peer) == "TLSv1.3"  # type: ignore[arg-type]  # a stand-in

    def wrong(*_args: object, **_more: object) -> None:
        raise ssl.SSLError(1, "x")

    monkeypatch.setattr(socket, "create_connection", wrong)
    with pytest.raises(FoundError, match="TLS failed"):
        road("https://127.0.0.1:1").handshake()


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Sun, 01 Jun 2026 12:30:00 GMT", None),
        ("Sun, 01 Jun 2026 12:32:00 GMT", FoundError),
        ("yesterday", NotNeededError),
        (None, NotNeededError),
    ],
)
def test_clocks(date: str | None, expected: type[Exception] | None) -> None:
    at = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
    headers = httpx.Headers({} if date is None else {"Date": date})
    answer = Answer(200, {}, headers, at, at)
    if expected is None:
        assert "apart" in clock_words(answer)
        return
    with pytest.raises(expected):
        clock_words(answer)


def test_systems_without_modes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATENSGATE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("LATENSGATE_STATE_DIR", str(tmp_path / "state"))
    with pytest.raises(NotNeededError, match="no files"):
        doctor_files.modes_words()
    monkeypatch.setattr("latensgate.cli.doctor_files.os.name", "nt")
    with pytest.raises(NotNeededError, match="no such modes"):
        doctor_files.modes_words()


def test_turns_do_not_print_their_text(machine: Machine) -> None:
    assert "secret" not in repr(Turn("secret", answer_receipt(machine.stand_in), "stop"))
    assert SealedAsker is not None


def listed_key(hint: str, number: int) -> JSONValue:
    return {
        "id": f"key_{number:016x}",
        "name": "mine",
        "hint": hint,
        "scopes": ["admin", "policy:read"],
        "status": "active",
        "created_at": "2026-11-14T09:23:41Z",
        "expires_at": None,
        "revoked_at": None,
    }


@pytest.mark.parametrize(
    ("hints", "told"),
    [
        (["lg_test_AAAA…", "lg_test_BBBB…"], "it permits admin, policy:read"),
        (["lg_test_AAAA…", "lg_test_AAAA…"], "it permits inference:read, audit:read, keys:read"),
        (["lg_test_BBBB…"], "it permits inference:read, audit:read, keys:read"),
    ],
)
def test_the_doctor_tells_all_scopes_that_the_gateway_lists(
    machine: Machine, sdk: FakeSDK, hints: list[str], told: str
) -> None:
    del sdk
    keys: list[JSONValue] = [listed_key(hint, number) for number, hint in enumerate(hints)]
    machine.stand_in.routes["GET /api/keys"] = 200, {"keys": keys}
    assert told in machine.run("doctor", SIMULATED).output
