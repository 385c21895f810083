"""``latensgate proxy`` before a whole stack, used as applications and people use it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import httpx
import openai
import pytest
from rich.console import Console

from gateway_stack import GatewayStack, gateway_stack
from latensgate.client_trust import trust_options
from latensgate.proxy.server import Listen, Proxy, ProxyOptions, bound, run
from latensgate.proxy.state import ProxyState, Served
from latensgate.proxy.view import LiveView, PlainLines
from latensgate_sim.dev_stack import StackOptions
from proxy_process import ProxyProcess, proxy_process, start_proxy

MODEL = "claude-3.5-sonnet"
TOKEN = "t0ken-of-this-machine"  # noqa: S105 -- an example


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[GatewayStack]:
    plenty = StackOptions(model="scripted", port=0, requests_per_minute=100_000)
    with gateway_stack(tmp_path_factory.mktemp("proxy"), plenty) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(stack: GatewayStack) -> Generator[ProxyProcess]:
    with proxy_process(stack.environment) as running:
        yield running


def client_of(proxy: ProxyProcess, api_key: str = "sk-of-another-service") -> openai.OpenAI:
    return openai.OpenAI(base_url=proxy.base_url, api_key=api_key, max_retries=0)


def say(client: openai.OpenAI, text: str, **headers: str) -> str:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], extra_headers=headers
    )
    return str(answer.choices[0].message.content)


def test_it_says_what_was_proven(proxy: ProxyProcess, stack: GatewayStack) -> None:
    assert proxy.first["status"] == "simulated"
    told = proxy.status()
    assert (told["ready"], told["gateway"]) == (True, stack.url)
    pcrs = stack.dev.enclaves[0].device.measurements
    assert told["attestation"]["pcrs"]["PCR0"] == pcrs.pcr0.hex()
    assert told["attestation"]["policy_digest"].startswith("sha384:")


def test_official_client_asks_and_streams(proxy: ProxyProcess) -> None:
    with client_of(proxy) as client:
        assert "sea" in say(client, "Tell me of the sea")
        stream = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "And of the shore"}], stream=True
        )
        text = "".join(part.choices[0].delta.content or "" for part in stream if part.choices)
        assert "shore" in text
        assert MODEL in {model.id for model in client.models.list()}
        assert client.models.retrieve(MODEL).id == MODEL
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("no/such:model")
    ids = [one["audit_receipt_id"] for one in proxy.status()["receipts"]]
    assert len(set(ids)) >= 2


def test_the_gateway_sees_no_prompt_and_no_foreign_key(
    proxy: ProxyProcess, stack: GatewayStack
) -> None:
    with client_of(proxy) as client:
        say(client, "A secret that is planted: zebrafish-7741")
    stored = b"".join(file.read_bytes() for file in stack.database.parent.glob("latensgate.db*"))
    for secret in (b"zebrafish-7741", b"sk-of-another-service"):
        assert secret not in stored


def test_streams_come_in_the_shape_that_was_asked_for(stack: GatewayStack) -> None:
    arguments = ("--stream-pad", "fixed", "--stream-coalesce-ms", "80")
    with proxy_process(stack.environment, *arguments) as shaped, client_of(shaped) as client:
        words = "one two three four five six seven eight nine ten " * 4
        chunks = list(
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": words}], stream=True
            )
        )
    said = "".join(each.delta.content or "" for chunk in chunks for each in chunk.choices)
    assert words.strip() in said
    assert len(chunks) < len(words.split()) / 2


def test_one_key_is_one_run(proxy: ProxyProcess) -> None:
    with client_of(proxy) as client:
        first = say(client, "Only once", **{"Idempotency-Key": "only-once-1"})
        assert "Only once" in first
        with pytest.raises(openai.APIStatusError) as refused:
            say(client, "Something else", **{"Idempotency-Key": "only-once-1"})
    assert refused.value.status_code == 422


def test_lines_for_programs_hold_no_content(stack: GatewayStack) -> None:
    with proxy_process(stack.environment) as proxy, client_of(proxy) as client:
        say(client, "Planted: quokka-3391")
        line = proxy.line()
    assert (line["event"], line["outcome"], line["status"]) == ("request", "answered", 200)
    assert line["audit_receipt_id"].startswith("aud_")
    assert "quokka" not in str(line)


def test_token_and_unix_socket(stack: GatewayStack, tmp_path: Path) -> None:
    path = tmp_path / "lg.sock"
    environment = {**stack.environment, "LATENSGATE_PROXY_TOKEN": TOKEN}
    with proxy_process(environment, "--unix", path) as proxy:
        assert proxy.base_url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            assert client.get("/status").status_code == 401
            allowed = {"Authorization": f"Bearer {TOKEN}"}
            assert client.get("/status", headers=allowed).json()["ready"]
    assert not path.exists()


def test_core_dumps_are_off(proxy: ProxyProcess) -> None:
    limits = Path(f"/proc/{proxy.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


def write_private(path: Path, text: str) -> None:
    """Write a configuration, which holds a key: it is read only if it is the user's alone."""
    path.touch(mode=0o600)
    path.write_text(text)


def ended(environment: dict[str, str], *arguments: object) -> tuple[int, str]:
    process = start_proxy(environment, *arguments)
    try:
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, out


def test_it_does_not_start_with_another_image(stack: GatewayStack, tmp_path: Path) -> None:
    (told,) = stack.folder.glob("dev.toml")
    pcr0 = stack.dev.enclaves[0].device.measurements.pcr0.hex()
    text = told.read_text()
    assert pcr0 in text
    write_private(tmp_path / "dev.toml", text.replace(pcr0, "ab" * 48))
    own = {
        **stack.environment,
        "LATENSGATE_CONFIG_DIR": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
    }
    code, out = ended(own, "--port", 0)
    assert code in {5, 8}
    assert "ERR_ATTESTATION_INVALID" in out


