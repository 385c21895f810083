"""A whole stack for tests: simulated AWS, one enclave process, and a parent's connection to it.

The connection is the test's own, over the real UNIX socket with the real frame rules, so a test can
be the honest parent or the malicious one.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from unittest import mock

from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import (
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    Head,
    HeadMap,
    Role,
    split_body,
)
from latensgate_shared.kms_policy import KeyPolicyParameters, render_key_policy_text
from latensgate_sim import deployment as deployment_files
from latensgate_sim.deployment import ADMIN_ROLE_ARN, SERVICE_ROLE_ARN
from latensgate_sim.launcher import EnclaveLaunch, EnclaveProcess, code_folders, start_process
from latensgate_sim.measure import EnclaveFiles, measure_enclave_files
from latensgate_sim.world import ACCOUNT, World

MODEL = "claude-3.5-sonnet"
START_TIMEOUT_S = 30.0
CALL_TRIES = 40
RATE_LIMIT_WAIT_S = 0.25
"""Freshness proofs are few a second, and tests share an enclave."""

DEPLOYMENT = f"""
account = "{ACCOUNT}"
regions = ["us-east-1"]
service_role_arn = "{SERVICE_ROLE_ARN}"
key_admin_role_arn = "{ADMIN_ROLE_ARN}"
invocation_logging = "refuse"

[models."{MODEL}"]
model_id = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
region = "us-east-1"
capabilities = "full"
""" + "".join(
    f"""
[models."{name}"]
model_id = "{alias.model_id}"
region = "us-east-1"
capabilities = "{alias.capabilities}"
"""
    for name, alias in deployment_files.ALIASES.items()
    if "embed" in name
)


class CallFailedError(Exception):
    """The enclave ended a call with an error."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass
class Answer:
    """What one call gave."""

    head: HeadMap
    body: bytes
    end: HeadMap


@dataclass
class ParentLink:
    """One connection to an enclave, blocking. `tap` sees `sent` and `received` bytes."""

    peer: socket.socket
    frames: FrameConnection = field(default_factory=lambda: FrameConnection(Role.PARENT))
    pending: list[Event] = field(default_factory=list[Event])
    tap: Callable[[str, bytes], None] | None = None

    @classmethod
    def connect(cls, path: Path) -> ParentLink:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            peer = socket.socket(socket.AF_UNIX)
            try:
                peer.connect(str(path))
            except OSError:
                peer.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                peer.settimeout(START_TIMEOUT_S)
                return cls(peer)

    def close(self) -> None:
        self.peer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send_bytes(self, data: bytes) -> None:
        """Send what need not be a frame."""
        if self.tap is not None:
            self.tap("sent", data)
        self.peer.sendall(data)

    def start(self, call: calls.Call, body: bytes = b"") -> int:
        """Send a call and its body; return its id."""
        call_id = self.frames.next_call_id
        out = self.frames.send(calls.request_frame(call_id, call))
        out += b"".join(self.frames.send(chunk) for chunk in split_body(call_id, body))
        self.send_bytes(out + self.frames.send(End(call_id)))
        return call_id

    def cancel(self, call_id: int) -> None:
        self.send_bytes(self.frames.send(Cancel(call_id)))

    def next_event(self) -> Event:
        while not self.pending:
            data = self.peer.recv(1 << 18)
            if not data:
                raise ConnectionError("the enclave closed the connection")
            if self.tap is not None:
                self.tap("received", data)
            self.pending += self.frames.receive(data)
        return self.pending.pop(0)

    def finish(self, call_id: int) -> Answer:
        """Wait for the whole answer to a call."""
        outcome = self.finish_all([call_id])[call_id]
        if isinstance(outcome, ErrorCode):
            raise CallFailedError(outcome)
        return outcome

    def finish_all(self, call_ids: Iterable[int]) -> dict[int, Answer | ErrorCode]:
        """Wait until all of these calls have ended, in whatever order their frames come."""
        answers = {call_id: Answer({}, b"", {}) for call_id in call_ids}
        done: dict[int, Answer | ErrorCode] = {}
        while len(done) < len(answers):
            event = self.next_event()
            match event:
                case Accepted():
                    continue
                case Head() if event.call_id in answers:
                    answers[event.call_id].head = event.head
                case Chunk() if event.call_id in answers:
                    answers[event.call_id].body += event.data
                case End() if event.call_id in answers:
                    answers[event.call_id].end = event.head
                    done[event.call_id] = answers[event.call_id]
                case Error() if event.call_id in answers:
                    done[event.call_id] = event.code
                case _:
                    raise AssertionError(f"unexpected {event}")
        return done

    def call(self, call: calls.Call, body: bytes = b"") -> Answer:
        """Call and wait; ask again later where the enclave says so."""
        for _ in range(CALL_TRIES):
            try:
                return self.finish(self.start(call, body))
            except CallFailedError as error:
                if error.code is not ErrorCode.ERR_RATE_LIMITED:
                    raise
                time.sleep(RATE_LIMIT_WAIT_S)
        raise CallFailedError(ErrorCode.ERR_RATE_LIMITED)


