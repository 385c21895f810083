"""boto3 clients for a simulated AWS: the judge of what it speaks."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_bedrock import BedrockClient
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_sts import STSClient

    from latensgate_sim.identity import Credentials
    from latensgate_sim.world import World

# one session: service models are read from disk once
_SESSION = boto3.Session()
_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20)


class Clients:
    """Clients of one Region that trust the world's own TLS authority and nothing else."""

    def __init__(self, world: World, region: str | None = None) -> None:
        self._world = world
        self._region = region or world.config.regions[0]
        self._made: dict[tuple[str, str], object] = {}

    def close(self) -> None:
        """Close what was made: an open socket would fail the test that follows."""
        for client in self._made.values():
            cast("KMSClient", client).close()
        self._made.clear()

    def kms(self, credentials: Credentials) -> KMSClient:
        return cast("KMSClient", self._client("kms", credentials))

    def sts(self, credentials: Credentials) -> STSClient:
        return cast("STSClient", self._client("sts", credentials))

    def bedrock(self, credentials: Credentials) -> BedrockClient:
        return cast("BedrockClient", self._client("bedrock", credentials))

    def runtime(self, credentials: Credentials) -> BedrockRuntimeClient:
        return cast("BedrockRuntimeClient", self._client("bedrock-runtime", credentials))

    def _client(self, service: str, credentials: Credentials) -> object:
        place = (service, credentials.access_key_id)
        if place not in self._made:
            self._made[place] = self._make(service, credentials)
        return self._made[place]

    def _make(self, service: str, credentials: Credentials) -> object:
        host = f"{service}.{self._region}.amazonaws.com"
        make = cast("Callable[..., object]", _SESSION.client)
        return make(
            service,
            region_name=self._region,
            endpoint_url=f"https://127.0.0.1:{self._world.ports[host]}",
            verify=str(self._world.ca_path),
            config=_CONFIG,
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token,
        )


def tls_context(world: World) -> ssl.SSLContext:
    """Return a client context that trusts the world's TLS authority and nothing else."""
    return ssl.create_default_context(cafile=str(world.ca_path))
