"""What a client keeps on disk: verified attestations, and the installation secret.

Files are made with mode 0600. An attestation is verified again when it is read, so nothing in the
folder is believed; a file that is damaged is ignored and replaced. A folder that cannot be written
costs one attestation per process and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import secrets
import stat
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from latensgate.attested import Attested, Evidence, verify_evidence
from latensgate_shared import formats, limits
from latensgate_shared.errors import LatensgateError
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from datetime import datetime

    from latensgate.verify import AppraisalPolicy

SECRET_BYTES: Final = 32
_SECRET_NAME: Final = "installation.secret"  # noqa: S105 -- the name of a file
_FILE_MAX_BYTES: Final = 4 * limits.ATTESTATION_DOCUMENT_MAX_BYTES
_MEMBERS: Final = frozenset({"version", "document", "manifest"})
_VERSION: Final = 1
_TRIED_MAX_COUNT: Final = 8
"""Files that are tried: reading and verifying one takes some milliseconds."""


def policy_digest(policy: AppraisalPolicy, admitted: frozenset[str]) -> str:
    """Name what is trusted, so that clients who trust other things keep files of their own."""
    root = policy.unsafe_accept_simulated_root_sha256 or "aws"
    images = [sorted(entry.registers().items()) for entry in policy.measurements]
    releases = [
        (sorted(entry.measurements.registers().items()), entry.not_after, entry.revoked)
        for entry in policy.releases
    ]
    told = repr((root, sorted(admitted), sorted(images), sorted(releases, key=repr)))
    return sha256(told.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StateFiles:
    """Where one client keeps its verified attestations: a file an enclave.

    Who comes later takes any of them, so that all processes of a machine together do not end with
    one enclave and leave the others idle.

    Attributes:
        folder: Of the files; it is made when it is needed.
        name: They begin with: says the gateway and what is trusted of it.
    """

    folder: Path
    name: str

    @classmethod
    def of(
        cls, folder: Path, base_url: str, policy: AppraisalPolicy, admitted: frozenset[str]
    ) -> StateFiles:
        """Name the files for a gateway and what is trusted of it."""
        name = sha256(f"{base_url}\n{policy_digest(policy, admitted)}".encode()).hexdigest()
        return cls(folder / "attestations", name)

    def load(
        self, *, policy: AppraisalPolicy, admitted: frozenset[str], at: datetime
    ) -> Attested | None:
        """Return any stored attestation that verifies and may be sealed to at this moment."""
        found = list(self.folder.glob(f"{self.name}-*.json"))
        random.shuffle(found)
        for path in found[:_TRIED_MAX_COUNT]:
            with contextlib.suppress(OSError, LatensgateError):
                evidence = _parse(read_private(path, _FILE_MAX_BYTES))
                return verify_evidence(evidence, policy=policy, admitted=admitted, at=at)
        return None

    def store(self, attested: Attested) -> None:
        """Write an attestation in place of the one of the same enclave."""
        value = {
            "version": _VERSION,
            "document": formats.to_base64(attested.evidence.document),
            "manifest": formats.to_base64(attested.evidence.manifest),
        }
        with contextlib.suppress(OSError):
            write_private(self._path(attested), json.dumps(value).encode())
            _drop_ended(self.folder)

    def forget(self, attested: Attested) -> None:
        """Remove an attestation whose keys nobody holds any more."""
        with contextlib.suppress(OSError):
            self._path(attested).unlink()

    def _path(self, attested: Attested) -> Path:
        enclave = sha256(attested.attestation.document.module_id.encode()).hexdigest()[:16]
        return self.folder / f"{self.name}-{enclave}.json"


def _drop_ended(folder: Path) -> None:
    """Remove what no process can use any more: every address and trust has a file of its own.

    Raises:
        OSError: One of them cannot be removed.
    """
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if time.time() - path.lstat().st_mtime > limits.MANIFEST_LIFETIME_S:
                path.unlink()


def _parse(data: bytes) -> Evidence:
    told = formats.members(parse_json_object(data, max_bytes=_FILE_MAX_BYTES), "state", _MEMBERS)
    formats.integer(told["version"], "state.version", _VERSION, _VERSION)
    document_max, manifest_max = limits.ATTESTATION_DOCUMENT_MAX_BYTES, limits.MANIFEST_MAX_BYTES
    return Evidence(
        formats.base64_bytes(told["document"], "state.document", document_max),
        formats.base64_bytes(told["manifest"], "state.manifest", manifest_max),
    )


def installation_secret(folder: Path) -> bytes | None:
    """Return this installation's random secret, made at the first call.

    It never leaves the machine; conversation secrets are derived from it. None where it can be
    neither read nor written: conversations are then not linked.
    """
    path = folder / _SECRET_NAME
    with contextlib.suppress(OSError):
        held = _held_secret(path)
        if held is not None:
            return held
        path.unlink()  # replaced
    with contextlib.suppress(OSError):
        write_private(path, secrets.token_bytes(SECRET_BYTES), replace=False)
    with contextlib.suppress(OSError):  # whoever came first has won
        return _held_secret(path)
    return None


class OpenToOthersError(PermissionError):
    """A file of one's own that others could read or change."""


def _held_secret(path: Path) -> bytes | None:
    """Return the secret; None if it is damaged, or others may know it.

    Raises:
        OSError: It cannot be read, or is somebody else's.
    """
    try:
        held = read_private(path, SECRET_BYTES + 1)
    except OpenToOthersError:
        return None
    return held if len(held) == SECRET_BYTES else None


def read_private(path: Path, max_bytes: int) -> bytes:
    """Read a file of one's own; links are not followed, and nothing but a file is waited for.

    Raises:
        OpenToOthersError: Others could read or change it.
        OSError: It cannot be read, or is not one's own.
    """
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, os.O_RDONLY | flags), "rb") as file:
        told = os.fstat(file.fileno())
        if not stat.S_ISREG(told.st_mode):
            raise OSError(errno.EINVAL, "a file expected")
        if os.name == "posix" and told.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "a file of one's own expected")
        if os.name == "posix" and told.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise OpenToOthersError(errno.EPERM, "a file that others cannot read expected")
        return file.read(max_bytes)


def write_private(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Args:
        path: Of the file; folders are made with mode 0700.
        data: Its content.
        replace: Whether it takes the place of one that is there.

    Raises:
        OSError: It cannot be written, or is there and must not be replaced.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    made = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        if replace:
            made.replace(path)
        else:
            path.hardlink_to(made)
    finally:
        made.unlink(missing_ok=True)
