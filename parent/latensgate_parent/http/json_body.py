"""Bodies of the surface's routes: small, strict JSON, and of a known form."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from latensgate_parent.http.body import ClientGoneError
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.fields import parameter_name, single
from latensgate_parent.http.schemas import FORMS
from latensgate_parent.limits import BODY_READ_TIMEOUT_S, SURFACE_BODY_MAX_BYTES
from latensgate_shared.errors import ErrorCode, MalformedError
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import Request

_OUR_WORDS: Final = {"Field required": "missing", "Extra inputs are not permitted": "no such field"}
_Body = TypeVar("_Body", bound=BaseModel)


def body_of(kind: type[BaseModel], *, required: bool = True) -> dict[str, object]:
    """Return what the OpenAPI document says of a body that ``read_body`` reads."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }


async def read_body(request: Request, kind: type[_Body], *, optional: bool = False) -> _Body:
    """Read the JSON body of a request.

    Args:
        request: Its body has not been read.
        kind: The form.
        optional: Whether no body at all means an empty object.

    Raises:
        GatewayError: ``ERR_REQUEST_INVALID``, with ``param`` where one member is wrong.
        MalformedError: No strict JSON object.
        TooLargeError: More than ``SURFACE_BODY_MAX_BYTES``.
    """
    data = await _read(request)
    if not data and optional:
        return kind.model_validate({})
    _check_type(request)
    try:
        members = parse_json_object(data, max_bytes=SURFACE_BODY_MAX_BYTES)
    except MalformedError as error:
        raise GatewayError(error.code, f"Body: {error.detail}") from None
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from None


async def _read(request: Request) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_READ_TIMEOUT_S):
            async for piece in request.stream():
                data += piece
                if len(data) > SURFACE_BODY_MAX_BYTES:
                    raise GatewayError(
                        ErrorCode.ERR_TOO_LARGE,
                        f"Body: at most {SURFACE_BODY_MAX_BYTES} bytes expected.",
                    )
    except ClientDisconnect:
        raise ClientGoneError("the caller went away before the body was complete") from None
    except TimeoutError:
        raise GatewayError(
            ErrorCode.ERR_REQUEST_INVALID,
            f"Body: not complete after {BODY_READ_TIMEOUT_S:g} s.",
        ) from None
    return bytes(data)


def _check_type(request: Request) -> None:
    value = single(request.scope["headers"], b"content-type") or b""
    if value.partition(b";")[0].strip().lower() != b"application/json":
        raise GatewayError(
            ErrorCode.ERR_REQUEST_INVALID,
            "Header Content-Type: application/json expected.",
            param="Content-Type",
        )


def invalid(errors: Sequence[Mapping[str, object]]) -> GatewayError:
    """Return the refusal that the first of pydantic's findings stands for.

    Its texts name the form that is expected and never repeat what was found.
    """
    first = errors[0]
    parts = [str(part) for part in cast("tuple[str | int, ...]", first["loc"])]
    if parts[:1] and parts[0] in {"query", "path"}:
        parts = parts[1:]
    name = parameter_name(".".join(parts)) if parts else None
    what = "This request" if name is None else name
    told = _in_our_words(str(first["msg"]))
    return GatewayError(ErrorCode.ERR_REQUEST_INVALID, f"{what}: {told}.", param=name)


def _in_our_words(message: str) -> str:
    if message in _OUR_WORDS:
        return _OUR_WORDS[message]
    told = message.removeprefix("Value error, ")
    pattern = told.removeprefix("String should match pattern '").removesuffix("'")
    if pattern in FORMS:
        return f"{FORMS[pattern]} expected"
    form = told.removeprefix("Input should be ").partition(", unable to ")[0]
    return told if told.startswith(form) else f"{form} expected"
