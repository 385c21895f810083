"""The Nitro Security Module: the two calls that the enclave makes to ``/dev/nsm``.

Sources: aws/aws-nitro-enclaves-nsm-api ``src/api/mod.rs`` and ``src/driver/mod.rs``; Linux
``include/uapi/linux/nsm.h`` and ``drivers/misc/nsm.c``. A request is one CBOR value, put into an
ioctl with a buffer for the answer. The kernel serves one caller at a time, the hardware random
generator included, and may take seconds; so calls go through one worker thread and wait there,
never in the event loop.

An own document is not verified here: whoever holds the device could make any. It is believed for
what only the hypervisor could sign, by those who check the signature.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from latensgate_shared import cbor
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.limits import (
    ATTESTATION_DOCUMENT_MAX_BYTES,
    ATTESTATION_FIELD_MAX_BYTES,
    ATTESTATION_PCR_MAX_COUNT,
    NSM_REQUEST_MAX_BYTES,
    NSM_RESPONSE_MAX_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate_shared.cbor import CBOREncodable, CBORValue

NSM_IOCTL: Final = 0xC020_0A00
"""``_IOWR(0x0A, 0, 32 bytes)``."""
_MESSAGE: Final = struct.Struct("=QQQQ")
"""request address, request length, response address, response length; the last is written back."""
_PCR_BYTES: Final = 48
_ERRORS: Final = frozenset(
    {
        "InvalidArgument",
        "InvalidIndex",
        "InvalidResponse",
        "ReadOnlyIndex",
        "InvalidOperation",
        "BufferTooSmall",
        "InputTooLarge",
        "InternalError",
    }
)


class NSMError(LatensgateError):
    """The device refused, failed or answered with what it should not.

    Attributes:
        nsm_name: The device's own name of the error, if it gave a known one.
    """

    code = ErrorCode.ERR_ENCLAVE_UNAVAILABLE

    def __init__(self, detail: str, *, nsm_name: str | None = None) -> None:
        super().__init__(f"NSM: {detail}")
        self.nsm_name = nsm_name


def attestation_request(
    *, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None
) -> bytes:
    """Encode an Attestation request, fields in the order in which AWS's own client writes them.

    Raises:
        NSMError: A field is longer than the device takes (1,024 bytes).
    """
    for name, value in (("user_data", user_data), ("nonce", nonce), ("public_key", public_key)):
        if value is not None and len(value) > ATTESTATION_FIELD_MAX_BYTES:
            limit = ATTESTATION_FIELD_MAX_BYTES
            raise NSMError(f"{name} of at most {limit} bytes expected, found {len(value)}")
    return _request("Attestation", user_data=user_data, nonce=nonce, public_key=public_key)


def describe_pcr_request(index: int) -> bytes:
    """Encode a DescribePCR request.

    Raises:
        NSMError: There is no such PCR.
    """
    if not 0 <= index < ATTESTATION_PCR_MAX_COUNT:
        raise NSMError(f"a PCR index below {ATTESTATION_PCR_MAX_COUNT} expected, found {index}")
    return _request("DescribePCR", index=index)


def _request(name: str, **fields: CBOREncodable) -> bytes:
    """Encode one externally tagged request. The order of the fields is the caller's."""
    members = b"".join(cbor.encode(key) + cbor.encode(value) for key, value in fields.items())
    return b"\xa1" + cbor.encode(name) + bytes([0xA0 + len(fields)]) + members


def parse_attestation(response: bytes) -> bytes:
    """Return the attestation document of an answer, unjudged.

    Raises:
        NSMError: The device refused, or the answer holds no document.
    """
    document = _answer(response, "Attestation").get("document")
    if type(document) is not bytes or not 1 <= len(document) <= ATTESTATION_DOCUMENT_MAX_BYTES:
        raise NSMError("the answer holds no attestation document")
    return document


