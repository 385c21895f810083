"""KMS as the enclave needs it: five operations, their answers, and what its errors mean.

Wire: AWS JSON 1.1 (KMS API reference); requests are unsigned here, ``sigv4.sign`` signs them.
Answers with ``Recipient`` are encrypted to this enclave but not authenticated, so the caller must
have them over TLS that ends inside. Every answer must name the full ARN that was asked, and no
answer may hold a plaintext: KMS sends none where ``Recipient`` was understood.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Struct

from latensgate_enclave.aws.errors import UNNAMED, error_name
from latensgate_enclave.aws.sigv4 import SigningScope
from latensgate_enclave.http1 import HttpRequest
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.limits import (
    AWS_ANSWER_MAX_BYTES,
    KMS_CIPHERTEXT_MAX_BYTES,
    KMS_CONTEXT_MAX_COUNT,
)
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_enclave.http1 import HttpResponse
    from latensgate_shared.strict_json import JSONObject


class KMSError(LatensgateError):
    """What KMS says, in one of three meanings; its own text is never passed on.

    Attributes:
        aws_name: The error's name in AWS, as in ``AccessDeniedException``; for counting.
    """

    def __init__(self, detail: str, *, aws_name: str = UNNAMED) -> None:
        super().__init__(f"KMS: {detail}")
        self.aws_name = aws_name


class KMSDeniedError(KMSError):
    """KMS refused: the key policy does not admit this attestation document or these credentials."""

    code = ErrorCode.ERR_KMS_DENIED


class KMSUnfitError(KMSError):
    """The key, the blob or the answer is not one that may be used."""

    code = ErrorCode.ERR_KMS_KEY_UNFIT


class KMSUnavailableError(KMSError):
    """KMS could not answer, or not understandably; the same call may succeed later."""

    code = ErrorCode.ERR_KMS_UNREACHABLE


class KeyArnError(MalformedError):
    """Text that is no full ARN of a KMS key."""


_ARN: Final = re.compile(
    r"arn:(?P<partition>aws|aws-us-gov):kms:(?P<region>[a-z]{2}(?:-[a-z]{1,9}){1,3}-[0-9]):"
    r"(?P<account>[0-9]{12}):key/"
    r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})"
)


@dataclass(frozen=True, slots=True)
class KeyArn:
    """A full key ARN; aliases are refused, because whoever moves an alias moves the key.

    Attributes:
        text: The whole ARN.
        region: As in ``eu-central-1``.
        account: 12 digits.
    """

    text: str
    region: str
    account: str

    @property
    def scope(self) -> SigningScope:
        """Region and service for the signature."""
        return SigningScope(self.region, "kms")


def parse_key_arn(text: str) -> KeyArn:
    """Read a full key ARN of the partitions that Nitro's public root covers.

    Raises:
        KeyArnError: An alias, a bare id, another partition, or no ARN at all.
    """
    match = _ARN.fullmatch(text)
    if not match:
        raise KeyArnError("KMS: a full key ARN expected (no alias, no bare key id)")
    return KeyArn(text, match["region"], match["account"])


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What DescribeKey says, as text of AWS: judged elsewhere.

    Attributes:
        enabled: ``Enabled`` and state ``Enabled``, both.
        origin: ``AWS_KMS``, ``EXTERNAL``, …
        spec: ``SYMMETRIC_DEFAULT``, …
        usage: ``ENCRYPT_DECRYPT``, …
        manager: ``CUSTOMER`` or ``AWS``.
        multi_region: True also where AWS does not say.
    """

    enabled: bool
    origin: str
    spec: str
    usage: str
    manager: str
    multi_region: bool


@dataclass(frozen=True, slots=True)
class DataKey:
    """What GenerateDataKey gives.

    Attributes:
        ciphertext: The data key under the KMS key; stored, not secret.
        for_recipient: The data key under the enclave's RSA key (``cms.decrypt``).
    """

    ciphertext: bytes = field(repr=False)
    for_recipient: bytes = field(repr=False)


