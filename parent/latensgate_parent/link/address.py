"""Where enclaves listen, and where the parent listens for them: text in, typed address out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from latensgate_shared.errors import MalformedError

_MAX: Final = 0xFFFF_FFFE
"""vsock(7): 2**32 - 1 stands for any, as a CID and as a port."""
_UNIX_PATH_MAX_BYTES: Final = 107
"""unix(7): sockaddr_un has 108 bytes with the closing zero."""
_UNIX: Final = re.compile(r"unix:(/[!-~]+)")
_ENCLAVE_VSOCK: Final = re.compile(r"vsock:([1-9][0-9]{0,9}):([1-9][0-9]{0,9})")
_LISTEN_VSOCK: Final = re.compile(r"vsock:([1-9][0-9]{0,9})")


class AddressError(MalformedError):
    """Text that is no address of the kind that is expected."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """An absolute path of at most 107 bytes."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """``cid`` None: this machine's own, whatever it is; for listening."""

    cid: int | None
    port: int

    def __str__(self) -> str:
        return f"vsock:{self.port}" if self.cid is None else f"vsock:{self.cid}:{self.port}"


Address: TypeAlias = UnixAddress | VsockAddress


def parse_enclave_address(text: str) -> Address:
    """Read where an enclave listens: ``unix:<absolute path>`` or ``vsock:<cid>:<port>``.

    Raises:
        AddressError: Anything else, or a number or path beyond what the kernel takes.
    """
    match = _ENCLAVE_VSOCK.fullmatch(text)
    if match is None:
        return _unix(text, "unix:<absolute path> or vsock:<cid>:<port>")
    return VsockAddress(_number(match[1], "cid"), _number(match[2], "port"))


def parse_listen_address(text: str) -> Address:
    """Read where the parent listens: ``unix:<absolute path>`` or ``vsock:<port>``.

    Raises:
        AddressError: Anything else, or a number or path beyond what the kernel takes.
    """
    match = _LISTEN_VSOCK.fullmatch(text)
    if match is None:
        return _unix(text, "unix:<absolute path> or vsock:<port>")
    return VsockAddress(None, _number(match[1], "port"))


def _unix(text: str, expected: str) -> UnixAddress:
    match = _UNIX.fullmatch(text)
    if match is None:
        raise AddressError(f"address: {expected} expected")
    if len(match[1]) > _UNIX_PATH_MAX_BYTES:
        raise AddressError(f"address: a path of at most {_UNIX_PATH_MAX_BYTES} bytes expected")
    return UnixAddress(match[1])


def _number(digits: str, what: str) -> int:
    value = int(digits)
    if value > _MAX:
        raise AddressError(f"address: a {what} of 1 to {_MAX} expected")
    return value
