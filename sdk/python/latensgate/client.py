"""``Latensgate`` and ``AsyncLatensgate``: the official OpenAI clients, sealed.

They are subclasses, and everything that the official client does stays its own: types, tools,
``with_raw_response``, retries, timeouts, ``copy`` and ``with_options``. Only its transport is
another: it attests, seals, opens and verifies. See docs/adr/0021-sdk-on-openai-client.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from openai import AsyncOpenAI, OpenAI

from latensgate.client_hooks import Sealed
from latensgate.client_trust import (
    AsyncShared,
    Environment,
    SyncShared,
    TrustArguments,
    trust_options,
)
from latensgate.holds import AsyncHolds, Holds
from latensgate.pii import PII, AsyncPII
from latensgate.verify import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self, Unpack

    import httpx
    import httpx2
    from openai._compat import cached_property

    from latensgate.attested import AttestationProof
    from latensgate.client_types import AsyncConfidentialChat, ConfidentialChat
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


class CopyOptions(TypedDict, total=False):
    """What a copy may have of its own; everything else it shares."""

    api_key: str
    base_url: str
    timeout: float | httpx.Timeout | None
    max_retries: int
    default_headers: Mapping[str, str]
    set_default_headers: Mapping[str, str]


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


class Latensgate(Sealed, OpenAI):
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
        stream_shape: A ``StreamShape``: streamed answers come in records of one length and on the
            ticks of a clock, so that whoever watches the connection learns little from them.
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
        self._settle(options.get("default_headers"))

    @property
    def pii(self) -> PII:
        """Try a policy: what it would do, and why."""
        return PII(self)

    def attest(self) -> AttestationProof:
        """Prove now, with a fresh nonce, what runs behind the gateway; requests are sealed to it.

        Nobody needs to: every request is sealed to an enclave that was proven. It tells people
        what was, before the first prompt, and it needs no API key.

        Raises:
            AttestationError: The enclave is not proven to be one that you accept; ``__cause__`` is
                the ``VerificationError`` of the step.
            ClockSkewError: Client and enclave disagree about the time.
            LatensgateClientError: The gateway refused.
            openai.APIConnectionError: The gateway was not reached.
        """
        return self._shared.trust.proven(self.timeout)

    @property
    def holds(self) -> Holds:
        """Requests that wait for an approver (docs/holds.md)."""
        return Holds(self)

    if TYPE_CHECKING:

        def copy(  # type: ignore[override]  # what makes sense here, and httpx with openai 3.x too
            self,
            *,
            http_client: httpx.Client | httpx2.Client | None = None,
            **options: Unpack[CopyOptions],
        ) -> Self:
            """Make a client like this one; trust, connections and caches are shared."""
            ...

        with_options = copy  # type: ignore[assignment]  # the same

        @cached_property
        def chat(self) -> ConfidentialChat:
            """Chat completions; their answers say by what they can be checked."""
            ...


class AsyncLatensgate(Sealed, AsyncOpenAI):
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
        self._settle(options.get("default_headers"))

    @property
    def pii(self) -> AsyncPII:
        """Try a policy: what it would do, and why."""
        return AsyncPII(self)

    async def attest(self) -> AttestationProof:
        """Prove now, with a fresh nonce, what runs behind the gateway; requests are sealed to it.

        Nobody needs to: every request is sealed to an enclave that was proven. It tells people
        what was, before the first prompt, and it needs no API key.

        Raises:
            AttestationError: The enclave is not proven to be one that you accept; ``__cause__`` is
                the ``VerificationError`` of the step.
            ClockSkewError: Client and enclave disagree about the time.
            LatensgateClientError: The gateway refused.
            openai.APIConnectionError: The gateway was not reached.
        """
        return await self._shared.trust.proven(self.timeout)

    @property
    def holds(self) -> AsyncHolds:
        """Requests that wait for an approver (docs/holds.md)."""
        return AsyncHolds(self)

    if TYPE_CHECKING:

        def copy(  # type: ignore[override]  # what makes sense here, and httpx with openai 3.x too
            self,
            *,
            http_client: httpx.AsyncClient | httpx2.AsyncClient | None = None,
            **options: Unpack[CopyOptions],
        ) -> Self:
            """Make a client like this one; trust, connections and caches are shared."""
            ...

        with_options = copy  # type: ignore[assignment]  # the same

        @cached_property
        def chat(self) -> AsyncConfidentialChat:
            """Chat completions; their answers say by what they can be checked."""
            ...