def describe_key_request(key: KeyArn) -> HttpRequest:
    """Return the unsigned DescribeKey request."""
    return _request(key, "DescribeKey", {"KeyId": key.text})


def get_key_policy_request(key: KeyArn) -> HttpRequest:
    """Return the unsigned GetKeyPolicy request."""
    return _request(key, "GetKeyPolicy", {"KeyId": key.text, "PolicyName": "default"})


def list_grants_request(key: KeyArn) -> HttpRequest:
    """Return the unsigned ListGrants request; one grant is enough to refuse a key."""
    return _request(key, "ListGrants", {"KeyId": key.text, "Limit": 1})


def decrypt_request(
    key: KeyArn, ciphertext: bytes, *, context: Mapping[str, str], document: bytes
) -> HttpRequest:
    """Return the unsigned Decrypt request with ``Recipient``.

    Args:
        key: The only key that may decrypt it.
        ciphertext: 1 to 6,144 bytes, from anywhere.
        context: Encryption context, at most 8 pairs.
        document: Attestation document whose ``public_key`` receives the plaintext.

    Raises:
        KMSUnfitError: The ciphertext or the context is outside its limits.
    """
    if not 1 <= len(ciphertext) <= KMS_CIPHERTEXT_MAX_BYTES:
        raise KMSUnfitError(f"a ciphertext of 1 to {KMS_CIPHERTEXT_MAX_BYTES} bytes expected")
    blob = {"CiphertextBlob": _base64(ciphertext), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
    return _request(key, "Decrypt", {**blob, **_released(key, context, document)})


def generate_data_key_request(
    key: KeyArn, *, context: Mapping[str, str], document: bytes
) -> HttpRequest:
    """Return the unsigned GenerateDataKey request (32 bytes) with ``Recipient``.

    Args:
        key: The key to generate under.
        context: Encryption context, at most 8 pairs.
        document: Attestation document whose ``public_key`` receives the plaintext.

    Raises:
        KMSUnfitError: The context is outside its limit.
    """
    members = {"KeySpec": "AES_256", **_released(key, context, document)}
    return _request(key, "GenerateDataKey", members)


def _released(key: KeyArn, context: Mapping[str, str], document: bytes) -> JSONObject:
    if len(context) > KMS_CONTEXT_MAX_COUNT:
        raise KMSUnfitError(f"a context of at most {KMS_CONTEXT_MAX_COUNT} pairs expected")
    return {
        "KeyId": key.text,
        "EncryptionContext": dict(context),
        "Recipient": {
            "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
            "AttestationDocument": _base64(document),
        },
    }


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _request(key: KeyArn, operation: str, members: JSONObject) -> HttpRequest:
    fields = (
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", f"TrentService.{operation}"),
    )
    host = f"kms.{key.region}.amazonaws.com"
    return HttpRequest("POST", host, "/", fields, msgspec.json.encode(members))


class _Metadata(Struct):
    Arn: str
    AWSAccountId: str
    Enabled: bool
    KeyState: str
    Origin: str
    KeySpec: str
    KeyUsage: str
    KeyManager: str
    MultiRegion: bool = True


class _DescribeKey(Struct):
    KeyMetadata: _Metadata


class _GetKeyPolicy(Struct):
    Policy: str


class _ListGrants(Struct):
    Grants: list[object]
    Truncated: bool = False


class _Decrypt(Struct):
    KeyId: str
    CiphertextForRecipient: bytes
    Plaintext: str | None = None


class _GenerateDataKey(_Decrypt, kw_only=True):
    CiphertextBlob: bytes


def parse_describe_key(response: HttpResponse, key: KeyArn) -> KeyFacts:
    """Read the answer to DescribeKey.

    Raises:
        KMSError: One of its three meanings; unfit if it describes another key than was asked.
    """
    found = _parse(response, _DescribeKey).KeyMetadata
    _check_key(found.Arn, key)
    if found.AWSAccountId != key.account:
        raise KMSUnfitError("the key's account is not the one in its ARN")
    return KeyFacts(
        enabled=found.Enabled and found.KeyState == "Enabled",
        origin=found.Origin,
        spec=found.KeySpec,
        usage=found.KeyUsage,
        manager=found.KeyManager,
        multi_region=found.MultiRegion,
    )


def parse_get_key_policy(response: HttpResponse) -> str:
    """Return the key policy, a JSON text, unjudged.

    Raises:
        KMSError: One of its three meanings.
    """
    return _parse(response, _GetKeyPolicy).Policy


def verify_no_grants(response: HttpResponse) -> None:
    """Check the answer to ListGrants: a grant opens the key without its policy.

    Raises:
        KMSUnfitError: There is a grant, or there may be more to list.
        KMSError: One of the other meanings.
    """
    found = _parse(response, _ListGrants)
    if found.Grants or found.Truncated:
        raise KMSUnfitError("no grants expected on this key, found some")


def parse_decrypt(response: HttpResponse, key: KeyArn) -> bytes:
    """Return ``CiphertextForRecipient`` of a Decrypt answer.

    Raises:
        KMSError: One of its three meanings; unfit if another key decrypted, or in plaintext.
    """
    return _for_recipient(_parse(response, _Decrypt), key)


def parse_generate_data_key(response: HttpResponse, key: KeyArn) -> DataKey:
    """Return both forms of the data key of a GenerateDataKey answer.

    Raises:
        KMSError: One of its three meanings; unfit if of another key, or in plaintext.
    """
    found = _parse(response, _GenerateDataKey)
    for_recipient = _for_recipient(found, key)
    return DataKey(_sized(found.CiphertextBlob), for_recipient)


def _for_recipient(found: _Decrypt, key: KeyArn) -> bytes:
    _check_key(found.KeyId, key)
    if found.Plaintext:
        raise KMSUnfitError("the answer holds a plaintext although a recipient was named")
    return _sized(found.CiphertextForRecipient)


def _sized(blob: bytes) -> bytes:
    if not 1 <= len(blob) <= KMS_CIPHERTEXT_MAX_BYTES:
        raise KMSUnfitError(f"a blob of 1 to {KMS_CIPHERTEXT_MAX_BYTES} bytes expected")
    return blob


def _check_key(found: str, key: KeyArn) -> None:
    if found != key.text:
        raise KMSUnfitError("the answer is about another key than was asked")


_Parsed = TypeVar("_Parsed")


def _parse(response: HttpResponse, kind: type[_Parsed]) -> _Parsed:
    if response.status != _OK:
        raise _refusal(response)
    try:
        members = parse_json_object(response.body, max_bytes=AWS_ANSWER_MAX_BYTES)
        return msgspec.convert(members, kind)
    except (MalformedError, msgspec.ValidationError):
        raise KMSUnavailableError("the answer is not what the service model says") from None


_OK: Final = 200
_SERVER_ERRORS: Final = 500
_DENIED: Final = frozenset({"AccessDeniedException", "ValidationException"})
"""A malformed, expired or foreign document is one or the other: AWS does not document which."""
_UNFIT: Final = frozenset(
    {
        "DisabledException",
        "IncorrectKeyException",
        "InvalidArnException",
        "InvalidCiphertextException",
        "InvalidKeyUsageException",
        "KMSInvalidStateException",
        "NotFoundException",
        "UnsupportedOperationException",
    }
)
_UNAVAILABLE: Final = frozenset(
    {
        "DependencyTimeoutException",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
        # Credentials that the parent should have renewed; it may refuse service anyway.
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "UnrecognizedClientException",
    }
)


def _refusal(response: HttpResponse) -> KMSError:
    """Say what an error means. A refusal that we do not know is a denial: it fails closed."""
    name = error_name(response)
    detail = f"answered with HTTP {response.status}, {name}"
    if name in _UNFIT:
        return KMSUnfitError(detail, aws_name=name)
    if name in _UNAVAILABLE or (response.status >= _SERVER_ERRORS and name not in _DENIED):
        return KMSUnavailableError(detail, aws_name=name)
    return KMSDeniedError(detail, aws_name=name)
