"""``GET /`` and ``GET /openapi.json``: the reference, made from the OpenAPI document.

The page is one text without scripts and without anything from elsewhere; its policy allows its own
style, by hash, and nothing else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from fastapi import APIRouter, Request, Response

from latensgate_parent.http.access import PUBLIC
from latensgate_parent.http.html_page import Page, asset, escape, inline, paragraphs, table
from latensgate_parent.limits import PUBLIC_REQUESTS_PER_MINUTE, SURFACE_BODY_MAX_BYTES
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import (
    ENCLAVE_ACCEPT_MS,
    KIB,
    MIB,
    SEALED_BODY_MAX_BYTES,
    SEALED_REQUEST_MAX_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

router = APIRouter(include_in_schema=False)

Object: TypeAlias = dict[str, Any]
"""JSON of the OpenAPI document."""

_CACHE: Final = {"cache-control": "public, max-age=300"}


@router.get("/", dependencies=PUBLIC)
async def get_reference(request: Request) -> Response:
    """Return the reference page."""
    page: Page = request.app.state.reference
    return page.response(_CACHE)


@router.get("/openapi.json", dependencies=PUBLIC)
async def get_openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    body = json.dumps(request.app.state.openapi, ensure_ascii=False)
    return Response(body, media_type="application/json", headers=_CACHE)


def render(document: Object) -> Page:
    """Return the reference of an OpenAPI document."""
    url = document["servers"][0]["url"]
    intro = asset("intro.html").replace("{{url}}", escape(url))
    endpoints = "".join(_operation(document, *each) for each in _operations(document))
    body = (
        f"{intro}<h2 id='endpoints'>Endpoints</h2>"
        f"<p class='note'>The same, for programs: <a href='/openapi.json'>openapi.json</a> "
        f"(OpenAPI {escape(document['openapi'])}).</p>{endpoints}{_errors()}{_limits()}"
    )
    return Page("Latensgate: docs and API reference", f"{_navigation(document)}<main>{body}</main>")


def _operations(document: Object) -> Iterator[tuple[str, str, Object]]:
    order = [tag["name"] for tag in document["tags"]]
    found = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    yield from sorted(found, key=lambda each: order.index(each[2]["tags"][0]))


def _anchor(path: str, method: str) -> str:
    return f"{method}-{path.strip('/')}".replace("/", "-").replace("{", "").replace("}", "")


def _navigation(document: Object) -> str:
    routes = "".join(
        f"<li><a href='#{_anchor(path, method)}'>{method.upper()} {escape(path)}</a></li>"
        for path, method, _ in _operations(document)
    )
    guide = "".join(
        f"<li><a href='#{name}'>{text}</a></li>"
        for name, text in (
            ("quickstart", "Quickstart"),
            ("authentication", "Authentication"),
            ("trust", "What you have to trust"),
        )
    )
    return (
        f"<nav><strong><a href='#top'>Latensgate</a></strong><small>Guide</small><ul>{guide}"
        "<li><a href='/verify'>Verify a hash</a></li></ul>"
        f"<small>Endpoints</small><ul>{routes}</ul><small>More</small>"
        "<ul><li><a href='#errors'>Error codes</a></li><li><a href='#limits'>Limits</a></li></ul>"
        "</nav>"
    )


def _operation(document: Object, path: str, method: str, operation: Object) -> str:
    scope = operation.get("x-required-scope")
    access = f"scope <code>{escape(scope)}</code>" if scope else "public"
    return "".join(
        (
            f"<section class='route' id='{_anchor(path, method)}'><h3>",
            f"<span class='verb {method}'>{method.upper()}</span><code>{escape(path)}</code>",
            f"<span class='tag'>{access}</span></h3>",
            f"<p><strong>{escape(operation['summary'])}</strong></p>",
            paragraphs(operation.get("description", "")),
            _parameters(operation),
            _request_body(document, operation),
            _answers(document, operation),
            "</section>",
        )
    )


def _parameters(operation: Object) -> str:
    rows = [
        (
            f"<code>{escape(each['name'])}</code>",
            escape(each["in"]),
            "yes" if each.get("required") else "no",
            _form(each["schema"]),
            inline(each.get("description", "")),
        )
        for each in operation.get("parameters", ())
    ]
    heads = ("parameter", "in", "required", "form", "meaning")
    return f"<h4>Parameters</h4>{table(heads, rows)}" if rows else ""


def _request_body(document: Object, operation: Object) -> str:
    if "requestBody" not in operation:
        return ""
    content = operation["requestBody"]["content"]["application/json"]
    name = content["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    examples = [each["value"] for each in content.get("examples", {}).values()]
    example = (examples or schema.get("examples") or [_example(document, schema)])[0]
    return f"<h4>Request body</h4>{_code(example)}{_members(document, schema)}"


def _answers(document: Object, operation: Object) -> str:
    parts: list[str] = []
    refusals: list[tuple[str, str]] = []
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            schema = _resolved(document, answer["content"]["application/json"]["schema"])
            parts.append(f"<h4>Answer: {status}</h4>{_code(_example(document, schema))}")
            parts.append(_members(document, schema))
        else:
            refusals.append((status, inline(answer["description"])))
    return "".join(parts) + f"<h4>Errors</h4>{table(('status', 'codes'), refusals)}"


def _members(document: Object, schema: Object) -> str:
    rows = [
        (f"<code>{escape(name)}</code>", _form(member), inline(_text(document, member)))
        for name, member in schema.get("properties", {}).items()
    ]
    return table(("member", "form", "meaning"), rows) if rows else ""


def _text(document: Object, member: Object) -> str:
    text = member.get("description") or _resolved(document, member).get("description", "")
    return str(text)


def _form(schema: Object) -> str:
    """Say a schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(_form(each) for each in schema["anyOf"])
    if "$ref" in schema:
        return escape(schema["$ref"].rpartition("/")[2])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum") or [schema["const"]]
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"array of {_form(schema.get('items', {}))}"
    words = [escape(schema.get("type", "any"))]
    if "minimum" in schema and "maximum" in schema:
        words.append(f"{schema['minimum']} to {schema['maximum']:,}")
    if "pattern" in schema:
        words.append(f"<code>{escape(schema['pattern'])}</code>")
    if "default" in schema:
        words.append(f"default <code>{escape(json.dumps(schema['default']))}</code>")
    return " ".join(words)


