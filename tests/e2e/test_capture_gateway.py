"""The real parent holds nothing of a prompt: memory, database, logs, metrics, files, traffic.

Chats with planted secrets run through the whole product, well and into every refusal that a client
can reach; then everything that the parent's operator could look at is searched.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from capture import Leak, search
from gateway_stack import GatewayStack, gateway_stack
from hostile_fixtures import HARD_FAIL, Got, Victims, closing_clients
from latensgate import errors
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import UPSTREAM_ATTEMPTS_MAX_COUNT
from latensgate_sim.dev_stack import StackOptions
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.gateway import create_tenant
from malicious_gateway import Asked, Honest, Reply, malicious
from parent_capture import everything, files, memory_leaks, metrics, parent_pid

PROMPT = "Quetzal-prompt-secret-0815-\u00fc"
ANSWER = f"You said: {PROMPT}"
MAIL = "quetzalcoatl.secret@zanzibar-mail.com"
PLANTED = "planted-in-the-parent-4711-\u00fc"
SECRETS = [PROMPT, ANSWER, MAIL]


@dataclass
class Wire:
    """A malicious gateway that changes nothing and keeps both directions."""

    sent: bytearray = field(default_factory=bytearray)
    told: bytearray = field(default_factory=bytearray)

    def __call__(self, asked: Asked, honest: Honest) -> Reply:
        told = honest(asked)
        self.sent += asked.raw
        self.told += repr(told.headers).encode() + told.body
        return told


@dataclass
class Scene:
    """A stack of its own, whose traffic is kept."""

    stack: GatewayStack
    victims: Victims
    wire: Wire

    def ask(self, way: str, text: str = PROMPT, **options: object) -> Got:
        self.victims.gateway.attack = self.wire
        return self.victims.ask(way, text, **options)

    def code(self, way: str, text: str = PROMPT, **options: object) -> ErrorCode | None:
        error = self.ask(way, text, max_retries=0, **options).error
        assert error is None or isinstance(error, errors.LatensgateClientError), error
        return None if error is None else error.error_code

    def everything(self) -> dict[str, bytes]:
        return {
            **everything(self.stack),
            "HTTP, sent": bytes(self.wire.sent),
            "HTTP, told": bytes(self.wire.told),
        }

    def leaks(self, secrets: list[str]) -> list[Leak]:
        return search(self.everything(), secrets) + memory_leaks(parent_pid(self.stack), secrets)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("captured")
    options = StackOptions(model="scripted", port=0, requests_per_minute=1_000)
    with (
        gateway_stack(folder, options) as stack,
        malicious(stack.url) as gateway,
        closing_clients() as clients,
    ):
        other = create_tenant(stack.dev.plan, "other", requests_per_minute=100)
        yield Scene(stack, Victims(stack, gateway, other, folder / "state", clients), Wire())


Bring = Callable[[Scene], ErrorCode | None]


def _upstream(name: str, status: int = 400) -> Bring:
    def bring(scene: Scene) -> ErrorCode | None:
        error = AWSError(status, name, f"the prompt was {PROMPT}")
        times = UPSTREAM_ATTEMPTS_MAX_COUNT if status == 429 else 1
        fault = Fault(FaultKind.ERROR, error, times=times)
        scene.stack.dev.world.home.bedrock.faults.on(fault)
        return scene.code("unary")

    return bring


def _changed(change: Callable[[Asked], Asked]) -> Bring:
    def bring(scene: Scene) -> ErrorCode | None:
        def attack(asked: Asked, honest: Honest) -> Reply:
            return scene.wire(change(asked) if asked.inference else asked, honest)

        scene.victims.gateway.attack = attack
        error = scene.victims.ask("unary", PROMPT, max_retries=0).error
        assert isinstance(error, errors.LatensgateClientError)
        return error.error_code

    return bring


def _in_plain(scene: Scene) -> ErrorCode | None:
    """The mistake that somebody will make: here the parent does see it."""
    answer = httpx.post(
        f"{scene.stack.url}/api/inference",
        headers={"authorization": f"Bearer {scene.stack.api_key}"},
        json={"model": "m", "messages": [{"role": "user", "content": "not this one"}]},
        trust_env=False,
    )
    return ErrorCode[answer.json()["code"]]


BRING: dict[ErrorCode, Bring] = {
    ErrorCode.ERR_PII_HARD_FAIL: lambda scene: scene.code("unary", MAIL, policy=HARD_FAIL),
    ErrorCode.ERR_POLICY_INVALID: lambda scene: scene.code("unary", policy={"rules": {PROMPT: 1}}),
    ErrorCode.ERR_UPSTREAM: _upstream("InternalServerException"),
    ErrorCode.ERR_UPSTREAM_THROTTLED: _upstream("ThrottlingException", 429),
    ErrorCode.ERR_UPSTREAM_TIMEOUT: _upstream("ModelTimeoutException"),
    ErrorCode.ERR_UPSTREAM_REFUSED: _upstream("ValidationException"),
    ErrorCode.ERR_OPEN_FAILED: _changed(lambda asked: asked.changed(model="nova-2-lite")),
    ErrorCode.ERR_VERSION: _changed(lambda asked: asked.with_sealed(b"\x02" + asked.sealed[1:])),
    ErrorCode.ERR_KEY_STALE: _changed(
        lambda asked: asked.with_sealed(asked.sealed[:1] + bytes(8) + asked.sealed[9:])
    ),
    ErrorCode.ERR_FORBIDDEN: _changed(lambda asked: asked.changed(tenant_id="tnt_00000000")),
    ErrorCode.ERR_UNAUTHENTICATED: _changed(
        lambda asked: asked.headed(authorization="Bearer lg_test_" + "Z" * 43)
    ),
    ErrorCode.ERR_PLAINTEXT_REFUSED: _in_plain,
}


def bring_all(scene: Scene) -> None:
    """Chat well and badly."""
    for way in ("unary", "stream", "async unary", "async stream"):
        assert scene.ask(way).text == ANSWER
        assert scene.ask(way, f"{PROMPT} {MAIL}").error is None
    assert {code: bring(scene) for code, bring in BRING.items()} == {code: code for code in BRING}
    got = scene.ask("stream", MAIL, policy=HARD_FAIL)
    assert isinstance(got.error, errors.PIIHardFailError)


def test_the_parent_holds_nothing_of_a_prompt(scene: Scene) -> None:
    bring_all(scene)
    assert scene.leaks(SECRETS) == []
    assert scene.wire.sent
    assert scene.wire.told


def test_api_keys_are_stored_as_digests_alone(scene: Scene) -> None:
    """Sent by the client, they are in its requests; nothing the parent writes holds them."""
    assert scene.ask("unary").text == ANSWER
    written = {**files(scene.stack), "metrics": metrics(scene.stack)}
    for key in (scene.stack.api_key, scene.victims.other.api_key):
        assert search(written, [key, key.removeprefix("lg_test_")]) == []
    digest = hashlib.sha256(scene.stack.api_key.encode()).digest()
    stored = scene.stack.rows("SELECT digest FROM api_keys")
    assert (digest,) in stored
    assert digest.hex().encode() not in written["log"] + written["metrics"]
    assert base64.b64encode(digest) not in written["log"] + written["metrics"]


def test_credentials_are_in_no_file_and_no_answer(scene: Scene) -> None:
    """The parent delivers those of the service role; it writes them nowhere."""
    held = scene.stack.dev.world.service
    secrets = [held.secret_access_key, held.session_token or held.secret_access_key]
    assert search(scene.everything(), secrets) == []


def test_labels_of_metrics_are_bounded(scene: Scene) -> None:
    """No tenant, no key, no id of a request is a label."""
    text = metrics(scene.stack).decode()
    assert scene.stack.tenant_id not in text
    assert not re.search(r"aud_[0-9a-f]{16}|[0-9a-f]{8}-[0-9a-f]{4}-4", text)


def test_planted_leaks_are_found(scene: Scene) -> None:
    """In each place that is searched: put there through the parent itself where that can be."""
    key = {"authorization": f"Bearer {scene.stack.api_key}"}
    made = httpx.post(
        f"{scene.stack.url}/api/keys",
        headers=key,
        json={"name": PLANTED, "scopes": ["audit:read"]},
        trust_env=False,
    )
    assert made.status_code == 201
    found = {leak.place.split(" ")[0].rpartition("/")[2] for leak in scene.leaks([PLANTED])}
    assert {"memory", "latensgate.db-wal"} <= found, found
    for place in (scene.wire.sent, scene.wire.told):
        kept = bytes(place)
        place.extend(base64.b64encode(b"x" + PROMPT.encode()))
        assert search(scene.everything(), [PROMPT])
        place[:] = kept
    log = scene.stack.dev.world.folder / "parent.log"
    with log.open("a") as output:
        output.write(MAIL)
    assert search(scene.everything(), [MAIL])


def test_prompt_that_reaches_the_parent_in_plain_is_found_in_its_memory_for_a_while(
    scene: Scene,
) -> None:
    """So the search of memory sees request bodies; and none of it is in what was written."""
    text = "a prompt in plain, by mistake 0815-4711"
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    stay = httpx.Client(trust_env=False)
    seen: list[Leak] = []
    for _ in range(20):
        answer = stay.post(
            f"{scene.stack.url}/api/inference",
            headers={"authorization": f"Bearer {scene.stack.api_key}"},
            json=body,
        )
        assert answer.json()["code"] == "ERR_PLAINTEXT_REFUSED"
        seen = seen or memory_leaks(parent_pid(scene.stack), [text])
    stay.close()
    time.sleep(0.1)
    assert seen
    assert search({**files(scene.stack), "metrics": metrics(scene.stack)}, [text]) == []
