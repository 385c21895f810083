"""A captured enclave, and every way in which a request to it can be refused.

Captured: every byte of the parent's socket, the egress tunnel both ways, what the enclave writes to
its standard streams, and every file in its working folder. Searched for: prompt, answer, and the
AWS credentials (which the parent delivers itself: for those only what the enclave sends counts).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from capture import search
from e2e_client import Chat, Client, Sealed, chat, tenant_key
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import Chunk
from latensgate_shared.kms_envelope import encryption_context
from latensgate_shared.limits import SEALED_REQUEST_MAX_BYTES, UPSTREAM_ATTEMPTS_MAX_COUNT
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
        held = self.stack.world.service
        credentials = [held.secret_access_key, held.session_token or ""]
        leaks = search(everything, [PROMPT, ANSWER, TOOL, MAIL])
        leaks += search(from_enclave, credentials)
        assert not leaks, leaks
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

    def fault(self, name: str, status: int = 400, words: str = "the prompt was") -> None:
        """Let Bedrock fail with the prompt in its own words."""
        error = AWSError(status, name, f"{words} {PROMPT}")
        times = UPSTREAM_ATTEMPTS_MAX_COUNT if status == 429 else 1
        self.world.home.bedrock.faults.on(Fault(FaultKind.ERROR, error, times=times))

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


# --- what a request can be refused with, and how to bring it about ---

Bring = Callable[[Scene], ErrorCode | None]


def envelope(scene: Scene, *, fault: Fault | None = None, deny: bool = False) -> ErrorCode | None:
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


def _upstream(name: str, words: str = "the prompt was") -> Bring:
    def bring(scene: Scene) -> ErrorCode | None:
        scene.fault(name, words=words)
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
    ErrorCode.ERR_KMS_DENIED: lambda scene: envelope(scene, deny=True),
    ErrorCode.ERR_KMS_UNREACHABLE: lambda scene: envelope(scene, fault=Fault(FaultKind.CUT)),
    ErrorCode.ERR_KMS_ENVELOPE: _unwrapped,
    ErrorCode.ERR_REQUEST_INVALID: lambda scene: scene.ask(temperature=PROMPT),
    ErrorCode.ERR_UNSUPPORTED: lambda scene: scene.ask(**{TOOL: PROMPT}),
    ErrorCode.ERR_MODEL_UNKNOWN: lambda scene: scene.ask(model="absent"),
    ErrorCode.ERR_PII_HARD_FAIL: lambda scene: _policy(
        scene, {"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}}
    ),
    ErrorCode.ERR_POLICY_INVALID: lambda scene: _policy(scene, {"rules": {PROMPT: PROMPT}}),
    ErrorCode.ERR_PII_NO_NAMES: lambda scene: _policy(
        scene, {"rules": {"PERSON": {"prompt": {"action": "mask"}}}}
    ),
    ErrorCode.ERR_SETTINGS_REFUSED: _settings,
    ErrorCode.ERR_UPSTREAM: _upstream("InternalServerException"),
    ErrorCode.ERR_UPSTREAM_THROTTLED: _throttled,
    ErrorCode.ERR_UPSTREAM_TIMEOUT: _upstream("ModelTimeoutException"),
    ErrorCode.ERR_UPSTREAM_REFUSED: _upstream("ValidationException"),
    ErrorCode.ERR_UPSTREAM_DENIED: _upstream("AccessDeniedException"),
    ErrorCode.ERR_UPSTREAM_QUOTA: _upstream("ServiceQuotaExceededException"),
    ErrorCode.ERR_CONTEXT_LENGTH: _upstream("ValidationException", "Input is too long:"),
    ErrorCode.ERR_UPSTREAM_IDENTITY: _identity,
    ErrorCode.ERR_UPSTREAM_LOGGING: _logging,
    ErrorCode.ERR_ENCLAVE_TIMEOUT: _upload_timeout,
    ErrorCode.ERR_CANCELLED: _cancelled,
    ErrorCode.ERR_ENCLAVE_UNAVAILABLE: _draining,
}
