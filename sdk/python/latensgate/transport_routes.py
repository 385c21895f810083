"""What the OpenAI client asks, told apart; everything unknown is refused before it is sent.

Shared by the two transports. Nothing here sends anything.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httpx
import openai

from latensgate import carrier
from latensgate.config import API_KEY_FORM
from latensgate.conversation import conversation_secret
from latensgate.errors import error_of
from latensgate.exchange import AUTHORIZATION, Call, Exchange
from latensgate.exchange_failure import Failure, failure_of
from latensgate.exchange_held import held_answer, pending_id_of
from latensgate.exchange_steps import Answered
from latensgate_shared.errors import ErrorCode
from latensgate_shared.limits import IDEMPOTENCY_KEY_MAX_CHARS
from latensgate_shared.messages import DRY_RUN

if TYPE_CHECKING:
    from latensgate.errors import LatensgateClientError
    from latensgate.exchange_seal import ChatRequest
    from latensgate.exchange_steps import Headers, Streaming, Talk
    from latensgate.exchange_stream import StreamOpener
    from latensgate.receipts import AnswerReceipt
    from latensgate_shared.errors import LatensgateError

CARRIED: Final = "latensgate"
"""Extension of an ``httpx.Response`` that holds what the body cannot."""
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
DRY_RUN_PATH: Final = "/policy/dry_run"
"""Not OpenAI's: `client.pii` asks here."""
_OPERATIONS: Final = {
    "/chat/completions": "chat.completions",
    "/responses": "responses",
    "/embeddings": "embeddings",
    DRY_RUN_PATH: DRY_RUN,
}
"""By path; they are sealed, and nothing else is sent with a body."""
_MODEL_PATH: Final = re.compile(r"/models/([^/]{1,768})")
_KEY_FORM: Final = re.compile(r"[!-~]+")
_BEARER: Final = "Bearer "
_WITHHELD: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "idempotency-key",
        "latensgate-attestation",
        "te",
        "transfer-encoding",
        "x-api-key",
    }
)
"""Header fields that the transport makes itself, or that speak of the plaintext body."""
_WITHHELD_PREFIXES: Final = ("x-stainless-", "openai-")
"""What the OpenAI client tells about the machine, and names of accounts elsewhere."""


