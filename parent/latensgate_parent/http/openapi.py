"""The OpenAPI document: what FastAPI knows of its routes, and what it cannot know added.

That is: the sealed route, which no framework serves; the one error envelope; who may call; the
headers that every answer has.
"""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from latensgate_parent.http import schemas, schemas_holds, schemas_policy, schemas_sealed
from latensgate_parent.http.auth import Scope
from latensgate_parent.http.openapi_inference import INFERENCE
from latensgate_shared.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI

Object: TypeAlias = dict[str, Any]
"""JSON as FastAPI's own generator gives it."""

_EXTRA_MODELS: Final = (
    schemas.CreateKey,
    schemas.RotateKey,
    schemas_policy.SignedSettings,
    schemas_holds.SignedDecision,
    schemas_sealed.InferenceRequest,
    schemas_sealed.InferenceAnswer,
    schemas_sealed.ErrorEnvelope,
    schemas_sealed.SealedErrorEnvelope,
    schemas_sealed.UnavailableHealth,
)
_FOREIGN: Final = ("HTTPValidationError", "ValidationError")
"""What FastAPI would answer by itself, and here never does."""

DESCRIPTION: Final = """\
Confidential inference that you can check: prompts are sealed to a key that an AWS Nitro Enclave
attests, and answers come back sealed, with a signed receipt.

Requests are sealed by the SDK. Nothing that is not sealed is taken.

Every path may stand behind `/t/{tenant_id}`, the tenant's own URL; on gateways that have a tenant
domain, so does the host name `{tenant_id}.<domain>`.
"""
_TAGS: Final = (
    ("inference", "Sealed requests, and the model names that they may ask for."),
    ("attestation", "Evidence: which code an enclave runs. Public."),
    ("audit", "Receipts and usage of the tenant."),
    ("keys", "API keys of the tenant."),
    ("policy", "Settings that the tenant signs."),
    ("approvals", "Requests that wait for an approver: decided, and asked for."),
    ("health", "Whether requests can be served. Public."),
)

_COMMON: Final = (
    ErrorCode.ERR_REQUEST_INVALID,
    ErrorCode.ERR_RATE_LIMITED,
    ErrorCode.ERR_INTERNAL,
    ErrorCode.ERR_OVERLOADED,
)
_PRIVATE: Final = (
    ErrorCode.ERR_UNAUTHENTICATED,
    ErrorCode.ERR_FORBIDDEN,
    ErrorCode.ERR_NOT_FOUND,
    ErrorCode.ERR_STORE_UNAVAILABLE,
)
_BODY: Final = (ErrorCode.ERR_MALFORMED, ErrorCode.ERR_TOO_LARGE)
_OF_ENCLAVE: Final = (
    ErrorCode.ERR_KEY_STALE,
    ErrorCode.ERR_ENCLAVE_UNAVAILABLE,
    ErrorCode.ERR_ENCLAVE_TIMEOUT,
    ErrorCode.ERR_OUTCOME_UNKNOWN,
    ErrorCode.ERR_KMS_DENIED,
)
_OF_HOLDS: Final = (
    ErrorCode.ERR_HOLD_LOST,
    ErrorCode.ERR_HOLD_DENIED,
    ErrorCode.ERR_HOLD_EXPIRED,
    ErrorCode.ERR_APPROVAL_REFUSED,
    ErrorCode.ERR_OUTCOME_UNKNOWN,
)
_SCOPES: Final[dict[tuple[str, str], Scope]] = {
    ("/api/audit", "get"): Scope.AUDIT_READ,
    ("/api/audit/{receipt_id}", "get"): Scope.AUDIT_READ,
    ("/api/usage", "get"): Scope.AUDIT_READ,
    ("/api/usage/days", "get"): Scope.AUDIT_READ,
    ("/api/keys", "get"): Scope.KEYS_READ,
    ("/api/keys", "post"): Scope.KEYS_WRITE,
    ("/api/keys/{key_id}", "delete"): Scope.KEYS_WRITE,
    ("/api/keys/{key_id}/rotate", "post"): Scope.KEYS_WRITE,
    ("/api/policy", "get"): Scope.POLICY_READ,
    ("/api/policy", "put"): Scope.POLICY_WRITE,
    ("/api/models", "get"): Scope.INFERENCE_READ,
    ("/api/holds/{pending_id}", "get"): Scope.INFERENCE_READ,
    ("/api/holds/{pending_id}/answer", "get"): Scope.INFERENCE_READ,
    ("/api/approvals", "get"): Scope.APPROVALS_WRITE,
    ("/api/approvals/{pending_id}", "get"): Scope.APPROVALS_WRITE,
    ("/api/approvals/{pending_id}", "post"): Scope.APPROVALS_WRITE,
    ("/api/inference", "post"): Scope.INFERENCE_READ,
}
_MORE_CODES: Final[dict[tuple[str, str], tuple[ErrorCode, ...]]] = {
    ("/api/attestation", "get"): _OF_ENCLAVE,
    ("/api/attest", "get"): (
        ErrorCode.ERR_ATTESTATION_UNKNOWN,
        ErrorCode.ERR_STORE_UNAVAILABLE,
    ),
    ("/api/keys", "post"): _BODY,
    ("/api/policy", "put"): (
        *_BODY,
        ErrorCode.ERR_POLICY_INVALID,
        ErrorCode.ERR_SETTINGS_REFUSED,
    ),
    ("/api/keys/{key_id}/rotate", "post"): _BODY,
    ("/api/holds/{pending_id}/answer", "get"): (ErrorCode.ERR_HELD, *_OF_HOLDS),
    ("/api/approvals/{pending_id}", "get"): (*_OF_ENCLAVE, *_OF_HOLDS),
    ("/api/approvals/{pending_id}", "post"): (*_BODY, *_OF_ENCLAVE, *_OF_HOLDS),
}

