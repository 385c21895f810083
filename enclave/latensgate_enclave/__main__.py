"""The composition root: puts the enclave together, once, and serves.

    python -m latensgate_enclave --nsm /dev/nsm --egress vsock:3:8443 --listen vsock:any:5005 \
        --config /etc/latensgate

In the image this command line stands in the init, so it is measured. The environment is not read.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate_enclave import VERSION
from latensgate_enclave.bedrock_upstream import BedrockProvider
from latensgate_enclave.clock import EnclaveClock
from latensgate_enclave.egress import Egress, tls_context
from latensgate_enclave.engines import build_engine
from latensgate_enclave.envelope import TenantKeys
from latensgate_enclave.environment import Environment
from latensgate_enclave.events import Event, EventLog
from latensgate_enclave.gate import KMSClient, KMSGate, Recipient
from latensgate_enclave.hardening import forbid_core_dumps
from latensgate_enclave.heap import settle_heap
from latensgate_enclave.identity import UpstreamIdentity
from latensgate_enclave.keys import KeyRing
from latensgate_enclave.measured import load_measured_configuration
from latensgate_enclave.measured_upstreams import BEDROCK
from latensgate_enclave.nitro.device import open_nsm
from latensgate_enclave.nitro.nsm import SerialNSM
from latensgate_enclave.nitro.vsock import Address, listen, parse_address
from latensgate_enclave.openai_upstream import OpenAIProvider
from latensgate_enclave.pii import parse_floor
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.receipt_book import ReceiptBook
from latensgate_enclave.replay import ReplayWindow
from latensgate_enclave.server import Server
from latensgate_enclave.service import Service
from latensgate_enclave.session import Room
from latensgate_enclave.steps import Parts
from latensgate_enclave.supervisor import Supervisor
from latensgate_enclave.tunnel import TunnelDial
from latensgate_enclave.upstream import Surroundings, Upstreams
from latensgate_enclave.upstream_credentials import UpstreamCredentials
from latensgate_enclave.wire_types import describe_wire_types
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from latensgate_enclave.measured import Deployment, MeasuredConfiguration

_FAILED: Final = 1


def allowed_hosts(deployment: Deployment) -> frozenset[str]:
    """Return the only hosts that egress may dial, from the measured Regions and upstreams."""
    home = deployment.regions[0]
    services = ("bedrock", "bedrock-runtime", "kms")
    hosts = {f"{name}.{region}.amazonaws.com" for name in services for region in deployment.regions}
    others = [upstream.authority for upstream in deployment.upstreams.values()]
    return frozenset({*hosts, f"sts.{home}.amazonaws.com", *others})


def own_contexts(configuration: MeasuredConfiguration) -> dict[str, ssl.SSLContext]:
    """Return the TLS settings of upstreams that are believed under roots of their own."""
    if configuration.trust.replaces_upstream_roots:
        return {}
    upstreams = configuration.deployment.upstreams.values()
    return {each.authority: tls_context(each.tls_roots) for each in upstreams if each.tls_roots}


def openai_providers(
    deployment: Deployment, credentials: UpstreamCredentials
) -> dict[str, OpenAIProvider]:
    """Return the upstreams beside Bedrock, by name."""
    return {
        name: OpenAIProvider(name, table, credentials)
        for name, table in deployment.upstreams.items()
    }


def compose(
    environment: Environment, configuration: MeasuredConfiguration, clock: EnclaveClock
) -> tuple[Server, Egress]:
    """Put the enclave together; what serves, and what is closed after it."""
    deployment = configuration.deployment
    context, hosts = tls_context(configuration.ca_pem), allowed_hosts(deployment)
    egress = Egress(environment.dial, context, hosts, clock, own_contexts(configuration))
    identity = UpstreamIdentity(egress, clock, deployment)
    client, recipient = KMSClient(egress, identity, clock), Recipient(environment.nsm, clock)
    keys = KeyRing(environment.nsm, clock, environment.entropy, Ed25519PrivateKey.generate())
    credentials = UpstreamCredentials(deployment, clock, keys, environment.events)
    floor = parse_floor(configuration.policy.pii, name="policy.toml pii")
    timeout_ms = configuration.policy.calls.model_timeout_ms
    parts = Parts(
        environment=environment,
        configuration=configuration,
        clock=clock,
        keys=keys,
        tenant_keys=TenantKeys(client, recipient, clock, frozenset(deployment.regions)),
        replay=ReplayWindow(),
        engine=build_engine(configuration.policy.pii_engine, environment.monotonic_ns),
        floor=floor,
        floor_digest=floor.policy.digest(),
        upstream=Upstreams(
            {
                BEDROCK: BedrockProvider(identity, clock),
                **openai_providers(deployment, credentials),
            },
            Surroundings(egress, environment.monotonic_ns, environment.entropy, timeout_ms),
        ),
        receipts=ReceiptBook(keys, environment.entropy),
        upstream_credentials=credentials,
    )
    gate = KMSGate(client, recipient, environment.nsm, configuration, VERSION)
    supervisor = Supervisor(clock, identity, gate, keys, environment.events)
    room = Room(configuration.policy.calls.max_concurrent)
    service = Service(Pipeline(parts, supervisor.require_open), supervisor, identity, room)
    return Server(service, supervisor, room, environment.events), egress


async def serve(nsm_path: Path, egress: Address, listen_at: Address, config: Path) -> None:
    """Run until SIGTERM, then drain."""
    configuration = load_measured_configuration(config)
    nsm = SerialNSM(open_nsm(nsm_path))
    events = EventLog(sys.stderr)
    events.emit(Event.STARTED)
    environment = Environment(nsm, TunnelDial(egress), time.monotonic_ns, os.urandom, events)
    clock = EnclaveClock(nsm, time.monotonic_ns)
    await clock.refresh()
    events.emit(Event.TIME_SET)
    server, way_out = compose(environment, configuration, clock)
    settle_heap()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # asyncio's own handler would write texts of exceptions to the log.
    loop.set_exception_handler(lambda _loop, _context: events.emit(Event.INTERNAL))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await server.run(listen(listen_at, backlog=128), stop)
    finally:
        way_out.close()
        await asyncio.sleep(0)  # transports end in the loop's next turn
        nsm.close()


def say_nothing(*_what: object) -> None:
    """Stand in for Python's own handlers: an event, and no text of the exception."""
    EventLog(sys.stderr).emit(Event.INTERNAL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the enclave; 0 after a drain, 1 if it cannot serve."""
    parser = argparse.ArgumentParser(prog="latensgate_enclave", allow_abbrev=False)
    parser.add_argument("--nsm", type=Path, required=True)
    parser.add_argument("--egress", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--config", type=Path, required=True)
    parsed = parser.parse_args(arguments)
    forbid_core_dumps()
    # Whatever is left to Python's own handlers would print texts of exceptions.
    sys.excepthook = sys.unraisablehook = say_nothing
    describe_wire_types()
    try:
        egress, listen_at = parse_address(parsed.egress), parse_address(parsed.listen)
        asyncio.run(serve(parsed.nsm, egress, listen_at, parsed.config))
    except LatensgateError as error:
        # No content can stand in it: the measured files or the device are not as they must be, or
        # the enclave's own checks ended.
        sys.stderr.write(f"cannot serve: {error.code.name}: {error.detail}\n")
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
