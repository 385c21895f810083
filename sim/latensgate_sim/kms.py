"""KMS in front of moto: JSON 1.1 over TLS, SigV4, key policies, and ``Recipient``.

Permission comes before the key's state and before the ciphertext is looked at, as in AWS. With
``Recipient`` the answer never holds ``Plaintext``.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from moto.core.exceptions import JsonRESTError

from latensgate_sim import cms
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import FaultSwitch, strike
from latensgate_sim.http_server import Request, Response
from latensgate_sim.key_policy import action_matches, parse_policy
from latensgate_sim.kms_keys import KeyRing, Use, check_usable, default_policy, denied
from latensgate_sim.recipient import Recipient, read_recipient

if TYPE_CHECKING:
    from moto.kms.models import Key

    from latensgate_sim.clock import Clock
    from latensgate_sim.identity import Identity
    from latensgate_sim.sigv4 import SigV4Checker

Parameters: TypeAlias = Mapping[str, object]
Answer: TypeAlias = dict[str, object]
Operation: TypeAlias = "Callable[[Identity, Parameters], Answer]"

_TARGET_PREFIX: Final = "TrentService."
_SPEC_BYTES: Final = {"AES_256": 32, "AES_128": 16}


@dataclass(slots=True)
class KMS:
    """KMS of one Region.

    Attributes:
        keys: Its keys; tests may reach in.
        checker: Who signed.
        clock: Documents are judged at its time.
        root_sha256: Fingerprint of the root that documents must chain to.
        constructed_content: Which of the two content forms the CMS answers take.
        faults: Switches for tests.
        log: ``(operation, caller, outcome)`` of every request, as CloudTrail would have it.
    """

    keys: KeyRing
    checker: SigV4Checker
    clock: Clock
    root_sha256: str
    constructed_content: bool = True
    faults: FaultSwitch = field(default_factory=FaultSwitch)
    log: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])

    async def handle(self, request: Request) -> Response:
        """Answer one HTTP request."""
        operation = request.headers.get("x-amz-target", "").removeprefix(_TARGET_PREFIX)
        caller = "unknown"
        try:
            identity = self.checker.verify(request)
            caller = identity.caller_arn
            instead = await strike(self.faults.take(operation))
            if instead is not None:
                return instead
            answer = self.call(identity, operation, _parameters(request.body))
        except AWSError as error:
            self.log.append((operation, caller, error.code))
            return _error_response(error)
        self.log.append((operation, caller, "ok"))
        return _response(200, answer)

    def call(self, identity: Identity, operation: str, parameters: Parameters) -> Answer:
        """Run one operation for an identity, without HTTP; tests stage scenes with it.

        Raises:
            AWSError: What KMS would answer.
        """
        handler = self._operations().get(operation)
        if handler is None:
            raise AWSError(400, "UnknownOperationException")
        try:
            return handler(identity, parameters)
        except JsonRESTError as error:
            message = str(error.message) or None
            raise AWSError(400, str(error.error_type), message) from error

    def _operations(self) -> dict[str, Operation]:
        return {
            "CreateKey": self._create_key,
            "DescribeKey": self._describe_key,
            "GetKeyPolicy": self._get_key_policy,
            "PutKeyPolicy": self._put_key_policy,
            "ListGrants": self._list_grants,
            "ListKeyPolicies": self._list_key_policies,
            "ListResourceTags": self._list_resource_tags,
            "GetKeyRotationStatus": self._get_key_rotation_status,
            "CreateGrant": self._create_grant,
            "RevokeGrant": self._revoke_grant,
            "CreateAlias": self._create_alias,
            "DeleteAlias": self._delete_alias,
            "EnableKey": self._enable_key,
            "DisableKey": self._disable_key,
            "ScheduleKeyDeletion": self._schedule_key_deletion,
            "Encrypt": self._encrypt,
            "Decrypt": self._decrypt,
            "ReEncrypt": self._re_encrypt,
            "GenerateDataKey": self._generate_data_key,
            "GenerateDataKeyWithoutPlaintext": self._generate_data_key_without_plaintext,
        }

    def _allowed_key(self, operation: str, identity: Identity, parameters: Parameters) -> Key:
        key_id = _text(parameters, "KeyId")
        key = self.keys.resolve(key_id, identity.account)
        self.keys.authorize(identity, Use(operation, key, key_id))
        return key

    def _create_key(self, identity: Identity, parameters: Parameters) -> Answer:
        account = identity.account
        if not action_matches(identity.iam_actions, "kms:CreateKey"):
            reason = "because no identity-based policy allows the kms:CreateKey action"
            raise denied(identity, "kms:CreateKey", "*", reason)
        policy = _text(parameters, "Policy", default_policy(account))
        parse_policy(policy)
        backend = self.keys.backend(account)
        key = backend.create_key(
            policy=policy,
            key_usage=_text(parameters, "KeyUsage", "ENCRYPT_DECRYPT"),
            key_spec=_text(parameters, "KeySpec", "SYMMETRIC_DEFAULT"),
            description=_text(parameters, "Description", ""),
            tags=None,
            multi_region=parameters.get("MultiRegion") is True,
            origin=_text(parameters, "Origin", "AWS_KMS"),
        )
        try:
            self.keys.store_policy(identity, key, policy, bypass=_bypass(parameters))
        except AWSError:
            backend.delete_key(key.id)
            raise
        return {"KeyMetadata": _metadata(key)}

    def _describe_key(self, identity: Identity, parameters: Parameters) -> Answer:
        return {"KeyMetadata": _metadata(self._allowed_key("DescribeKey", identity, parameters))}

    def _get_key_policy(self, identity: Identity, parameters: Parameters) -> Answer:
        key = self._allowed_key("GetKeyPolicy", identity, parameters)
        return {"Policy": key.policy, "PolicyName": "default"}

    def _list_key_policies(self, identity: Identity, parameters: Parameters) -> Answer:
        self._allowed_key("ListKeyPolicies", identity, parameters)
        return {"PolicyNames": ["default"], "Truncated": False}

    def _list_resource_tags(self, identity: Identity, parameters: Parameters) -> Answer:
        self._allowed_key("ListResourceTags", identity, parameters)
        return {"Tags": [], "Truncated": False}

    def _get_key_rotation_status(self, identity: Identity, parameters: Parameters) -> Answer:
        key = self._allowed_key("GetKeyRotationStatus", identity, parameters)
        return {"KeyId": key.arn, "KeyRotationEnabled": key.key_rotation_status}

    def _put_key_policy(self, identity: Identity, parameters: Parameters) -> Answer:
        bypass = _bypass(parameters)
        key_id = _text(parameters, "KeyId")
        key = self.keys.resolve(key_id, identity.account)
        extra = {"kms:BypassPolicyLockoutSafetyCheck": (str(bypass).lower(),)}
        self.keys.authorize(identity, Use("PutKeyPolicy", key, key_id, extra=extra))
        self.keys.store_policy(identity, key, _text(parameters, "Policy"), bypass=bypass)
        return {}

    def _list_grants(self, identity: Identity, parameters: Parameters) -> Answer:
        key = self._allowed_key("ListGrants", identity, parameters)
        grants: list[Answer] = [
            {**grant.to_json(), "KeyId": key.arn} for grant in key.grants.values()
        ]
        return {"Grants": [_without_nulls(grant) for grant in grants], "Truncated": False}

    def _create_grant(self, identity: Identity, parameters: Parameters) -> Answer:
        key = self._allowed_key("CreateGrant", identity, parameters)
        grant = key.add_grant(
            _text(parameters, "Name", ""),
            _text(parameters, "GranteePrincipal"),
            cast("list[str]", parameters.get("Operations", [])),
            cast("dict[str, dict[str, str]]", parameters.get("Constraints", {})),
            _text(parameters, "RetiringPrincipal", ""),
        )
        return {"GrantId": grant.id, "GrantToken": grant.token}

    def _revoke_grant(self, identity: Identity, parameters: Parameters) -> Answer:
        self._allowed_key("RevokeGrant", identity, parameters).revoke_grant(
            _text(parameters, "GrantId")
        )
        return {}

    def _create_alias(self, identity: Identity, parameters: Parameters) -> Answer:
        target = {"KeyId": parameters.get("TargetKeyId")}
        key = self._allowed_key("CreateAlias", identity, target)
        name = _text(parameters, "AliasName")
        backend = self.keys.backend(str(key.account_id))
        if backend.alias_exists(name):
            raise AWSError(400, "AlreadyExistsException", f"An alias {name} already exists")
        backend.create_alias(key.id, name)
        return {}

    def _delete_alias(self, identity: Identity, parameters: Parameters) -> Answer:
        name = _text(parameters, "AliasName")
        key = self._allowed_key("DeleteAlias", identity, {"KeyId": name})
        self.keys.backend(str(key.account_id)).delete_alias(name)
        return {}

    def _enable_key(self, identity: Identity, parameters: Parameters) -> Answer:
        key = self._allowed_key("EnableKey", identity, parameters)
        key.enabled, key.key_state = True, "Enabled"
        return {}

    def _disable_key(self, identity: Identity, parameters: Parameters) -> Answer:
        key = self._allowed_key("DisableKey", identity, parameters)
        key.enabled, key.key_state = False, "Disabled"
        return {}

    def _schedule_key_deletion(self, identity: Identity, parameters: Parameters) -> Answer:
        key = self._allowed_key("ScheduleKeyDeletion", identity, parameters)
        days = parameters.get("PendingWindowInDays", 30)
        backend = self.keys.backend(str(key.account_id))
        date = backend.schedule_key_deletion(key.id, days if isinstance(days, int) else 30)
        return {"KeyId": key.arn, "KeyState": "PendingDeletion", "DeletionDate": date}

    def _encrypt(self, identity: Identity, parameters: Parameters) -> Answer:
        key, context, _ = self._use("Encrypt", identity, parameters)
        plaintext = _blob(parameters, "Plaintext")
        blob, arn = self.keys.backend(str(key.account_id)).encrypt(key.id, plaintext, context)
        return {"CiphertextBlob": _base64(blob), "KeyId": arn, **_ALGORITHM}

    def _decrypt(self, identity: Identity, parameters: Parameters) -> Answer:
        blob = _blob(parameters, "CiphertextBlob")
        made_under = self.keys.of_ciphertext(blob)
        named = {"KeyId": made_under.arn, **parameters}
        key, context, recipient = self._use("Decrypt", identity, named)
        if key is not made_under:
            text = (
                "The key ID in the request does not identify a CMK that can perform this operation."
            )
            raise AWSError(400, "IncorrectKeyException", text)
        plaintext, arn = self.keys.backend(str(key.account_id)).decrypt(blob, context)
        return {"KeyId": arn, **_ALGORITHM, **self._released(plaintext, recipient)}

    def _re_encrypt(self, identity: Identity, parameters: Parameters) -> Answer:
        blob = _blob(parameters, "CiphertextBlob")
        source = self.keys.of_ciphertext(blob)
        context = _encryption_context(parameters, "SourceEncryptionContext")
        self.keys.authorize(identity, Use("ReEncryptFrom", source, None, context))
        target = self.keys.resolve(_text(parameters, "DestinationKeyId"), identity.account)
        new_context = _encryption_context(parameters, "DestinationEncryptionContext")
        self.keys.authorize(identity, Use("ReEncryptTo", target, None, new_context))
        check_usable(source)
        check_usable(target)
        plaintext, _ = self.keys.backend(str(source.account_id)).decrypt(blob, context)
        made, arn = self.keys.backend(str(target.account_id)).encrypt(
            target.id, plaintext, new_context
        )
        return {"CiphertextBlob": _base64(made), "KeyId": arn, "SourceKeyId": source.arn}

    def _generate_data_key(self, identity: Identity, parameters: Parameters) -> Answer:
        key, context, recipient = self._use("GenerateDataKey", identity, parameters)
        plaintext, blob, arn = self._new_data_key(key, context, parameters)
        released = self._released(plaintext, recipient)
        return {"CiphertextBlob": _base64(blob), "KeyId": arn, **released}

    def _generate_data_key_without_plaintext(
        self, identity: Identity, parameters: Parameters
    ) -> Answer:
        key, context, _ = self._use("GenerateDataKeyWithoutPlaintext", identity, parameters)
        _, blob, arn = self._new_data_key(key, context, parameters)
        return {"CiphertextBlob": _base64(blob), "KeyId": arn}

    def _new_data_key(
        self, key: Key, context: dict[str, str], parameters: Parameters
    ) -> tuple[bytes, bytes, str]:
        spec = _text(parameters, "KeySpec", "")
        count = parameters.get("NumberOfBytes", 0)
        size = _SPEC_BYTES.get(spec) or (count if isinstance(count, int) else 0)
        largest = 1024
        if not 1 <= size <= largest:
            raise AWSError(400, "ValidationException", "Please specify either KeySpec or a size")
        backend = self.keys.backend(str(key.account_id))
        return backend.generate_data_key(key.id, context, size, "")

    def _use(
        self, operation: str, identity: Identity, parameters: Parameters
    ) -> tuple[Key, dict[str, str], Recipient | None]:
        key_id = _text(parameters, "KeyId")
        key = self.keys.resolve(key_id, identity.account)
        context = _encryption_context(parameters)
        recipient = self._recipient(parameters)
        extra: dict[str, tuple[str, ...]] = {"kms:EncryptionAlgorithm": ("SYMMETRIC_DEFAULT",)}
        if recipient is not None:
            extra |= recipient.condition_keys()
        self.keys.authorize(identity, Use(operation, key, key_id, context, extra))
        check_usable(key)
        return key, context, recipient

    def _recipient(self, parameters: Parameters) -> Recipient | None:
        value = parameters.get("Recipient")
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise AWSError(400, "SerializationException")
        fields = cast("Mapping[str, object]", value)
        return read_recipient(fields, root_sha256=self.root_sha256, at=self.clock.now())

    def _released(self, plaintext: bytes, recipient: Recipient | None) -> Answer:
        if recipient is None:
            return {"Plaintext": _base64(plaintext)}
        sealed = cms.envelope(plaintext, recipient.public_key, constructed=self.constructed_content)
        return {"CiphertextForRecipient": _base64(sealed)}


_ALGORITHM: Final = {"EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}


def _parameters(body: bytes) -> Parameters:
    try:
        value = json.loads(body)
    except ValueError:
        raise AWSError(400, "SerializationException") from None
    if not isinstance(value, dict):
        raise AWSError(400, "SerializationException")
    return cast("Parameters", value)


def _text(parameters: Parameters, name: str, default: str | None = None) -> str:
    value = parameters.get(name, default)
    if not isinstance(value, str):
        text = f"1 validation error detected: Value at '{name}' must be text"
        raise AWSError(400, "ValidationException", text)
    return value


def _blob(parameters: Parameters, name: str) -> bytes:
    try:
        return base64.b64decode(_text(parameters, name), validate=True)
    except binascii.Error:
        raise AWSError(400, "SerializationException") from None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _encryption_context(parameters: Parameters, name: str = "EncryptionContext") -> dict[str, str]:
    value: object = parameters.get(name) or dict[str, str]()
    if not isinstance(value, dict):
        raise AWSError(400, "SerializationException")
    return {str(key): str(item) for key, item in cast("dict[object, object]", value).items()}


def _bypass(parameters: Parameters) -> bool:
    return parameters.get("BypassPolicyLockoutSafetyCheck") is True


def _metadata(key: Key) -> Answer:
    return _without_nulls(cast("Answer", key.to_dict()["KeyMetadata"]))


def _without_nulls(answer: Answer) -> Answer:
    empty: tuple[object, ...] = (None, "", [])
    return {name: value for name, value in answer.items() if value not in empty}


def _response(status: int, answer: Answer) -> Response:
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "x-amzn-RequestId": str(uuid.uuid4()),
    }
    return Response(status, headers, json.dumps(answer).encode())


def _error_response(error: AWSError) -> Response:
    answer: Answer = {"__type": error.code}
    if error.message is not None:
        # the authorisation layer writes the member with a capital letter, the service without
        name = "Message" if error.code == "AccessDeniedException" else "message"
        answer[name] = error.message
    return _response(error.status, answer)
