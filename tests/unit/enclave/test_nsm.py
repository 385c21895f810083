"""The NSM client: its device call on a stand-in for ioctl, its calls in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import struct
import threading
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latensgate_enclave.nitro.nsm import (
    NSM_IOCTL,
    NSMError,
    SerialNSM,
    attestation_request,
    describe_pcr_request,
    exchange,
    parse_attestation,
    parse_describe_pcr,
)
from latensgate_shared import cbor

DOCUMENT = cbor.encode({"Attestation": {"document": b"doc"}})
PCR = cbor.encode({"DescribePCR": {"lock": True, "data": bytes(48)}})


class FakeDevice:
    """Answers as the kernel does: into the caller's buffer, with the length written back."""

    def __init__(self, answer: bytes, length: int | None = None) -> None:
        self.answer = answer
        self.length = len(answer) if length is None else length
        self.requests: list[bytes] = []

    def __call__(self, fd: int, request: int, arg: bytearray, mutate_flag: bool, /) -> int:  # noqa: FBT001 - shape of fcntl.ioctl
        assert (fd, request, mutate_flag, len(arg)) == (7, NSM_IOCTL, True, 32)
        sent_at, sent_length, answer_at, answer_length = struct.unpack("=QQQQ", arg)
        assert answer_length == 0x3000
        self.requests.append(ctypes.string_at(sent_at, sent_length))
        ctypes.memmove(answer_at, self.answer, min(len(self.answer), answer_length))
        arg[24:] = struct.pack("=Q", self.length)
        return 0


def test_exchange() -> None:
    device = FakeDevice(DOCUMENT)
    assert exchange(7, b"\x61a", ioctl=device) == DOCUMENT
    assert device.requests == [b"\x61a"]


def test_exchange_limits() -> None:
    device = FakeDevice(DOCUMENT)
    assert exchange(7, bytes(0x1000), ioctl=device) == DOCUMENT
    with pytest.raises(NSMError, match="at most"):
        exchange(7, bytes(0x1001), ioctl=device)
    for length in (0, 0x3000, 0x3001, 2**63):
        with pytest.raises(NSMError, match="below"):
            exchange(7, b"\x61a", ioctl=FakeDevice(b"x", length))


def test_device_errors_are_typed() -> None:
    def failing(*_: object) -> int:
        raise OSError(errno.EMSGSIZE, "too long")

    with pytest.raises(NSMError, match=str(errno.EMSGSIZE)):
        exchange(7, b"\x61a", ioctl=failing)


def test_real_ioctl_on_no_device() -> None:
    with open("/dev/null", "rb") as file, pytest.raises(NSMError, match="errno"):  # noqa: PTH123 - a device
        exchange(file.fileno(), b"\x61a")


def test_request_limits() -> None:
    for field in ("user_data", "nonce", "public_key"):
        fields: dict[str, bytes | None] = dict.fromkeys(("user_data", "nonce", "public_key"))
        assert attestation_request(**{**fields, field: bytes(1_024)})
        with pytest.raises(NSMError, match=field):
            attestation_request(**{**fields, field: bytes(1_025)})
    for index in (-1, 32):
        with pytest.raises(NSMError):
            describe_pcr_request(index)


def test_parse() -> None:
    assert parse_attestation(DOCUMENT) == b"doc"
    assert parse_describe_pcr(PCR) == bytes(48)


@pytest.mark.parametrize(
    "value",
    [
        {"Attestation": {"document": b""}},
        {"Attestation": {"document": bytes(0x3001)}},
        {"Attestation": {"document": "text"}},
        {"Attestation": {"document": None}},
        {"Attestation": {}},
        {"Attestation": None},
        {"Attestation": {"document": b"doc"}, "Error": "InternalError"},
        {"DescribePCR": {"lock": True, "data": bytes(48)}},
        {"DescribePCR": {"lock": True, "data": bytes(47)}},
        {"Error": "MadeUp"},
        {"Error": 1},
        {},
        [],
        "Attestation",
        None,
    ],
)
def test_answers_refused(value: cbor.CBOREncodable) -> None:
    with pytest.raises(NSMError) as caught:
        parse_attestation(cbor.encode(value))
    assert caught.value.nsm_name is None
    if value != {"DescribePCR": {"lock": True, "data": bytes(48)}}:
        with pytest.raises(NSMError):
            parse_describe_pcr(cbor.encode(value))


@given(st.binary(max_size=60))
def test_only_typed_errors(data: bytes) -> None:
    for parse in (parse_attestation, parse_describe_pcr):
        with contextlib.suppress(NSMError):
            parse(data)


def test_calls_are_serial_and_never_block_the_loop() -> None:
    running, most, threads = 0, 0, set[int]()

    def slow(request: bytes) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        threads.add(threading.get_ident())
        time.sleep(0.02)
        running -= 1
        return PCR if b"DescribePCR" in request else DOCUMENT

    async def scenario() -> int:
        nsm = SerialNSM(slow)
        calls = [nsm.attest(user_data=None, nonce=None, public_key=None) for _ in range(3)]
        pending = asyncio.gather(nsm.describe_pcrs(0, 1, 2), *calls)
        turns = 0
        while not pending.done():
            turns += 1
            await asyncio.sleep(0.001)
        pcrs, *documents = pending.result()
        assert pcrs == {0: bytes(48), 1: bytes(48), 2: bytes(48)}
        assert documents == [b"doc"] * 3
        nsm.close()
        return turns

    assert asyncio.run(scenario()) > 5
    assert most == 1
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_over_the_device() -> None:
    async def scenario() -> None:
        device = FakeDevice(cbor.encode({"Error": "InvalidIndex"}))
        nsm = SerialNSM(partial(exchange, 7, ioctl=device))
        with pytest.raises(NSMError) as caught:
            await nsm.describe_pcrs(31)
        assert caught.value.nsm_name == "InvalidIndex"
        assert device.requests == [describe_pcr_request(31)]
        nsm.close()

    asyncio.run(scenario())
