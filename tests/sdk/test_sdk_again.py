"""What is sent again, when it is sealed anew, and what is left on disk."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from latensgate import ConfigurationError, DataKey, Latensgate, errors, receipt_of
from latensgate.client_trust import Environment
from latensgate.state import installation_secret
from latensgate_shared.errors import ErrorCode
from sdk_gateway import Asked, Gateway, Told, refusal
from stack import MODEL, Stack

MakeClient = Callable[..., Latensgate]
ARN = "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012"


@dataclass
class Clock:
    """The enclave's, and as much off as a test says."""

    stack: Stack
    off_s: float = 0.0

    def __call__(self) -> float:
        return self.stack.world.clock.seconds() + self.off_s


@pytest.fixture
def clock(stack: Stack) -> Clock:
    return Clock(stack)


@pytest.fixture
def environment(environment: Environment, clock: Clock) -> Environment:
    return replace(environment, clock=clock)


def ask(lg: Latensgate, **options: Any) -> object:  # noqa: ANN401 -- the official client's own options
    create: Any = lg.chat.completions.create
    return create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], **options)


def losing(gateway: Gateway, lose: Callable[[], bool], seen: list[bytes]) -> httpx.Client:
    """A carrier that loses inferences before they reach the gateway."""
    honest = gateway.client()

    def handle(request: httpx.Request) -> httpx.Response:
        body = request.read()
        if request.url.path.endswith("/api/inference"):
            seen.append(body)
            if lose():
                raise httpx.ReadError("gone")
        return honest.request(request.method, request.url, content=body, headers=request.headers)

    return httpx.Client(transport=httpx.MockTransport(handle))


def test_bytes_that_grew_old_on_the_way_are_sealed_anew(
    make: MakeClient, gateway: Gateway, clock: Clock
) -> None:
    """An attempt may wait for ten minutes; its retry is too old for the enclave's window."""
    seen: list[bytes] = []

    def lose() -> bool:
        first = len(seen) == 1
        if first:
            clock.off_s = 0
        return first

    lg = make(http_client=losing(gateway, lose, seen))
    ask(make())  # attested, and kept on disk
    clock.off_s = 400
    assert receipt_of(ask(lg)).outcome == "answered"
    first, second, third = seen
    assert first == second != third
    keys = [asked.headers["idempotency-key"] for asked in gateway.inferences[-2:]]
    assert keys == [keys[0], f"{keys[0]}.1"]


def test_a_wrong_clock_is_told_after_one_request(
    make: MakeClient, gateway: Gateway, clock: Clock
) -> None:
    lg = make()
    ask(lg)
    clock.off_s = 400
    with pytest.raises(errors.ClockSkewError):
        ask(lg)
    assert len(gateway.inferences) == 2


def test_bytes_outlive_the_keys_that_they_were_sealed_to(
    make: MakeClient, gateway: Gateway, clock: Clock
) -> None:
    """Sealed at 69:59, sent again at 70:09: sealing anew would ask for the work twice."""
    seen: list[bytes] = []
    lg = make(http_client=losing(gateway, lambda: len(seen) == 1, seen), max_retries=0)
    named: dict[str, Any] = {"extra_headers": {"Idempotency-Key": "invoice-17"}}
    with pytest.raises(Exception, match="onnection"):
        ask(lg, **named)
    store = vars(lg)["_shared"].trust.exchange.store
    clock.off_s = 4_300
    store.begin("another", b"", vars(lg)["_shared"].trust.exchange.attester.now())
    assert len(store) == 2
    clock.off_s = 8_300
    store.begin("another", b"", vars(lg)["_shared"].trust.exchange.attester.now())
    assert len(store) == 1
    assert gateway.inferences == []