def test_it_does_not_start_where_it_may_not_listen(
    stack: GatewayStack, proxy: ProxyProcess
) -> None:
    code, out = ended(stack.environment, "--host", "0.0.0.0")  # noqa: S104 -- refused
    assert (code, "loopback" in out) == (2, True)
    taken = proxy.base_url.rpartition(":")[2].removesuffix("/v1")
    code, out = ended(stack.environment, "--port", taken)
    assert (code, "in use" in out) == (2, True)
    assert "measurements" not in out  # another matter
    code, _ = ended(stack.environment, "--token", "short")
    assert code == 2


def test_it_does_not_start_without_a_gateway(stack: GatewayStack) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        text = (stack.folder / "dev.toml").read_text()
        own = stack.folder / "away"
        own.mkdir(mode=0o700)
        away = f"http://127.0.0.1:{closed.getsockname()[1]}"
        write_private(own / "dev.toml", text.replace(stack.url, away))
        other = {"LATENSGATE_CONFIG_DIR": str(own), "LATENSGATE_BASE_URL": away}
        code, out = ended({**stack.environment, **other}, "--port", 0)
    assert (code, "unreachable" in out) == (20, True), out


def test_sigterm_ends_it_well(stack: GatewayStack) -> None:
    with proxy_process(stack.environment) as proxy:
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(10) == 0


def test_policy_of_the_owner_is_sealed(stack: GatewayStack, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text("[]")
    assert ended(stack.environment, "--policy", file)[0] == 2
    assert ended(stack.environment, "--policy", tmp_path / "none")[0] == 3


@contextmanager
def inside(stack: GatewayStack) -> Generator[tuple[Proxy, str]]:
    """Run a proxy on a thread of this process, so that its parts can be looked at."""
    with mock.patch.dict(os.environ, stack.environment):
        options = ProxyOptions(
            trust_options(api_key=None, base_url=None, given={"simulated": True}, environment=None),
            Listen(port=0),
        )
    made, up, stops = (
        Proxy(options),
        threading.Event(),
        list[tuple[asyncio.Event, asyncio.AbstractEventLoop]](),
    )

    def begin(stop: asyncio.Event) -> None:
        stops.append((stop, asyncio.get_running_loop()))

    made.announce = up.set
    with bound(options.listen) as listening:
        thread = threading.Thread(target=run, args=(made, listening, begin))
        thread.start()
        assert up.wait(20)
        try:
            yield made, f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            ((stop, loop),) = stops
            loop.call_soon_threadsafe(stop.set)
            thread.join(20)


def test_it_serves_and_shows(stack: GatewayStack) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=120)
    with inside(stack) as (made, url):
        view = PlainLines(Console(file=drawn, width=200))
        view.listening(made.state, url)
        made.state.watchers += [view, LiveView(console)]
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
            say(client, "In this process")
            stream = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Stream"}], stream=True
            )
            assert list(stream)
        made.state.failed("", "the gateway was not reached")
        asyncio.run(draw(made.state, console))
        assert httpx.get(url.replace("/v1", "/")).status_code == 200
    shown = drawn.getvalue()
    for expected in ("simulated", "aud_", "chat/completions", "not renewed: the gateway", url):
        assert expected in shown


async def draw(state: ProxyState, console: Console) -> None:
    view = LiveView(console)
    view.listening(state, "http://127.0.0.1:1/v1")
    drawing = asyncio.create_task(view.run())
    await asyncio.sleep(0.1)
    view.served(Served(route="models", status=200, outcome="answered", took_ms=1))
    view.attestation(state)
    await asyncio.sleep(0.6)
    drawing.cancel()


def test_a_lost_gateway_is_503_and_told(tmp_path: Path) -> None:
    with gateway_stack(tmp_path) as stack, inside(stack) as (made, url):
        cell = made.state.trust.exchange.cell
        stack.kill_parent()
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
            with pytest.raises(openai.InternalServerError) as refused:
                say(client, "Nobody is there")
            assert refused.value.status_code == 503
            held = cell.peek()
            assert held is not None
            with mock.patch.object(type(held), "sealable", return_value=False):
                assert not made.state.ready
                with pytest.raises(openai.InternalServerError):
                    say(client, "Nobody is proven")
                deadline = time.monotonic() + 20
                while made.state.fault is None and time.monotonic() < deadline:
                    time.sleep(0.2)
                fault = made.state.fault
                assert fault is not None
                assert "not reached" in fault.message
                told = httpx.get(url.replace("/v1", "/status"))
                assert (told.status_code, told.json()["status"]) == (503, "unproven")


def test_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "latensgate.cli", "proxy", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for option in ("--unix", "--token", "--policy", "--simulated", "--post-quantum-only"):
        assert option in done.stdout


def test_a_reader_that_goes_away_is_no_fault(stack: GatewayStack) -> None:
    command = [sys.executable, "-m", "latensgate.cli", "proxy", "--simulated", "--json"]
    with subprocess.Popen(
        [*command, "--port", "0"],
        env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        models = json.loads(process.stdout.readline())["address"] + "/models"
        process.stdout.close()
        assert [httpx.get(models, trust_env=False).status_code for _ in range(3)] == [200] * 3
        process.terminate()
        assert (process.stderr.read(), process.wait(20)) == ("", 0)


def test_a_reader_that_stops_reading_holds_nobody_up(stack: GatewayStack) -> None:
    """Its lines fill the pipe after some hundred requests; requests go on."""
    with proxy_process(stack.environment) as running, httpx.Client(trust_env=False) as client:
        for _ in range(600):
            answer = client.get(f"{running.root}/v1/models", timeout=10)
            assert answer.status_code == 200
