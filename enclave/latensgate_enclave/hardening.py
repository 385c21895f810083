"""What the process does to itself before it holds a secret.

No core dumps, no ptrace by a same-user process. What wiping can do in Python, and what it cannot,
stands in docs/adr/0016: `bytes` objects cannot be overwritten, so secrets live as few and as short
as possible, and inside an enclave no other process exists to read what remains.
"""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4  # prctl(2): SUID_DUMP_DISABLE = 0 also stops ptrace by the same user


def forbid_core_dumps() -> None:
    """Make core dumps impossible, for this process and its children.

    Raises:
        OSError: The kernel refused; the enclave must not start then.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE, 0) failed")


def wipe(secret: bytearray) -> None:
    """Overwrite a secret that was kept in a bytearray for this purpose."""
    secret[:] = bytes(len(secret))
