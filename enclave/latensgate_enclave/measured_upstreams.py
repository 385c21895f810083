"""What `deployment.toml` says of models and of who answers for them, and what is refused there.

Two kinds of upstream exist: `bedrock`, which needs no table, and `openai`, any server that speaks
OpenAI's HTTP interface. Where plaintext may be processed is the operator's measured word: a route
names its Regions, and an inference profile whose geography does not hold them is refused at the
start, since Bedrock would carry the prompt elsewhere.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import ROUTE_REGIONS_MAX_COUNT, UPSTREAMS_MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BEDROCK: Final = "bedrock"
HTTPS_PORT: Final = 443
_PEM: Final = re.compile(
    "-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL | re.ASCII
)

Region = Annotated[str, Meta(pattern="^[a-z]{2}(-[a-z]+)+-[0-9]\\Z")]
_ModelId = Annotated[str, Meta(pattern="^[A-Za-z0-9._:/-]{1,256}\\Z")]
UpstreamName = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,31}\\Z")]
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HostName = Annotated[
    str, Meta(max_length=253, pattern=f"^(?:{_LABEL}\\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?\\Z")
]
_Port = Annotated[int, Meta(ge=1, le=65_535)]
_PathPrefix = Annotated[str, Meta(max_length=128, pattern="^(?:/[A-Za-z0-9._~-]+)*\\Z")]
_Date = Annotated[str, Meta(pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?\\Z")]
_Place = Annotated[str, Meta(pattern="^[ -~]{1,128}\\Z")]


class MeasuredConfigurationError(LatensgateError):
    """A measured file is not what this release understands; the enclave does not start."""

    code = ErrorCode.ERR_CONFIGURATION


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table with exactly these keys."""


class ModelRoute(Strict, frozen=True):
    """Where an alias leads.

    Attributes:
        model_id: What the upstream calls the model: of Bedrock a model or inference profile id.
        capabilities: Row of the policy's capability table.
        region: AWS Region of the call; one of the deployment's. Of Bedrock this or `regions`.
        regions: AWS Regions in the order in which they are tried.
        upstream: Name of a table of `upstreams`, or `bedrock`.
        shutdown_date: When the provider retires the model, as in ``2026-10-14``; for clients alone.
    """

    model_id: _ModelId
    capabilities: str
    region: Region = ""
    regions: Annotated[tuple[Region, ...], Meta(max_length=ROUTE_REGIONS_MAX_COUNT)] = ()
    upstream: UpstreamName = BEDROCK
    shutdown_date: _Date = ""

    @property
    def is_bedrock(self) -> bool:
        """Whether Amazon Bedrock answers."""
        return self.upstream == BEDROCK

    @property
    def tried_regions(self) -> tuple[str, ...]:
        """Regions in the order in which they are tried; empty for other upstreams."""
        return self.regions or ((self.region,) if self.region else ())


class OpenAIUpstream(Strict, frozen=True, tag="openai", tag_field="kind"):
    """A server that speaks OpenAI's interface.

    Attributes:
        host: Its DNS name; the certificate must be of this name.
        location: Where it works and whose it is, in words: receipts repeat it.
        port: TCP port.
        path: In front of `/chat/completions`.
        credential: `bearer`: a key that the operator seals to each enclave; `none`: it asks none.
        tls_roots: PEM of the roots that it is believed under; empty: those of `trust.toml`.
    """

    host: _HostName
    location: _Place
    port: _Port = HTTPS_PORT
    path: _PathPrefix = "/v1"
    credential: Literal["bearer", "none"] = "bearer"
    tls_roots: str = ""

    @property
    def authority(self) -> str:
        """Host, with the port if it is not 443: key of the egress list, value of `host`."""
        return self.host if self.port == HTTPS_PORT else f"{self.host}:{self.port}"


Upstreams = Annotated[dict[UpstreamName, OpenAIUpstream], Meta(max_length=UPSTREAMS_MAX_COUNT)]


def certificates(pem: str, what: str) -> list[bytes]:
    """Return the DER of each certificate in a PEM text.

    Raises:
        MeasuredConfigurationError: One is not base64.
    """
    try:
        return [ssl.PEM_cert_to_DER_cert(block) for block in _PEM.findall(pem)]
    except ValueError:
        raise MeasuredConfigurationError(f"{what}: a certificate is not base64") from None