_RATE_HEADERS: Final = {
    "RateLimit": 'What is left of the limit: `"default";r=<requests>;t=<seconds>`.',
    "RateLimit-Policy": 'The limit: `"default";q=<requests>;w=<seconds>`.',
    "X-RateLimit-Limit": "Requests a minute.",
    "X-RateLimit-Remaining": "How many are left.",
    "X-RateLimit-Reset": "Seconds until more are left.",
}
_HEADERS: Final[Object] = {
    "Latensgate-Correlation-Id": {
        "description": "To quote to the operator; `X-Request-Id` says the same.",
        "schema": {"type": "string"},
        "required": True,
    },
    **{
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in _RATE_HEADERS.items()
    },
}
_RETRY: Final[Object] = {
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_RETRY_STATUSES: Final = ("429", "503")


def describe(app: FastAPI, public_url: str) -> Object:
    """Return the OpenAPI 3.1 document of the whole gateway."""
    document: Object = get_openapi(
        title="Latensgate",
        version=version("latensgate-parent"),
        openapi_version="3.1.0",
        summary="Confidential inference that you can check.",
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS],
        servers=[{"url": public_url}],
    )
    paths: Object = document["paths"]
    document["paths"] = {"/api/inference": {"post": deepcopy(dict(INFERENCE))}, **paths}
    _add_components(document)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _complete(path, method, operation)
    return document


def _add_components(document: Object) -> None:
    components: Object = document.setdefault("components", {})
    known: Object = components.setdefault("schemas", {})
    for name in _FOREIGN:
        known.pop(name, None)
    _, extra = models_json_schema(
        [(model, "validation") for model in _EXTRA_MODELS],
        ref_template="#/components/schemas/{model}",
    )
    known.update(extra["$defs"])
    components["schemas"] = dict(sorted(known.items()))
    components["headers"] = _HEADERS | _RETRY
    components["examples"] = {code.name: {"value": _example(code)} for code in ErrorCode}
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "`Authorization: Bearer lg_live_…` or `lg_test_…`.",
        },
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "The same key; one of the two headers, not both.",
        },
    }


def _complete(path: str, method: str, operation: Object) -> None:
    scope = _SCOPES.get((path, method))
    if scope is not None:
        operation["security"] = [{"bearer": []}, {"apiKey": []}]
        operation["x-required-scope"] = scope.value
    else:
        operation["security"] = []
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
    responses: Object = operation["responses"]
    responses.pop("422", None)
    for answer in responses.values():
        answer["headers"] = _header_references(_HEADERS)
    own = operation.pop("x-error-codes", None)
    if own is None:
        codes = (*_COMMON, *(_PRIVATE if scope else ()), *_MORE_CODES.get((path, method), ()))
        responses.update(error_answers(codes, "ErrorEnvelope"))
    else:
        codes = tuple(ErrorCode[name] for name in own)
        responses.update(error_answers(codes, "SealedErrorEnvelope"))
    if path == "/api/health":
        schema = {"$ref": "#/components/schemas/UnavailableHealth"}
        envelope = {"$ref": "#/components/schemas/ErrorEnvelope"}
        responses["503"]["content"]["application/json"]["schema"] = {"anyOf": [schema, envelope]}
    operation["responses"] = dict(sorted(responses.items()))


def _without_null(schema: Object) -> Object:
    """Return the schema of a parameter: one that is left out is no null."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**kinds[0], **rest}


def error_answers(codes: tuple[ErrorCode, ...], envelope: str) -> Object:
    """Return the answers of these errors by status, each code as an example."""
    answers: Object = {}
    for code in sorted(set(codes), key=lambda each: each.number):
        status = str(code.http_status)
        answer = answers.setdefault(status, _error_answer(status, envelope))
        answer["description"] += f"{', ' if answer['description'] else ''}`{code.name}`"
        example = {"$ref": f"#/components/examples/{code.name}"}
        answer["content"]["application/json"]["examples"][code.name] = example
    return answers


def _error_answer(status: str, envelope: str) -> Object:
    schema = {"$ref": f"#/components/schemas/{envelope}"}
    retry = status in _RETRY_STATUSES
    return {
        "description": "",
        "headers": _header_references((*_HEADERS, *_RETRY) if retry else _HEADERS),
        "content": {"application/json": {"schema": schema, "examples": {}}},
    }


def _header_references(names: Iterable[str]) -> Object:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _example(code: ErrorCode) -> Object:
    return {
        "error": {
            "message": code.hint,
            "type": code.openai_type,
            "param": None,
            "code": code.name,
        },
        "code": code.name,
        "correlation_id": "0b7e1a52-3c4d-4e5f-8a9b-0c1d2e3f4a5b",
        "hint": code.hint,
    }
