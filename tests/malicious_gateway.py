"""A gateway in the wrong hands: between the real SDK and the real parent, over real sockets.

It sees every byte that clients send and keeps them, may ask the true parent whatever it likes,
and answers what it wants: whole answers, or raw bytes that are no HTTP at all.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import httpx

from latensgate_shared.chunks import FINAL_MARK, ChunkReader, encode_varint
from latensgate_shared.error_answers import ErrorAnswer, WireError, encode_error_answer
from latensgate_shared.errors import ErrorCode

NONCE_BYTES = 32
PIECE_BYTES = 600
_HOP = frozenset({"host", "content-length", "connection", "transfer-encoding"})


@dataclass(frozen=True)
class Asked:
    """A request as it came; `raw` is all of it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @property
    def inference(self) -> bool:
        return self.target.endswith("/api/inference")

    @property
    def attestation(self) -> bool:
        return "/api/attestation" in self.target

    @property
    def sealed(self) -> bytes:
        return base64.b64decode(str(self.json["prompt_ciphertext"]))

    @property
    def json(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.body))

    def changed(self, **members: object) -> Asked:
        """Change what stands outside the seal."""
        return replace(self, body=json.dumps({**self.json, **members}).encode())

    def without(self, name: str) -> Asked:
        kept = {member: value for member, value in self.json.items() if member != name}
        return replace(self, body=json.dumps(kept).encode())

    def with_sealed(self, data: bytes) -> Asked:
        return self.changed(prompt_ciphertext=base64.b64encode(data).decode())

    def headed(self, **headers: str) -> Asked:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **named})


@dataclass(frozen=True)
class Told:
    """An answer as it goes out."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    @property
    def json(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.body))

    def changed(self, **members: object) -> Told:
        return replace(self, body=json.dumps({**self.json, **members}).encode())

    def without(self, *names: str) -> Told:
        kept = {name: value for name, value in self.json.items() if name not in names}
        return replace(self, body=json.dumps(kept).encode())

    # --- the sealed answer in it, unary or streamed ---

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def sealed(self) -> bytes:
        if not self.streamed:
            return base64.b64decode(str(self.json["response_ciphertext"]))
        events = [line for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return b"".join(base64.b64decode(json.loads(line[6:])["chunk"]) for line in events)

    def with_sealed(self, data: bytes) -> Told:
        if not self.streamed:
            return self.changed(response_ciphertext=base64.b64encode(data).decode())
        pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
        return replace(self, body=b"".join(event(piece) for piece in pieces))

    def with_chunks(self, change: Callable[[list[bytes]], list[bytes]]) -> Told:
        """Change the framed chunks; the last one is the final chunk."""
        nonce, chunks = cut(self.sealed)
        return self.with_sealed(b"".join([nonce, *change(chunks)]))


def event(piece: bytes) -> bytes:
    return b"data: " + json.dumps({"chunk": base64.b64encode(piece).decode()}).encode() + b"\n\n"


def cut(sealed: bytes) -> tuple[bytes, list[bytes]]:
    """Take a sealed answer apart: nonce, and framed chunks of which the last is the final one."""
    rest = sealed[NONCE_BYTES:]
    reader = ChunkReader()
    framed = [encode_varint(len(chunk)) + chunk for chunk in reader.feed(rest)]
    final = rest[sum(len(chunk) for chunk in framed) :]
    assert final.startswith(FINAL_MARK)
    return sealed[:NONCE_BYTES], [*framed, final]


def refusal(code: ErrorCode, message: str = "no", **headers: str) -> Told:
    """An error outside the seal."""
    body = encode_error_answer(ErrorAnswer(WireError(code, message), "req_0123456789"))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Told(code.http_status, body, {"content-type": "application/json", **named})


@dataclass(frozen=True)
class Raw:
    """Bytes for the socket, as long as the client reads; then the connection is closed."""

    pieces: Iterable[bytes]


Reply = Told | Raw
Honest = Callable[[Asked], Told]
Attack = Callable[[Asked, Honest], Reply]


def answers(change: Callable[[Told], Reply]) -> Attack:
    """Change what is answered to sealed requests."""
    return lambda asked, honest: change(honest(asked)) if asked.inference else honest(asked)


def instead(make: Callable[[], Reply]) -> Attack:
    """Answer sealed requests without asking anybody."""
    return lambda asked, honest: make() if asked.inference else honest(asked)


def requests(change: Callable[[Asked], Asked]) -> Attack:
    """Change what stands outside the seal before the true parent gets it."""
    return lambda asked, honest: honest(change(asked) if asked.inference else asked)


def proofs(change: Callable[[Told], Reply]) -> Attack:
    """Change what is answered to those who ask for an attestation."""
    return lambda asked, honest: change(honest(asked)) if asked.attestation else honest(asked)


@dataclass
class MaliciousGateway:
    """What it does is `attack`; honest without one.

    Attributes:
        parent: Address of the true parent.
        attack: Of the running test.
        asked: Every request.
        written: Bytes that clients took of raw answers.
    """

    parent: str
    attack: Attack | None = None
    asked: list[Asked] = field(default_factory=list[Asked])
    written: int = 0
    url: str = ""
    upstream: httpx.Client = field(
        default_factory=lambda: httpx.Client(trust_env=False, timeout=30.0)
    )

    @property
    def inferences(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.inference]

    @property
    def attestations(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.attestation]

    @property
    def seen(self) -> bytes:
        return b"\n".join(asked.raw for asked in self.asked)

    def reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        return self.honest(asked) if self.attack is None else self.attack(asked, self.honest)

    def honest(self, asked: Asked) -> Told:
        """Ask the true parent."""
        kept = {name: value for name, value in asked.headers.items() if name not in _HOP}
        url = self.parent + asked.target
        told = self.upstream.request(asked.method, url, headers=kept, content=asked.body)
        passed = {
            name: value
            for name, value in told.headers.items()
            if name not in _HOP and name != "date"
        }
        return Told(told.status_code, told.content, passed)


class _Handler(BaseHTTPRequestHandler):
    gateway: MaliciousGateway
    protocol_version = "HTTP/1.1"
    raw_requestline: bytes
    wbufsize = 0

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        raw = self.raw_requestline + bytes(self.headers) + body
        reply = self.gateway.reply(Asked(self.command, self.path, headers, body, raw))
        with suppress(ConnectionError):
            if isinstance(reply, Raw):
                self._pour(iter(reply.pieces))
            else:
                self._tell(reply)

    def _pour(self, pieces: Iterator[bytes]) -> None:
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)
            self.gateway.written += len(piece)

    def _tell(self, told: Told) -> None:
        self.send_response(told.status)
        for name, value in told.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(told.body)))
        self.end_headers()
        self.wfile.write(told.body)

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815 -- the names of http.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        del format, args


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # some attacks never end by themselves

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that run away are what is wanted."""


@contextmanager
def malicious(parent: str) -> Generator[MaliciousGateway]:
    """Serve on a port of this machine, in front of the true parent at this address."""
    gateway = MaliciousGateway(parent)
    handler = type("Handler", (_Handler,), {"gateway": gateway})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        gateway.upstream.close()
