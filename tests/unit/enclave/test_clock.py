from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from latensgate_enclave.clock import ClockError, EnclaveClock, own_document_timestamp_ms
from latensgate_shared.cbor import encode
from latensgate_shared.errors import MalformedError


def document(payload: object) -> bytes:
    return encode([b"\xa1\x01\x38\x22", {}, encode(payload), bytes(96)])  # type: ignore[arg-type]  # whatever a test puts in


class StampingNSM:
    """Stamps documents with the times it was given, and lets 10 ms pass on each call."""

    def __init__(self, *times_ms: int) -> None:
        self.times_ms = list(times_ms)
        self.monotonic_ms = 1_000

    async def attest(
        self, *, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None
    ) -> bytes:
        assert user_data is nonce is public_key is None
        self.monotonic_ms += 10
        return document({"timestamp": self.times_ms.pop(0)})

    async def describe_pcrs(self, *indexes: int) -> Mapping[int, bytes]:
        raise AssertionError(f"not asked for: {indexes}")

    def monotonic_ns(self) -> int:
        return self.monotonic_ms * 1_000_000


def test_time_is_the_nsm_stamp_plus_monotonic_time() -> None:
    nsm = StampingNSM(1_790_000_000_000)
    clock = EnclaveClock(nsm, nsm.monotonic_ns)
    asyncio.run(clock.refresh())
    assert clock.now_ms() == 1_790_000_000_005
    nsm.monotonic_ms += 2_500
    assert clock.now_ms() == 1_790_000_002_505
    assert clock.now_s() == 1_790_000_002


def test_no_time_before_the_first_refresh() -> None:
    nsm = StampingNSM()
    with pytest.raises(ClockError, match="never set"):
        EnclaveClock(nsm, nsm.monotonic_ns).now_ms()


def test_drift_is_corrected_and_a_jump_back_is_refused() -> None:
    nsm = StampingNSM(1_790_000_000_000, 1_789_999_999_500, 1_789_999_000_000)
    clock = EnclaveClock(nsm, nsm.monotonic_ns)
    asyncio.run(clock.refresh())
    asyncio.run(clock.refresh())
    corrected_ms = clock.now_ms()
    with pytest.raises(ClockError, match="went back"):
        asyncio.run(clock.refresh())
    assert corrected_ms <= clock.now_ms() <= corrected_ms + 10


@pytest.mark.parametrize(
    "payload", [{"timestamp": 0}, {"timestamp": True}, {"timestamp": "1"}, {}, 7]
)
def test_a_document_without_time_is_refused(payload: object) -> None:
    with pytest.raises(ClockError, match="timestamp"):
        own_document_timestamp_ms(document(payload))


def test_a_document_that_is_none_is_refused() -> None:
    with pytest.raises(MalformedError):
        own_document_timestamp_ms(b"nonsense")
