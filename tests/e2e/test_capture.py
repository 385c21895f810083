"""What the parent sees, carries and could read holds no secret: on success and on every refusal.

Captured: every byte of the parent's socket, the egress tunnel both ways, what the enclave writes to
its standard streams, and every file in its working folder. Searched for: prompt, answer, and the
AWS credentials (which the parent delivers itself: for those only what the enclave sends counts).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import latensgate_enclave
from attack_tools import changed_code, wait_for
from capture import search
from e2e_client import Chat, Client, Sealed, chat, tenant_key
from e2e_fixtures import NOTHING_HELD, QUICK, StartStack
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import Chunk
from latensgate_shared.kms_envelope import encryption_context
from latensgate_shared.limits import SEALED_REQUEST_MAX_BYTES
from latensgate_shared.sealed_plaintext import KMSEnvelope
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.world import ACCOUNT, World
from stack import Answer, CallFailedError, ParentLink, Stack

PROMPT = "Zanzibar-prompt-secret-4711-\u00fc"
ANSWER = f"You said: {PROMPT}"
TOOL = "Quetzal_tool_secret_0815"
MAIL = "quetzalcoatl.secret@zanzibar-mail.com"


@dataclass
class Capture:
    """Everything outside the enclave that it touches."""

    stack: Stack
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    tunnel: bytearray = field(default_factory=bytearray)

    def tap(self, direction: str, data: bytes) -> None:
        (self.sent if direction == "sent" else self.received).extend(data)

    def tap_tunnel(self, _: str, data: bytes) -> None:
        self.tunnel.extend(data)

    def link(self) -> ParentLink:
        link = self.stack.link()
        link.tap = self.tap
        return link

    def written(self) -> dict[str, bytes]:
        """What the process wrote to its streams and to files in its working folder."""
        assert self.stack.output is not None
        folder = self.stack.output.parent / self.stack.output.stem
        files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return {**files, "output": self.stack.output.read_bytes()}

    def assert_silent(self) -> None:
        from_enclave = {
            **self.written(),
            "socket, received": bytes(self.received),
            "tunnel": bytes(self.tunnel),
        }
        everything = {**from_enclave, "socket, sent": bytes(self.sent)}
        assert search(everything, [PROMPT, ANSWER, TOOL, MAIL]) == []
        held = self.stack.world.service
        secrets = [held.secret_access_key, held.session_token or ""]
        assert search(from_enclave, secrets) == []
        assert self.received
        assert self.tunnel


@dataclass
class Scene:
    """A captured stack, and a client at work in it."""

    capture: Capture
    client: Client
    link: ParentLink

    @property
    def world(self) -> World:
        return self.capture.stack.world

    def fault(self, name: str, status: int = 400) -> None:
        """Let Bedrock fail with the prompt in its own words."""
        error = AWSError(status, name, f"the prompt was {PROMPT}")
        self.world.home.bedrock.faults.on(Fault(FaultKind.ERROR, error))

    def code(self, sealed: Sealed, wire: bytes | None = None) -> ErrorCode | None:
        """Send; return the code of whatever refusal comes, or None."""
        try:
            answer = self.link.call(sealed.call, sealed.wire if wire is None else wire)
        except CallFailedError as error:
            return error.code
        return self.client.open(sealed, answer).code

    def ask(self, **fields: object) -> ErrorCode | None:
        return self.code(self.client.seal(secret_chat(**fields)))


def secret_chat(**fields: object) -> Chat:
    return chat(PROMPT, **fields)


@pytest.fixture
def scenes(own_world: World, start_stack: StartStack) -> Iterator[Callable[..., Scene]]:
    """Make captured stacks, in a world of their own: the tunnel carries nobody else's bytes."""
    limits = {**QUICK, "KMS_GATE_CHECK_S": 300, "CALL_UPLOAD_TIMEOUT_MS": 800}
    with ExitStack() as links:

        def make(**how: object) -> Scene:
            stack = start_stack(own_world, policy=NOTHING_HELD, limits=limits, **how)
            capture = Capture(stack)
            own_world.tunnel.tap = capture.tap_tunnel
            link = links.enter_context(capture.link())
            stack.open_gate(link)
            return Scene(capture, Client.attest(stack, link), link)

        yield make


@pytest.fixture
def quiet(scenes: Callable[..., Scene]) -> Scene:
    return scenes()


# --- what a request can be refused with, and how to bring it about ---

Bring = Callable[[Scene], ErrorCode | None]