_GEOGRAPHIES: Final[Mapping[str, re.Pattern[str]]] = {
    "us": re.compile("us-(?!gov-).+"),
    "us-gov": re.compile("us-gov-.+"),
    "eu": re.compile("eu-.+"),
    "apac": re.compile("ap-.+"),
    "au": re.compile("ap-southeast-[246]"),
    "jp": re.compile("ap-northeast-[13]"),
    "in": re.compile("ap-south-[12]"),
    "ca": re.compile("ca-.+"),
}
"""Prefix of an inference profile → the Regions that lie in its geography (AWS, "Geographic
cross-Region inference"). A profile may carry a prompt to any Region of its geography."""
_GLOBAL: Final = "global"


def check_route(
    alias: str, route: ModelRoute, regions: Sequence[str], upstreams: Mapping[str, OpenAIUpstream]
) -> None:
    """Check where a route leads.

    Args:
        alias: For the error's text.
        route: What is judged.
        regions: Of the deployment.
        upstreams: Of the deployment.

    Raises:
        MeasuredConfigurationError: It leads nowhere, or elsewhere than the deployment allows.
    """
    where = f"deployment.toml models.{alias}"
    if not route.is_bedrock:
        if route.upstream not in upstreams:
            raise MeasuredConfigurationError(f"{where}.upstream: no such table of upstreams")
        if route.region or route.regions:
            raise MeasuredConfigurationError(f"{where}: only Bedrock has Regions")
        return
    if bool(route.region) == bool(route.regions):
        raise MeasuredConfigurationError(f"{where}: exactly one of region and regions expected")
    if len(set(route.regions)) != len(route.regions):
        raise MeasuredConfigurationError(f"{where}.regions: a Region stands twice")
    for region in route.tried_regions:
        if region not in regions:
            key = "region" if route.region else "regions"
            raise MeasuredConfigurationError(f"{where}.{key}: not one of regions")
        _check_geography(where, route.model_id, region)


def _check_geography(where: str, model_id: str, region: str) -> None:
    prefix = model_id.rpartition("/")[2].partition(".")[0]
    if prefix == _GLOBAL:
        raise MeasuredConfigurationError(
            f"{where}.model_id: a global inference profile carries prompts to any Region"
        )
    geography = _GEOGRAPHIES.get(prefix)
    if geography is not None and not geography.fullmatch(region):
        raise MeasuredConfigurationError(
            f"{where}.model_id: {region} lies outside the geography of this inference profile"
        )


def check_upstreams(upstreams: Mapping[str, OpenAIUpstream], operator_key: str) -> None:
    """Check the tables of upstreams.

    Raises:
        MeasuredConfigurationError: A reserved name, roots that are none, roots of one's own for a
            host of AWS or two sets for one host, or no key that credentials are signed with.
    """
    roots: dict[str, str] = {}
    for name, upstream in upstreams.items():
        where = f"deployment.toml upstreams.{name}"
        if name == BEDROCK:
            raise MeasuredConfigurationError(f"{where}: this name is Bedrock's own")
        if upstream.credential == "bearer" and not operator_key:
            raise MeasuredConfigurationError(
                f"{where}.credential: needs upstream_operator_key, which credentials are signed by"
            )
        _check_roots(where, upstream)
        if roots.setdefault(upstream.authority, upstream.tls_roots) != upstream.tls_roots:
            raise MeasuredConfigurationError(f"{where}.tls_roots: two sets of roots for one host")


def _check_roots(where: str, upstream: OpenAIUpstream) -> None:
    if not upstream.tls_roots:
        return
    if upstream.host.endswith((".amazonaws.com", ".api.aws")):
        raise MeasuredConfigurationError(f"{where}.tls_roots: AWS has those of trust.toml alone")
    if not certificates(upstream.tls_roots, f"{where}.tls_roots"):
        raise MeasuredConfigurationError(f"{where}.tls_roots: no certificate is there")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=upstream.tls_roots)
    except (ssl.SSLError, ValueError):
        raise MeasuredConfigurationError(f"{where}.tls_roots: no certificates in PEM") from None