@dataclass(slots=True)
class Carried:
    """What travels beside a response to the one who reads it.

    Attributes:
        receipt: Verified; of a stream only after its end.
        failure: Why it was refused.
    """

    receipt: AnswerReceipt | None = None
    failure: Failure | None = None
    opener: StreamOpener | None = field(default=None, repr=False)

    def verified(self) -> AnswerReceipt | None:
        """Return the receipt as far as it is known by now."""
        return self.opener.receipt if self.opener is not None else self.receipt


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What copies of a client may have of their own.

    Attributes:
        conversation: The application's name of its conversation.
        installation: Secret that conversation secrets are derived from.
    """

    conversation: str | None = None
    installation: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Router:
    """Finds the exchange that a request of the OpenAI client stands for.

    Attributes:
        base_url: Root of the gateway.
        exchange: Of the client.
        options: Of this copy.
    """

    base_url: httpx.URL
    exchange: Exchange
    options: CallOptions

    def talk(self, request: httpx.Request, body: bytes) -> Talk | Failure:
        """Return the exchange to be driven, or why there is none."""
        path = self._path(request.url)
        if path is None or request.url.query:
            return _refused("this address is not the gateway's, or has a query")
        authentication = _authentication(request.headers.get("authorization", ""))
        if authentication is None:
            return _unauthenticated()
        headers = (authentication, *_added(request.headers))
        operation = _OPERATIONS.get(path)
        if request.method == "POST" and operation is not None:
            return self._infer(request, body, headers, operation)
        return self._looked_up(request.method, path, headers)

    def _looked_up(self, method: str, path: str, headers: Headers) -> Talk | Failure:
        """Return what is asked without a body."""
        if (method, path) == ("GET", "/models"):
            return self.exchange.models(headers)
        pending_id = pending_id_of(path)
        if method == "GET" and pending_id is not None:
            return held_answer(self.exchange, pending_id, headers)
        named = _MODEL_PATH.fullmatch(path)
        if method == "GET" and named:
            return self.exchange.models(headers, unquote(named[1]))
        return _refused(
            f"this release seals {', '.join(_OPERATIONS.values())} alone, and stores nothing that"
            " could be looked up, changed or cancelled; nothing was sent"
        )

    def _path(self, url: httpx.URL) -> str | None:
        root = self.base_url
        if (url.scheme, url.host, url.port) != (root.scheme, root.host, root.port):
            return None
        path, prefix = url.raw_path.partition(b"?")[0].decode("ascii"), root.path.rstrip("/")
        return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else None

    def _infer(
        self, request: httpx.Request, body: bytes, headers: Headers, operation: str
    ) -> Talk | Failure:
        key = request.headers.get(IDEMPOTENCY_HEADER) or f"lg-{uuid.uuid4()}"
        if len(key) > IDEMPOTENCY_KEY_MAX_CHARS or not _KEY_FORM.fullmatch(key):
            return _refused(
                f"idempotency key: 1 to {IDEMPOTENCY_KEY_MAX_CHARS} visible ASCII characters"
                " expected",
                ErrorCode.ERR_REQUEST_INVALID,
            )
        return self.exchange.infer(Call(body, key, headers, self._conversation, operation))

    def _conversation(self, chat: ChatRequest) -> bytes | None:
        options, tenant = self.options, self.exchange.sealer.tenant
        return conversation_secret(options.installation, tenant, options.conversation, chat)


def _authentication(value: str) -> tuple[str, str] | None:
    """Let nothing but a Latensgate key out: the client may hold keys of other services."""
    key = value.removeprefix(_BEARER)
    return (AUTHORIZATION, _BEARER + key) if API_KEY_FORM.fullmatch(key) else None


def _added(headers: httpx.Headers) -> Headers:
    """Return the fields that the application or its user agent added; they travel unsealed."""
    return tuple(
        (name, value)
        for name, value in headers.multi_items()
        if name not in _WITHHELD and not name.startswith(_WITHHELD_PREFIXES)
    )


def _refused(message: str, code: ErrorCode = ErrorCode.ERR_UNSUPPORTED) -> Failure:
    return Failure(code=code, message=message, status=code.http_status, retry=False)


def _unauthenticated() -> Failure:
    return _refused(
        "api_key: lg_live_ or lg_test_ and 43 characters expected; nothing was sent",
        ErrorCode.ERR_UNAUTHENTICATED,
    )


def whole_response(reply: Answered | Failure) -> httpx.Response:
    """Return what the OpenAI client sees of an answer or of a failure."""
    if isinstance(reply, Answered):
        return httpx.Response(
            200,
            headers=[("content-type", "application/json"), *reply.headers],
            content=reply.body,
            extensions={CARRIED: Carried(receipt=reply.receipt)},
        )
    return failed_response(reply)


def stream_response(
    reply: Streaming, stream: httpx.SyncByteStream | httpx.AsyncByteStream
) -> httpx.Response:
    """Return what the OpenAI client sees of a stream that began."""
    return httpx.Response(
        200,
        headers=[("content-type", "text/event-stream"), *reply.headers],
        stream=stream,
        extensions={CARRIED: Carried(opener=reply.opener)},
    )


def failed_response(failure: Failure, request: httpx.Request | None = None) -> httpx.Response:
    """Return a failure as a response that the OpenAI client judges as we do."""
    headers = [
        ("content-type", "application/json"),
        ("x-should-retry", "true" if failure.retried_by_client else "false"),
    ]
    if failure.retry_after_s is not None:
        headers.append(("retry-after", str(failure.retry_after_s)))
    if failure.retry_after_ms is not None:
        headers.append(("retry-after-ms", str(failure.retry_after_ms)))
    if failure.correlation_id is not None and failure.correlation_id.isprintable():
        headers.append(("x-request-id", failure.correlation_id.encode("ascii", "replace").decode()))
    told: dict[str, object] = {
        "message": failure.message,
        "type": failure.code.openai_type,
        "param": failure.param,
        "code": failure.code.openai_code,
    }
    if failure.hold is not None:
        told["hold"] = failure.hold.to_json()
    return httpx.Response(
        failure.status,
        headers=headers,
        content=json.dumps({"error": told}).encode(),
        extensions={CARRIED: Carried(receipt=failure.receipt, failure=failure)},
        request=request,
    )


def stream_error(failure: Failure, request: httpx.Request) -> LatensgateClientError:
    """Return the error that ends a stream."""
    return error_of(failure, failed_response(failure, bare(request)))


def attestation_error(error: LatensgateError, root: str) -> LatensgateClientError:
    """Return the error of an attestation that was asked for by itself."""
    failure = failure_of(error)
    return error_of(failure, failed_response(failure, _attestation_request(root)))


def unreached(error: Exception, root: str) -> openai.APIConnectionError:
    """Return the error of a gateway that did not answer."""
    kind: type[openai.APIConnectionError] = openai.APIConnectionError
    if isinstance(error, carrier.timeouts()):
        kind = openai.APITimeoutError
    return kind(request=cast("Any", _attestation_request(root)))  # httpx2 has the same class


def _attestation_request(root: str) -> httpx.Request:
    return httpx.Request("GET", f"{root}/api/attestation")


def without_plaintext(response: httpx.Response) -> httpx.Response:
    """Return the response for an error: its request says nothing but the address."""
    response.request = bare(response.request)
    return response


def bare(request: httpx.Request) -> httpx.Request:
    """Return a request of the same address that holds nothing else."""
    return httpx.Request(request.method, request.url)


def forget_body(request: httpx.Request) -> None:
    """Take the plaintext out of a request that may end up in an error.

    Every attempt of the OpenAI client builds a request of its own, so none is needed twice.
    """
    request.stream = httpx.ByteStream(b"")
    if "_content" in vars(request):
        vars(request)["_content"] = b""
