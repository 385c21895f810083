"""Tools of the attack tests: hooks into simulated AWS, waiting, copies of the image's code."""

# pyright: reportPrivateUsage=false
# The simulator has no handle for what only an attacker would turn.

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from latensgate_sim.connections import Connections
from latensgate_sim.http_server import HTTPServer, Request, Response
from latensgate_sim.launcher import code_folders
from latensgate_sim.tls import EndpointCA
from latensgate_sim.world import World

Inner = Callable[[Request], Awaitable[Response]]
Hook = Callable[[Request, Inner], Awaitable[Response]]
Answer = dict[str, object]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def hooked(world: World, host: str, hook: Hook) -> Generator[None]:
    """Let `hook` answer in place of one simulated server; it may ask the true one."""
    server = world._servers[host]
    inner = server._handler

    async def handle(request: Request) -> Response:
        return await hook(request, inner)

    server._handler = handle
    try:
        yield
    finally:
        server._handler = inner


@contextmanager
def recorded_kms(world: World) -> Generator[list[tuple[str, Answer]]]:
    """Note operation and parameters of every KMS request."""
    seen: list[tuple[str, Answer]] = []

    async def hook(request: Request, inner: Inner) -> Response:
        operation = request.headers["x-amz-target"].removeprefix("TrentService.")
        seen.append((operation, json.loads(request.body)))
        return await inner(request)

    with hooked(world, "kms.us-east-1.amazonaws.com", hook):
        yield seen


@contextmanager
def altered_kms(world: World, alter: Callable[[str, Answer], Answer]) -> Generator[None]:
    """Change what KMS answers with status 200; `alter` gets the operation and the answer."""

    async def hook(request: Request, inner: Inner) -> Response:
        operation = request.headers["x-amz-target"].removeprefix("TrentService.")
        response = await inner(request)
        if response.status != 200 or not isinstance(response.body, bytes):
            return response
        body = json.dumps(alter(operation, json.loads(response.body))).encode()
        return Response(200, response.headers, body)

    with hooked(world, "kms.us-east-1.amazonaws.com", hook):
        yield


@contextmanager
def rerouted(world: World, host: str, authority: EndpointCA) -> Generator[None]:
    """Lead a host of AWS to a server of the parent's, with a certificate of `authority`."""
    handler = world._servers[host]._handler
    rogue = HTTPServer(handler, authority.context(authority.issue([host])))
    world.run(rogue.start())
    try:
        with _led(world, host, rogue.port):
            yield
    finally:
        world.run(rogue.close())


@contextmanager
def served(world: World, host: str, talk: Talk) -> Generator[None]:
    """Lead a host of AWS to a server that talks as it likes, with the host's own certificate."""

    async def start() -> tuple[asyncio.Server, Connections]:
        connections = Connections(talk)
        context = world.ca.context(world.ca.issue([host]))
        server = await asyncio.start_server(connections.accept, "127.0.0.1", 0, ssl=context)
        return server, connections

    async def stop() -> None:
        server.close()
        await connections.end()

    server, connections = world.run(start())
    try:
        with _led(world, host, server.sockets[0].getsockname()[1]):
            yield
    finally:
        world.run(stop())


@contextmanager
def led_astray(world: World, host: str, other: str) -> Generator[None]:
    """Lead a host of AWS to the true server of another."""
    with _led(world, host, world._servers[other].port):
        yield


@contextmanager
def _led(world: World, host: str, port: int) -> Generator[None]:
    true_server, route = world._servers[host], f"{host}:443"
    world.run(true_server.connections.cut())
    world._routes[route] = port
    try:
        yield
    finally:
        world._routes[route] = true_server.port


def wait_for(holds: Callable[[], bool], *, seconds: float = 15) -> None:
    """Wait until something holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def changed_code(folder: Path, file: str, old: str, new: str) -> list[Path]:
    """Copy the code of the image and change one place in it; `file` as in ``package/name.py``."""
    copies = [Path(shutil.copytree(each, folder / each.name)) for each in code_folders()]
    changed = folder / file
    text = changed.read_text()
    assert text.count(old) == 1
    changed.write_text(text.replace(old, new))
    return copies
