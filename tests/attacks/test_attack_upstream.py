"""Whose credentials, does that account log, and is it AWS at all.

Each refusal names its line of defence; ``mutants.py`` proves that the test fails without it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from typing import cast

import pytest

from attack_tools import Inner, hooked, led_astray, rerouted, served, wait_for
from e2e_client import Client, Refusal, chat, sealed_refusal
from e2e_fixtures import QUICK, StartStack
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import IDENTITY_MAX_AGE_S, UPSTREAM_ATTEMPTS_MAX_COUNT
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.http_server import Request, Response
from latensgate_sim.tls import EndpointCA
from latensgate_sim.world import ACCOUNT, SERVICE_ROLE, TENANT_ACCOUNT, World
from stack import CallFailedError, ParentLink, Stack

IDENTITY = ErrorCode.ERR_UPSTREAM_IDENTITY
LOGGING = ErrorCode.ERR_UPSTREAM_LOGGING


def delivered(link: ParentLink, credentials: calls.CredentialsCall) -> ErrorCode | None:
    try:
        link.call(credentials)
    except CallFailedError as error:
        return error.code
    return None


def foreign_credentials(stack: Stack) -> calls.CredentialsCall:
    """Credentials of the attacker's own account, which may do everything there."""
    held = stack.world.identities.role_session(TENANT_ACCOUNT, SERVICE_ROLE, iam_actions=("*",))
    return replace(
        stack.credentials(),
        access_key_id=held.access_key_id,
        secret_access_key=held.secret_access_key,
        session_token=held.session_token or "",
    )


@pytest.fixture
def serving(own_world: World, start_stack: StartStack) -> tuple[Stack, Client]:
    """An enclave with quick timers for all but KMS."""
    stack = start_stack(own_world, limits={**QUICK, "KMS_GATE_CHECK_S": 300})
    with stack.link() as link:
        stack.open_gate(link)
        return stack, Client.attest(stack, link)


def refused(stack: Stack, client: Client, *, stream: bool = False) -> Refusal | None:
    """Ask; None while it is answered."""
    sealed = client.seal(chat("still there?", stream=stream))
    with stack.link() as link:
        opened = client.send(link, sealed)
    return Refusal(opened.code, sealed=True) if opened.code else None


def refused_in_time(stack: Stack, client: Client, code: ErrorCode) -> None:
    """Wait for the refusal, and demand that both kinds of answer are refused."""
    wait_for(lambda: refused(stack, client) is not None)
    calls_before = len(stack.world.home.bedrock.seen)
    for stream in (False, True):
        assert refused(stack, client, stream=stream) == sealed_refusal(code)
    assert len(stack.world.home.bedrock.seen) == calls_before


def test_credentials_of_another_account_are_refused_and_the_old_ones_stay(
    stack: Stack, link: ParentLink, client: Client
) -> None:
    """Defence: identity.UpstreamIdentity._check, `account != self._deployment.account`."""
    assert delivered(link, foreign_credentials(stack)) is IDENTITY
    opened = client.ask(link, chat("whose"))
    assert cast("dict[str, str]", opened.receipt.private["upstream"])["account"] == ACCOUNT


def test_no_credentials_no_gate(world: World, start_stack: StartStack) -> None:
    """Defence: identity.UpstreamIdentity._fresh, `self._checked is None`."""
    stack = start_stack(world)
    with stack.link() as link:
        assert delivered(link, foreign_credentials(stack)) is IDENTITY
        with pytest.raises(CallFailedError, match=IDENTITY.name):
            stack.configured(link)


def test_made_up_credentials_are_refused(stack: Stack, link: ParentLink) -> None:
    """Defence: STS is asked over the enclave's own TLS (identity.UpstreamIdentity._check)."""
    made_up = replace(stack.credentials(), secret_access_key="x" * 40)
    assert delivered(link, made_up) is IDENTITY


