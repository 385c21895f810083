"""The hooks of the OpenAI client that both of ours override; it has had them since 1.60."""

# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, D102 -- the OpenAI client's own signatures hold, in each of its versions

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from openai import OpenAIError

from latensgate.client_logging import keep_bodies_out_of_logs
from latensgate.completion import (
    carried,
    keeping_receipt,
    sealed_type,
    with_receipt,
)
from latensgate.errors import error_of
from latensgate.transport_routes import IDEMPOTENCY_HEADER, without_plaintext

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    import httpx
    from openai import APIStatusError

    from latensgate.client_trust import AsyncShared, SyncShared, TrustOptions
    from latensgate.config import Settings


class NotSealedError(OpenAIError):
    """A part of the OpenAI client that would go around the seal; nothing was sent."""


class Sealed:
    """What both clients override; hooks that the OpenAI client has had since 1.60."""

    def _settle(self, default_headers: Mapping[str, str] | None) -> None:
        """Undo what the OpenAI client takes from variables that are meant for OpenAI itself."""
        client: Any = self
        own = {"_idempotency_header": IDEMPOTENCY_HEADER, "_custom_headers": default_headers or {}}
        vars(self).update(own)  # OPENAI_CUSTOM_HEADERS may hold keys of others
        client.organization = client.project = None

    def _trusted(self) -> TrustOptions:
        shared: SyncShared | AsyncShared = vars(self)["_shared"]
        return shared.options

    @property
    def settings(self) -> Settings:
        """Where, who, and what is trusted."""
        return self._trusted().settings

    def in_conversation(self, name: str) -> Self:
        """Return a copy whose requests belong to one conversation.

        The enclave then gives the same surrogates to the same personal data in all of them.
        """
        client: Any = self
        call = replace(self._trusted().call, conversation=name)
        made: Self = client.copy(_extra_kwargs={"_call": call})
        return made

    if not TYPE_CHECKING:  # the OpenAI client's own signatures hold

        def copy(self, **given):
            """Make a client like this one; trust, transport and caches are shared."""
            extra = {**given.pop("_extra_kwargs", {}), "_shared": self._shared}
            return super().copy(**given, _extra_kwargs=extra)

        with_options = copy

        def request(self, cast_to, options, *args, **kwargs):
            _with_key(options)
            _with_receipts(options)
            return super().request(cast_to, options, *args, **kwargs)

        def _build_request(self, options, **kwargs):
            with keep_bodies_out_of_logs():
                return super()._build_request(options, **kwargs)

        def _process_response_data(self, *, data, cast_to, response):
            made = super()._process_response_data(
                data=data, cast_to=sealed_type(cast_to, data), response=response
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


def _with_receipts(options: object) -> None:
    request = cast("Any", options)
    if callable(request.post_parser):
        request.post_parser = keeping_receipt(request.post_parser)


def _typed_error(response: httpx.Response) -> APIStatusError | None:
    failure = carried(response).failure
    return None if failure is None else error_of(failure, without_plaintext(response))
