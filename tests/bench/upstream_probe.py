"""The way to Bedrock alone, through the parent's tunnel: bare TLS, or the enclave's own client.

A process that sends the same signed requests as an enclave does, over one connection that is open
already, and tells the CPU of one: its own, and the parent's, which moves the bytes. Both are read
right before and after each burst, so that no handshake and no start of a process is among them.
``bare`` does what no client can leave out: TLS, and finding the answer's end. ``egress`` is the
enclave's HTTP client over the same TLS. Signing is done before: it belongs to the gateway.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from load_client import cpu_s

from latensgate_enclave.aws.bedrock import bedrock_scope, runtime_request
from latensgate_enclave.aws.sigv4 import Credentials, sign
from latensgate_enclave.clock import EnclaveClock
from latensgate_enclave.egress import Call, Egress, tls_context
from latensgate_enclave.http1 import HttpRequest
from latensgate_enclave.nitro.vsock import parse_address
from latensgate_enclave.tls_stream import TLSStream
from latensgate_enclave.tunnel import TunnelDial
from latensgate_shared.limits import BEDROCK_ANSWER_MAX_BYTES


@dataclass(frozen=True)
class Target:
    """What is asked.

    Attributes:
        credentials: Key id, secret, session token.
        body: Converse JSON.
    """

    region: str
    model_id: str
    credentials: tuple[str, str, str]
    body: str
    stream: bool = False

    def signed(self) -> HttpRequest:
        """Return the request, signed now."""
        method: Literal["converse", "converse-stream"] = (
            "converse-stream" if self.stream else "converse"
        )
        request = runtime_request(self.region, self.model_id, self.body.encode(), method)
        scope = bedrock_scope(self.region)
        return sign(request, Credentials(*self.credentials), scope, at_s=int(time.time()))


class _Clock(EnclaveClock):
    def __init__(self) -> None:
        pass

    def now_s(self) -> int:
        return int(time.time())


class _Egress:
    """As the enclave asks."""

    def __init__(self, dial: TunnelDial, ca_pem: str, host: str) -> None:
        self._egress = Egress(dial, tls_context(ca_pem), frozenset({host}), _Clock())

    async def ask(self, request: HttpRequest) -> None:
        """Ask, and read the answer to its end."""
        async with self._egress.open(Call(request, BEDROCK_ANSWER_MAX_BYTES, 10_000)) as reply:
            assert reply.head.status == 200
            async for _ in reply:
                pass


async def _bare(
    dial: TunnelDial, ca_pem: str, host: str
) -> Callable[[HttpRequest], Awaitable[None]]:
    """Return what sends bytes over TLS and waits for the end of what comes."""
    _, tunnel = await dial(host, 443)
    stream = TLSStream(tunnel, tls_context(ca_pem), host)
    await stream.start()

    async def ask(request: HttpRequest) -> None:
        await stream.send(request.to_bytes())
        answer = b""
        while not _is_whole(answer):
            data = await stream.read()
            assert data, "closed before the answer's end"
            answer += data

    return ask


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    _, has_length, rest = head.lower().partition(b"content-length: ")
    if has_length:
        return bool(end) and len(body) >= int(rest.partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")


async def run(plan: dict[str, Any]) -> list[tuple[float, float]]:
    """Return CPU seconds of one exchange for each burst: here, and in the parent."""
    target = Target(**plan["target"])
    requests = [target.signed() for _ in range(plan["burst"])]
    ca_pem = Path(plan["ca_path"]).read_text()  # noqa: ASYNC240  # before anything runs
    dial, host = TunnelDial(parse_address(plan["tunnel"])), requests[0].host
    bare = await _bare(dial, ca_pem, host) if plan["bare"] else None
    ask = bare or _Egress(dial, ca_pem, host).ask
    spent: list[tuple[float, float]] = []
    for _ in range(plan["bursts"] + 1):  # the first one connects, and is left out
        before = time.process_time(), cpu_s(plan["parent"])
        for request in requests:
            await ask(request)
        after = time.process_time(), cpu_s(plan["parent"])
        own_s, parent_s = (b - a for a, b in zip(before, after, strict=True))
        spent.append((own_s / len(requests), parent_s / len(requests)))
    return spent[1:]


def main() -> None:
    """Run the plan on standard input; print a list of pairs."""
    print(json.dumps(asyncio.run(run(cast("dict[str, Any]", json.load(sys.stdin))))))


if __name__ == "__main__":
    main()
