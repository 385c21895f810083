"""What the parent reads in ``deployment.toml``.

The file is measured with the image and the enclave goes by its own copy: a parent that reads
another one only fails to serve.
"""

from __future__ import annotations

import hashlib
import tomllib
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from latensgate_shared.errors import ErrorCode, LatensgateError

if TYPE_CHECKING:
    from pathlib import Path

_Region = Annotated[str, Meta(pattern="^[a-z]{2}(-[a-z]+)+-[0-9]\\Z")]
_SERVICES = ("bedrock", "bedrock-runtime", "kms")
_HTTPS_PORT = 443


class DeploymentError(LatensgateError):
    """The file cannot be read, or is no deployment."""

    code = ErrorCode.ERR_CONFIGURATION


class _Upstream(msgspec.Struct, frozen=True):
    """A server that speaks OpenAI's interface, as far as a tunnel leads there."""

    host: str
    port: int = _HTTPS_PORT


class _Content(msgspec.Struct, frozen=True):
    """The keys that matter here; the enclave refuses unknown ones."""

    regions: Annotated[tuple[_Region, ...], Meta(min_length=1)]
    invocation_logging: Literal["refuse", "flag"]
    models: dict[Annotated[str, Meta(min_length=1, max_length=256)], object]
    upstreams: dict[str, _Upstream] = msgspec.field(default_factory=dict[str, _Upstream])


class Deployment(msgspec.Struct, frozen=True):
    """The deployment, as far as the parent has to know it.

    Attributes:
        regions: AWS Regions; the first one holds KMS and STS.
        refuses_logging: Whether Bedrock invocation logging stops service.
        models: Names that callers may ask for, sorted.
        digest: ``sha384:`` and hex of the file's bytes.
        upstreams: ``host:port`` of the servers that speak OpenAI's interface.
    """

    regions: tuple[str, ...]
    refuses_logging: bool
    models: tuple[str, ...]
    digest: str
    upstreams: frozenset[str] = frozenset()

    def egress_destinations(self) -> frozenset[str]:
        """Return every ``host:port`` that an enclave of this deployment dials."""
        hosts = {f"{name}.{region}.amazonaws.com" for name in _SERVICES for region in self.regions}
        hosts.add(f"sts.{self.regions[0]}.amazonaws.com")
        return frozenset(f"{host}:{_HTTPS_PORT}" for host in hosts) | self.upstreams


def load_deployment(path: Path) -> Deployment:
    """Read the file.

    Raises:
        DeploymentError: Names what is wrong.
    """
    try:
        raw = path.read_bytes()
        content = msgspec.convert(tomllib.loads(raw.decode()), _Content, strict=True)
    except OSError as error:
        raise DeploymentError(f"deployment: {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DeploymentError(f"deployment: {path}: {error}") from None
    return Deployment(
        regions=content.regions,
        refuses_logging=content.invocation_logging == "refuse",
        models=tuple(sorted(content.models)),
        digest="sha384:" + hashlib.sha384(raw).hexdigest(),
        upstreams=frozenset(f"{each.host}:{each.port}" for each in content.upstreams.values()),
    )