def parse_describe_pcr(response: bytes) -> bytes:
    """Return the value of a PCR: 48 bytes.

    Raises:
        NSMError: The device refused, or the answer holds no value.
    """
    value = _answer(response, "DescribePCR").get("data")
    if type(value) is not bytes or len(value) != _PCR_BYTES:
        raise NSMError(f"the answer holds no PCR value of {_PCR_BYTES} bytes")
    return value


def _answer(response: bytes, name: str) -> dict[int | str, CBORValue]:
    try:
        value = cbor.decode(response, max_bytes=NSM_RESPONSE_MAX_BYTES)
    except MalformedError:
        raise NSMError("the answer is not CBOR") from None
    if type(value) is not dict or len(value) != 1:
        raise NSMError(f"the answer is not one to {name}")
    members, refusal = value.get(name), value.get("Error")
    if type(members) is dict:
        return members
    if type(refusal) is str and refusal in _ERRORS:
        raise NSMError(f"the device refused {name}: {refusal}", nsm_name=refusal)
    raise NSMError(f"the answer is not one to {name}")


class IoctlCall(Protocol):
    """``fcntl.ioctl`` with a buffer that it may change."""

    def __call__(self, fd: int, request: int, arg: bytearray, mutate_flag: bool, /) -> int:  # noqa: FBT001 - its shape
        """Call the driver; raises OSError."""
        ...


def exchange(fd: int, request: bytes, *, ioctl: IoctlCall = fcntl.ioctl) -> bytes:
    """Send one request to the device and return its answer. Blocks, up to the driver's 120 s.

    Args:
        fd: Of ``/dev/nsm``, open for reading and writing.
        request: At most 4,096 bytes.
        ioctl: Stands in for the system call in tests.

    Raises:
        NSMError: The request is too long, the call failed, or the answer does not fit.
    """
    if len(request) > NSM_REQUEST_MAX_BYTES:
        raise NSMError(f"a request of at most {NSM_REQUEST_MAX_BYTES} bytes expected")
    sent = ctypes.create_string_buffer(request, len(request))
    answer = ctypes.create_string_buffer(NSM_RESPONSE_MAX_BYTES)
    message = bytearray(
        _MESSAGE.pack(
            ctypes.addressof(sent), len(request), ctypes.addressof(answer), NSM_RESPONSE_MAX_BYTES
        )
    )
    try:
        ioctl(fd, NSM_IOCTL, message, True)  # noqa: FBT003 - fcntl.ioctl takes it by position only
    except OSError as error:
        raise NSMError(f"the device call failed with errno {error.errno}") from None
    length = int(_MESSAGE.unpack(message)[3])
    # A full buffer may be a cut answer: the driver fills it and says nothing.
    if not 0 < length < NSM_RESPONSE_MAX_BYTES:
        raise NSMError(f"an answer below {NSM_RESPONSE_MAX_BYTES} bytes expected, found {length}")
    return answer.raw[:length]


class SerialNSM:
    """The device for an event loop: calls wait in one worker thread, in order.

    Args:
        call: Sends one request and returns its answer, blocking (``exchange`` bound to a file).
    """

    __slots__ = ("_call", "_worker")

    def __init__(self, call: Callable[[bytes], bytes]) -> None:
        self._call = call
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nsm")

    async def attest(
        self, *, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None
    ) -> bytes:
        """Return a fresh attestation document (COSE_Sign1), unjudged.

        Raises:
            NSMError: A field is too long, or the device did not give a document.
        """
        request = attestation_request(user_data=user_data, nonce=nonce, public_key=public_key)
        return parse_attestation(await self._exchange(request))

    async def describe_pcrs(self, *indexes: int) -> Mapping[int, bytes]:
        """Return the values of the named PCRs, 48 bytes each.

        Raises:
            NSMError: There is no such PCR, or the device did not give its value.
        """
        return {
            index: parse_describe_pcr(await self._exchange(describe_pcr_request(index)))
            for index in indexes
        }

    async def _exchange(self, request: bytes) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._call, request)

    def close(self) -> None:
        """Let the call in hand finish and take no more."""
        self._worker.shutdown(cancel_futures=True)
