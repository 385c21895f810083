"""What a verifier accepts: a root, and measurements. Empty is an error, not "anything".

PCR0, PCR1 and PCR2 are always compared together: neither lengths nor types of an image's parts are
measured, so bytes may move between parts without changing one of the three.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from latensgate.verify.anchors import TrustAnchor, select_anchor
from latensgate.verify.errors import (
    ConfigurationError,
    MeasurementMismatch,
    ReleaseRevoked,
)
from latensgate.verify.moments import in_utc
from latensgate_shared import limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

PCR_BYTES: Final = 48
"""SHA-384, the only digest of an NSM."""
IMAGE_PCRS: Final = (0, 1, 2)
"""The registers that measure the image, and that are all zero in debug mode."""

_HEX_PCR: Final = re.compile(r"[0-9a-f]{96}")


@dataclass(frozen=True, slots=True)
class Measurements:
    """One image, as its PCRs state it.

    Attributes:
        pcr0: Whole image, 48 bytes.
        pcr1: Kernel, command line and first ramdisk, 48 bytes.
        pcr2: The other ramdisks, 48 bytes.
        others: Further registers (3 to 31) that must hold, 48 bytes each; for example PCR8, the
            certificate that signed the image.

    Raises:
        ConfigurationError: A register out of range, a value of another length, or a value of
            zeros, which is what debug mode shows.
    """

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes
    others: Mapping[int, bytes] = field(default_factory=dict[int, bytes])

    def __post_init__(self) -> None:
        object.__setattr__(self, "others", MappingProxyType(dict(self.others)))
        for index in self.others:
            if index in IMAGE_PCRS or not 0 <= index < limits.ATTESTATION_PCR_MAX_COUNT:
                raise ConfigurationError(f"measurements: PCR{index} is not one of PCR3 to PCR31")
        for index, value in self.registers().items():
            _check_register(index, value)

    @classmethod
    def from_hex(
        cls, pcr0: str, pcr1: str, pcr2: str, others: Mapping[int, str] | None = None
    ) -> Measurements:
        """Read measurements as ``nitro-cli`` prints them: 96 lower-case hex digits each.

        Raises:
            ConfigurationError: Another form, or values that the class refuses.
        """
        registers = {index: _from_hex(index, text) for index, text in (others or {}).items()}
        return cls(_from_hex(0, pcr0), _from_hex(1, pcr1), _from_hex(2, pcr2), registers)

    def registers(self) -> dict[int, bytes]:
        """Return every register that must hold, by index."""
        return {0: self.pcr0, 1: self.pcr1, 2: self.pcr2, **self.others}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One entry of an accepted-release list.

    Attributes:
        version: Software version, for people.
        flavour: ``core`` or ``ner``, for people.
        deployment_digest: ``sha384:`` and 96 hex digits of the ``deployment.toml`` inside.
        measurements: What identifies it.
        not_after: Last second (since 1970) at which it is accepted; None is no end.
        revoked: Whether it was taken back.
    """

    version: str
    flavour: str
    deployment_digest: str
    measurements: Measurements
    not_after: int | None = None
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy:
    """What one verifier accepts.

    Attributes:
        measurements: Images accepted by explicit values.
        releases: Images accepted as releases (``parse_release_list``).
        unsafe_accept_simulated_root_sha256: Fingerprint of a simulator's root (64 lower-case hex
            digits). It takes the place of the AWS root, and every status then says ``simulated``.

    Raises:
        ConfigurationError: Nothing is accepted, or the simulated root is unfit.
    """

    measurements: tuple[Measurements, ...] = ()
    releases: tuple[Release, ...] = ()
    unsafe_accept_simulated_root_sha256: str | None = None
    anchor: TrustAnchor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.measurements and not self.releases:
            raise ConfigurationError(
                "policy: no measurements and no releases are accepted; name at least one"
            )
        anchor = select_anchor(self.unsafe_accept_simulated_root_sha256)
        object.__setattr__(self, "anchor", anchor)

    def appraise(self, pcrs: Mapping[int, bytes], *, at: datetime) -> Match:
        """Find what accepts these registers (step 10 of the verifier).

        A revoked release refuses even where explicit measurements would accept: whoever lists the
        revocation knows more.

        Args:
            pcrs: Registers of a document whose signature holds and that is not of debug mode.
            at: Evaluation time.

        Raises:
            ConfigurationError: ``at`` without time zone.
            ReleaseRevoked: A known release, revoked or past its last day, and no other accepts.
            MeasurementMismatch: Nothing accepts them.
        """
        matching = [entry for entry in self.releases if _holds(entry.measurements, pcrs)]
        for release in matching:
            _refuse_revoked(release)
        now = in_utc(at)
        current = [entry for entry in matching if _is_current(entry, now)]
        for measurements in self.measurements:
            if _holds(measurements, pcrs):
                return Match(measurements, current[0] if current else None)
        if current:
            return Match(current[0].measurements, current[0])
        if matching:
            raise ReleaseRevoked(
                f"policy: release {matching[0].version} was accepted until second"
                f" {matching[0].not_after} since 1970"
            )
        raise MeasurementMismatch(self._explain(pcrs))

    def _explain(self, pcrs: Mapping[int, bytes]) -> str:
        """Say which registers differ from the nearest accepted image."""
        accepted = [*self.measurements, *(entry.measurements for entry in self.releases)]
        differing = min((_differing(entry, pcrs) for entry in accepted), key=len)
        names = ", ".join(f"PCR{index}" for index in differing)
        return (
            "measurements: the enclave does not run an accepted image;"
            f" nearest of {len(accepted)} accepted: {names} differ"
        )


@dataclass(frozen=True, slots=True)
class Match:
    """What accepted a document.

    Attributes:
        measurements: The accepted values.
        release: The release that they are of, where the policy knows one.
    """

    measurements: Measurements
    release: Release | None


def _refuse_revoked(release: Release) -> None:
    if release.revoked:
        raise ReleaseRevoked(f"policy: release {release.version} is revoked")


def _is_current(release: Release, at: datetime) -> bool:
    return release.not_after is None or at.timestamp() < release.not_after + 1


def _holds(measurements: Measurements, pcrs: Mapping[int, bytes]) -> bool:
    return not _differing(measurements, pcrs)


def _differing(measurements: Measurements, pcrs: Mapping[int, bytes]) -> list[int]:
    registers = measurements.registers()
    return [index for index, value in registers.items() if pcrs.get(index) != value]


def _check_register(index: int, value: bytes) -> None:
    if len(value) != PCR_BYTES:
        raise ConfigurationError(
            f"measurements: PCR{index} has {len(value)} bytes, {PCR_BYTES} expected"
        )
    if not any(value):
        raise ConfigurationError(
            f"measurements: PCR{index} is all zeros, which is what debug mode shows"
        )


def _from_hex(index: int, text: str) -> bytes:
    if not _HEX_PCR.fullmatch(text):
        raise ConfigurationError(f"measurements: PCR{index} is not 96 lower-case hex digits")
    return bytes.fromhex(text)
