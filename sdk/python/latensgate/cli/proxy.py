"""``latensgate proxy``: the plain OpenAI API on this machine, sealed from here on."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click

from latensgate.cli.evidence import UnreadableError
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command

if TYPE_CHECKING:
    import socket

    from latensgate.cli.session import Session
    from latensgate.client_trust import TrustArguments, TrustOptions
    from latensgate.proxy.server import Listen, Proxy
    from latensgate.proxy.view import JSONLines, LiveView, PlainLines
    from latensgate_shared.stream_shape import StreamPad, StreamShape
    from latensgate_shared.strict_json import JSONObject

    View = JSONLines | LiveView | PlainLines

TOKEN_VARIABLE: Final = "LATENSGATE_PROXY_TOKEN"  # noqa: S105 -- its name
_POLICY_MAX_BYTES: Final = 65_536
_CODES: Final = (
    DONE,
    ExitCode.USAGE,
    ExitCode.UNREADABLE,
    ExitCode.UNTRUSTED,
    ExitCode.MEASUREMENTS,
    ExitCode.CLOCK,
    ExitCode.UNREACHABLE,
    ExitCode.REFUSED,
    ExitCode.LATER,
)


@click.command(epilog=epilog(*_CODES))
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address.")
@click.option("--port", default=8788, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--unix", metavar="PATH", help="UNIX socket (mode 0600) in place of host and port.")
@click.option(
    "--token",
    envvar=TOKEN_VARIABLE,
    metavar="TEXT",
    help=f"Demand it as the application's API key. {TOKEN_VARIABLE} is better: others on this"
    " machine may see a command line.",
)
@click.option("--policy", metavar="FILE", help="JSON: tightens what is done with personal data.")
@click.option(
    "--stream-pad",
    type=click.Choice(("padme", "fixed")),
    default="padme",
    show_default=True,
    help="fixed: records of streamed answers have one length.",
)
@click.option(
    "--stream-coalesce-ms",
    type=click.IntRange(0, 1_000),
    default=0,
    show_default=True,
    help="Streamed answers leave on ticks so far apart; 0: each piece as it comes.",
)
@click.option("--tenant-root", metavar="HEX", help="Key that signs your tenant's settings.")
@click.option("--min-settings-version", type=click.IntRange(0), help="Oldest settings to accept.")
@click.option("--kms-key-arn", metavar="ARN", help="Your own KMS key around every body.")
@click.option("--conversation", metavar="NAME", help="One name for everything that is asked.")
@click.option("--post-quantum-only", is_flag=True, help="Refuse enclaves without X-Wing.")
@gateway_command
def proxy(  # noqa: PLR0913, PLR0917 -- a command's options
    session: Session,
    host: str,
    port: int,
    unix: str | None,
    token: str | None,
    policy: str | None,
    stream_pad: StreamPad,
    stream_coalesce_ms: int,
    tenant_root: str | None,
    min_settings_version: int | None,
    kms_key_arn: str | None,
    conversation: str | None,
    *,
    post_quantum_only: bool,
) -> ExitCode:
    """Serve the OpenAI API to programs of this machine, and seal what they ask.

    Point any OpenAI client at http://127.0.0.1:8788/v1, with any API key. It starts only if the
    enclave behind the gateway is proven to be one that you accept, and answers 503 whenever that
    cannot be renewed. GET /status says what was proven. See docs/proxy.md.
    """
    from latensgate.proxy.server import Listen, Proxy, ProxyOptions, bound  # noqa: PLC0415 -- slow

    given: TrustArguments = {
        "tenant_root": tenant_root,
        "min_settings_version": min_settings_version,
        "kms_key_arn": kms_key_arn,
        "conversation": conversation,
        "post_quantum_only": post_quantum_only,
        "policy": None if policy is None else _policy(Path(policy)),
        "stream_shape": _shape(stream_pad, stream_coalesce_ms),
    }
    listen = Listen(host, port, None if unix is None else Path(unix))
    options = ProxyOptions(_trusted(session, given), listen, _token(token), session.wanted.ca_file)
    with bound(listen) as listening:
        return _serve(session, Proxy(options), listening, listen)


def _token(token: str | None) -> bytes | None:
    from latensgate.proxy.guard import checked_token  # noqa: PLC0415 -- slow

    try:
        return None if token is None else checked_token(token)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _trusted(session: Session, given: TrustArguments) -> TrustOptions:
    from latensgate.client_trust import trust_options  # noqa: PLC0415 -- slow

    wanted = session.wanted
    given["tenant"], given["simulated"] = wanted.tenant, wanted.simulated
    return trust_options(
        api_key=wanted.api_key, base_url=wanted.base_url, given=given, environment=None
    )


def _shape(pad: StreamPad, coalesce_ms: int) -> StreamShape | None:
    from latensgate_shared.stream_shape import StreamShape  # noqa: PLC0415 -- slow

    shape = StreamShape(pad, coalesce_ms)
    return None if shape == StreamShape() else shape


def _policy(path: Path) -> JSONObject:
    try:
        with path.open("rb") as file:
            text = file.read(_POLICY_MAX_BYTES + 1)
        value: object = json.loads(text) if len(text) <= _POLICY_MAX_BYTES else None
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise click.UsageError("--policy: a file with one JSON object expected")
    return cast("JSONObject", value)


def _serve(session: Session, served: Proxy, listening: socket.socket, listen: Listen) -> ExitCode:
    import openai  # noqa: PLC0415 -- slow

    from latensgate.cli.chat_ask import told  # noqa: PLC0415 -- slow
    from latensgate.proxy.server import forbid_core_dumps, run  # noqa: PLC0415 -- slow

    forbid_core_dumps()
    view = _view(session)
    served.state.watchers.append(view)
    where = address(listening, listen)

    def begin(stop: asyncio.Event) -> object:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        served.announce = lambda: view.listening(served.state, where)
        return loop.create_task(view.run())

    try:
        run(served, listening, begin)
    except openai.OpenAIError as error:
        session.out.fail(told(error)[0])
    return DONE


def _view(session: Session) -> View:
    from latensgate.proxy.view import JSONLines, LiveView, PlainLines  # noqa: PLC0415 -- slow

    if session.out.as_json:
        return JSONLines()
    console = session.out.console
    return LiveView(console) if console.is_terminal else PlainLines(console)


def address(listening: socket.socket, listen: Listen) -> str:
    """Return where applications find it."""
    if listen.unix is not None:
        return f"unix:{listen.unix}"
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
