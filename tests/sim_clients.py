"""boto3 clients for a simulated AWS: the judge of what it speaks."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_bedrock import BedrockClient
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_sts import STSClient

    from latensgate_sim.identity import Credentials
    from latensgate_sim.world import World

_CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20)


class Clients:
    """Clients of one Region that trust the world's own TLS authority and nothing else."""

    def __init__(self, world: World, region: str | None = None) -> None:
        self._world = world
        self._region = region or world.config.regions[0]

    def _session(self, credentials: Credentials) -> boto3.Session:
        return boto3.Session(
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token,
            region_name=self._region,
        )

    def _url(self, service: str) -> str:
        return f"https://127.0.0.1:{self._world.ports[f'{service}.{self._region}.amazonaws.com']}"

    def kms(self, credentials: Credentials) -> KMSClient:
        return self._session(credentials).client(
            "kms", endpoint_url=self._url("kms"), verify=str(self._world.ca_path), config=_CONFIG
        )

    def sts(self, credentials: Credentials) -> STSClient:
        return self._session(credentials).client(
            "sts", endpoint_url=self._url("sts"), verify=str(self._world.ca_path), config=_CONFIG
        )

    def bedrock(self, credentials: Credentials) -> BedrockClient:
        return self._session(credentials).client(
            "bedrock",
            endpoint_url=self._url("bedrock"),
            verify=str(self._world.ca_path),
            config=_CONFIG,
        )

    def runtime(self, credentials: Credentials) -> BedrockRuntimeClient:
        return self._session(credentials).client(
            "bedrock-runtime",
            endpoint_url=self._url("bedrock-runtime"),
            verify=str(self._world.ca_path),
            config=_CONFIG,
        )


def tls_context(world: World) -> ssl.SSLContext:
    """Return a client context that trusts the world's TLS authority and nothing else."""
    return ssl.create_default_context(cafile=str(world.ca_path))
