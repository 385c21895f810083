"""What this gateway accepts where it judges documents itself, from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate.verify import AppraisalPolicy, ConfigurationError, Release, parse_release_list
from latensgate_shared.limits import RELEASE_LIST_MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_parent.settings import VerifierSettings


def appraisal_policy(settings: VerifierSettings) -> AppraisalPolicy:
    """Return the policy, reading the release list.

    Raises:
        ConfigurationError: The list cannot be read, or nothing is accepted.
    """
    releases: tuple[Release, ...] = ()
    if settings.release_list is not None:
        releases = parse_release_list(_read(settings.release_list))
    return AppraisalPolicy(
        measurements=settings.measurements,
        releases=releases,
        unsafe_accept_simulated_root_sha256=settings.simulated_root_sha256,
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(RELEASE_LIST_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"release list: {path}: {error.strerror}") from None
