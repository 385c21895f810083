# pyright: reportPrivateUsage=false
"""Pushing a credential: a real enclave, and a listener that is honest or is not."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate.cli import upstream_credential as command
from latensgate.cli.operator_listener import OperatorListener
from latensgate.verify import AppraisalPolicy, Measurements
from latensgate_shared import formats
from latensgate_shared.calls import AttestationAnswer, AttestationCall
from latensgate_shared.calls_upstream import UpstreamCredentialAnswer, UpstreamCredentialCall
from latensgate_shared.error_answers import ErrorAnswer, WireError, encode_error_answer
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_sim.deployment import UpstreamAliases, deployment_toml
from latensgate_sim.world import World
from stack import CallFailedError, ParentLink, Stack, running_stack

Change = Callable[[str, dict[str, object]], dict[str, object]]
OPERATOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SECRET = "sk-planted-0123456789"  # noqa: S105  # of nobody
NAME = "unix:/a b"


class _Endless(httpx.SyncByteStream):
    """An answer that does not end."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.sent_bytes < ENDLESS_BYTES:
            self.sent_bytes += len(PIECE)
            yield PIECE


PIECE = b" " * 65_536
ENDLESS_BYTES = 64 << 20


def test_an_answer_that_does_not_end_is_not_read_on() -> None:
    body = _Endless()
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, stream=body))
    with (
        OperatorListener("http://operators", transport) as listener,
        pytest.raises(LatensgateError, match="at most"),
    ):
        listener.missing()
    assert body.sent_bytes < 1 << 20


def test_an_answer_that_grows_when_it_is_unpacked_is_not_read() -> None:
    bomb = gzip.compress(b'{"enclaves": {}}' + b" " * ENDLESS_BYTES)
    headers = {"content-encoding": "gzip"}
    transport = httpx.MockTransport(
        lambda _request: httpx.Response(200, headers=headers, stream=httpx.ByteStream(bomb))
    )
    with (
        OperatorListener("http://operators", transport) as listener,
        pytest.raises(LatensgateError, match="JSON"),
    ):
        listener.missing()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    folder = tmp_path_factory.mktemp("push")
    public = OPERATOR.public_key().public_bytes_raw().hex()
    deployment = deployment_toml(upstream=UpstreamAliases(public, {"m": "scripted"}))
    with World() as world, running_stack(folder, world, deployment=deployment) as made:
        with made.link() as link:
            made.open_gate(link)
        yield made


class Listener:
    """The operators' listener of a parent; `change` is what it makes of its answers."""

    def __init__(self, link: ParentLink) -> None:
        self.link = link
        self.seen = b""
        self.change: Callable[[str, dict[str, object]], dict[str, object]] = lambda _path, told: (
            told
        )

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen += request.content
        try:
            told = self.answer(request)
        except CallFailedError as error:
            answer = ErrorAnswer(WireError(error.code, "refused"), "cor_1")
            return httpx.Response(error.code.http_status, content=encode_error_answer(answer))
        return httpx.Response(200, json=self.change(request.url.path, told))

    def answer(self, request: httpx.Request) -> dict[str, object]:
        match request.url.path:
            case "/upstreams":
                head = self.link.call(UpstreamCredentialCall()).head
                missing = UpstreamCredentialAnswer.from_head(head).missing
                return {"enclaves": {NAME: missing.split(",") if missing else []}}
            case "/enclave-attestation":
                assert request.url.params["enclave"] == NAME
                nonce = bytes.fromhex(request.url.params["nonce"])
                found = AttestationAnswer.from_head(self.link.call(AttestationCall(nonce)).head)
                told = {"document": found.document, "manifest": found.manifest}
                told["nonce_document"] = found.nonce_document or b""
                encoded = {name: formats.to_base64(value) for name, value in told.items()}
                return {"attestation_hash": found.attestation_hash, **encoded}
            case _:
                body = json.loads(request.content)
                sealed = formats.base64_bytes(body["sealed"], "sealed", 1 << 16)
                call = UpstreamCredentialCall(body["attestation_hash"], body["upstream"], sealed)
                said = UpstreamCredentialAnswer.from_head(self.link.call(call).head)
                return {"confirmed": formats.to_base64(said.confirmed or b"")}


