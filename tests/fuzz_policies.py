"""Fuzz targets for what tenants ask for: policies, signed settings, Responses, embeddings.

A policy that is read has a digest and joins without ever getting weaker.
"""

from __future__ import annotations

import json
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fuzz_examples import TENANT, text_of
from fuzz_forms import Node, Script, edited
from latensgate_enclave.embeddings import parse_embeddings_request
from latensgate_enclave.measured_upstreams import ModelRoute
from latensgate_enclave.model_traits import ModelTraits
from latensgate_enclave.pii.custom import scanner_for
from latensgate_enclave.pii.engine import EngineSettings, Tier1Engine
from latensgate_enclave.responses_operation import ResponsesOperation
from latensgate_shared.errors import LatensgateError
from latensgate_shared.pii_policy import NO_OPINION, Policy
from latensgate_shared.pii_policy_document import parse_floor, parse_policy
from latensgate_shared.settings import encode_settings, parse_settings, settings_to_sign
from latensgate_shared.strict_json import JSONObject, JSONValue, parse_json_object

JSON_MAX_BYTES = 1 << 20
POLICY: Node = {
    "rules": {
        "EMAIL_ADDRESS": {"prompt": {"action": "pseudonymise", "threshold": 0.5}},
        "*": {"*": {"action": "flag"}, "answer": {"action": "mask", "hold": False}},
    },
    "lists": {"deny": ["Project Bluebird"], "allow": ["support@example.com"]},
    "recognizers": [
        {
            "name": "staff number",
            "pattern": "EMP-[0-9]{6}",
            "score": 0.85,
            "context": ["employee"],
            "category": "CUSTOM",
        }
    ],
}
FLOOR: JSONObject = {
    "rules": {"US_SSN": {"*": {"action": "fail"}}, "URL": {"*": {"action": "mask"}}},
    "lists": {"deny": ["floor"]},
    "ranges": {"URL": {"*": {"action": "flag"}}},
}


@cache
def engine() -> Tier1Engine:
    """An engine that has next to nothing to compile."""
    return Tier1Engine(EngineSettings(categories=frozenset(), phone_regions=()))


def fuzz_policy(data: bytes) -> None:
    """Policies, raw and edited; read ones are joined with a floor, compiled and applied."""
    script = Script(data)
    for text in (data, text_of(edited(POLICY, script))):
        try:
            document = parse_json_object(text, max_bytes=JSON_MAX_BYTES)
            policy = parse_policy(document)
        except LatensgateError:
            continue
        policy.digest()
        _check_join(policy)
        try:
            scanner_for(engine(), policy).scan("EMP-123456, floor and Bluebird\u200b, a@b.example")
        except LatensgateError:
            continue


def _check_join(policy: Policy) -> None:
    floor = parse_floor(FLOOR)
    for settings, request in ((None, policy), (policy, None), (policy, policy)):
        joined = floor.effective(settings, request)
        joined.digest()
        if not joined.deny >= floor.policy.deny:
            raise AssertionError("a term of the floor is gone")
        for cell, rule in floor.policy.rules.items():
            least = rule if settings is None else floor.ranges.get(cell, rule)
            if (joined.rule(cell) or NO_OPINION).action < least.action:
                raise AssertionError("a cell of the floor is weaker")


def policy_seeds() -> tuple[bytes, ...]:
    """As it is, small ones, and one of each edit."""
    small: tuple[Node, ...] = ({}, {"rules": {}}, {"lists": {}}, {"recognizers": []})
    edits = [bytes((1, 0, place, kind, 3)) for place in range(24) for kind in (0, 3)]
    return (text_of(POLICY), *(text_of(each) for each in small), b"\x00", *edits)


_ROOT = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SETTINGS: Node = {
    "format": "latensgate-tenant-settings/1",
    "tenant_id": TENANT,
    "root": _ROOT.public_key().public_bytes_raw().hex(),
    "version": 3,
    "issued_at": 1_700_000_000,
    "policy": POLICY,
    "approvers": [{"name": "a", "ed25519": "09" * 32, "xwing": "07" * 1216}],
    "audit_key": "07" * 1216,
    "kms_key_arn": "arn:aws:kms:eu-central-1:123456789012:key/k",
}


def fuzz_settings(data: bytes) -> None:
    """Settings: raw, and edited ones that are signed again as far as they have a canonical form."""
    for document in (data, _signed(Script(data))):
        try:
            found = parse_settings(document)
        except LatensgateError:
            continue
        if found.version < 1 or (found.policy is None) != (found.policy_document is None):
            raise AssertionError("settings outside their form were read")


def _signed(script: Script) -> bytes:
    flags = script.byte()
    text = text_of(edited(SETTINGS, script))
    try:
        value: JSONValue = parse_json_object(b'{"v":' + text + b"}", max_bytes=JSON_MAX_BYTES)["v"]
        settings: JSONObject = value if isinstance(value, dict) else {"v": value}
        signature = _ROOT.sign(settings_to_sign(settings))
        return encode_settings(settings, signature[flags & 1 :])
    except LatensgateError:
        return text


def settings_seeds() -> tuple[bytes, ...]:
    """As it is, with a cut signature, and one of each edit."""
    edits = [bytes((0, 1, 0, place, kind, 3)) for place in range(32) for kind in (0, 3)]
    return (b"\x00\x00", b"\x01\x00", text_of(SETTINGS), *edits)


_IMAGE = "data:image/png;base64,AA=="
RESPONSES: Node = {
    "model": "m",
    "instructions": "i",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "t"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "o"},
        {"type": "message", "role": "assistant", "content": "a"},
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": _IMAGE}],
        },
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"k": "v"},
    "max_output_tokens": 5,
    "temperature": 1,
    "store": False,
    "stream": True,
    "stream_options": {"include_obfuscation": False},
}
EMBEDDINGS: Node = {"model": "m", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64"}
ROUTES = (
    ModelRoute("m", "row", region="eu-central-1"),
    ModelRoute("m", "row", upstream="other"),
)


def fuzz_responses(data: bytes) -> None:
    """Responses and embeddings requests from JSON to what is forwarded."""
    script = Script(data)
    route = ROUTES[script.byte() & 1]
    for text in (data[1:], text_of(edited(RESPONSES, script)), text_of(edited(EMBEDDINGS, script))):
        try:
            body = parse_json_object(text, max_bytes=JSON_MAX_BYTES)
        except LatensgateError:
            continue
        _translated(body, route)
        try:
            parse_embeddings_request(body)
        except LatensgateError:
            continue


def _translated(body: JSONObject, route: ModelRoute) -> None:
    try:
        request = ResponsesOperation().parse(body)
        again = request.with_texts([part.text for part in request.parts()])
        if again is None:
            raise AssertionError("a request that nobody changed calls other tools")
        for call in again.translate(route, ModelTraits()):
            json.loads(call.body)
    except LatensgateError:
        return


def responses_seeds() -> tuple[bytes, ...]:
    """As they are for both kinds of upstream, and one of each edit."""
    edits = [bytes((0, 1, 0, place, kind, 3)) for place in range(48) for kind in (0, 3)]
    texts = (RESPONSES, EMBEDDINGS)
    return (b"\x00\x00", b"\x01\x00", *(b"\x00" + text_of(each) for each in texts), *edits)
