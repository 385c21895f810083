"""What the parent reads in ``deployment.toml``.

The file is measured with the image and the enclave goes by its own copy: a parent that reads
another one only fails to serve.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tomllib
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.model_rows import EMBEDDING_ROWS

if TYPE_CHECKING:
    from pathlib import Path

_Region = Annotated[str, Meta(pattern="^[a-z]{2}(-[a-z]+)+-[0-9]\\Z")]
_SERVICES = ("bedrock", "bedrock-runtime", "kms")
_HTTPS_PORT = 443
_DATE = re.compile(r"(?<![0-9])(20[0-9]{6})(?![0-9])")


class DeploymentError(LatensgateError):
    """The file cannot be read, or is no deployment."""

    code = ErrorCode.ERR_CONFIGURATION


class _Upstream(msgspec.Struct, frozen=True):
    """A server that speaks OpenAI's interface, as far as a tunnel leads there."""

    host: str
    port: int = _HTTPS_PORT


class _Model(msgspec.Struct, frozen=True):
    """A model, as far as clients are told of it."""

    model_id: str = ""
    capabilities: str = ""
    shutdown_date: Annotated[str, Meta(pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?\\Z")] = ""


class _Content(msgspec.Struct, frozen=True):
    """The keys that matter here; the enclave refuses unknown ones."""

    regions: Annotated[tuple[_Region, ...], Meta(min_length=1)]
    invocation_logging: Literal["refuse", "flag"]
    models: dict[Annotated[str, Meta(min_length=1, max_length=256)], _Model]
    upstreams: dict[str, _Upstream] = msgspec.field(default_factory=dict[str, _Upstream])


class DeployedModel(msgspec.Struct, frozen=True):
    """One of the operator's model names, and what a client may want to know of it.

    Attributes:
        name: That a request asks for.
        created_s: The date in the provider's name of the model, in seconds since 1970; 0 if it has
            none.
        embeds: Whether it makes embeddings; the others chat.
        shutdown_date: As in ``2026-10-14``, or None.
    """

    name: str
    created_s: int = 0
    embeds: bool = False
    shutdown_date: str | None = None

    @classmethod
    def of(cls, name: str, model: _Model) -> DeployedModel:
        """Read what ``deployment.toml`` says of a model."""
        embeds = model.capabilities in EMBEDDING_ROWS
        return cls(name, _created_s(model.model_id), embeds, model.shutdown_date or None)


def _created_s(model_id: str) -> int:
    """Return the date in an id as in ``anthropic.claude-sonnet-4-5-20250929-v1:0``."""
    found = _DATE.search(model_id)
    with contextlib.suppress(ValueError):
        if found:
            return int(datetime.strptime(f"{found[1]}+0000", "%Y%m%d%z").timestamp())
    return 0


class Deployment(msgspec.Struct, frozen=True):
    """The deployment, as far as the parent has to know it.

    Attributes:
        regions: AWS Regions; the first one holds KMS and STS.
        refuses_logging: Whether Bedrock invocation logging stops service.
        models: Names that callers may ask for, sorted, and what they are.
        digest: ``sha384:`` and hex of the file's bytes.
        upstreams: ``host:port`` of the servers that speak OpenAI's interface.
    """

    regions: tuple[str, ...]
    refuses_logging: bool
    models: tuple[DeployedModel, ...]
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
        models=tuple(DeployedModel.of(*each) for each in sorted(content.models.items())),
        digest="sha384:" + hashlib.sha384(raw).hexdigest(),
        upstreams=frozenset(f"{each.host}:{each.port}" for each in content.upstreams.values()),
    )