@dataclass
class Stack:
    """A running world with one enclave."""

    world: World
    process: EnclaveProcess
    config: Path
    key_arn: str
    apart: Apart | None = None

    @property
    def output(self) -> Path | None:
        """What the process wrote, if it was started apart."""
        return self.apart.output if self.apart else None

    def restart(self) -> None:
        """Start the same image again after its process has ended, on the same socket."""
        assert self.apart is not None
        assert self.process.process.poll() is not None
        self.world.remove_enclave(self.process.name)
        self.process = launch_apart(self.world, self.config, self.apart)

    def event_count(self, name: str) -> int:
        """How often the enclave has logged an event."""
        assert self.output is not None
        return self.output.read_text().count(f"event={name}")

    def link(self) -> ParentLink:
        return ParentLink.connect(self.process.listen)

    def parameters(self) -> KeyPolicyParameters:
        return key_policy_parameters(self.process, self.config)

    def credentials(self) -> calls.CredentialsCall:
        held = self.world.service
        return calls.CredentialsCall(
            access_key_id=held.access_key_id,
            secret_access_key=held.secret_access_key,
            session_token=held.session_token or "",
            expires_at_s=int(self.world.clock.now().timestamp()) + 3600,
        )

    def open_gate(self, link: ParentLink) -> None:
        """Do what an honest parent does at the start."""
        link.call(self.credentials())
        self.configured(link)

    def configured(
        self, link: ParentLink, key_arn: str | None = None, wrapped_secret: bytes | None = None
    ) -> bytes | None:
        """Open the KMS gate; return the wrapped service secret if it is new."""
        answer = link.call(calls.ConfigureKMSCall(key_arn or self.key_arn, wrapped_secret))
        return calls.ConfigureKMSAnswer.from_head(answer.head).wrapped_secret

    def advance(self, seconds: float) -> None:
        """Move the world's time, and wait until an enclave with quick timers has taken it over."""
        nsm = self.process.device.nsm
        with mock.patch.object(nsm, "attest", wraps=nsm.attest) as attest:
            self.world.clock.advance(seconds)
            deadline = time.monotonic() + START_TIMEOUT_S
            while attest.call_count < 3:  # each refresh asks once, and ends before the next
                assert time.monotonic() < deadline
                time.sleep(0.02)


def write_config(
    folder: Path, world: World, *, deployment: str = DEPLOYMENT, policy: str | None = None
) -> Path:
    """Write the four measured files of a simulated enclave; the policy defaults to the shipped."""
    deployment_files.write_config(folder, world, deployment)
    if policy is not None:
        (folder / "policy.toml").write_text(policy)
    return folder


def launch(
    world: World, config: Path, name: str = "enclave", *, extra_code: Sequence[Path] = ()
) -> EnclaveProcess:
    """Measure and start an enclave process."""
    files = measured_files(config, [*code_folders(), *extra_code])
    return start_process(world, EnclaveLaunch(name, files, ["--config", str(config)]))


def measured_files(config: Path, code: Sequence[Path]) -> EnclaveFiles:
    names = ("policy.toml", "trust.toml", "ca.pem")
    return EnclaveFiles(
        runtime=[*code, *(config / name for name in names)],
        application=[config / "deployment.toml"],
    )


@dataclass(frozen=True)
class Apart:
    """How a test wants its enclave process started, other than the launcher of sim does it.

    Attributes:
        folder: Working folder; standard output and error go to the file `output` beside it.
        name: Of the enclave, unique in its world.
        code: Package folders that are measured and run in place of the installed ones.
        limits: Values of `latensgate_shared.limits` in that process: the same timers, only shorter.
        debug: Zero PCRs, as in `--debug-mode`.
        wrapper: Command in front of the interpreter, such as strace.
    """

    folder: Path
    name: str = "enclave"
    code: Sequence[Path] = ()
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    debug: bool = False
    wrapper: Sequence[str] = ()

    @property
    def output(self) -> Path:
        """What the process wrote to standard output and error."""
        return self.folder.parent / f"{self.folder.name}.output"

    def program(self) -> str:
        """Python that sets the limits and then does what `-m latensgate_enclave` does."""
        folders = [str(folder.parent) for folder in self.code]
        lines = [f"import sys; sys.path[:0] = {folders!r}", "import latensgate_shared.limits as at"]
        lines += [f"assert at.{name}; at.{name} = {value!r}" for name, value in self.limits.items()]
        return "\n".join([*lines, "from latensgate_enclave.__main__ import main; sys.exit(main())"])


def launch_apart(world: World, config: Path, apart: Apart) -> EnclaveProcess:
    """Measure and start an enclave process as `apart` says."""
    code = apart.code or code_folders()
    measurements = measure_enclave_files(measured_files(config, code))
    device = world.add_enclave(apart.name, measurements, debug=apart.debug)
    listen = world.folder / f"{apart.name}.sock"
    apart.folder.mkdir(parents=True, exist_ok=True)
    command = [*apart.wrapper, sys.executable, "-I", "-B", "-c", apart.program()]
    command += ["--nsm", str(device.socket), "--egress", f"unix:{world.tunnel.path}"]
    command += ["--listen", f"unix:{listen}", "--config", str(config)]
    with apart.output.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={},
            cwd=apart.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return EnclaveProcess(apart.name, device, listen, process)


def key_policy_parameters(process: EnclaveProcess, config: Path) -> KeyPolicyParameters:
    return deployment_files.key_policy_parameters(process.device.measurements, config)


@contextmanager
def running_stack(
    folder: Path,
    world: World,
    apart: Apart | None = None,
    *,
    deployment: str = DEPLOYMENT,
    policy: str | None = None,
) -> Generator[Stack]:
    """Start an enclave beside a world and make its KMS key."""
    config = write_config(folder / "config", world, deployment=deployment, policy=policy)
    process = launch(world, config) if apart is None else launch_apart(world, config, apart)
    key_policy = render_key_policy_text(key_policy_parameters(process, config))
    running = Stack(world, process, config, world.create_key(key_policy), apart)
    try:
        yield running
    finally:
        running.process.stop()
        world.remove_enclave(running.process.name)
