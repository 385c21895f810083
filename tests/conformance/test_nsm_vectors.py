"""The published NSM messages: ours byte for byte, answers read, everything else refused."""

from __future__ import annotations

import json

import pytest

from latensgate_enclave.nitro.nsm import (
    NSM_IOCTL,
    NSMError,
    attestation_request,
    describe_pcr_request,
    parse_attestation,
    parse_describe_pcr,
)
from paths import published

PUBLISHED = json.loads(published("nitro", "nsm", "messages.json").read_bytes())
MESSAGES = {each["name"]: bytes.fromhex(each["cbor_hex"]) for each in PUBLISHED["messages"]}
ERRORS = [name for name in MESSAGES if name.startswith("Error response ")]


def test_ioctl_number() -> None:
    assert int(PUBLISHED["ioctl"]["value_x86_64_arm64"], 16) == NSM_IOCTL


def test_requests() -> None:
    nothing = attestation_request(user_data=None, nonce=None, public_key=None)
    assert nothing == MESSAGES["Attestation request, all null"]
    nonce = attestation_request(user_data=None, nonce=bytes.fromhex("deadbeef"), public_key=None)
    assert nonce == MESSAGES["Attestation request, nonce of 4 bytes"]
    assert describe_pcr_request(0) == MESSAGES["DescribePCR request, index 0"]


def test_pcr_answer() -> None:
    assert parse_describe_pcr(MESSAGES["DescribePCR response, PCR0 locked and zero"]) == bytes(48)


def test_an_answer_with_an_empty_document_is_refused() -> None:
    with pytest.raises(NSMError):
        parse_attestation(MESSAGES["Attestation response head"])


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    for parse in (parse_attestation, parse_describe_pcr):
        with pytest.raises(NSMError) as caught:
            parse(MESSAGES[name])
        assert caught.value.nsm_name == name.removeprefix("Error response ")


@pytest.mark.parametrize("name", [name for name in MESSAGES if name not in ERRORS])
def test_other_messages_are_no_answers(name: str) -> None:
    with pytest.raises(NSMError) as caught:
        parse_attestation(MESSAGES[name])
    assert caught.value.nsm_name is None
