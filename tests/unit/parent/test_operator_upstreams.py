"""Credentials of upstreams on their way through the operators' listener: sealed, to one enclave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from latensgate_parent.http.asgi_types import Message
from latensgate_parent.link.interfaces import EnclaveError
from latensgate_parent.metrics import Metrics
from latensgate_parent.operator_app import OperatorApp
from latensgate_shared.calls import AttestationAnswer
from latensgate_shared.calls_upstream import UpstreamCredentialAnswer, UpstreamCredentialCall
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES

HASH = "sha384:" + "ab" * 48
HOST = (b"host", b"127.0.0.1:8701")
OPERATOR = (b"latensgate-operator", b"upstream-credential")
SENT = {"enclave": "unix:/a", "attestation_hash": HASH, "upstream": "house", "sealed": "c2VhbGVk"}


class Fleet:
    """Two enclaves, of which one does not answer."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, UpstreamCredentialCall]] = []
        self.nonces: list[bytes] = []

    @property
    def names(self) -> Sequence[str]:
        return ["unix:/a", "unix:/b", "unix:/c"]

    async def attestation_of(self, name: str, nonce: bytes) -> AttestationAnswer:
        self.nonces.append(nonce)
        if name != "unix:/a":
            raise EnclaveError("no such enclave", code=ErrorCode.ERR_NOT_FOUND)
        return AttestationAnswer(HASH, b"document", b"{}", b"fresh")

    async def upstream_credential(
        self, name: str, call: UpstreamCredentialCall
    ) -> UpstreamCredentialAnswer:
        if name == "unix:/b":
            raise EnclaveError("lost", code=ErrorCode.ERR_ENCLAVE_UNAVAILABLE)
        if call.sealed is not None:
            self.taken.append((name, call))
            return UpstreamCredentialAnswer(None, b"confirmed")
        return UpstreamCredentialAnswer("house,shed" if name == "unix:/a" else None)


def operate(
    fleet: Fleet,
    method: str,
    path: str,
    *pieces: bytes,
    query: str = "",
    headers: Sequence[tuple[bytes, bytes]] = (HOST, OPERATOR),
) -> tuple[int, dict[str, object]]:
    waiting = list(pieces)
    sent: list[Message] = []

    async def drain() -> dict[str, int | None]:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        if not waiting:
            return {"type": "http.disconnect"}
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    scope: Message = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    scope["query_string"] = query.encode()
    asyncio.run(OperatorApp(Metrics(), lambda: True, drain, fleet)(scope, receive, send))
    status, body = sent[0]["status"], sent[1]["body"]
    assert isinstance(status, int)
    assert isinstance(body, bytes)
    found: dict[str, object] = json.loads(body)
    return status, found


def test_what_is_missing_is_asked_of_each() -> None:
    told = operate(Fleet(), "GET", "/upstreams")
    assert told == (
        200,
        {"enclaves": {"unix:/a": ["house", "shed"], "unix:/b": None, "unix:/c": []}},
    )


def test_evidence_is_of_the_enclave_that_was_named() -> None:
    fleet = Fleet()
    nonce = "01" * 32
    told = operate(fleet, "GET", "/enclave-attestation", query=f"enclave=unix%3A/a&nonce={nonce}")
    assert told == (
        200,
        {
            "attestation_hash": HASH,
            "document": "ZG9jdW1lbnQ=",
            "manifest": "e30=",
            "nonce_document": "ZnJlc2g=",
        },
    )
    assert fleet.nonces == [b"\1" * 32]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("enclave=unix:/a", 400),
        ("enclave=unix:/a&nonce=01", 400),
        (f"enclave=unix:/a&enclave=b&nonce={'01' * 32}", 400),
        (f"enclave=unix:/z&nonce={'01' * 32}", 404),
    ],
)
def test_a_question_of_another_form_is_refused(query: str, status: int) -> None:
    assert operate(Fleet(), "GET", "/enclave-attestation", query=query)[0] == status


def test_a_sealed_credential_is_handed_over_as_it_came() -> None:
    fleet = Fleet()
    body = json.dumps(SENT).encode()
    told = operate(fleet, "POST", "/upstream-credential", body[:9], body[9:])
    assert told == (200, {"confirmed": "Y29uZmlybWVk"})
    assert fleet.taken == [("unix:/a", UpstreamCredentialCall(HASH, "house", b"sealed"))]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (json.dumps({**SENT, "sealed": "?"}).encode(), 400),
        (json.dumps({**SENT, "attestation_hash": "x"}).encode(), 400),
        (json.dumps({**SENT, "more": 1}).encode(), 400),
        (json.dumps({**SENT, "enclave": "unix:/b"}).encode(), 503),
        (b"x" * (2 * UPSTREAM_CREDENTIAL_SEALED_MAX_BYTES + 1), 413),
    ],
)
def test_another_body_is_refused(body: bytes, status: int) -> None:
    fleet = Fleet()
    assert operate(fleet, "POST", "/upstream-credential", body)[0] == status
    assert fleet.taken == []


def test_a_body_that_never_ends_is_given_up() -> None:
    assert operate(Fleet(), "POST", "/upstream-credential")[0] == 499


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [OPERATOR],
        [HOST, (b"latensgate-operator", b"drain")],
        [(b"host", b"evil.example"), OPERATOR],
    ],
)
def test_a_web_page_can_neither_ask_nor_hand_anything_over(
    headers: list[tuple[bytes, bytes]],
) -> None:
    body = json.dumps(SENT).encode()
    fleet = Fleet()
    assert operate(fleet, "POST", "/upstream-credential", body, headers=headers)[0] == 403
    assert operate(fleet, "GET", "/upstreams", headers=headers)[0] == 403
    query = f"enclave=unix%3A/a&nonce={'01' * 32}"
    assert operate(fleet, "GET", "/enclave-attestation", query=query, headers=headers)[0] == 403
    assert (fleet.taken, fleet.nonces) == ([], [])