@pytest.fixture
def listener(stack: Stack) -> Generator[Listener]:
    with stack.link() as link:
        yield Listener(link)


def measured(pcr0: bytes, pcr1: bytes, pcr2: bytes) -> Measurements:
    return Measurements(pcr0, pcr1, pcr2)


def push(stack: Stack, listener: Listener, operator: Ed25519PrivateKey = OPERATOR) -> command._Push:
    pcrs = stack.process.device.measurements.hex()
    policy = AppraisalPolicy(
        measurements=(measured(*(bytes.fromhex(pcrs[f"PCR{n}"]) for n in range(3))),),
        unsafe_accept_simulated_root_sha256=stack.world.nitro_root_sha256,
    )
    spoken = OperatorListener("http://operators/", httpx.MockTransport(listener))
    return command._Push(spoken, policy, "compatible", SECRET, operator)


def test_it_is_taken_once_and_the_listener_sees_none_of_it(
    stack: Stack, listener: Listener
) -> None:
    work = push(stack, listener)
    assert work.to_all_that_lack_it() == {NAME: "taken"}
    assert work.to_all_that_lack_it() == {}
    assert work.to_all() == {NAME: "taken"}
    assert SECRET.encode() not in listener.seen


def test_a_listener_that_only_says_taken_is_not_believed(stack: Stack, listener: Listener) -> None:
    def forged(path: str, told: dict[str, object]) -> dict[str, object]:
        if path == "/upstream-credential":
            return {"confirmed": formats.to_base64(os.urandom(80))}
        return told

    listener.change = forged
    with pytest.raises(LatensgateError):
        push(stack, listener).to_all()


def test_nothing_is_sealed_to_an_enclave_of_another_image(stack: Stack, listener: Listener) -> None:
    work = push(stack, listener)
    policy = AppraisalPolicy(
        measurements=(measured(*(bytes([n]) * 48 for n in (1, 2, 3))),),
        unsafe_accept_simulated_root_sha256=stack.world.nitro_root_sha256,
    )
    other = command._Push(work.listener, policy, work.upstream, work.secret, work.key)
    with pytest.raises(LatensgateError):
        other.to_all()
    assert listener.seen == b""


def test_another_operators_push_is_refused(stack: Stack, listener: Listener) -> None:
    with pytest.raises(LatensgateError) as caught:
        push(stack, listener, Ed25519PrivateKey.generate()).to_all()
    assert caught.value.code is ErrorCode.ERR_FORBIDDEN


@pytest.mark.parametrize("answer", [{}, {"enclaves": []}, {"enclaves": {}, "more": 1}])
def test_a_list_of_another_form_is_refused(
    stack: Stack, listener: Listener, answer: dict[str, object]
) -> None:
    listener.change = lambda _path, _told: answer
    with pytest.raises(LatensgateError):
        push(stack, listener).to_all()


def test_an_enclave_that_does_not_answer_is_told(stack: Stack, listener: Listener) -> None:
    listener.change = lambda _path, _told: {"enclaves": {NAME: None}}
    work = push(stack, listener)
    assert work.to_all() == work.to_all_that_lack_it() == {NAME: "did not answer"}


def test_a_listener_that_is_not_there_is_told(tmp_path: Path) -> None:
    key, secret = tmp_path / "operator.pem", tmp_path / "secret"
    runner = CliRunner()
    made = runner.invoke(command.upstream_credential, ["keygen", str(key)])
    assert made.output.startswith('upstream_operator_key = "')
    assert key.stat().st_mode & 0o777 == 0o600
    again = runner.invoke(command.upstream_credential, ["keygen", str(key)])
    assert again.exit_code != 0
    secret.write_text(SECRET)
    with OperatorListener("http://127.0.0.1:9") as nobody, pytest.raises(LatensgateError):
        nobody.missing()
    assert command._secret(str(secret)) == SECRET
    assert command._signing_key(str(key)).sign(b"x")


def test_files_of_another_kind_are_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("no key")
    for read in (command._signing_key, command._secret):
        with pytest.raises(Exception, match=r"wrong2|no private key"):
            read(str(wrong) if read is command._signing_key else str(tmp_path / "wrong2"))
