"""From a client's arguments to its trust, its transport and its carrier."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypedDict

import httpx

from latensgate import carrier
from latensgate.attested import Attester
from latensgate.config import Settings, Surroundings, Wanted, checked_base_url, load_settings
from latensgate.data_keys import Boto3DataKeys
from latensgate.exchange import Exchange
from latensgate.exchange_seal import Sealer, SealOptions, check_policy
from latensgate.settings_pin import SettingsPin
from latensgate.state import StateFiles
from latensgate.state import installation_secret as read_installation_secret
from latensgate.transport import SealingTransport, SyncTrust
from latensgate.transport_async import AsyncSealingTransport, AsyncTrust
from latensgate.transport_routes import CallOptions, Router
from latensgate.trust import TrustParts
from latensgate_shared import limits
from latensgate_shared.errors import MalformedError
from latensgate_shared.manifest import SUITES
from latensgate_shared.stream_shape import StreamShape

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from latensgate.data_keys import DataKeyProvider
    from latensgate.verify import Measurements
    from latensgate_shared.strict_json import JSONObject

_SECRET_BYTES: Final = 32
_ROOT_FORM: Final = re.compile(r"[0-9a-f]{64}")
_POST_QUANTUM: Final = "xwing"


class TrustArguments(TypedDict, total=False):
    """What ``Latensgate`` takes besides the options of the OpenAI client; see there."""

    tenant: str | None
    measurements: Sequence[Measurements | Mapping[str, str]] | None
    release_list: str | os.PathLike[str] | None
    simulated: bool
    simulated_root_sha256: str | None
    kms_key_arn: str | None
    data_key_provider: DataKeyProvider | None
    policy: JSONObject | None
    stream_shape: StreamShape | None
    tenant_root: str | None
    min_settings_version: int | None
    post_quantum_only: bool
    conversation: str | None
    installation_secret: bytes | None


def _nonce() -> bytes:
    return secrets.token_bytes(limits.NONCE_BYTES)


@dataclass(frozen=True, slots=True)
class Environment:
    """Time, randomness and folders, as an argument so that tests have their own.

    Attributes:
        clock: Seconds since 1970.
        nonce: Makes fresh challenges.
        around: Environment variables and folders; None for those of the process.
    """

    clock: Callable[[], float] = time.time
    nonce: Callable[[], bytes] = _nonce
    around: Surroundings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustOptions:
    """What a client trusts, and what it seals besides requests; shared with its copies.

    Attributes:
        settings: Where, who, and which measurements.
        seal: What is sealed besides.
        admitted: Names of admitted suites.
        provider: Makes data keys.
        environment: Time, randomness and folders.
        call: What single copies may have of their own.
    """

    settings: Settings
    seal: SealOptions
    admitted: frozenset[str]
    provider: DataKeyProvider | None
    environment: Environment
    call: CallOptions = field(repr=False)

    def parts(self) -> TrustParts:
        """Make the rules and the memory of one gateway."""
        settings, here = self.settings, self.environment
        attester = Attester(settings.policy, self.admitted, here.clock, here.nonce)
        return TrustParts(
            Exchange(attester, Sealer(settings.tenant, self.seal)),
            settings.base_url,
            StateFiles.of(settings.state_dir, settings.base_url, settings.policy, self.admitted),
            self.provider,
        )

    def router(self, parts: TrustParts) -> Router:
        """Say which requests of the OpenAI client are exchanged, and how."""
        return Router(httpx.URL(self.settings.base_url), parts.exchange, self.call)

    def at(self, base_url: str) -> TrustOptions:
        """Return the same trust for another address of the gateway.

        Raises:
            ConfigurationError: It is not one that may be spoken to.
        """
        checked = checked_base_url(base_url)
        return replace(self, settings=replace(self.settings, base_url=checked))


def trust_options(
    *,
    api_key: str | None,
    base_url: str | None,
    given: TrustArguments,
    environment: Environment | None,
) -> TrustOptions:
    """Read a client's arguments; nothing is sent.

    Raises:
        ConfigurationError: Something is missing or of another form; it names every fault.
    """
    environment, faults = environment or Environment(), list[str]()
    wanted = Wanted(
        api_key=api_key,
        tenant=given.get("tenant"),
        base_url=base_url,
        measurements=given.get("measurements"),
        release_list=given.get("release_list"),
        simulated=given.get("simulated", False) is True,
        simulated_root_sha256=given.get("simulated_root_sha256"),
    )
    seal = _seal_options(given, faults)
    installation = given.get("installation_secret")
    if installation is not None and len(installation) != _SECRET_BYTES:
        faults.append(f"installation_secret: {_SECRET_BYTES} bytes expected")
    settings = load_settings(wanted, environment.around, besides=faults)
    seal = _with_settings(seal, settings)
    if installation is None:
        installation = read_installation_secret(settings.state_dir)
    provider = given.get("data_key_provider")
    if provider is None and seal.kms_key_arn is not None:
        provider = Boto3DataKeys()
    return TrustOptions(
        settings=settings,
        seal=seal,
        admitted=_admitted(post_quantum_only=given.get("post_quantum_only", False)),
        provider=provider,
        environment=environment,
        call=CallOptions(given.get("conversation"), installation),
    )


def _admitted(*, post_quantum_only: bool) -> frozenset[str]:
    return frozenset({_POST_QUANTUM}) if post_quantum_only else frozenset(SUITES.values())


def _seal_options(given: TrustArguments, faults: list[str]) -> SealOptions:
    policy, root = given.get("policy"), given.get("tenant_root")
    version = given.get("min_settings_version")
    if policy is not None:
        try:
            policy = check_policy(policy)
        except MalformedError as error:
            faults.append(f"policy: {error.detail}")
    if root is not None and not _ROOT_FORM.fullmatch(root):
        faults.append("tenant_root: 64 lower-case hex digits expected (an Ed25519 public key)")
        root = None
    if version is not None and (root is None or version < 0):
        faults.append("min_settings_version: a number from 0 expected, and only with tenant_root")
        version = None
    return SealOptions(
        policy=policy,
        kms_key_arn=given.get("kms_key_arn"),
        tenant_root=None if root is None else bytes.fromhex(root),
        min_settings_version=version,
        stream_shape=_stream_shape(given.get("stream_shape"), faults),
    )


def _stream_shape(given: object, faults: list[str]) -> StreamShape | None:
    """Check what callers without a type checker may give."""
    if given is None or isinstance(given, StreamShape):
        return given
    faults.append("stream_shape: a StreamShape expected")
    return None


def _with_settings(seal: SealOptions, settings: Settings) -> SealOptions:
    """Take root and version from the configuration where the application names none."""
    root, version = seal.tenant_root, seal.min_settings_version
    if root is None and settings.tenant_root is not None:
        root, version = bytes.fromhex(settings.tenant_root), settings.min_settings_version
    if root is None:
        return seal
    pin = SettingsPin.of(settings.state_dir, settings.tenant, root)
    return replace(seal, tenant_root=root, min_settings_version=version, pin=pin)


@dataclass(frozen=True, slots=True)
class SyncShared:
    """What a client hands to its copies.

    Attributes:
        options: What it trusts.
        trust: Rules, memory and carrier.
        facing: The HTTP client of the OpenAI client.
    """

    options: TrustOptions
    trust: SyncTrust
    facing: httpx.Client

    @classmethod
    def make(cls, options: TrustOptions, client: object) -> SyncShared:
        """Make a client's parts; ``client`` is the application's own carrier, or None.

        Raises:
            TypeError: ``client`` is no HTTP client that could carry.
        """
        if client is None:
            carried_by = carrier.SyncCarrier.own(options.settings.base_url)
        else:
            carried_by = carrier.SyncCarrier(carrier.checked_client(client))
        return cls.of(options, SyncTrust(options.parts(), carried_by))

    @classmethod
    def of(cls, options: TrustOptions, trust: SyncTrust) -> SyncShared:
        """Put the sealing transport in front of a carrier."""
        transport = SealingTransport(trust, options.router(trust.parts))
        timeout = carrier.httpx_timeout(trust.client.timeout)
        facing = httpx.Client(transport=transport, timeout=timeout, trust_env=False)
        return cls(options, trust, facing)

    def copied(self, *, base_url: str, client: object, call: CallOptions | None) -> SyncShared:
        """Return what a copy shares: everything but what it was asked to have of its own.

        Raises:
            ConfigurationError: ``base_url`` may not be spoken to.
            TypeError: ``client`` is no HTTP client that could carry.
        """
        own = None
        if client is not None and client is not self.facing:
            own = carrier.SyncCarrier(carrier.checked_client(client))
        options = self.options if call is None else replace(self.options, call=call)
        if checked_base_url(base_url) != options.settings.base_url:
            moved = options.at(base_url)
            return self.of(moved, SyncTrust(moved.parts(), own or self.trust.carrier))
        if own is not None:
            return self.of(options, SyncTrust(self.trust.parts, own))
        return self if call is None else self.of(options, self.trust)


@dataclass(frozen=True, slots=True)
class AsyncShared:
    """What an asynchronous client hands to its copies; see ``SyncShared``."""

    options: TrustOptions
    trust: AsyncTrust
    facing: httpx.AsyncClient

    @classmethod
    def make(cls, options: TrustOptions, client: object) -> AsyncShared:
        """Make a client's parts; ``client`` is the application's own carrier, or None.

        Raises:
            TypeError: ``client`` is no HTTP client that could carry.
        """
        if client is None:
            carried_by = carrier.AsyncCarrier.own(options.settings.base_url)
        else:
            carried_by = carrier.AsyncCarrier(carrier.checked_async_client(client))
        return cls.of(options, AsyncTrust(options.parts(), carried_by))

    @classmethod
    def of(cls, options: TrustOptions, trust: AsyncTrust) -> AsyncShared:
        """Put the sealing transport in front of a carrier."""
        transport = AsyncSealingTransport(trust, options.router(trust.parts))
        timeout = carrier.httpx_timeout(trust.client.timeout)
        facing = httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)
        return cls(options, trust, facing)

    def copied(self, *, base_url: str, client: object, call: CallOptions | None) -> AsyncShared:
        """Return what a copy shares: everything but what it was asked to have of its own.

        Raises:
            ConfigurationError: ``base_url`` may not be spoken to.
            TypeError: ``client`` is no HTTP client that could carry.
        """
        own = None
        if client is not None and client is not self.facing:
            own = carrier.AsyncCarrier(carrier.checked_async_client(client))
        options = self.options if call is None else replace(self.options, call=call)
        if checked_base_url(base_url) != options.settings.base_url:
            moved = options.at(base_url)
            return self.of(moved, AsyncTrust(moved.parts(), own or self.trust.carrier))
        if own is not None:
            return self.of(options, AsyncTrust(self.trust.parts, own))
        return self if call is None else self.of(options, self.trust)
