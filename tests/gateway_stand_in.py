"""A gateway that is none: real HTTP, real documents under a root of our own, real receipts.

It answers the routes of docs/spec/http.md that carry no prompt. Tests change what it knows, or put
an answer of their own in the place of any route's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit

from latensgate.verify import parse_untrusted_document
from latensgate_shared import formats
from latensgate_shared.error_answers import ErrorAnswer, WireError, encode_error_answer
from latensgate_shared.errors import ErrorCode
from latensgate_shared.manifest import Manifest, build_user_data, encode_manifest
from latensgate_shared.receipts import PublicPart, Receipt, parse_public_part, receipt_hash
from latensgate_shared.strict_json import JSONObject
from nitro_factory import CHAIN, PCR0, PCR1, PCR2, Draft, der, issue_chain, root_sha256
from protocol_examples import TENANT, manifest, public_members, sign
from quiet_server import QuietServer

API_KEY = "lg_test_" + "A" * 43
KEY_ID = "key_5e0f3c2a9d817b64"
MADE_SECRET = "lg_test_" + "B" * 43
OK = 200
Reply: TypeAlias = "tuple[int, JSONObject | bytes]"
Route: TypeAlias = "Callable[[Asked], Reply]"


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@cache
def chain() -> tuple[bytes, ...]:
    """Return certificates that are valid now."""
    begin, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=2)
    shapes = tuple(replace(shape, not_before=begin, not_after=end) for shape in CHAIN)
    return tuple(der(certificate) for certificate in issue_chain(shapes))


def live_manifest() -> Manifest:
    begin = int(datetime.now(UTC).timestamp()) - 60
    return replace(manifest(), not_before=begin, not_after=begin + 4_500)


def error(code: ErrorCode, message: str = "No.", param: str | None = None) -> Reply:
    answer = ErrorAnswer(WireError(code, message, param), "correlation-1")
    return code.http_status, encode_error_answer(answer)


@dataclass
class StandIn:
    """What the gateway knows.

    Attributes:
        routes: ``METHOD /path`` → an answer in the place of the usual one.
        asked: Every request.
        scopes: Of ``API_KEY``.
        skew: Of the enclave's clock.
        headers: Of every answer.
    """

    bound: Manifest = field(default_factory=live_manifest)
    routes: dict[str, Reply | Route] = field(default_factory=dict[str, "Reply | Route"])
    asked: list[Asked] = field(default_factory=list[Asked])
    scopes: set[str] = field(
        default_factory=lambda: {"inference:read", "audit:read", "keys:read", "keys:write"}
    )
    skew: timedelta = timedelta()
    headers: dict[str, str] = field(default_factory=dict[str, str])
    entries: list[Receipt] = field(default_factory=list[Receipt])
    base_url: str = ""

    def __post_init__(self) -> None:
        self.manifest_bytes = encode_manifest(self.bound)
        self.document = self.make_document(None)
        for number in range(3):
            self.entries.append(self.make_receipt(number))

    @property
    def attestation_hash(self) -> str:
        return parse_untrusted_document(self.document).attestation_hash

    def make_document(self, nonce: bytes | None, /, **changes: object) -> bytes:
        now_ms = int((datetime.now(UTC) + self.skew).timestamp() * 1000)
        draft = Draft(
            chain=chain(),
            timestamp_ms=now_ms,
            user_data=build_user_data(self.manifest_bytes, nonce),
            nonce=nonce,
        )
        return draft.but(**changes).sign()

    def make_receipt(self, number: int, **changes: object) -> Receipt:
        before = self.entries[number - 1].public if number else None
        members = public_members() | {
            "receipt_id": f"aud_{number:016x}",
            "sequence": number,
            "previous_receipt_hash": None if before is None else receipt_hash(before),
            "attestation_hash": self.attestation_hash,
            "issued_at": self.bound.not_before // 60 * 60 + 60,
        }
        return sign(parse_public_part(cast("JSONObject", members | changes)))

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        own = self.routes.get(f"{asked.method} {asked.path}")
        if own is not None:
            return own(asked) if callable(own) else own
        public = {"/api/health": self.health, "/api/attestation": self.attestation}
        public |= {"/api/attest": self.attest}
        if asked.path in public:
            return public[asked.path](asked)
        if asked.headers.get("Authorization") != f"Bearer {API_KEY}":
            return error(ErrorCode.ERR_UNAUTHENTICATED, "No valid API key.")
        return self._of_tenant(asked)

    def _of_tenant(self, asked: Asked) -> Reply:
        kind = asked.path.split("/")[2]
        handlers: dict[str, tuple[str, Route]] = {
            "models": ("inference:read", self.models),
            "audit": ("audit:read", self.audit),
            "usage": ("audit:read", self.usage),
            "keys": ("keys:read" if asked.method == "GET" else "keys:write", self.keys),
        }
        if kind not in handlers:
            return error(ErrorCode.ERR_NOT_FOUND)
        scope, handler = handlers[kind]
        if scope not in self.scopes:
            return error(ErrorCode.ERR_FORBIDDEN, f"This key lacks {scope}.")
        return handler(asked)

    def health(self, _asked: Asked) -> Reply:
        return OK, health_members()

    def attestation(self, asked: Asked) -> Reply:
        if asked.query.get("key_id", self.bound.hpke_keys[0].key_id) not in {
            key.key_id for key in self.bound.hpke_keys
        }:
            return error(ErrorCode.ERR_KEY_STALE)
        told: JSONObject = {
            "attestation_hash": self.attestation_hash,
            "document": formats.to_base64(self.document),
            "manifest": formats.to_base64(self.manifest_bytes),
        }
        if "nonce" in asked.query:
            fresh = self.make_document(bytes.fromhex(asked.query["nonce"]))
            told["nonce_document"] = formats.to_base64(fresh)
        return OK, told

    def attest(self, asked: Asked) -> Reply:
        if asked.query["hash"] != self.attestation_hash:
            return error(ErrorCode.ERR_ATTESTATION_UNKNOWN)
        return OK, {
            "hash": self.attestation_hash,
            "pcr_values": {"PCR0": PCR0.hex(), "PCR1": PCR1.hex(), "PCR2": PCR2.hex()},
            "timestamp": "2026-11-14T09:23:41Z",
            "enclave_image_sha": "sha384:" + PCR0.hex(),
            "status": "simulated",
            "region": "eu-central-1",
            "document": formats.to_base64(self.document),
            "manifest": formats.to_base64(self.manifest_bytes),
            "fresh": True,
            "verdict": [{"number": 1, "title": "Read", "state": "passed", "reason": None}],
        }

    def models(self, _asked: Asked) -> Reply:
        entry: JSONObject = {"id": "claude-3.5-sonnet", "object": "model", "created": 0}
        return OK, {"object": "list", "data": [entry | {"owned_by": "latensgate"}]}

    def audit(self, asked: Asked) -> Reply:
        parts = asked.path.split("/")
        if len(parts) > 3:
            found = [item for item in self.entries if item.public.receipt_id == parts[3]]
            return (OK, entry_members(found[0])) if found else error(ErrorCode.ERR_NOT_FOUND)
        page, limit = int(asked.query["page"]), int(asked.query["limit"])
        newest = [item for item in reversed(self.entries) if _matches(item.public, asked.query)]
        shown = newest[(page - 1) * limit : page * limit]
        return OK, {
            "entries": [entry_members(item) for item in shown],
            "page": page,
            "limit": limit,
            "total": len(newest),
        }

    def usage(self, _asked: Asked) -> Reply:
        counts: JSONObject = {"requests": 3, "prompt_tokens": 61, "completion_tokens": 1_112}
        enclave: JSONObject = {
            "receipt_key": "ab" * 32,
            "issued_at": "2026-11-14T09:00:00Z",
            "usage": counts,
            "totals_hash": "sha384:" + "cd" * 48,
            "signature": "ef" * 64,
        }
        return OK, {"tenant_id": TENANT, "usage": counts, "enclaves": [enclave]}

    def keys(self, asked: Asked) -> Reply:
        if asked.method == "GET":
            return OK, {"keys": [key_members()]}
        if asked.method == "DELETE":
            return OK, key_members(status="revoked", revoked_at="2026-11-15T00:00:00Z")
        body = json.loads(asked.body)
        if asked.path.endswith("/rotate"):
            return 201, key_members(key=MADE_SECRET, replaces=KEY_ID)
        return 201, key_members(name=body["name"], scopes=body["scopes"], key=MADE_SECRET)


def _matches(public: PublicPart, query: dict[str, str]) -> bool:
    until = query.get("until")
    if until is not None and public.issued_at >= datetime.fromisoformat(until).timestamp():
        return False
    return query.get("outcome") in {None, public.outcome}


def health_members(**changes: object) -> JSONObject:
    told: JSONObject = {
        "status": "ok",
        "enclave": {"status": "ready", "ready": 2, "total": 2},
        "kms": {"status": "released"},
        "bedrock": {"status": "ready"},
        "checked_at": "2026-11-14T09:23:41Z",
    }
    return told | cast("JSONObject", changes)


def unavailable_health() -> Reply:
    """Return the 503: the envelope and the report beside it."""
    status, body = error(ErrorCode.ERR_ENCLAVE_UNAVAILABLE)
    kms: JSONObject = {"status": "denied"}
    stopped: JSONObject = {"status": "stopped", "ready": 0, "total": 2}
    told = health_members(status="unavailable", kms=kms, enclave=stopped)
    return status, json.loads(cast("bytes", body)) | told


def entry_members(receipt: Receipt) -> JSONObject:
    return {
        "public": receipt.public.to_json(),
        "signature": receipt.signature.hex(),
        "private_sealed": None,
    }


def key_members(**changes: object) -> JSONObject:
    told: JSONObject = {
        "id": KEY_ID,
        "name": "production-pipeline",
        "hint": "lg_test_AAA…",
        "scopes": ["audit:read", "inference:read"],
        "status": "active",
        "created_at": "2026-11-14T09:23:41Z",
        "expires_at": "2027-02-12T09:23:41Z",
        "revoked_at": None,
    }
    return told | cast("JSONObject", changes)


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(
            self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers), body
        )
        status, told = self.stand_in.answer(asked)
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **self.stand_in.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names of http.server

    def date_time_string(self, timestamp: float | None = None) -> str:
        del timestamp
        return self.stand_in.headers.get("X-Date") or super().date_time_string()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        del format, args


@contextmanager
def serving(stand_in: StandIn) -> Generator[StandIn]:
    """Serve on a port of this machine."""
    handler = type("Handler", (_Handler,), {"stand_in": stand_in})
    server = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stand_in.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_config(folder: Path, stand_in: StandIn, **changes: str) -> Path:
    """Write the configuration of a client that accepts this stand-in under its root."""
    values = {
        "base_url": stand_in.base_url,
        "tenant": TENANT,
        "api_key": API_KEY,
        "simulated_root_sha256": root_sha256(chain()),
    } | changes
    lines = ["[[gateways]]", *(f'{name} = "{value}"' for name, value in values.items() if value)]
    lines += ["[[gateways.measurements]]"]
    lines += [f'PCR{index} = "{pcr.hex()}"' for index, pcr in enumerate((PCR0, PCR1, PCR2))]
    path = folder / "config.toml"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return path
