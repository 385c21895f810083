"""KMS requests as botocore would send them, answers read strictly, errors in three meanings."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import NoReturn, cast

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config

from latensgate_enclave.aws.errors import UNNAMED
from latensgate_enclave.aws.kms import (
    DataKey,
    KeyArnError,
    KeyFacts,
    KMSDeniedError,
    KMSError,
    KMSUnavailableError,
    KMSUnfitError,
    decrypt_request,
    describe_key_request,
    generate_data_key_request,
    get_key_policy_request,
    list_grants_request,
    parse_decrypt,
    parse_describe_key,
    parse_generate_data_key,
    parse_get_key_policy,
    parse_key_arn,
    verify_no_grants,
)
from latensgate_enclave.aws.sigv4 import SigningScope
from latensgate_enclave.http1 import HttpRequest, HttpResponse
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject, JSONValue

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER = ARN.replace("1234abcd", "1234abce")
KEY = parse_key_arn(ARN)
CONTEXT = {"service": "latensgate", "release": "1"}


def answer(members: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {}, json.dumps(members).encode())


def test_key_arn() -> None:
    assert (KEY.text, KEY.region, KEY.account) == (ARN, "eu-central-1", "111122223333")
    assert KEY.scope == SigningScope("eu-central-1", "kms")
    multi = "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-" + "0" * 32
    assert parse_key_arn(multi).region == "us-gov-west-1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alias/x",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        ARN.replace("key/1234abcd-12ab-34cd-56ef-1234567890ab", "alias/x"),
        ARN.replace("111122223333", "11112222333"),
        ARN.replace("arn:aws:", "arn:aws-cn:"),
        ARN.replace("kms", "s3"),
        ARN.replace("eu-central-1", "eu-central-1.evil.example/"),
        ARN.upper(),
        ARN + "\n",
        " " + ARN,
    ],
)
def test_key_arn_refused(text: str) -> None:
    with pytest.raises(KeyArnError):
        parse_key_arn(text)


def sent_by_botocore(operation: str, **arguments: object) -> AWSPreparedRequest:
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE00000", "secret")
    client = session.create_client(
        "kms", region_name="eu-central-1", config=Config(retries={"max_attempts": 0})
    )
    sent: list[AWSPreparedRequest] = []

    def capture(request: AWSPreparedRequest, **_: object) -> NoReturn:
        sent.append(request)
        raise InterruptedError

    client.meta.events.register("before-send.kms", capture)
    with pytest.raises(InterruptedError):
        getattr(client, operation)(**arguments)
    return sent[0]


def as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


RECIPIENT = {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": b"doc"}


@pytest.mark.parametrize(
    ("ours", "operation", "arguments"),
    [
        (describe_key_request(KEY), "describe_key", {"KeyId": ARN}),
        (
            get_key_policy_request(KEY),
            "get_key_policy",
            {"KeyId": ARN, "PolicyName": "default"},
        ),
        (list_grants_request(KEY), "list_grants", {"KeyId": ARN, "Limit": 1}),
        (
            decrypt_request(KEY, b"blob", context=CONTEXT, document=b"doc"),
            "decrypt",
            {
                "CiphertextBlob": b"blob",
                "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                "KeyId": ARN,
                "EncryptionContext": CONTEXT,
                "Recipient": RECIPIENT,
            },
        ),
        (
            generate_data_key_request(KEY, context=CONTEXT, document=b"doc"),
            "generate_data_key",
            {
                "KeySpec": "AES_256",
                "KeyId": ARN,
                "EncryptionContext": CONTEXT,
                "Recipient": RECIPIENT,
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_are_those_of_botocore(
    ours: HttpRequest, operation: str, arguments: dict[str, object]
) -> None:
    theirs = sent_by_botocore(operation, **arguments)
    assert (ours.method, f"https://{ours.host}{ours.path}") == (theirs.method, theirs.url)
    assert json.loads(ours.body) == json.loads(cast("bytes", theirs.body))
    fields = {name.lower(): as_bytes(value) for name, value in theirs.headers.items()}
    for name, value in ours.headers:
        assert value.encode() == fields[name]
    assert "doc" not in repr(ours)


def test_request_limits() -> None:
    for blob in (b"", bytes(6_145)):
        with pytest.raises(KMSUnfitError):
            decrypt_request(KEY, blob, context={}, document=b"d")
    with pytest.raises(KMSUnfitError):
        generate_data_key_request(KEY, context={str(n): "" for n in range(9)}, document=b"d")


METADATA: JSONObject = {
    "AWSAccountId": "111122223333",
    "KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
    "Arn": ARN,
    "CreationDate": 1_790_000_000.123,
    "Enabled": True,
    "KeyState": "Enabled",
    "Origin": "AWS_KMS",
    "KeySpec": "SYMMETRIC_DEFAULT",
    "KeyUsage": "ENCRYPT_DECRYPT",
    "KeyManager": "CUSTOMER",
    "MultiRegion": False,
}


def described(**changes: JSONValue) -> HttpResponse:
    return answer({"KeyMetadata": {**METADATA, **changes}})


def test_describe_key() -> None:
    facts = KeyFacts(
        enabled=True,
        origin="AWS_KMS",
        spec="SYMMETRIC_DEFAULT",
        usage="ENCRYPT_DECRYPT",
        manager="CUSTOMER",
        multi_region=False,
    )
    assert parse_describe_key(described(), KEY) == facts
    assert not parse_describe_key(described(Enabled=False), KEY).enabled
    assert not parse_describe_key(described(KeyState="PendingDeletion"), KEY).enabled
    silent = {name: value for name, value in METADATA.items() if name != "MultiRegion"}
    assert parse_describe_key(answer({"KeyMetadata": silent}), KEY).multi_region


def test_describe_key_of_another_key() -> None:
    for changes in ({"Arn": OTHER}, {"AWSAccountId": "999999999999"}):
        with pytest.raises(KMSUnfitError):
            parse_describe_key(described(**changes), KEY)


def test_key_policy() -> None:
    assert parse_get_key_policy(answer({"Policy": "{}", "PolicyName": "default"})) == "{}"


def test_grants() -> None:
    verify_no_grants(answer({"Grants": []}))
    verify_no_grants(answer({"Grants": [], "Truncated": False}))
    unfit: list[JSONObject] = [{"Grants": [{}]}, {"Grants": [], "Truncated": True}]
    for members in unfit:
        with pytest.raises(KMSUnfitError):
            verify_no_grants(answer(members))


def blob(data: bytes) -> str:
    return b64encode(data).decode()


RELEASED: JSONObject = {"KeyId": ARN, "CiphertextForRecipient": blob(b"cms")}


def test_released() -> None:
    for plaintext in ({}, {"Plaintext": None}, {"Plaintext": ""}):
        assert parse_decrypt(answer({**RELEASED, **plaintext}), KEY) == b"cms"
    found = parse_generate_data_key(answer({**RELEASED, "CiphertextBlob": blob(b"key")}), KEY)
    assert found == DataKey(b"key", b"cms")
    assert "cms" not in repr(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"KeyId": OTHER},
        {"KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab"},
        {"KeyId": ""},
        {"Plaintext": blob(b"planted secret")},
        {"CiphertextForRecipient": ""},
        {"CiphertextForRecipient": blob(bytes(6_145))},
    ],
)
def test_released_but_unfit(changes: JSONObject) -> None:
    with pytest.raises(KMSUnfitError):
        parse_decrypt(answer({**RELEASED, **changes}), KEY)
    with pytest.raises(KMSUnfitError):
        parse_generate_data_key(
            answer({**RELEASED, "CiphertextBlob": blob(b"key"), **changes}), KEY
        )


def test_generated_blob_is_sized() -> None:
    with pytest.raises(KMSUnfitError):
        parse_generate_data_key(answer({**RELEASED, "CiphertextBlob": ""}), KEY)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"KeyId":1,"CiphertextForRecipient":"YQ=="}',
        b'{"KeyId":"x","CiphertextForRecipient":"not base64"}',
        b'{"KeyId":"x","CiphertextForRecipient":null}',
        b'{"KeyId":"x","KeyId":"x","CiphertextForRecipient":"YQ=="}',
        b'{"KeyId":"x","CiphertextForRecipient":"YQ==","Plaintext":["x"]}',
        b'{"x":' * 200,
        b" " * 300_000,
    ],
)
def test_answers_that_are_none(body: bytes) -> None:
    with pytest.raises(KMSUnavailableError):
        parse_decrypt(HttpResponse(200, {}, body), KEY)


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "AccessDeniedException", KMSDeniedError),
        (400, "ValidationException", KMSDeniedError),
        (500, "AccessDeniedException", KMSDeniedError),
        (400, "NeverSeenException", KMSDeniedError),
        (403, "NeverSeenException", KMSDeniedError),
        (302, "NeverSeenException", KMSDeniedError),
        (400, "InvalidCiphertextException", KMSUnfitError),
        (400, "IncorrectKeyException", KMSUnfitError),
        (400, "DisabledException", KMSUnfitError),
        (400, "KMSInvalidStateException", KMSUnfitError),
        (400, "NotFoundException", KMSUnfitError),
        (400, "ThrottlingException", KMSUnavailableError),
        (400, "ExpiredTokenException", KMSUnavailableError),
        (400, "UnrecognizedClientException", KMSUnavailableError),
        (500, "KMSInternalException", KMSUnavailableError),
        (503, "NeverSeenException", KMSUnavailableError),
    ],
)
@pytest.mark.parametrize("message", [{}, {"message": "S3CRET role"}, {"Message": "S3CRET role"}])
def test_errors(status: int, name: str, kind: type[KMSError], message: dict[str, str]) -> None:
    for prefix in ("", "com.amazonaws.kms#"):
        with pytest.raises(KMSError) as caught:
            parse_decrypt(answer({"__type": prefix + name, **message}, status), KEY)
        assert type(caught.value) is kind
        assert caught.value.aws_name == name
        assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>S3CRET</html>", b'{"message":"S3CRET"}', b"\xff"])
def test_errors_without_a_name(body: bytes) -> None:
    for status, kind in ((400, KMSDeniedError), (502, KMSUnavailableError)):
        with pytest.raises(kind) as caught:
            parse_get_key_policy(HttpResponse(status, {}, body))
        assert caught.value.aws_name == UNNAMED
        assert "S3CRET" not in str(caught.value)


def test_codes() -> None:
    assert KMSDeniedError("x").code is ErrorCode.ERR_KMS_DENIED
    assert KMSUnfitError("x").code is ErrorCode.ERR_KMS_KEY_UNFIT
    assert KMSUnavailableError("x").code is ErrorCode.ERR_KMS_UNREACHABLE
