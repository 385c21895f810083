"""``Latensgate`` and ``AsyncLatensgate``: the official OpenAI clients, sealed.

They are subclasses, and everything that the official client does stays its own: types, tools,
``with_raw_response``, retries, timeouts, ``copy`` and ``with_options``. Only its transport is
another: it attests, seals, opens and verifies. See docs/adr/0021-sdk-on-openai-client.md.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from openai import AsyncOpenAI, OpenAI, OpenAIError
from openai.types.chat import ChatCompletion

from latensgate.client_logging import keep_bodies_out_of_logs
from latensgate.client_trust import (
    AsyncShared,
    Environment,
    SyncShared,
    TrustArguments,
    trust_options,
)
from latensgate.completion import ConfidentialChatCompletion, carried, with_receipt
from latensgate.errors import error_of
from latensgate.transport_routes import IDEMPOTENCY_HEADER, without_plaintext
from latensgate.verify import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from functools import cached_property
    from typing import Self, Unpack

    import httpx
    from openai import APIStatusError

    from latensgate.client_types import AsyncConfidentialChat, ConfidentialChat
    from latensgate.config import Settings
    from latensgate.transport_routes import CallOptions

_NO_WEBSOCKETS: Final = "wss://not-sealed.invalid"
"""WebSockets would go around the transport; RFC 2606: this name never resolves."""
_ELSEWHERE: Final = ("workload_identity", "provider", "data_residency")
"""Options by which the OpenAI client talks to others than the gateway."""


class ClientOptions(TrustArguments, total=False):
    """Everything that a client takes besides ``api_key``, ``base_url`` and ``http_client``."""

    timeout: float | httpx.Timeout | None
    max_retries: int
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None


def _sorted(options: ClientOptions) -> tuple[dict[str, Any], TrustArguments]:
    """Return the OpenAI client's options and our own."""
    ours = TrustArguments.__annotations__
    given = cast("dict[str, Any]", options)
    others = {name: value for name, value in given.items() if name not in ours}
    return others, cast("TrustArguments", {name: given[name] for name in given.keys() & ours})


def _openai_options(given: dict[str, Any], shared: SyncShared | AsyncShared) -> dict[str, Any]:
    """Return what the OpenAI client is made with.

    Raises:
        ConfigurationError: An option that would lead elsewhere.
    """
    led_astray = [name for name in _ELSEWHERE if isinstance(given.get(name), (str, dict))]
    if led_astray:
        raise ConfigurationError(f"{', '.join(led_astray)}: not with Latensgate")
    kept = {name: value for name, value in given.items() if name not in _ELSEWHERE}
    return kept | {
        "base_url": shared.options.settings.base_url,
        "websocket_base_url": _NO_WEBSOCKETS,
        "http_client": shared.facing,
    }


def _settle(client: OpenAI | AsyncOpenAI, default_headers: object) -> None:
    """Undo what the OpenAI client takes from variables that are meant for OpenAI itself."""
    client._idempotency_header = IDEMPOTENCY_HEADER  # noqa: SLF001 -- the client's own hook for it
    client._custom_headers = cast("dict[str, str]", default_headers or {})  # noqa: SLF001 -- OPENAI_CUSTOM_HEADERS may hold keys for others
    client.organization = client.project = None


