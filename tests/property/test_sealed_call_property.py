"""The quick reader of sealed requests never says anything else than the reference."""

from __future__ import annotations

import base64
import json

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from inference_doubles import ATTESTATION_HASH, TENANT_ID
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.sealed_call import (
    check_content_type,
    idempotency_key,
    read_any,
    read_plain,
    read_sealed_call,
)
from latensgate_shared.calls import InferenceCall
from latensgate_shared.errors import MalformedError
from latensgate_shared.messages import OPERATIONS

NAMES = ["prompt_ciphertext", "model", "tenant_id", "operation", "stream", "messages", ""]
BASE64 = st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode())
VALUES = (
    BASE64
    | st.sampled_from(["claude-3.5-sonnet", TENANT_ID, "tnt_A", *OPERATIONS, "é", '"', "\\", ""])
    | st.text(max_size=5)
    | st.text("ABab01+/=", max_size=12)
    | st.booleans()
    | st.none()
    | st.integers(-1, 1)
    | st.floats()
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
)
GOOD = {
    "prompt_ciphertext": BASE64,
    "model": st.text(min_size=1, max_size=8) | st.sampled_from(["claude-3.5-sonnet", "a" * 257]),
    "tenant_id": st.sampled_from([TENANT_ID, "tnt_00000000"]),
}
OPTIONAL = {"operation": st.sampled_from(sorted(OPERATIONS)), "stream": st.booleans()}
SPACE = st.sampled_from(["", " ", "\n", "\t \r", "\x0b", "\x00"])


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """Draw a body that is right but for up to two members, in any order and spelling."""
    members: list[tuple[str, object]] = list(
        draw(st.fixed_dictionaries(GOOD, optional=OPTIONAL)).items()
    )
    extra = st.tuples(st.sampled_from(NAMES), VALUES)
    members += draw(st.lists(extra, max_size=2))
    members = draw(st.permutations(members))
    ascii_only = draw(st.booleans())
    text = ",".join(
        f"{draw(SPACE)}{json.dumps(name)}:{json.dumps(value, ensure_ascii=ascii_only)}"
        for name, value in members
    )
    return f"{{{text}{draw(SPACE)}}}{draw(SPACE)}".encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw such a body with one byte changed, left out or put in."""
    body = bytearray(draw(nearly_right()))
    at = draw(st.integers(0, len(body)))
    body[at : at + draw(st.integers(0, 1))] = draw(st.binary(max_size=1))
    return bytes(body)


def reference(body: bytes) -> tuple[InferenceCall, bytes] | None:
    try:
        return read_any(body, ATTESTATION_HASH)
    except MalformedError:
        return None


@settings(max_examples=300, deadline=None)
@given(nearly_right() | damaged() | st.binary(max_size=60))
@example(b'{"prompt_ciphertext":"AA==","model":"m","tenant_id":"tnt_a3f9c42b","model":"n"}')
@example(b'{"prompt_ciphertext":"AB==","model":"m","tenant_id":"tnt_a3f9c42b"}')
@example(b'{"prompt_ciphertext":"AA==","model":"m","tenant_id":"tnt_a3f9c42b","stream":null}')
@example(b'{"prompt_ciphertext":"","model":"m","tenant_id":"tnt_a3f9c42b"}')
@example(b'{"prompt_ciphertext":"A\x00==","model":"m","tenant_id":"tnt_a3f9c42b"}')
@example(b'{"prompt_ciphertext":null,"model":"m","tenant_id":"tnt_a3f9c42b"}')
@example(b'{"prompt_ciphertext": "AA==" ,"model":"m","tenant_id":"tnt_a3f9c42b"}')
@example(b"[" * 100_000)
@example(b'{"prompt_ciphertext":' + b"[" * 100_000)
def test_both_readers_agree(body: bytes) -> None:
    quick = read_plain(body, ATTESTATION_HASH)
    if quick is not None:
        assert quick == reference(body)


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries(GOOD, optional=OPTIONAL), st.sampled_from([(", ", ": "), (",", ":")]))
def test_bodies_of_the_usual_shape_are_read_quickly(
    members: dict[str, object], separators: tuple[str, str]
) -> None:
    body = json.dumps(members, separators=separators).encode()
    found = reference(body)
    assume(found is not None and found[1] and b"\\" not in body)
    assert read_plain(body, ATTESTATION_HASH) == found


@settings(max_examples=100, deadline=None)
@given(nearly_right() | damaged() | st.binary(max_size=60))
def test_only_gateway_errors_leave(body: bytes) -> None:
    headers = [(b"latensgate-attestation", ATTESTATION_HASH.encode())]
    try:
        found = read_sealed_call(headers, body)
    except GatewayError:
        return
    assert reference(body) == (found.call, found.sealed_request)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"idempotency-key", b"content-type"]))
def test_only_gateway_errors_leave_the_headers(value: bytes, name: bytes) -> None:
    for read in (idempotency_key, check_content_type):
        try:
            read([(name, value)])
        except GatewayError:
            continue
