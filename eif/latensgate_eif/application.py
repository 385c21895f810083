"""The ramdisks after the first: our own code with its measured policy, and the operator's file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from latensgate_eif.inputs import BuildError
from latensgate_eif.ramdisk import Entry, file_entry

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION: Final = "etc/latensgate"
"""The folder that init's command line names."""
_SITE: Final = "usr/local/lib/python{version}/dist-packages"
"""Debian's Python looks here first; nothing else is in it."""
_CODE: Final = ("shared/latensgate_shared", "enclave/latensgate_enclave")
_SUFFIXES: Final = frozenset({".py", ".tftpl"})
"""Sources, and the template of the KMS key policy. Nothing else that lies in a checkout."""


class Flavour(Enum):
    """What kinds of image there are.

    They differ in roots of trust, and in whether a model finds names; never in our own code.
    """

    CORE = "core"
    NER = "ner"
    SIM = "sim"
    SIM_NER = "sim-ner"

    @property
    def is_simulated(self) -> bool:
        """Whether egress believes roots of a simulator."""
        return self in {Flavour.SIM, Flavour.SIM_NER}

    @property
    def finds_names(self) -> bool:
        """Whether the image carries spaCy and its model."""
        return self in {Flavour.NER, Flavour.SIM_NER}


@dataclass(frozen=True, slots=True)
class Roots:
    """What egress believes.

    Attributes:
        trust_toml: `trust.toml`.
        ca_pem: The certificates that it names.
    """

    trust_toml: bytes
    ca_pem: bytes


def amazon_roots(repository: Path) -> Roots:
    """Return the committed roots of Amazon's services."""
    folder = repository / "eif/trust"
    return Roots((folder / "trust.toml").read_bytes(), (folder / "ca.pem").read_bytes())


def simulated_roots(ca_pem: bytes) -> Roots:
    """Return the roots of a simulator, with a `trust.toml` that says so.

    Raises:
        BuildError: Not certificates in PEM.
    """
    try:
        certificates = x509.load_pem_x509_certificates(ca_pem)
    except ValueError:
        raise BuildError("roots: certificates in PEM expected") from None
    digests = sorted(one.fingerprint(hashes.SHA256()).hex() for one in certificates)
    listed = ", ".join(f'"{digest}"' for digest in digests)
    text = f'flavour = "sim"\ntls_root_sha256 = [{listed}]\nreplaces_upstream_roots = true\n'
    return Roots(text.encode(), ca_pem)


def application_entries(
    repository: Path, roots: Roots, version: str, *, names: bool = False
) -> dict[str, Entry]:
    """Return the second ramdisk, without bytecode: code, `policy.toml` and roots.

    Args:
        repository: A checkout.
        roots: By flavour.
        version: Of the interpreter, such as ``3.11``.
        names: Whether the policy has names looked for.

    Raises:
        BuildError: The folder is no checkout.
    """
    site = _SITE.format(version=version)
    entries: dict[str, Entry] = {}
    for name in _CODE:
        package = repository / name
        if not (package / "__init__.py").is_file():
            raise BuildError(f"{name}/__init__.py expected below {repository}")
        for file in package.rglob("*"):
            if file.suffix in _SUFFIXES and file.is_file():
                path = f"{site}/{file.relative_to(package.parent).as_posix()}"
                entries[path] = file_entry(file.read_bytes())
    policy = (repository / "enclave/policy.toml").read_bytes()
    if names:
        policy += (repository / "enclave/policy-ner.toml").read_bytes()
    return entries | {
        f"{CONFIGURATION}/policy.toml": file_entry(policy),
        f"{CONFIGURATION}/trust.toml": file_entry(roots.trust_toml),
        f"{CONFIGURATION}/ca.pem": file_entry(roots.ca_pem),
    }


def deployment_entries(deployment: bytes) -> dict[str, Entry]:
    """Return the last ramdisk: the operator's `deployment.toml` and nothing else."""
    return {f"{CONFIGURATION}/deployment.toml": file_entry(deployment)}