def _envelope(scene: Scene, *, fault: Fault | None = None, deny: bool = False) -> ErrorCode | None:
    stack = scene.capture.stack
    key = tenant_key(stack)
    sealed = scene.client.seal_enveloped(secret_chat(), key)
    kms = scene.world.home.kms
    if deny:
        stack.world.set_policy(key.arn, json.dumps({"Version": "2012-10-17", "Statement": []}))
    if fault:
        kms.faults.on(fault)
    return scene.code(sealed)


def _unwrapped(scene: Scene) -> ErrorCode | None:
    key = tenant_key(scene.capture.stack)
    data_key, _ = key.data_key(encryption_context(scene.client.tenant_id))
    envelope = KMSEnvelope(key.arn, b"not a ciphertext of KMS at all, but long enough to be one")
    return scene.code(scene.client.seal_under(secret_chat(), data_key, envelope))


def _stale(scene: Scene) -> ErrorCode | None:
    sealed = scene.client.seal(secret_chat())
    return scene.code(sealed, sealed.wire[:1] + bytes(8) + sealed.wire[9:])


def _replayed(scene: Scene) -> ErrorCode | None:
    sealed = scene.client.seal(secret_chat())
    assert scene.code(sealed) is None
    return scene.code(sealed)


def _aged(scene: Scene) -> ErrorCode | None:
    return scene.code(scene.client.seal(secret_chat(), scene.client.fields(issued_at_ms=1)))


def _policy(scene: Scene, policy: object) -> ErrorCode | None:
    body = chat(f"{PROMPT} {MAIL}")
    return scene.code(scene.client.seal(body, scene.client.fields(policy=policy)))


def _settings(scene: Scene) -> ErrorCode | None:
    fields = scene.client.fields(tenant_root=bytes(32))
    return scene.code(scene.client.seal(secret_chat(), fields))


def _outer(scene: Scene) -> ErrorCode | None:
    body = secret_chat()
    outer = scene.client.outer(body, model="another")
    return scene.code(scene.client.seal(body, outer=outer))


def _flipped(scene: Scene) -> ErrorCode | None:
    sealed = scene.client.seal(secret_chat())
    return scene.code(sealed, sealed.wire[:-1] + bytes([sealed.wire[-1] ^ 1]))


def _throttled(scene: Scene) -> ErrorCode | None:
    scene.fault("ThrottlingException", 429)
    return scene.ask()


def _upstream(name: str) -> Bring:
    def bring(scene: Scene) -> ErrorCode | None:
        scene.fault(name)
        return scene.ask()

    return bring


def _logging(scene: Scene) -> ErrorCode | None:
    scene.world.home.sts.faults.clear()
    scene.world.home.control.logging_accounts.add(ACCOUNT)
    scene.link.call(scene.capture.stack.credentials())
    code = scene.ask()
    scene.world.home.control.logging_accounts.clear()
    scene.link.call(scene.capture.stack.credentials())
    return code


def _identity(scene: Scene) -> ErrorCode | None:
    scene.world.home.sts.faults.on(Fault(FaultKind.CUT, times=None))
    scene.capture.stack.advance(130)
    return scene.ask()


def _upload_timeout(scene: Scene) -> ErrorCode | None:
    sealed = scene.client.seal(secret_chat())
    call_id = scene.link.frames.next_call_id
    frames = scene.link.frames
    scene.link.send_bytes(frames.send(calls.request_frame(call_id, sealed.call)))
    scene.link.send_bytes(frames.send(Chunk(call_id, sealed.wire[:-5])))
    found = scene.link.finish_all([call_id])[call_id]
    assert isinstance(found, ErrorCode)
    return found


def _cancelled(scene: Scene) -> ErrorCode | None:
    scene.world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=3, after_events=2))
    sealed = scene.client.seal(secret_chat(stream=True))
    call_id = scene.link.start(sealed.call, sealed.wire)
    body = b""
    while not body:
        event = scene.link.next_event()
        body += event.data if isinstance(event, Chunk) else b""
    scene.link.cancel(call_id)
    answer = scene.link.finish_all([call_id])[call_id]
    assert isinstance(answer, Answer)
    return scene.client.open(sealed, replace(answer, body=body + answer.body)).code


def _draining(scene: Scene) -> ErrorCode | None:
    scene.link.call(calls.DrainCall())
    return scene.ask()