def _with_key(options: object) -> None:
    """Give every logical request one idempotency key over all its attempts.

    openai before 1.70 made a new one for each attempt.
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


class NotSealedError(OpenAIError):
    """A part of the OpenAI client that would go around the seal; nothing was sent."""


class _Sealed:
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


class Latensgate(_Sealed, OpenAI):
    """The OpenAI client whose requests only an attested enclave can read.

    ```python
    from latensgate import Latensgate

    lg = Latensgate(tenant="tnt_a3f9c42b")
    response = lg.chat.completions.create(
        model="claude-3.5-sonnet",
        messages=[{"role": "user", "content": "Summarize the attached document."}],
    )
    print(response.choices[0].message.content, response.attestation_hash)
    ```

    Arguments that are left out come from ``LATENSGATE_KEY``, ``LATENSGATE_TENANT`` and
    ``LATENSGATE_BASE_URL``, then from ``config.toml`` and ``dev.toml`` (``latensgate.config``).

    Args:
        api_key: ``lg_live_…`` or ``lg_test_…``.
        base_url: The gateway's root or a tenant URL; https, unless it is this machine.
        http_client: Carries the sealed bytes: an ``httpx.Client`` (or ``httpx2.Client`` with openai
            3.x) with proxies, certificates and hooks of your own. It never sees plaintext.
        tenant: ``tnt_`` and 8 hex digits.
        measurements: Images that you accept: ``Measurements``, or mappings with ``PCR0``, ``PCR1``
            and ``PCR2``.
        release_list: File of releases that you accept (docs/spec/releases.md).
        simulated: Accept a simulator in place of AWS; every status then says ``simulated``.
        simulated_root_sha256: The simulator's root, where no configuration file names it.
        kms_key_arn: Your own KMS key: bodies are then also under a data key of it.
        data_key_provider: Makes these data keys; default: boto3.
        policy: Tightens what is done with personal data (docs/spec/wire.md section 5.1).
        tenant_root: 64 hex digits: the key that signs your tenant's settings.
        min_settings_version: Oldest settings that will do.
        post_quantum_only: Refuse enclaves that offer no X-Wing key.
        conversation: Your name of the conversation (``in_conversation`` gives one to a copy).
        installation_secret: 32 bytes that replicas share; default: one per machine and user.
        options: ``timeout``, ``max_retries``, ``default_headers`` and the other options of
            ``openai.OpenAI``. Headers travel outside the seal.

    Raises:
        ConfigurationError: Something is missing or of another form; it names every fault.
    """

    _shared: SyncShared

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: object = None,
        _shared: SyncShared | None = None,
        _call: CallOptions | None = None,
        _environment: Environment | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        others, trusted = _sorted(options)
        if _shared is None:
            found = trust_options(
                api_key=api_key, base_url=base_url, given=trusted, environment=_environment
            )
            api_key, shared = found.settings.api_key, SyncShared.make(found, http_client)
        else:
            shared = _shared.copied(base_url=str(base_url), client=http_client, call=_call)
        self._shared = shared
        super().__init__(api_key=api_key, **_openai_options(others, shared))
        _settle(self, options.get("default_headers"))

    @property
    def settings(self) -> Settings:
        """Where, who, and what is trusted."""
        return self._shared.options.settings

    def in_conversation(self, name: str) -> Self:
        """Return a copy whose requests belong to one conversation.

        The enclave then gives the same surrogates to the same personal data in all of them.
        """
        call = replace(self._shared.options.call, conversation=name)
        return self.copy(_extra_kwargs={"_call": call})

    if TYPE_CHECKING:

        @cached_property
        def chat(self) -> ConfidentialChat:
            """Chat completions; their answers say by what they can be checked."""
            ...


class AsyncLatensgate(_Sealed, AsyncOpenAI):
    """The asynchronous ``Latensgate``; its arguments are the same.

    ``http_client`` is an ``httpx.AsyncClient`` (or ``httpx2.AsyncClient`` with openai 3.x).

    Raises:
        ConfigurationError: Something is missing or of another form; it names every fault.
    """

    _shared: AsyncShared

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: object = None,
        _shared: AsyncShared | None = None,
        _call: CallOptions | None = None,
        _environment: Environment | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        others, trusted = _sorted(options)
        if _shared is None:
            found = trust_options(
                api_key=api_key, base_url=base_url, given=trusted, environment=_environment
            )
            api_key, shared = found.settings.api_key, AsyncShared.make(found, http_client)
        else:
            shared = _shared.copied(base_url=str(base_url), client=http_client, call=_call)
        self._shared = shared
        super().__init__(api_key=api_key, **_openai_options(others, shared))
        _settle(self, options.get("default_headers"))

    @property
    def settings(self) -> Settings:
        """Where, who, and what is trusted."""
        return self._shared.options.settings

    def in_conversation(self, name: str) -> Self:
        """Return a copy whose requests belong to one conversation.

        The enclave then gives the same surrogates to the same personal data in all of them.
        """
        call = replace(self._shared.options.call, conversation=name)
        return self.copy(_extra_kwargs={"_call": call})

    if TYPE_CHECKING:

        @cached_property
        def chat(self) -> AsyncConfidentialChat:
            """Chat completions; their answers say by what they can be checked."""
            ...
