"""A gateway for tests of the SDK: docs/spec/http.md to clients, frames to a real enclave.

It is as honest as a test lets it be: `twist` may change every answer, and `asked` holds every
request as it came.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import cast
from urllib.parse import parse_qs, urlsplit

import httpx

from latensgate_shared import calls
from latensgate_shared.error_answers import (
    ErrorAnswer,
    SealedRefusal,
    WireError,
    encode_error_answer,
)
from latensgate_shared.errors import ErrorCode
from latensgate_shared.messages import (
    InferenceAnswer,
    encode_inference_answer,
    encode_stream_chunk,
    parse_inference_request,
)
from quiet_server import QuietServer
from stack import MODEL, Answer, CallFailedError, Stack

API_KEY = "lg_test_" + "A" * 43
PIECE_BYTES = 700


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def sealed(self) -> bytes:
        return base64.b64decode(json.loads(self.body)["prompt_ciphertext"])

    @property
    def inference(self) -> bool:
        return self.path.endswith("/api/inference")

    @property
    def attestation(self) -> bool:
        return "/api/attestation?" in self.path


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


Twist = Callable[[Asked, Told], Told]


def refusal(code: ErrorCode, message: str = "no", **headers: str) -> Told:
    """An error outside the seal."""
    body = encode_error_answer(ErrorAnswer(WireError(code, message), "req_0123456789"))
    return Told(code.http_status, body, {"content-type": "application/json", **headers})


@dataclass
class Gateway:
    """Answers requests with the help of one enclave."""

    stack: Stack
    asked: list[Asked] = field(default_factory=list[Asked])
    twist: Twist | None = None
    stored: dict[str, tuple[bytes, Told]] = field(default_factory=dict[str, tuple[bytes, Told]])
    runs: int = 0

    @property
    def inferences(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.inference]

    @property
    def attestations(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.attestation]

    def answer(self, asked: Asked) -> Told:
        self.asked.append(asked)
        told = self._answer(asked)
        return told if self.twist is None else self.twist(asked, told)

    def _answer(self, asked: Asked) -> Told:
        try:
            if asked.attestation:
                return self._attestation(asked)
            if asked.inference:
                return self._idempotent(asked)
            if asked.path.endswith("/api/models"):
                entry = {"id": MODEL, "object": "model", "created": 1, "owned_by": "latensgate"}
                return Told(200, json.dumps({"object": "list", "data": [entry]}).encode())
        except CallFailedError as error:
            return refusal(error.code)
        return refusal(ErrorCode.ERR_NOT_FOUND)

    def _attestation(self, asked: Asked) -> Told:
        query = parse_qs(urlsplit(asked.path).query)
        with self.stack.link() as link:
            answer = link.call(calls.AttestationCall(nonce=bytes.fromhex(query["nonce"][0])))
        told = calls.AttestationAnswer.from_head(answer.head)
        body = {
            "attestation_hash": told.attestation_hash,
            "document": base64.b64encode(told.document).decode(),
            "manifest": base64.b64encode(told.manifest).decode(),
            "nonce_document": base64.b64encode(told.nonce_document or b"").decode(),
        }
        return Told(200, json.dumps(body).encode())

    def _idempotent(self, asked: Asked) -> Told:
        key = asked.headers["idempotency-key"]
        held = self.stored.get(key)
        if held is not None:
            same = held[0] == asked.sealed
            return held[1] if same else refusal(ErrorCode.ERR_IDEMPOTENCY_MISMATCH)
        told = self._inference(asked)
        if told.status != ErrorCode.ERR_KEY_STALE.http_status:
            self.stored[key] = (asked.sealed, told)
        return told

    def _inference(self, asked: Asked) -> Told:
        parsed = parse_inference_request(asked.body, asked.headers["latensgate-attestation"])
        outer = parsed.outer
        call = calls.InferenceCall(
            outer.attestation_hash, outer.model, outer.tenant_id, outer.operation, outer.stream
        )
        with self.stack.link() as link:
            answer = link.call(call, parsed.sealed_request)
        self.runs += 1
        return streamed(answer) if outer.stream else unary(answer, outer.attestation_hash)

    def client(self) -> httpx.Client:
        """A carrier that ends here."""
        return httpx.Client(transport=httpx.MockTransport(self._handle))

    def async_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.url.raw_path.decode()
        told = self.answer(Asked(request.method, path, headers, request.read()))
        return httpx.Response(told.status, headers=told.headers, content=told.body)


def whole(answer: Answer) -> bytes:
    return answer.body + cast("bytes", answer.end["final_chunk"])


def unary(answer: Answer, attestation_hash: str) -> Told:
    """What the parent says of a unary answer."""
    end = calls.InferenceEnd.from_head(answer.end)
    receipt_id = str(json.loads(end.receipt_public)["receipt_id"])
    if end.code is None:
        made = InferenceAnswer(
            whole(answer), receipt_id, attestation_hash, end.latency_ms, end.pii_detected
        )
        return Told(200, encode_inference_answer(made))
    code = ErrorCode[end.code]
    error = WireError(code, "The enclave refused the request.")
    body = encode_error_answer(
        ErrorAnswer(error, "req_0123456789", SealedRefusal(whole(answer), receipt_id))
    )
    return Told(code.http_status, body)


def streamed(answer: Answer) -> Told:
    data = whole(answer)
    pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
    events = [b"data: " + encode_stream_chunk(piece) + b"\n\n" for piece in pieces]
    body = b": hello\n\n" + b": on\n\n".join(events)
    return Told(200, body, {"content-type": "text/event-stream; charset=utf-8"})


@contextmanager
def served(gateway: Gateway, context: ssl.SSLContext | None = None) -> Generator[str]:
    """Serve over a real socket, with TLS if there is a context; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            told = gateway.answer(Asked(self.command, self.path, headers, body))
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        do_GET = do_POST = _serve  # noqa: N815 -- the names that the base class calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
            del format, args

    server = QuietServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