BRING: dict[ErrorCode, Bring] = {
    ErrorCode.ERR_MALFORMED: lambda scene: scene.code(
        scene.client.seal(secret_chat()), scene.client.seal(secret_chat()).wire[:200]
    ),
    ErrorCode.ERR_TOO_LARGE: lambda scene: scene.code(
        scene.client.seal(secret_chat()), bytes(SEALED_REQUEST_MAX_BYTES + 1)
    ),
    ErrorCode.ERR_VERSION: lambda scene: scene.code(
        scene.client.seal(secret_chat()), b"\x02" + bytes(4_000)
    ),
    ErrorCode.ERR_KEY_STALE: _stale,
    ErrorCode.ERR_OPEN_FAILED: _flipped,
    ErrorCode.ERR_REPLAY: _replayed,
    ErrorCode.ERR_REQUEST_AGE: _aged,
    ErrorCode.ERR_OUTER_MISMATCH: _outer,
    ErrorCode.ERR_KMS_DENIED: lambda scene: _envelope(scene, deny=True),
    ErrorCode.ERR_KMS_UNREACHABLE: lambda scene: _envelope(scene, fault=Fault(FaultKind.CUT)),
    ErrorCode.ERR_KMS_ENVELOPE: _unwrapped,
    ErrorCode.ERR_REQUEST_INVALID: lambda scene: scene.ask(temperature=PROMPT),
    ErrorCode.ERR_UNSUPPORTED: lambda scene: scene.ask(**{TOOL: PROMPT}),
    ErrorCode.ERR_MODEL_UNKNOWN: lambda scene: scene.ask(model="absent"),
    ErrorCode.ERR_PII_HARD_FAIL: lambda scene: _policy(
        scene, {"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}}
    ),
    ErrorCode.ERR_POLICY_INVALID: lambda scene: _policy(scene, {"rules": {PROMPT: PROMPT}}),
    ErrorCode.ERR_SETTINGS_REFUSED: _settings,
    ErrorCode.ERR_UPSTREAM: _upstream("InternalServerException"),
    ErrorCode.ERR_UPSTREAM_THROTTLED: _throttled,
    ErrorCode.ERR_UPSTREAM_TIMEOUT: _upstream("ModelTimeoutException"),
    ErrorCode.ERR_UPSTREAM_REFUSED: _upstream("ValidationException"),
    ErrorCode.ERR_UPSTREAM_IDENTITY: _identity,
    ErrorCode.ERR_UPSTREAM_LOGGING: _logging,
    ErrorCode.ERR_ENCLAVE_TIMEOUT: _upload_timeout,
    ErrorCode.ERR_CANCELLED: _cancelled,
    ErrorCode.ERR_ENCLAVE_UNAVAILABLE: _draining,
}
NOT_OF_A_REQUEST = {
    ErrorCode.ERR_KMS_KEY_UNFIT: "answers configure_kms; tests/attacks/test_attack_kms.py",
    ErrorCode.ERR_OVERLOADED: "below: places taken, before anything is sent",
    ErrorCode.ERR_PII_ENGINE: "below: only with a broken engine",
    ErrorCode.ERR_INTERNAL: "below: only with a broken enclave",
    ErrorCode.ERR_CONFIGURATION: "ends the start of an enclave, and a verifier's",
}
"""What enclave code names beside the codes above, and why no request brings it about."""


def test_nothing_leaks_when_all_goes_well(quiet: Scene) -> None:
    tool = {"type": "function", "function": {"name": TOOL, "description": PROMPT}}
    forced = {"type": "function", "function": {"name": TOOL}}
    for stream in (False, True):
        assert quiet.ask(stream=stream) is None
        assert quiet.ask(stream=stream, tools=[tool], tool_choice=forced) is None
        assert _envelope(quiet) is None
    assert PROMPT.encode() in b"".join(
        json.dumps(json.loads(body), ensure_ascii=False).encode()
        for body in quiet.world.home.bedrock.seen
    )
    quiet.capture.assert_silent()


def test_nothing_leaks_on_any_refusal(quiet: Scene) -> None:
    """One enclave, every code in turn; the last ones leave it unfit to serve."""
    brought = {code: bring(quiet) for code, bring in BRING.items()}
    assert brought == {code: code for code in BRING}
    quiet.capture.assert_silent()


def test_every_code_that_the_enclave_names_is_brought_about_or_explained() -> None:
    folder = Path(next(iter(latensgate_enclave.__path__)))
    text = "".join(path.read_text() for path in folder.rglob("*.py"))
    named = {code for code in ErrorCode if f"ErrorCode.{code.name}" in text}
    assert named <= BRING.keys() | NOT_OF_A_REQUEST.keys()


def test_planted_leak_in_the_capture_is_found(quiet: Scene) -> None:
    """The taps see what they should: a secret put into each place is found there."""
    assert quiet.ask() is None
    capture = quiet.capture
    capture.assert_silent()
    assert capture.stack.output is not None
    for place in (capture.sent, capture.received, capture.tunnel):
        kept = bytes(place)
        place.extend(PROMPT.encode())
        with pytest.raises(AssertionError, match="Leak"):
            capture.assert_silent()
        place[:] = kept
    with capture.stack.output.open("a") as output:
        output.write(MAIL)
    with pytest.raises(AssertionError, match="Leak"):
        capture.assert_silent()


_PLACE = "        budget = Budget()\n"
"""In `Pipeline.scan`, where `admitted` holds the prompt."""
LEAKS = {
    "log": "__import__('sys').stderr.write(f'{admitted.request.messages[0].text}\\n')",
    "file": "open('left', 'wb').write("
    "__import__('gzip').compress(admitted.request.messages[0].text[0].encode()))",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_leak_planted_in_the_enclave_is_found(
    scenes: Callable[..., Scene], tmp_path: Path, leak: str
) -> None:
    code = changed_code(
        tmp_path / "code",
        "latensgate_enclave/pipeline.py",
        _PLACE,
        f"{_PLACE}        {LEAKS[leak]}\n",
    )
    scene = scenes(code=code)
    assert scene.ask() is None
    with pytest.raises(AssertionError, match="Leak"):
        scene.capture.assert_silent()


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ("raise ValueError(str(admitted.request.messages[0].text))", ErrorCode.ERR_INTERNAL),
        ("raise PIIEngineError(str(admitted.request.messages[0].text))", ErrorCode.ERR_PII_ENGINE),
    ],
)
def test_nothing_leaks_when_the_enclave_itself_breaks(
    scenes: Callable[..., Scene], tmp_path: Path, broken: str, code: ErrorCode
) -> None:
    """Unforeseen exceptions carry texts; none of them may leave, in the seal or beside it."""
    changed = changed_code(
        tmp_path / "code",
        "latensgate_enclave/pipeline.py",
        _PLACE,
        f"        from latensgate_enclave.pii import PIIEngineError\n        {broken}\n{_PLACE}",
    )
    scene = scenes(code=changed)
    for stream in (False, True):
        assert scene.ask(stream=stream) is code
    scene.capture.assert_silent()