def test_credentials_swapped_between_two_checks(serving: tuple[Stack, Client]) -> None:
    """The same key id leads to another account from one check to the next.

    Defence: identity.UpstreamIdentity.recheck forgets at once what no longer passes.
    """
    stack, client = serving
    world = stack.world
    assert refused(stack, client) is None
    known = world.identities._known  # pyright: ignore[reportPrivateUsage] # what STS knows
    held = known[world.service.access_key_id]
    known[world.service.access_key_id] = replace(
        held, identity=replace(held.identity, account=TENANT_ACCOUNT)
    )
    refused_in_time(stack, client, IDENTITY)


def test_logging_switched_on_while_running(serving: tuple[Stack, Client]) -> None:
    """Defence: identity.UpstreamIdentity.recheck and for_region."""
    stack, client = serving
    assert refused(stack, client) is None
    stack.world.home.control.logging_accounts.add(ACCOUNT)
    refused_in_time(stack, client, LOGGING)
    stack.world.home.control.logging_accounts.clear()
    wait_for(lambda: refused(stack, client) is None)


def test_logging_already_on(own_world: World, start_stack: StartStack) -> None:
    """Defence: identity.UpstreamIdentity.for_region."""
    own_world.home.control.logging_accounts.add(ACCOUNT)
    stack = start_stack(own_world)
    with stack.link() as link:
        stack.open_gate(link)
        client = Client.attest(stack, link)
        assert client.refusal(link, client.seal(chat("x"))) == sealed_refusal(LOGGING)


def test_logging_is_told_in_the_receipt_where_the_deployment_only_flags(
    own_world: World, start_stack: StartStack
) -> None:
    from e2e_fixtures import TWO_REGIONS  # noqa: PLC0415  # one use

    own_world.home.control.logging_accounts.add(ACCOUNT)
    flags = TWO_REGIONS.replace('invocation_logging = "refuse"', 'invocation_logging = "flag"')
    stack = start_stack(own_world, deployment=flags)
    with stack.link() as link:
        stack.open_gate(link)
        opened = Client.attest(stack, link).ask(link, chat("x"))
    upstream = cast("dict[str, str]", opened.receipt.private["upstream"])
    assert upstream["invocation_logging"] == "on"


def test_check_that_is_too_old_refuses(serving: tuple[Stack, Client]) -> None:
    """The parent lets no check through any more. Defence: identity._fresh, IDENTITY_MAX_AGE_S."""
    stack, client = serving
    stack.world.home.sts.faults.on(Fault(FaultKind.CUT, times=None))
    stack.advance(IDENTITY_MAX_AGE_S / 2)
    assert refused(stack, client) is None
    stack.advance(IDENTITY_MAX_AGE_S)
    refused_in_time(stack, client, IDENTITY)


def test_server_that_is_not_aws_gets_nothing(serving: tuple[Stack, Client]) -> None:
    """The parent dials a server of its own. Defence: egress.tls_context, pinned roots."""
    stack, client = serving
    world, host = stack.world, "bedrock-runtime.us-east-1.amazonaws.com"
    with rerouted(world, host, EndpointCA()):
        assert refused(stack, client) == sealed_refusal(ErrorCode.ERR_UPSTREAM)
        assert not world.home.bedrock.seen
    with rerouted(world, host, world.ca):
        assert refused(stack, client) is None  # the certificate was what it failed for


def test_aws_server_of_another_name_gets_nothing(serving: tuple[Stack, Client]) -> None:
    """The parent leads Bedrock's name to STS, which has a certificate of the same authority.

    Defence: egress._connect, `server_hostname=host`.
    """
    stack, client = serving
    bedrock, sts = (f"{name}.us-east-1.amazonaws.com" for name in ("bedrock-runtime", "sts"))
    prompts: list[str] = []

    async def note(request: Request, inner: Inner) -> Response:
        prompts.extend([request.path] if request.path.startswith("/model") else [])
        return await inner(request)

    with led_astray(stack.world, bedrock, sts), hooked(stack.world, sts, note):
        assert refused(stack, client) == sealed_refusal(ErrorCode.ERR_UPSTREAM)
    assert prompts == []


FORGED = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "forged"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 1},
    }
).encode()
FORGED_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(FORGED), FORGED)


