"""What the parent sees, carries and could read holds no secret: on success and on every refusal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import latensgate_enclave
from attack_tools import changed_code, wait_for
from capture_scenes import BRING, MAIL, PROMPT, TOOL, Capture, Scene, envelope, secret_chat
from e2e_client import Client
from e2e_fixtures import NOTHING_HELD, QUICK, StartStack
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_sim.world import World


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


NOT_OF_A_REQUEST = {
    ErrorCode.ERR_HELD: "of a tenant with approvers; tests/e2e/test_holds.py",
    ErrorCode.ERR_HOLD_DENIED: "answers a decision; tests/e2e/test_holds.py",
    ErrorCode.ERR_HOLD_EXPIRED: "answers a decision; tests/attacks/test_attack_holds.py",
    ErrorCode.ERR_OUTCOME_UNKNOWN: "answers a decision; tests/attacks/test_attack_holds.py",
    ErrorCode.ERR_KMS_KEY_UNFIT: "answers configure_kms; tests/attacks/test_attack_kms.py",
    ErrorCode.ERR_RATE_LIMITED: "answers a freshness proof; tests/unit/enclave/test_service.py",
    ErrorCode.ERR_OVERLOADED: "below: places taken, before anything is sent",
    ErrorCode.ERR_PII_ENGINE: "below: only with a broken engine",
    ErrorCode.ERR_INTERNAL: "below: only with a broken enclave",
    ErrorCode.ERR_CONFIGURATION: "ends the start of an enclave, and a verifier's",
    ErrorCode.ERR_NOT_FOUND: "answers the operator's call; tests/sdk/test_upstream_push.py",
    ErrorCode.ERR_UPSTREAM_CREDENTIAL: "only with a measured upstream; tests/e2e/test_upstreams.py",
    ErrorCode.ERR_UPSTREAM_UNAVAILABLE: "after failures; tests/unit/enclave/test_upstream.py",
    ErrorCode.ERR_PII_BUSY: "of the flavour that finds names; tests/ner",
    ErrorCode.ERR_PII_CACHE: "of a broken cache; tests/unit/enclave/pii",
    ErrorCode.ERR_PII_DEADLINE: "of the flavour that finds names; tests/ner",
    ErrorCode.ERR_PII_MEMORY: "of the flavour that finds names; tests/ner",
    ErrorCode.ERR_PII_PATTERN: "where RE2 itself gives up; tests/unit/enclave/pii",
    ErrorCode.ERR_PII_WORKER_LOST: "of the flavour that finds names; tests/ner",
}
"""What enclave code names beside the codes above, and why no request brings it about."""


def test_nothing_leaks_when_all_goes_well(quiet: Scene) -> None:
    tool = {"type": "function", "function": {"name": TOOL, "description": PROMPT}}
    forced = {"type": "function", "function": {"name": TOOL}}
    for stream in (False, True):
        assert quiet.ask(stream=stream) is None
        assert quiet.ask(stream=stream, tools=[tool], tool_choice=forced) is None
        assert envelope(quiet) is None
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


_PLACE = "        budget = Budget(max_chars=PII_REQUEST_MAX_CHARS)\n"
"""In `Pipeline.scan`, where `admitted` holds the prompt."""
LEAKS = {
    "log": "__import__('sys').stderr.write(f'{admitted.request.parts()[0].text}\\n')",
    "file": "open('left', 'wb').write("
    "__import__('gzip').compress(admitted.request.parts()[0].text.encode()))",
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
        ("raise ValueError(admitted.request.parts()[0].text)", ErrorCode.ERR_INTERNAL),
        ("raise PIIEngineError(admitted.request.parts()[0].text)", ErrorCode.ERR_PII_ENGINE),
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


def _stop_traced(tracer: int) -> None:
    """End the enclave below its tracer, which does not pass signals on; the tracer then ends."""
    children = Path(f"/proc/{tracer}/task/{tracer}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGTERM)


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
    try:
        for stream in (False, True):
            assert scene.ask(stream=stream) is None
    finally:
        _stop_traced(scene.capture.stack.process.process.pid)
    lines = trace.read_text().splitlines()
    writing = [line for line in lines if re.search("O_WRONLY|O_RDWR|O_CREAT|mkdir|rename", line)]
    assert [line for line in writing if "/dev/null" not in line] == []
    reached = set(re.findall(r'sun_path="([^"]+)"', "\n".join(lines)))
    folder = str(scene.world.folder)
    assert reached
    interpreter = "/var/run/nscd/socket"  # asked by libc for the home folder, at Python's start
    assert {path for path in reached if not path.startswith(folder)} <= {interpreter}
    assert not re.search("AF_INET", "\n".join(lines))
