"""The Nitro Secure Module of one simulated enclave: PCRs, random bytes, attestation documents.

Requests and answers are the CBOR of ``/dev/nsm`` (facts C3). Nothing in that protocol sets PCR0 to
PCR15: they are given by whoever makes the device, which is the launcher that measured the files.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_shared import cbor
from latensgate_shared.errors import MalformedError
from latensgate_sim import documents
from latensgate_sim.measure import ZERO_PCR, Measurements, extend
from latensgate_sim.nitro_pki import LEAF_RENEW_BEFORE, Issued, NitroChain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate_sim.clock import Clock

REQUEST_MAX_BYTES: Final = 0x1000
"""The Linux driver refuses longer requests (EMSGSIZE)."""
PCR_COUNT: Final = 32
PLATFORM_PCRS: Final = 16
"""PCR0 to PCR15 are locked from the start."""
FIELD_MAX_BYTES: Final = 1_024
EXTEND_MAX_BYTES: Final = 512
RANDOM_BYTES: Final = 256


class NSMError(Exception):
    """An error of the device, by the name that goes over the wire."""


@dataclass(slots=True)
class NSMFaults:
    """What a test may break.

    Attributes:
        errors: Names answered to the next requests, one each.
        delay_s: Seconds before every answer.
        alter_payload: Changes the payload before it is signed.
        alter_document: Changes the signed document.
    """

    errors: deque[str] = field(default_factory=deque[str])
    delay_s: float = 0.0
    alter_payload: Callable[[documents.Payload], documents.Payload] | None = None
    alter_document: Callable[[bytes], bytes] | None = None


class NSM:
    """One device; calls are served one after the other, as the real one does.

    Attributes:
        module_id: Instance id, ``-enc`` and 16 hex digits.
        debug: PCR0, PCR1, PCR2 and PCR8 are zero, as in ``--debug-mode``.
        faults: Switches for tests.
    """

    def __init__(
        self,
        chain: NitroChain,
        measurements: Measurements,
        clock: Clock,
        *,
        debug: bool = False,
        parent_role_arn: str | None = None,
    ) -> None:
        self.debug = debug
        self.faults = NSMFaults()
        self._chain = chain
        self._clock = clock
        self._enclave_id = secrets.randbits(56) | 1 << 56
        self.module_id = chain.module_id(self._enclave_id)
        self._pcrs = _initial_pcrs(chain, measurements, parent_role_arn, debug=debug)
        self._locked = set(range(PLATFORM_PCRS))
        self._leaf: tuple[Issued, list[Issued]] | None = None

    def pcr(self, index: int) -> bytes:
        """Return PCR ``index``, 48 bytes."""
        return self._pcrs[index]

    def handle(self, request: bytes) -> bytes:
        """Answer one CBOR request with one CBOR answer; errors are answers too."""
        if self.faults.errors:
            return cbor.encode({"Error": self.faults.errors.popleft()})
        try:
            return cbor.encode(self._dispatch(request))
        except NSMError as error:
            return cbor.encode({"Error": str(error)})

    def attest(
        self,
        *,
        user_data: bytes | None = None,
        nonce: bytes | None = None,
        public_key: bytes | None = None,
    ) -> bytes:
        """Make a signed document.

        Raises:
            NSMError: A field is longer than 1,024 bytes.
        """
        if any(len(value or b"") > FIELD_MAX_BYTES for value in (user_data, nonce, public_key)):
            raise NSMError("InputTooLarge")
        leaf, bundle = self._current_leaf()
        payload = documents.Payload(
            module_id=self.module_id,
            timestamp_ms=int(self._clock.seconds() * 1000),
            pcrs={index: self._pcrs[index] for index in sorted(self._locked)},
            certificate=leaf.der,
            cabundle=[authority.der for authority in bundle],
            public_key=public_key,
            user_data=user_data,
            nonce=nonce,
        )
        if self.faults.alter_payload is not None:
            payload = self.faults.alter_payload(payload)
        document = documents.sign(payload.encode(), leaf.key)
        alter = self.faults.alter_document
        return document if alter is None else alter(document)

    def _current_leaf(self) -> tuple[Issued, list[Issued]]:
        if self._leaf is None or not self._leaf[0].serves(self._clock.now(), LEAF_RENEW_BEFORE):
            self._leaf = self._chain.issue_leaf(self._enclave_id)
        return self._leaf

    def _dispatch(self, request: bytes) -> cbor.CBOREncodable:
        if len(request) > REQUEST_MAX_BYTES:
            raise NSMError("InputTooLarge")
        try:
            value = cbor.decode(request, max_bytes=REQUEST_MAX_BYTES)
        except MalformedError as error:
            raise NSMError("InvalidOperation") from error
        if value == "DescribeNSM":
            return {"DescribeNSM": self._describe()}
        if value == "GetRandom":
            return {"GetRandom": {"random": secrets.token_bytes(RANDOM_BYTES)}}
        operation, arguments = _one_call(value)
        handlers: dict[str, Callable[[Mapping[int | str, cbor.CBORValue]], cbor.CBOREncodable]] = {
            "DescribePCR": self._describe_pcr,
            "ExtendPCR": self._extend_pcr,
            "LockPCR": self._lock_pcr,
            "LockPCRs": self._lock_pcrs,
            "Attestation": self._attestation,
        }
        if operation not in handlers:
            raise NSMError("InvalidOperation")
        return handlers[operation](arguments)

    def _describe(self) -> cbor.CBOREncodable:
        facts: dict[str, cbor.CBOREncodable] = {
            "version_major": 1,
            "version_minor": 0,
            "version_patch": 0,
            "module_id": self.module_id,
            "max_pcrs": PCR_COUNT,
            "locked_pcrs": sorted(self._locked),
            "digest": "SHA384",
        }
        return facts

    def _describe_pcr(self, arguments: Mapping[int | str, cbor.CBORValue]) -> cbor.CBOREncodable:
        index = _index(arguments)
        facts: dict[str, cbor.CBOREncodable] = {
            "lock": index in self._locked,
            "data": self._pcrs[index],
        }
        return {"DescribePCR": facts}

    def _extend_pcr(self, arguments: Mapping[int | str, cbor.CBORValue]) -> cbor.CBOREncodable:
        index = self._unlocked(arguments)
        data = arguments.get("data")
        if not isinstance(data, bytes):
            raise NSMError("InvalidArgument")
        if len(data) > EXTEND_MAX_BYTES:
            raise NSMError("InputTooLarge")
        self._pcrs[index] = extend(self._pcrs[index], data)
        return {"ExtendPCR": {"data": self._pcrs[index]}}

    def _lock_pcr(self, arguments: Mapping[int | str, cbor.CBORValue]) -> cbor.CBOREncodable:
        self._locked.add(self._unlocked(arguments))
        return "LockPCR"

    def _lock_pcrs(self, arguments: Mapping[int | str, cbor.CBORValue]) -> cbor.CBOREncodable:
        count = arguments.get("range")
        if not isinstance(count, int) or not 0 <= count <= PCR_COUNT:
            raise NSMError("InvalidIndex")
        self._locked.update(range(count))
        return "LockPCRs"

    def _attestation(self, arguments: Mapping[int | str, cbor.CBORValue]) -> cbor.CBOREncodable:
        document = self.attest(
            user_data=_optional_bytes(arguments, "user_data"),
            nonce=_optional_bytes(arguments, "nonce"),
            public_key=_optional_bytes(arguments, "public_key"),
        )
        return {"Attestation": {"document": document}}

    def _unlocked(self, arguments: Mapping[int | str, cbor.CBORValue]) -> int:
        index = _index(arguments)
        if index in self._locked:
            raise NSMError("ReadOnlyIndex")
        return index


def _initial_pcrs(
    chain: NitroChain, measurements: Measurements, role_arn: str | None, *, debug: bool
) -> list[bytes]:
    pcrs = [ZERO_PCR] * PCR_COUNT
    if not debug:
        pcrs[0:3] = [measurements.pcr0, measurements.pcr1, measurements.pcr2]
    if role_arn is not None:
        pcrs[3] = hashlib.sha384(ZERO_PCR + role_arn.encode()).digest()
    pcrs[4] = hashlib.sha384(ZERO_PCR + chain.instance_id.encode()).digest()
    return pcrs


def _one_call(value: cbor.CBORValue) -> tuple[str, Mapping[int | str, cbor.CBORValue]]:
    if isinstance(value, dict) and len(value) == 1:
        ((operation, arguments),) = value.items()
        if isinstance(operation, str) and isinstance(arguments, dict):
            return operation, arguments
    raise NSMError("InvalidOperation")


def _index(arguments: Mapping[int | str, cbor.CBORValue]) -> int:
    index = arguments.get("index")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < PCR_COUNT:
        raise NSMError("InvalidIndex")
    return index


def _optional_bytes(arguments: Mapping[int | str, cbor.CBORValue], key: str) -> bytes | None:
    value = arguments.get(key)
    if value is not None and not isinstance(value, bytes):
        raise NSMError("InvalidArgument")
    return value
