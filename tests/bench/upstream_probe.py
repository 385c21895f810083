"""The enclave's way to Bedrock alone: its own HTTP and TLS through the parent's tunnel.

A process that sends the same signed requests as an enclave does, and tells the CPU of one. Signing
is done before: it belongs to the gateway, TLS does not.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from latensgate_enclave.aws.bedrock import bedrock_scope, runtime_request
from latensgate_enclave.aws.sigv4 import Credentials, sign
from latensgate_enclave.clock import EnclaveClock
from latensgate_enclave.egress import Call, Egress, tls_context
from latensgate_enclave.http1 import HttpRequest
from latensgate_enclave.nitro.vsock import parse_address
from latensgate_enclave.tunnel import TunnelDial
from latensgate_shared.limits import BEDROCK_ANSWER_MAX_BYTES

_WARM_UP = 10


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


async def _cpu_s(egress: Egress, requests: list[HttpRequest]) -> float:
    began = time.process_time()
    for request in requests:
        async with egress.open(Call(request, BEDROCK_ANSWER_MAX_BYTES, 10_000)) as reply:
            assert reply.head.status == 200
            async for _ in reply:
                pass
    return time.process_time() - began


async def run(target: Target, tunnel: str, ca_path: Path, count: int) -> float:
    """Return the CPU seconds of one exchange."""
    requests = [target.signed() for _ in range(count + _WARM_UP)]
    context = tls_context(ca_path.read_text())  # noqa: ASYNC240  # before anything runs
    dial = TunnelDial(parse_address(tunnel))
    egress = Egress(dial, context, frozenset({requests[0].host}), _Clock())
    await _cpu_s(egress, requests[:_WARM_UP])
    took_s = await _cpu_s(egress, requests[_WARM_UP:])
    egress.close()
    return took_s / count


def main() -> None:
    """Run the plan on standard input; print seconds."""
    plan = cast("dict[str, Any]", json.load(sys.stdin))
    target = Target(**plan["target"])
    print(asyncio.run(run(target, plan["tunnel"], Path(plan["ca_path"]), plan["count"])))


if __name__ == "__main__":
    main()