def test_one_key_and_one_request_in_two_threads_are_one_request(
    make: MakeClient, gateway: Gateway
) -> None:
    seen: list[bytes] = []
    both = threading.Barrier(2, timeout=10)

    def meet() -> bool:
        both.wait()
        return False

    lg = make(http_client=losing(gateway, meet, seen))

    def run() -> None:
        with contextlib.suppress(errors.Replayed):  # the gateway of these tests takes both
            ask(lg, extra_headers={"Idempotency-Key": "invoice-18"})

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("code", [ErrorCode.ERR_RATE_LIMITED, ErrorCode.ERR_OVERLOADED])
def test_the_official_client_waits_as_long_as_it_is_told(
    lg: Latensgate, gateway: Gateway, code: ErrorCode
) -> None:
    left = [refusal(code, **{"retry-after": "1"})]

    def twist(asked: Asked, honest: Told) -> Told:
        return left.pop() if asked.inference and left else honest

    gateway.twist = twist
    began = time.monotonic()
    assert receipt_of(ask(lg)).outcome == "answered"
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(("wait", "waits_s", "tries"), [("3600", 3_600, 1), ("soon", None, 2)])
def test_nobody_is_asked_again_before_an_hour_that_was_asked_for(
    lg: Latensgate, gateway: Gateway, wait: str, waits_s: int | None, tries: int
) -> None:
    told = refusal(ErrorCode.ERR_RATE_LIMITED, **{"retry-after": wait})
    gateway.twist = lambda asked, honest: told if asked.inference else honest
    with pytest.raises(errors.RateLimited) as caught:
        ask(lg.with_options(max_retries=1))
    assert caught.value.retry_after_s == waits_s
    assert caught.value.retryable
    assert len(gateway.inferences) == tries


class Provider:
    def __init__(self, made: object) -> None:
        self.made = made
        self.calls = 0

    def data_key(self, key_arn: str, context: Mapping[str, str]) -> Any:  # noqa: ANN401 -- wrong on purpose
        del key_arn, context
        self.calls += 1
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.mark.parametrize(
    "made",
    [None, (bytes(32), b"w"), DataKey(bytes(16), b"w"), DataKey(bytes(32), b""), OSError("secret")],
)
def test_a_provider_that_fails_is_told_as_what_it_is(
    make: MakeClient, gateway: Gateway, made: object
) -> None:
    provider = Provider(made)
    with pytest.raises(errors.KMSDenied, match="data_key_provider") as caught:
        ask(make(kms_key_arn=ARN, data_key_provider=provider))
    assert "secret" not in str(caught.value)
    assert provider.calls == 1
    assert gateway.inferences == []


def test_a_policy_is_what_it_was_when_the_client_was_made(make: MakeClient) -> None:
    rule = {"action": "fail"}
    lg = make(policy={"rules": {"EMAIL_ADDRESS": {"*": rule}}})
    rule["action"] = "allow"
    with pytest.raises(errors.PIIHardFailError):
        lg.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "To sherlock.holmes@detective.example"}],
        )


def test_a_key_that_is_no_text_is_named(make: MakeClient) -> None:
    with pytest.raises(ConfigurationError, match="api_key"):
        make(api_key=lambda: "lg_test_")


def state_of(environment: Environment) -> Path:
    assert environment.around is not None
    return environment.around.state_dir


def test_a_pipe_in_place_of_the_state_stops_nobody(
    make: MakeClient, environment: Environment, gateway: Gateway
) -> None:
    ask(make())
    (kept,) = (state_of(environment) / "attestations").iterdir()
    kept.unlink()
    os.mkfifo(kept)
    ask(make())
    assert len(gateway.attestations) == 2
    assert stat.S_ISREG(kept.stat().st_mode)


def test_a_secret_that_others_may_know_is_replaced(tmp_path: Path) -> None:
    first = installation_secret(tmp_path)
    path = tmp_path / "installation.secret"
    assert installation_secret(tmp_path) == first
    path.chmod(0o644)
    second = installation_secret(tmp_path)
    assert second not in {None, first}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installation_secret(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert installation_secret(tmp_path) is None


def test_states_that_have_ended_are_removed(make: MakeClient, environment: Environment) -> None:
    folder = state_of(environment) / "attestations"
    folder.mkdir(parents=True)
    for name, age_s in (("old.json", 5_000), ("new.json", 60)):
        (folder / name).write_text("{}")
        then = time.time() - age_s
        os.utime(folder / name, times=(then, then))
    ask(make())
    names = {path.name for path in folder.iterdir()}
    assert "old.json" not in names
    assert "new.json" in names
    assert len(names) == 2