def _resolved(document: Object, schema: Object) -> Object:
    if "$ref" in schema:
        found: Object = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


_PLAIN: Final[Object] = {"string": "…", "integer": 1, "boolean": False, "null": None, "object": {}}


def _example(document: Object, schema: Object) -> object:
    """Return a value of a schema, as a reader would like to see one."""
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        return _example(document, schema["anyOf"][0])
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema or "const" in schema:
        return (schema.get("enum") or [schema["const"]])[0]
    if schema.get("type") == "array":
        return [_example(document, schema.get("items", {}))]
    if "properties" in schema:
        return {name: _example(document, each) for name, each in schema["properties"].items()}
    return schema.get("default", _PLAIN.get(schema.get("type", "string")))


_LONG_TEXT_CHARS: Final = 60


def _shortened(value: object) -> object:
    if isinstance(value, str) and len(value) > _LONG_TEXT_CHARS:
        return value[:16] + "…"
    if isinstance(value, list):
        return [_shortened(each) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {name: _shortened(each) for name, each in members.items()}
    return value


def _code(value: object) -> str:
    text = json.dumps(_shortened(value), indent=2, ensure_ascii=False)
    return f"<pre><code>{escape(text)}</code></pre>"


def _errors() -> str:
    rows = [
        (
            f"<code>{code.name}</code>",
            str(code.http_status),
            "yes" if code.retryable else "no",
            inline(code.hint),
        )
        for code in ErrorCode
    ]
    return (
        "<h2 id='errors'>Error codes</h2><p>Every answer with a status of 400 or above is one JSON "
        "envelope. Branch on <code>code</code>, not on the status: several codes share one.</p>"
        + _code(
            {
                "error": {
                    "message": "page: a whole number expected.",
                    "type": ErrorCode.ERR_REQUEST_INVALID.openai_type,
                    "param": "page",
                    "code": "ERR_REQUEST_INVALID",
                },
                "code": "ERR_REQUEST_INVALID",
                "correlation_id": "0b7e1a52-3c4d-4e5f-8a9b-0c1d2e3f4a5b",
                "hint": ErrorCode.ERR_REQUEST_INVALID.hint,
            }
        )
        + table(("code", "status", "retry", "what to do"), rows)
    )


def _limits() -> str:
    rows = [
        ("requests of a tenant", "60 a minute over all routes, unless set otherwise for it"),
        ("public routes", f"{PUBLIC_REQUESTS_PER_MINUTE} a minute for each address"),
        (
            "body of a sealed request",
            f"{SEALED_BODY_MAX_BYTES // MIB} MiB; decoded {SEALED_REQUEST_MAX_BYTES // MIB} MiB",
        ),
        ("other bodies", f"{SURFACE_BODY_MAX_BYTES // KIB} KiB"),
        (
            "acceptance by an enclave",
            f"{ENCLAVE_ACCEPT_MS:,} ms, then <code>ERR_ENCLAVE_TIMEOUT</code>",
        ),
    ]
    return (
        "<h2 id='limits'>Limits</h2><p>Limited answers carry <code>RateLimit</code> and "
        "<code>RateLimit-Policy</code>, and the <code>X-RateLimit-…</code> headers for older "
        "clients; a refusal says <code>Retry-After</code> in seconds.</p>"
        + table(("what", "limit"), rows)
    )
