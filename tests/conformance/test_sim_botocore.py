"""botocore and OpenSSL judge the simulated KMS, STS and Bedrock."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EventStreamError,
)
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from urllib3.exceptions import ProtocolError

from latensgate_sim.faults import Fault, FaultKind, throttled
from latensgate_sim.measure import Measurements
from latensgate_sim.models import SCRIPTED_ID
from latensgate_sim.world import ACCOUNT, World, WorldConfig
from sim_clients import Clients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_bedrock_runtime.type_defs import (
        MessageOutputTypeDef,
        MessageTypeDef,
        ToolConfigurationTypeDef,
        ToolTypeDef,
    )
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_kms.type_defs import RecipientInfoTypeDef

    from latensgate_sim.world import SimulatedEnclave

CONTEXT = {"service": "latensgate", "release": "0.1.0"}
IMAGE = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(WorldConfig(regions=("us-east-1", "eu-west-1"))) as made:
        yield made


@pytest.fixture(scope="module")
def enclave(world: World) -> SimulatedEnclave:
    return world.add_enclave("one", IMAGE)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(autouse=True)
def no_faults(world: World) -> Iterator[None]:
    yield
    world.home.kms.faults.clear()
    world.home.bedrock.faults.clear()
    world.home.sts.faults.clear()
    world.home.control.faults.clear()


def policy(world: World, **changes: object) -> str:
    use: dict[str, object] = {
        "Sid": "Use",
        "Effect": "Allow",
        "Principal": {"AWS": world.service.identity.principal_arn},
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": "*",
        "Condition": {
            "StringEqualsIgnoreCase": {
                "kms:RecipientAttestation:ImageSha384": IMAGE.pcr0.hex(),
                "kms:RecipientAttestation:PCR1": IMAGE.pcr1.hex(),
                "kms:RecipientAttestation:PCR2": IMAGE.pcr2.hex().upper(),
            },
            "StringEquals": {"kms:EncryptionContext:service": "latensgate"},
            "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["service", "release"]},
        },
        **changes,
    }
    admin = {
        "Sid": "Admin",
        "Effect": "Allow",
        "Principal": {"AWS": world.admin.identity.principal_arn},
        "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:DisableKey", "kms:EnableKey"],
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [use, admin]})


def recipient(document: bytes) -> RecipientInfoTypeDef:
    return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}


def attest(enclave: SimulatedEnclave, key: rsa.RSAPrivateKey) -> bytes:
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return enclave.nsm.attest(public_key=spki)


def openssl_decrypt(blob: bytes, key: rsa.RSAPrivateKey, folder: Path) -> bytes:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (folder / "blob.ber").write_bytes(blob)
    command = [
        "openssl",
        "cms",
        "-decrypt",
        "-inform",
        "DER",
        "-in",
        "blob.ber",
        "-inkey",
        "key.pem",
    ]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return done.stdout


@pytest.fixture(scope="module")
def clients(world: World) -> Iterator[Clients]:
    made = Clients(world)
    yield made
    made.close()


@pytest.fixture
def kms(world: World, clients: Clients) -> KMSClient:
    return clients.kms(world.service)


@pytest.mark.parametrize("constructed", [True, False])
def test_kms_releases_to_the_recipient_and_openssl_opens_it(  # noqa: PLR0913, PLR0917 -- fixtures
    world: World,
    kms: KMSClient,
    enclave: SimulatedEnclave,
    rsa_key: rsa.RSAPrivateKey,
    tmp_path: Path,
    constructed: bool,  # noqa: FBT001 -- pytest passes parameters by name
) -> None:
    world.home.kms.constructed_content = constructed
    arn = world.create_key(policy(world))
    made = kms.generate_data_key(
        KeyId=arn,
        KeySpec="AES_256",
        EncryptionContext=CONTEXT,
        Recipient=recipient(attest(enclave, rsa_key)),
    )
    assert "Plaintext" not in made.keys()  # noqa: SIM118 -- its type always names the member
    assert made["KeyId"] == arn
    opened = kms.decrypt(
        CiphertextBlob=made["CiphertextBlob"],
        KeyId=arn,
        EncryptionContext=CONTEXT,
        Recipient=recipient(attest(enclave, rsa_key)),
    )
    assert "Plaintext" not in opened.keys()  # noqa: SIM118 -- the same
    first = openssl_decrypt(made["CiphertextForRecipient"], rsa_key, tmp_path)
    second = openssl_decrypt(opened["CiphertextForRecipient"], rsa_key, tmp_path)
    assert first == second
    assert len(first) == 32


def outcome(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, str, int]:
    response = cast("dict[str, dict[str, str]]", error.value.response)
    details = response["Error"]
    status = int(response["ResponseMetadata"]["HTTPStatusCode"])
    return details["Code"], details["Message"], status


def received(response: object) -> list[dict[str, Any]]:
    """Return the events of a stream, read to its end, and close it even if that fails."""
    with closing(cast("Any", response)["stream"]) as stream:
        return list(stream)


def answered(response: object) -> list[dict[str, Any]]:
    """Return the content blocks of a Converse answer; the stubs call every member optional."""
    content: list[dict[str, Any]] = cast("Any", response)["output"]["message"]["content"]
    return content


def test_kms_refuses_without_recipient_in_aws_words(world: World, kms: KMSClient) -> None:
    arn = world.create_key(policy(world))
    with pytest.raises(ClientError) as error:
        kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    code, message, status = outcome(error)
    assert (code, status) == ("AccessDeniedException", 400)
    assert message == (
        f"User: {world.service.identity.caller_arn} is not authorized to perform: "
        f"kms:GenerateDataKey on resource: {arn} because no resource-based policy allows the "
        "kms:GenerateDataKey action"
    )


def test_kms_refuses_another_image_and_debug(
    world: World, kms: KMSClient, rsa_key: rsa.RSAPrivateKey
) -> None:
    other = world.add_enclave("other", Measurements(b"\x09" * 48, IMAGE.pcr1, IMAGE.pcr2))
    debug = world.add_enclave("debug", IMAGE, debug=True)
    arn = world.create_key(policy(world))
    for unfit in (other, debug):
        with pytest.raises(ClientError) as error:
            kms.generate_data_key(
                KeyId=arn,
                KeySpec="AES_256",
                EncryptionContext=CONTEXT,
                Recipient=recipient(attest(unfit, rsa_key)),
            )
        assert outcome(error)[0] == "AccessDeniedException"


def test_kms_takes_a_debug_document_where_the_policy_has_no_pcr_condition(
    world: World, kms: KMSClient, rsa_key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    debug = world.add_enclave("debug-careless", IMAGE, debug=True)
    arn = world.create_key(policy(world, Condition={}))
    made = kms.generate_data_key(
        KeyId=arn, KeySpec="AES_128", Recipient=recipient(attest(debug, rsa_key))
    )
    assert len(openssl_decrypt(made["CiphertextForRecipient"], rsa_key, tmp_path)) == 16


def test_kms_swapped_context_is_an_invalid_ciphertext_without_a_message(
    world: World, kms: KMSClient, enclave: SimulatedEnclave, rsa_key: rsa.RSAPrivateKey
) -> None:
    arn = world.create_key(policy(world))
    made = kms.generate_data_key(
        KeyId=arn,
        KeySpec="AES_256",
        EncryptionContext=CONTEXT,
        Recipient=recipient(attest(enclave, rsa_key)),
    )
    with pytest.raises(ClientError) as error:
        kms.decrypt(
            CiphertextBlob=made["CiphertextBlob"],
            KeyId=arn,
            EncryptionContext={**CONTEXT, "release": "0.2.0"},
            Recipient=recipient(attest(enclave, rsa_key)),
        )
    assert outcome(error) == ("InvalidCiphertextException", "", 400)


def test_kms_ciphertext_of_another_key(
    world: World, kms: KMSClient, enclave: SimulatedEnclave, rsa_key: rsa.RSAPrivateKey
) -> None:
    first, second = (world.create_key(policy(world)) for _ in range(2))
    made = kms.generate_data_key(
        KeyId=first,
        KeySpec="AES_256",
        EncryptionContext=CONTEXT,
        Recipient=recipient(attest(enclave, rsa_key)),
    )
    with pytest.raises(ClientError) as error:
        kms.decrypt(
            CiphertextBlob=made["CiphertextBlob"],
            KeyId=second,
            EncryptionContext=CONTEXT,
            Recipient=recipient(attest(enclave, rsa_key)),
        )
    assert outcome(error)[0] == "IncorrectKeyException"


def test_kms_key_disabled_while_serving(
    world: World,
    clients: Clients,
    kms: KMSClient,
    enclave: SimulatedEnclave,
    rsa_key: rsa.RSAPrivateKey,
) -> None:
    arn = world.create_key(policy(world))
    clients.kms(world.admin).disable_key(KeyId=arn)
    with pytest.raises(ClientError) as error:
        kms.generate_data_key(
            KeyId=arn,
            KeySpec="AES_256",
            EncryptionContext=CONTEXT,
            Recipient=recipient(attest(enclave, rsa_key)),
        )
    assert outcome(error) == ("DisabledException", f"{arn} is disabled.", 400)


def test_kms_reads_back_key_policy_grants_and_metadata(world: World, clients: Clients) -> None:
    client = clients.kms(world.admin)
    text = policy(world)
    made = client.create_key(Policy=text, BypassPolicyLockoutSafetyCheck=True)["KeyMetadata"]
    arn = made.get("Arn", "")
    metadata = client.describe_key(KeyId=arn)["KeyMetadata"]
    assert metadata.get("Arn") == arn
    assert (metadata.get("Origin"), metadata.get("MultiRegion")) == ("AWS_KMS", False)
    assert json.loads(client.get_key_policy(KeyId=arn)["Policy"]) == json.loads(text)
    assert client.list_grants(KeyId=arn)["Grants"] == []


def test_kms_documents_of_another_root_or_another_time(
    world: World, kms: KMSClient, enclave: SimulatedEnclave, rsa_key: rsa.RSAPrivateKey
) -> None:
    arn = world.create_key(policy(world))
    stale = attest(enclave, rsa_key)
    with World() as elsewhere:
        foreign = attest(elsewhere.add_enclave("foreign", IMAGE), rsa_key)
    no_key = enclave.nsm.attest()
    for document in (foreign, stale[:-1], b"junk", no_key):
        with pytest.raises(ClientError) as error:
            kms.generate_data_key(
                KeyId=arn,
                KeySpec="AES_256",
                EncryptionContext=CONTEXT,
                Recipient=recipient(document),
            )
        assert outcome(error)[0] == "ValidationException"


def test_sts_says_who_calls(world: World, clients: Clients) -> None:
    answer = clients.sts(world.service).get_caller_identity()
    assert answer["Account"] == ACCOUNT
    assert answer["Arn"] == world.service.identity.caller_arn
    assert answer["UserId"] == world.service.identity.user_id


def test_every_service_refuses_a_wrong_secret_and_an_unknown_key(
    world: World, clients: Clients
) -> None:
    wrong = world.identities.user(ACCOUNT, "wrong")
    world.identities.revoke(wrong.access_key_id)
    with pytest.raises(ClientError) as error:
        clients.sts(wrong).get_caller_identity()
    assert outcome(error)[::2] == ("InvalidClientTokenId", 403)
    with pytest.raises(ClientError) as error:
        clients.kms(wrong).describe_key(KeyId="x")
    assert outcome(error)[::2] == ("UnrecognizedClientException", 400)
    with pytest.raises(ClientError) as error:
        clients.bedrock(wrong).get_model_invocation_logging_configuration()
    assert outcome(error)[::2] == ("UnrecognizedClientException", 403)


def test_skewed_client_is_refused(world: World, clients: Clients) -> None:
    world.clock.advance(301)
    try:
        with pytest.raises(ClientError) as error:
            clients.sts(world.service).get_caller_identity()
    finally:
        world.clock.advance(-301)
    assert outcome(error)[::2] == ("SignatureDoesNotMatch", 403)


def test_logging_state_is_read_and_switched_while_running(world: World, clients: Clients) -> None:
    client = clients.bedrock(world.service)
    assert "loggingConfig" not in client.get_model_invocation_logging_configuration()
    world.home.control.logging_accounts.add(ACCOUNT)
    try:
        found = client.get_model_invocation_logging_configuration()["loggingConfig"]
    finally:
        world.home.control.logging_accounts.clear()
    assert found.get("textDataDeliveryEnabled") is True


TOOL: ToolTypeDef = {
    "toolSpec": {
        "name": "get_weather",
        "description": "Weather of a city",
        "inputSchema": {
            "json": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            }
        },
    }
}


def user(text: str) -> MessageTypeDef:
    return {"role": "user", "content": [{"text": text}]}


def test_converse_and_its_stream_say_the_same(world: World, clients: Clients) -> None:
    client = clients.runtime(world.service)
    question = [user("Where is the Eiffel tower?")]
    whole = client.converse(modelId=SCRIPTED_ID, messages=question)
    streamed = client.converse_stream(modelId=SCRIPTED_ID, messages=question)
    events = received(streamed)
    text = "".join(
        event["contentBlockDelta"]["delta"].get("text", "")
        for event in events
        if "contentBlockDelta" in event
    )
    content = answered(whole)
    assert content == [{"text": "You said: Where is the Eiffel tower?"}]
    assert text == content[0]["text"]
    assert whole["stopReason"] == "end_turn"
    assert next(iter(events[0])) == "messageStart"
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    assert events[-2]["messageStop"]["stopReason"] == "end_turn"


def test_two_prompts_give_two_answers(world: World, clients: Clients) -> None:
    client = clients.runtime(world.service)
    answers = [
        answered(client.converse(modelId=SCRIPTED_ID, messages=[user(text)]))
        for text in ("one", "two")
    ]
    assert answers[0] != answers[1]


def test_tool_calls_parse_whole_and_streamed(world: World, clients: Clients) -> None:
    client = clients.runtime(world.service)
    asked = [user("Please get weather for Oslo")]
    config: ToolConfigurationTypeDef = {"tools": [TOOL]}
    whole = client.converse(modelId=SCRIPTED_ID, messages=asked, toolConfig=config)
    call = answered(whole)[0]["toolUse"]
    assert (whole["stopReason"], call["name"]) == ("tool_use", "get_weather")
    assert call["input"] == {"city": "Please get weather for Oslo", "days": 1}
    stream = client.converse_stream(modelId=SCRIPTED_ID, messages=asked, toolConfig=config)
    events = received(stream)
    pieces = [
        event["contentBlockDelta"]["delta"]["toolUse"]["input"]
        for event in events
        if "contentBlockDelta" in event
    ]
    assert len(pieces) > 1
    assert json.loads("".join(pieces)) == call["input"]
    follow_up: list[MessageTypeDef | MessageOutputTypeDef] = [
        *asked,
        cast("MessageOutputTypeDef", {"role": "assistant", "content": answered(whole)}),
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": "rain"}]}}
            ],
        },
    ]
    answer = client.converse(modelId=SCRIPTED_ID, messages=follow_up, toolConfig=config)
    assert answered(answer) == [{"text": "Tool result: rain"}]


def test_bedrock_errors_before_and_within_a_stream(world: World, clients: Clients) -> None:
    client = clients.runtime(world.service)
    faults = world.home.bedrock.faults
    faults.on(throttled())
    with pytest.raises(ClientError) as error:
        client.converse(modelId=SCRIPTED_ID, messages=[user("hi")])
    assert outcome(error)[::2] == ("ThrottlingException", 429)
    faults.on(throttled(after_events=2))
    stream = client.converse_stream(modelId=SCRIPTED_ID, messages=[user("hi")])
    with pytest.raises(EventStreamError, match="throttlingException"):
        received(stream)
    with pytest.raises(ClientError) as error:
        client.converse(modelId="no.such-model", messages=[user("hi")])
    assert outcome(error) == (
        "ValidationException",
        "The provided model identifier is invalid.",
        400,
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(FaultKind.CUT, ProtocolError), (FaultKind.GARBAGE, ChecksumMismatch)],
)
def test_broken_streams_are_seen_as_broken(
    world: World, clients: Clients, kind: FaultKind, expected: type[Exception]
) -> None:
    client = clients.runtime(world.service)
    world.home.bedrock.faults.on(Fault(kind, after_events=2))
    stream = client.converse_stream(modelId=SCRIPTED_ID, messages=[user("hi")])
    with pytest.raises(expected):
        received(stream)


def test_cut_before_the_answer(world: World, clients: Clients) -> None:
    world.home.sts.faults.on(Fault(FaultKind.CUT))
    with pytest.raises(ConnectionClosedError):
        clients.sts(world.service).get_caller_identity()


def test_model_ids_with_slashes_and_colons_keep_their_signature(
    world: World, clients: Clients
) -> None:
    arn = "arn:aws:bedrock:us-east-1:111122223333:inference-profile/us.x-v1:0"
    with pytest.raises(ClientError) as error:
        clients.runtime(world.service).converse(modelId=arn, messages=[user("hi")])
    assert outcome(error)[0] == "ValidationException"
