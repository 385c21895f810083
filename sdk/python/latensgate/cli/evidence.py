"""Reading what a person hands over: raw CBOR, base64 or hexadecimal text."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from pathlib import Path
from typing import Final

from latensgate_shared import limits

STDIN: Final = "-"
_FILE_MAX_BYTES: Final = 4 * limits.ATTESTATION_DOCUMENT_MAX_BYTES
"""Hexadecimal doubles a document; line ends and prefixes come on top."""
_HEX: Final = re.compile(rb"(?:0x)?((?:[0-9A-Fa-f]{2})+)")
_BASE64: Final = re.compile(rb"[0-9A-Za-z+/_-]+={0,2}")


class UnreadableError(Exception):
    """A file that cannot be read, with a sentence that says why."""


def read_file(name: str, max_bytes: int = _FILE_MAX_BYTES) -> bytes:
    """Read a file, or standard input for ``-``; more than ``max_bytes`` is cut one byte above.

    Raises:
        UnreadableError: It cannot be read.
    """
    try:
        if name == STDIN:
            return sys.stdin.buffer.read(max_bytes + 1)
        with Path(name).open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(f"{name}: {reason}") from None


def recognise(data: bytes) -> tuple[bytes, str]:
    """Return the document's bytes and the form in which they came.

    What is neither hexadecimal nor base64 text is returned as it is: the verifier will say what
    is wrong with it.
    """
    text = b"".join(data.split())
    hexadecimal = _HEX.fullmatch(text)
    if hexadecimal:
        return bytes.fromhex(hexadecimal[1].decode("ascii")), "hexadecimal text"
    if _BASE64.fullmatch(text):
        decoded = _from_base64(text)
        if decoded is not None:
            return decoded, "base64 text"
    return data, "raw CBOR"


def _from_base64(text: bytes) -> bytes | None:
    standard = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)
    except binascii.Error:
        return None