def test_plaintext_before_tls_is_never_an_answer(
    client: Client, link: ParentLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent grants the tunnel and sends an answer in plaintext behind it.

    Defence: tls_stream.TLSStream.start: what came before TLS stays with its own reader.
    """
    granted: list[bytes] = []
    write = asyncio.StreamWriter.write

    def with_forged(writer: asyncio.StreamWriter, data: bytes) -> None:
        if data == b"OK\n":
            granted.append(data)
            data += FORGED_ANSWER
        write(writer, data)

    bedrock = "bedrock-runtime.us-east-1.amazonaws.com"
    with led_astray(client.world, bedrock, bedrock):  # cuts the connection that is open
        monkeypatch.setattr(asyncio.StreamWriter, "write", with_forged)
        opened = client.ask(link, chat("who"))
    assert granted
    assert opened.code is not None or opened.text == "You said: who"
    assert b"forged" not in b"".join(record.body for record in opened.records)


def test_what_comes_unasked_does_not_answer_the_next_request(
    client: Client, link: ParentLink
) -> None:
    """A server says more than it was asked, later. Defence: egress._connection, unread_bytes."""
    asked: list[int] = []
    said_more = threading.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(0)
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            asked[-1] += 1
            writer.write(FORGED_ANSWER.replace(b"forged", b"honest"))
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(FORGED_ANSWER)
            await writer.drain()
            said_more.set()

    with served(client.world, "bedrock-runtime.us-east-1.amazonaws.com", talk):
        for _ in range(3):
            assert client.ask(link, chat("x")).text == "honest"
            assert said_more.wait(5)
            said_more.clear()
            time.sleep(0.1)
    assert asked == [1, 1, 1]  # what has said more than it was asked is used no more


def test_only_the_measured_hosts_are_dialled(
    stack: Stack, client: Client, link: ParentLink
) -> None:
    """Defence: egress.Egress._connection, `host not in self._hosts`; hosts come of the Regions."""
    client.ask(link, chat("x"))
    services = {name.split(".")[0] for name in set(stack.world.tunnel.dialled)}
    regions = {name.split(".")[1] for name in set(stack.world.tunnel.dialled)}
    assert services <= {"kms", "sts", "bedrock", "bedrock-runtime"}
    assert regions <= {"us-east-1", "eu-west-1"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ((429, "ThrottlingException"), ErrorCode.ERR_UPSTREAM_THROTTLED),
        ((400, "ValidationException"), ErrorCode.ERR_UPSTREAM_REFUSED),
        ((408, "ModelTimeoutException"), ErrorCode.ERR_UPSTREAM_TIMEOUT),
        ((500, "InternalServerException"), ErrorCode.ERR_UPSTREAM),
        ((403, "AccessDeniedException"), ErrorCode.ERR_UPSTREAM_DENIED),
        ((404, "ResourceNotFoundException"), ErrorCode.ERR_MODEL_UNKNOWN),
    ],
)
def test_providers_words_never_pass(
    client: Client,
    link: ParentLink,
    *,
    said: tuple[int, str],
    code: ErrorCode,
    stream: bool,
) -> None:
    """Defence: aws/bedrock.py upstream_error takes the name only."""
    error = AWSError(*said, "arn:aws:secret words of the provider")
    times = UPSTREAM_ATTEMPTS_MAX_COUNT if said[0] in {429, 503} else 1
    client.world.home.bedrock.faults.on(Fault(FaultKind.ERROR, error, times=times))
    opened = client.ask(link, chat("x", stream=stream))
    assert opened.code is code
    assert b"words of the provider" not in b"".join(record.body for record in opened.records)


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.GARBAGE, FaultKind.ERROR])
@pytest.mark.parametrize("after", [None, 3])
def test_stream_that_breaks_off_is_never_a_short_answer(
    client: Client, link: ParentLink, *, kind: FaultKind, after: int | None
) -> None:
    """Defence: converse_answer.ConverseStream.close and EventStreamDecoder."""
    text = "many words to stream " * 5
    client.world.home.bedrock.faults.on(Fault(kind, after_events=after))
    opened = client.ask(link, chat(text, stream=True))
    assert opened.code is ErrorCode.ERR_UPSTREAM
    assert opened.receipt.signed.public.outcome == "failed"
