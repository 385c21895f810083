"""Which requests of the OpenAI API the proxy serves, and what it says of others. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from latensgate.exchange_held import pending_id_of
from latensgate.proxy.answers import Refusal
from latensgate_shared.errors import ErrorCode

_PREFIX: Final = "/v1"
SEALED: Final = frozenset({"/chat/completions", "/embeddings", "/responses"})
"""Operations: with or without ``/v1``, since people forget it."""
MODELS: Final = "/models"
MODEL_MAX_CHARS: Final = 256
PAGE: Final = "/"
STATUS: Final = "/status"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    Attributes:
        name: For people and counts: ``chat/completions``, ``models``, ``status`` ...
        target: Path behind the gateway's root as the SDK's router knows it; empty: served here.
        sealed: Whether it has a body, which is sealed.
    """

    name: str
    target: str = ""
    sealed: bool = False


def route_of(method: str, path: str) -> Route | Refusal:
    """Find the route of a request."""
    if path in {PAGE, STATUS}:
        return _only("GET", method, Route(path.strip("/") or "page"))
    inner = path.removeprefix(_PREFIX) if path.startswith(f"{_PREFIX}/") else path
    if inner in SEALED:
        return _only("POST", method, Route(inner[1:], inner, sealed=True))
    if inner == MODELS:
        return _only("GET", method, Route("models", MODELS))
    if pending_id_of(inner) is not None:
        return _only("GET", method, Route("holds", inner))
    model = inner.removeprefix(f"{MODELS}/")
    if model != inner and 0 < len(model) <= MODEL_MAX_CHARS:
        return _only("GET", method, Route("models", f"{MODELS}/{quote(model, safe='')}"))
    return _unknown(inner)


def _only(expected: str, method: str, route: Route) -> Route | Refusal:
    if method == expected:
        return route
    return Refusal(
        ErrorCode.ERR_METHOD_NOT_ALLOWED, f"{expected} expected", headers=(("allow", expected),)
    )


def _unknown(inner: str) -> Refusal:
    if inner.startswith("/responses/"):
        text = "no response is stored anywhere here, so none can be looked up or changed"
    else:
        text = (
            "this proxy serves chat/completions, embeddings, responses, models and holds under /v1,"
            " and /status"
        )
    return Refusal(ErrorCode.ERR_NOT_FOUND, text)
