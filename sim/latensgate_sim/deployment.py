"""A whole simulated deployment: measured files, enclave process, KMS key of its release.

It does what an operator does on AWS: write `deployment.toml`, measure, create the KMS key with its
final policy at once, start the enclave. What is left to the parent is to deliver credentials and to
name the key.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate_shared.kms_policy import KeyPolicyParameters, render_key_policy_text
from latensgate_sim.launcher import (
    MODULE,
    EnclaveLaunch,
    EnclaveProcess,
    code_folders,
    start_process,
)
from latensgate_sim.measure import EnclaveFiles
from latensgate_sim.openai_upstream import HOST as UPSTREAM_HOST
from latensgate_sim.world import ACCOUNT, ADMIN_ROLE, SERVICE_ROLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latensgate_sim.measure import Measurements
    from latensgate_sim.world import World

SERVICE_ROLE_ARN: Final = f"arn:aws:iam::{ACCOUNT}:role/{SERVICE_ROLE}"
ADMIN_ROLE_ARN: Final = f"arn:aws:iam::{ACCOUNT}:role/{ADMIN_ROLE}"
DISTRIBUTION: Final = "latensgate-enclave"
UPSTREAM_NAME: Final = "compatible"
"""Of the simulated OpenAI-compatible upstream, in `deployment.toml`."""


@dataclass(frozen=True, slots=True)
class Alias:
    """Where a model name leads.

    Attributes:
        model_id: Of the simulated Bedrock.
        capabilities: Row of `policy.toml`.
    """

    model_id: str
    capabilities: str = "full"


ALIASES: Final[Mapping[str, Alias]] = {
    "claude-3.5-sonnet": Alias("us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "claude-sonnet-5.5": Alias("us.anthropic.claude-sonnet-5-5", "no-sampling"),
    "nova-2-lite": Alias("us.amazon.nova-2-lite-v1:0", "nova"),
    "titan-embed-text-v2": Alias("amazon.titan-embed-text-v2:0", "titan-embed-v2"),
    "cohere-embed-v4": Alias("cohere.embed-v4:0", "cohere-embed-v4"),
    "cohere-embed-multilingual-v3": Alias("cohere.embed-multilingual-v3", "cohere-embed-v3"),
    "nova-embed-2": Alias("amazon.nova-2-multimodal-embeddings-v1:0", "nova-embed-2"),
}
"""Names that applications use in the simulator; on AWS they are the operator's."""


@dataclass(frozen=True, slots=True)
class UpstreamAliases:
    """Names that the simulated OpenAI-compatible upstream answers.

    Attributes:
        operator_key: Ed25519 public key, hex, that its credential is signed by.
        models: Name → what the upstream calls the model.
        capabilities: Row of `policy.toml` of all of them.
    """

    operator_key: str
    models: Mapping[str, str]
    capabilities: str = "full"

    def lines(self) -> list[str]:
        """Return their tables."""
        lines = [
            f"[upstreams.{UPSTREAM_NAME}]",
            'kind = "openai"',
            f'host = "{UPSTREAM_HOST}"',
            'location = "this machine (simulated)"',
        ]
        for name, model_id in self.models.items():
            lines += [
                f'[models."{name}"]',
                f'upstream = "{UPSTREAM_NAME}"',
                f'model_id = "{model_id}"',
                f'capabilities = "{self.capabilities}"',
            ]
        return lines


def deployment_toml(
    regions: Sequence[str] = ("us-east-1",),
    *,
    aliases: Mapping[str, Alias] = ALIASES,
    invocation_logging: str = "refuse",
    upstream: UpstreamAliases | None = None,
) -> str:
    """Return a `deployment.toml` of the simulated account."""
    listed = ", ".join(f'"{region}"' for region in regions)
    lines = [
        f'account = "{ACCOUNT}"',
        f"regions = [{listed}]",
        f'service_role_arn = "{SERVICE_ROLE_ARN}"',
        f'key_admin_role_arn = "{ADMIN_ROLE_ARN}"',
        f'invocation_logging = "{invocation_logging}"',
    ]
    if upstream is not None:
        lines.append(f'upstream_operator_key = "{upstream.operator_key}"')
    for name, alias in aliases.items():
        lines += [
            f'[models."{name}"]',
            f'model_id = "{alias.model_id}"',
            f'region = "{regions[0]}"',
            f'capabilities = "{alias.capabilities}"',
        ]
    if upstream is not None:
        lines += upstream.lines()
    return "\n".join(lines) + "\n"


def policy_file() -> Path:
    """Return the measured policy that stands beside the enclave's code.

    Raises:
        FileNotFoundError: The enclave is not installed from its source folder.
    """
    spec = importlib.util.find_spec(MODULE)
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not locations:
        raise FileNotFoundError(f"{MODULE} is not installed")
    return Path(locations[0]).parent / "policy.toml"


def write_config(folder: Path, world: World, deployment: str) -> Path:
    """Write the four measured files of an enclave of flavour `sim`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(policy_file(), folder / "policy.toml")
    (folder / "deployment.toml").write_text(deployment)
    pem = world.ca_path.read_text(encoding="ascii")
    root_sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    lines = ['flavour = "sim"', f'tls_root_sha256 = ["{root_sha256}"]']
    lines.append("replaces_upstream_roots = true")
    (folder / "trust.toml").write_text("\n".join(lines) + "\n", encoding="ascii")
    (folder / "ca.pem").write_text(pem, encoding="ascii")
    return folder


def launch_enclave(
    world: World, config: Path, name: str, *, egress: Path | None = None, log: Path | None = None
) -> EnclaveProcess:
    """Measure code and configuration, then start the enclave (see ``EnclaveLaunch``)."""
    runtime = [*code_folders(), *(config / f for f in ("policy.toml", "trust.toml"))]
    files = EnclaveFiles(
        runtime=[*runtime, config / "ca.pem"], application=[config / "deployment.toml"]
    )
    return start_process(
        world, EnclaveLaunch(name, files, ["--config", str(config)], egress=egress, log=log)
    )


def key_policy_parameters(measured: Measurements, config: Path) -> KeyPolicyParameters:
    """Return what the KMS key policy of this image and deployment is rendered with."""
    digest = hashlib.sha384((config / "deployment.toml").read_bytes()).hexdigest()
    pcrs = measured.hex()
    return KeyPolicyParameters(
        account_id=ACCOUNT,
        partition="aws",
        service_role_arn=SERVICE_ROLE_ARN,
        key_admin_role_arn=ADMIN_ROLE_ARN,
        pcr0=pcrs["PCR0"],
        pcr1=pcrs["PCR1"],
        pcr2=pcrs["PCR2"],
        context_service="latensgate",
        context_release=importlib.metadata.version(DISTRIBUTION),
        context_deployment_digest=f"sha384:{digest}",
    )


def create_release_key(world: World, measured: Measurements, config: Path) -> str:
    """Create the KMS key of a release with its final policy; returns its ARN."""
    return world.create_key(render_key_policy_text(key_policy_parameters(measured, config)))
