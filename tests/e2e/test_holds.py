"""Held requests through the whole product: command line, parent, enclave, SDK."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest
from click.testing import CliRunner
from openai.types.chat import ChatCompletionUserMessageParam

from capture import search
from gateway_stack import GatewayStack, gateway_stack
from latensgate import AsyncLatensgate, HeldError, Latensgate
from latensgate.cli.__main__ import cli
from latensgate.errors import HoldDenied, LatensgateClientError, NotFound
from latensgate_shared.errors import ErrorCode
from latensgate_sim.dev_stack import StackOptions
from parent_capture import everything, memory_leaks, parent_pid
from proxy_process import proxy_process

EMAIL = "held.caller@example.com"
DRAFT = """
[policy.rules.EMAIL_ADDRESS]
prompt = {{ action = "allow", hold = true }}

[policy.hold]
show_content = true
expires_s = 3600

[[approvers]]
name = "Ann"
ed25519 = "{ed25519}"
xwing = "{xwing}"
"""
SECRETS = [EMAIL, f"Write to {EMAIL}"]
ASKED: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": f"Write to {EMAIL}"}]


def run(stack: GatewayStack, *words: str) -> dict[str, object]:
    """Run a command as a script does, in this process; its JSON."""
    environment = {**stack.environment, "LATENSGATE_TENANT": stack.tenant_id}
    done = CliRunner().invoke(cli, [*words, "--json"], env=environment)
    assert done.stdout, done.output
    told: dict[str, object] = json.loads(done.stdout)
    return {**told, "code": done.exit_code}


class Office:
    """A stack whose tenant has an approver."""

    def __init__(self, stack: GatewayStack, state: Path) -> None:
        self.stack, self.state = stack, state
        self.root = str(run(stack, "tenant", "init")["tenant_root"])
        ann = run(stack, "approvals", "keygen", "--name", "Ann")
        draft = stack.folder / f"{stack.tenant_id}.policy.toml"
        draft.write_text(DRAFT.format(**ann))
        assert run(stack, "policy", "sign")["code"] == 0
        assert run(stack, "policy", "push")["pushed"] is True

    def client(self) -> Latensgate:
        with self._environment():
            return Latensgate(
                simulated=True,
                base_url=self.stack.url,
                api_key=self.stack.api_key,
                tenant_root=self.root,
            )

    def async_client(self) -> AsyncLatensgate:
        with self._environment():
            return AsyncLatensgate(
                simulated=True,
                base_url=self.stack.url,
                api_key=self.stack.api_key,
                tenant_root=self.root,
            )

    @contextmanager
    def _environment(self) -> Generator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LATENSGATE_CONFIG_DIR", str(self.stack.folder))
            patch.setenv("LATENSGATE_STATE_DIR", str(self.state))
            yield

    def decide(self, word: str, pending_id: str) -> dict[str, object]:
        return run(self.stack, "approvals", word, pending_id, "--simulated", "--yes")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with gateway_stack(tmp_path_factory.mktemp("holds")) as stack:
        yield Office(stack, tmp_path_factory.mktemp("state"))


def model_of(asking: Latensgate) -> str:
    return asking.models.list().data[0].id


def held_by(asking: Latensgate, *, stream: bool = False) -> HeldError:
    with pytest.raises(HeldError) as caught:
        for _ in asking.chat.completions.create(
            model=model_of(asking), messages=ASKED, stream=stream
        ):
            pass
    return caught.value


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_waits_is_shown_and_approved(office: Office, stream: bool) -> None:  # noqa: FBT001
    with office.client() as asking:
        held = held_by(asking, stream=stream)
        assert held.error_code is ErrorCode.ERR_HELD
        assert held.counts == {"EMAIL_ADDRESS": {"prompt": 1}}
        assert held.approvers == ("Ann",)
        assert held.expires_at is not None
        assert held.receipt is not None
        assert held.receipt.public.outcome == "held"
        assert asking.holds.poll(held) is None
        listed = run(office.stack, "approvals", "list")
        assert isinstance(listed["approvals"], list)
        assert held.pending_id in json.dumps(listed["approvals"])
        shown = run(office.stack, "approvals", "show", held.pending_id, "--simulated")
        assert (shown["code"], shown["status"]) == (0, "simulated")
        assert EMAIL in json.dumps(shown["view"])
        decided = office.decide("approve", held.pending_id)
        assert decided["code"] == 0, decided
        answer = asking.holds.wait(held, timeout=30, interval=0.1)
        assert EMAIL in str(answer.choices[0].message.content)
        assert answer.audit_receipt_id.startswith("aud_")
        again = office.decide("approve", held.pending_id)
        assert (again["code"], again["verdict"]) == (21, "refused")
        with pytest.raises(NotFound):
            asking.holds.poll(held)  # it was fetched, and its secret is gone


def test_a_denial_comes_with_its_receipt(office: Office) -> None:
    with office.client() as asking:
        held = held_by(asking)
        assert office.decide("deny", held.pending_id)["code"] == 0
        with pytest.raises(HoldDenied) as caught:
            asking.holds.wait(held, timeout=30, interval=0.1)
        assert caught.value.error_code is ErrorCode.ERR_HOLD_DENIED
        assert caught.value.receipt is not None
        assert caught.value.receipt.public.outcome == "refused"


def test_waiting_ends_when_it_is_told_to(office: Office) -> None:
    with office.client() as asking:
        held = held_by(asking)
        with pytest.raises(HeldError):
            asking.holds.wait(held, timeout=0.2, interval=0.1)
        with pytest.raises(TimeoutError):
            asking.holds.wait(held.pending_id, timeout=0.2, interval=0.1)
        with office.client() as other, pytest.raises(NotFound):
            other.holds.poll(held.pending_id)


def test_tasks_wait_too(office: Office) -> None:
    async def whole() -> str:
        async with office.async_client() as asking:
            model = (await asking.models.list()).data[0].id
            with pytest.raises(HeldError) as caught:
                await asking.chat.completions.create(model=model, messages=ASKED)
            held = caught.value
            assert await asking.holds.poll(held) is None
            threading.Thread(target=office.decide, args=("approve", held.pending_id)).start()
            answer = await asking.holds.wait(held, timeout=60, interval=0.2)
            return str(answer.choices[0].message.content)

    assert EMAIL in asyncio.run(whole())


def test_the_parent_sees_nothing_of_what_waits(office: Office) -> None:
    """Not while it waits, and not of what an approver saw, decided and the caller fetched."""
    pid = parent_pid(office.stack)
    with office.client() as asking:
        waiting, approved, denied = held_by(asking), held_by(asking, stream=True), held_by(asking)
        for held in (approved, denied):
            shown = run(office.stack, "approvals", "show", held.pending_id, "--simulated")
            assert EMAIL in json.dumps(shown["view"])
        assert office.decide("approve", approved.pending_id)["code"] == 0
        assert office.decide("deny", denied.pending_id)["code"] == 0
        answer = asking.holds.wait(approved, timeout=30, interval=0.1)
        assert EMAIL in str(answer.choices[0].message.content)
        with pytest.raises(HoldDenied):
            asking.holds.wait(denied, timeout=30, interval=0.1)
        assert asking.holds.poll(waiting) is None
        assert search(everything(office.stack), SECRETS) + memory_leaks(pid, SECRETS) == []
    seen = str(waiting.pending_id)
    assert memory_leaks(pid, [seen])  # the search finds what the parent does know


def test_scopes_are_kept_apart(office: Office) -> None:
    with office.client() as asking:
        held = held_by(asking)
    admin = {"Authorization": f"Bearer {office.stack.api_key}"}
    url = office.stack.url
    made = httpx.post(
        f"{url}/api/keys", json={"name": "asker", "scopes": ["inference:read"]}, headers=admin
    ).json()
    asker = {"Authorization": f"Bearer {made['key']}"}
    assert httpx.get(f"{url}/api/holds/{held.pending_id}", headers=asker).status_code == 200
    assert httpx.get(f"{url}/api/approvals", headers=asker).status_code == 403
    unknown = "hld_" + "0" * 32
    assert httpx.get(f"{url}/api/holds/{unknown}", headers=asker).status_code == 404
    waiting = httpx.get(f"{url}/api/holds/{held.pending_id}/answer", headers=asker)
    assert waiting.status_code == 202
    assert waiting.json()["code"] == "ERR_HELD"
    assert waiting.headers["retry-after"] == "2"


def test_a_killed_parent_forgets_nothing_that_waits(tmp_path: Path) -> None:
    options = StackOptions(model="scripted", port=0, enclaves=1)
    with gateway_stack(tmp_path / "stack", options) as stack:
        office = Office(stack, tmp_path / "state")
        with office.client() as asking:
            held, lost = held_by(asking), held_by(asking)
            stack.kill_parent()
            stack.dev.start_parent()
            assert office.decide("approve", held.pending_id)["code"] == 0
            answer = asking.holds.wait(held, timeout=30, interval=0.1)
            assert EMAIL in str(answer.choices[0].message.content)
            # The enclave's end is the end of what it holds: the SDK asks anew.
            stack.kill_enclave(0)
            stack.dev.restart_enclave(0)
            _until_ready(asking)
            refused = office.decide("approve", lost.pending_id)
            assert refused["code"] != 0
            with pytest.raises(HeldError) as caught:
                _poll_until_known(asking, lost)
            assert caught.value.pending_id != lost.pending_id
            assert office.decide("approve", caught.value.pending_id)["code"] == 0
            answer = asking.holds.wait(caught.value, timeout=30, interval=0.1)
            assert EMAIL in str(answer.choices[0].message.content)


def _until_ready(asking: Latensgate) -> None:
    ends = time.monotonic() + 90
    while time.monotonic() < ends:
        try:
            asking.attest()
        except (LatensgateClientError, openai.APIConnectionError):
            time.sleep(0.3)
        else:
            return
    raise AssertionError("the stack is not ready again")


def _poll_until_known(asking: Latensgate, held: HeldError) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        assert asking.holds.poll(held) is None
        time.sleep(0.2)


def test_the_proxy_tells_of_a_hold_and_hands_out_its_answer(office: Office) -> None:
    """What an application sees that knows OpenAI's protocol and nothing of ours."""
    environment = {**office.stack.environment, "LATENSGATE_TENANT_ROOT": office.root}
    with proxy_process(environment) as proxy, httpx.Client(timeout=60, trust_env=False) as http:
        model = http.get(f"{proxy.base_url}/models").json()["data"][0]["id"]
        asked = {"model": model, "messages": ASKED}
        refused = http.post(f"{proxy.base_url}/chat/completions", json=asked)
        assert refused.status_code == 403
        error = refused.json()["error"]
        assert error["code"] == "ERR_HELD"
        told = error["hold"]
        assert set(told) == {"approvers", "counts", "expires_at", "pending_id", "plan_digest"}
        assert (told["approvers"], told["counts"]) == (["Ann"], {"EMAIL_ADDRESS": {"prompt": 1}})
        place = f"/v1/holds/{told['pending_id']}"
        assert refused.headers["latensgate-hold"] == told["pending_id"]
        assert refused.headers["location"] == place
        waits = http.get(f"{proxy.root}{place}")
        assert (waits.status_code, waits.json()["error"]["hold"]) == (403, told)
        streamed = http.post(f"{proxy.base_url}/chat/completions", json={**asked, "stream": True})
        assert '"ERR_HELD"' in streamed.text
        assert '"pending_id"' in streamed.text
        assert office.decide("approve", told["pending_id"])["code"] == 0
        ends = time.monotonic() + 30
        while (answer := http.get(f"{proxy.root}{place}")).status_code == 403:
            assert time.monotonic() < ends
            time.sleep(0.1)
        assert answer.status_code == 200
        assert EMAIL in answer.json()["choices"][0]["message"]["content"]
        assert answer.headers["latensgate-receipt"].startswith("aud_")
        gone = http.get(f"{proxy.root}{place}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "ERR_NOT_FOUND")
        assert http.post(f"{proxy.root}{place}", json={}).status_code == 405
        assert http.get(f"{proxy.base_url}/holds/hld_x").status_code == 404


def test_the_command_says_what_it_refuses(office: Office, tmp_path: Path) -> None:
    unknown = "hld_" + "0" * 32
    missing = run(office.stack, "approvals", "deny", unknown, "--simulated", "--yes")
    assert (missing["code"], missing["verdict"]) == (21, "refused")
    with office.client() as asking:
        held = held_by(asking)
    words = ("approvals", "approve", held.pending_id, "--simulated")
    unasked = run(office.stack, *words)  # no --yes, and nobody to ask
    assert unasked["code"] == 2
    stranger = str(tmp_path / "stranger.json")
    key = run(office.stack, "approvals", "keygen", "--name", "Eve", "--approver-key", stranger)
    assert key["code"] == 0
    again = run(office.stack, "approvals", "keygen", "--approver-key", stranger)
    assert again["code"] == 2
    refused = run(office.stack, *words, "--yes", "--approver-key", stranger)
    assert (refused["code"], refused["verdict"]) == (21, "refused")
    environment = {**office.stack.environment, "LATENSGATE_TENANT": office.stack.tenant_id}
    no = CliRunner().invoke(cli, list(words), env=environment, input="n\n")
    assert no.exit_code != 0
    assert EMAIL in no.output  # it was shown first
    listed = run(office.stack, "approvals", "list")
    assert held.pending_id in json.dumps(listed["approvals"])  # it still waits
    yes = CliRunner().invoke(cli, ["approvals", "deny", *words[2:]], env=environment, input="y\n")
    assert (yes.exit_code, "Denied" in yes.output) == (0, True)
    ended = run(office.stack, "approvals", "list", "--all")
    assert '"denied"' in json.dumps(ended["approvals"])