def test_nothing_leaks_when_places_are_taken(quiet: Scene) -> None:
    sealed = quiet.client.seal(secret_chat())
    opening = b"".join(
        quiet.link.frames.send(calls.request_frame(call_id, sealed.call))
        for call_id in range(quiet.link.frames.next_call_id, quiet.link.frames.next_call_id + 300)
    )
    quiet.link.send_bytes(opening)
    with quiet.capture.link() as other:
        refused = replace(quiet, link=other)
        wait_for(lambda: refused.ask() is ErrorCode.ERR_OVERLOADED)
    quiet.capture.assert_silent()


strace = shutil.which("strace")


@pytest.mark.skipif(strace is None, reason="strace is not installed")
@pytest.mark.skipif("LATENSGATE_SLOW" not in os.environ, reason="set LATENSGATE_SLOW=1")
def test_enclave_opens_no_file_for_writing_and_only_its_own_sockets(
    scenes: Callable[..., Scene], tmp_path: Path
) -> None:
    """By the kernel's own account of the whole process tree, from its first instruction."""
    trace = tmp_path / "trace"
    kinds = "trace=open,openat,creat,connect,bind,rename,unlink,mkdir"
    scene = scenes(wrapper=[str(strace), "-f", "-q", "-e", kinds, "-o", str(trace)])
    for stream in (False, True):
        assert scene.ask(stream=stream) is None
    lines = trace.read_text().splitlines()
    writing = [line for line in lines if re.search("O_WRONLY|O_RDWR|O_CREAT|mkdir|rename", line)]
    assert [line for line in writing if "/dev/null" not in line] == []
    reached = set(re.findall(r'sun_path="([^"]+)"', "\n".join(lines)))
    folder = str(scene.world.folder)
    assert reached
    interpreter = "/var/run/nscd/socket"  # asked by libc for the home folder, at Python's start
    assert {path for path in reached if not path.startswith(folder)} <= {interpreter}
    assert not re.search("AF_INET", "\n".join(lines))
