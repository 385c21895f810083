"""The hooks of the OpenAI client that both of ours override; it has had them since 1.60."""

# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, D102 -- the OpenAI client's own signatures hold, in each of its versions

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from openai import OpenAIError
from openai.types.chat import ChatCompletion

from latensgate.client_logging import keep_bodies_out_of_logs
from latensgate.completion import ConfidentialChatCompletion, carried, with_receipt
from latensgate.errors import error_of
from latensgate.transport_routes import without_plaintext

if TYPE_CHECKING:
    import httpx
    from openai import APIStatusError


class NotSealedError(OpenAIError):
    """A part of the OpenAI client that would go around the seal; nothing was sent."""


class Sealed:
    """What both clients override; hooks that the OpenAI client has had since 1.60."""

    if not TYPE_CHECKING:  # the OpenAI client's own signatures hold

        def copy(self, **given):
            """Make a client like this one; trust, transport and caches are shared."""
            extra = {**given.pop("_extra_kwargs", {}), "_shared": self._shared}
            return super().copy(**given, _extra_kwargs=extra)

        with_options = copy

        def request(self, cast_to, options, *args, **kwargs):
            _with_key(options)
            return super().request(cast_to, options, *args, **kwargs)

        def _build_request(self, options, **kwargs):
            with keep_bodies_out_of_logs():
                return super()._build_request(options, **kwargs)

        def _process_response_data(self, *, data, cast_to, response):
            made = super()._process_response_data(
                data=data, cast_to=_sealed_type(cast_to, data), response=response
            )
            with_receipt(made, response)
            return made

        def _make_status_error(self, err_msg, *, body, response):
            typed = _typed_error(response)
            if typed is not None:
                return typed
            return super()._make_status_error(err_msg, body=body, response=response)

        @property
        def realtime(self):
            """Not served: WebSockets would go around the seal."""
            raise NotSealedError("realtime: not sealed by this release, so nothing was sent")

        live = realtime


def _with_key(options: object) -> None:
    """Give every logical request one idempotency key over all its attempts.

    openai 1.60 makes a new one for each attempt.
    """
    request = cast("Any", options)
    if request.idempotency_key is None and request.method.lower() != "get":
        request.idempotency_key = f"lg-{uuid.uuid4()}"


def _sealed_type(cast_to: Any, data: object) -> Any:  # noqa: ANN401 -- whatever type the OpenAI client parses into
    """Parse answers that came out of an enclave into the type that says so."""
    sealed = isinstance(data, dict) and "audit_receipt_id" in data
    return ConfidentialChatCompletion if sealed and cast_to is ChatCompletion else cast_to


def _typed_error(response: httpx.Response) -> APIStatusError | None:
    failure = carried(response).failure
    return None if failure is None else error_of(failure, without_plaintext(response))
