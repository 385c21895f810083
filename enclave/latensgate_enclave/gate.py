"""The KMS gate: no service secret, no HPKE key, no service (DESIGN 3.3).

The parent names a KMS key; nothing about it is believed. Over TLS that ends in here the enclave
reads the key's facts, grants and policy, demands that the policy is the measured template rendered
with **its own PCRs as its NSM states them**, and only then asks for the service secret, which KMS
encrypts to a key that exists in this process alone. All of it is repeated every five minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from latensgate_enclave.aws import cms, kms
from latensgate_enclave.aws.sigv4 import sign
from latensgate_enclave.egress import Call, EgressError
from latensgate_enclave.http1 import HTTPError
from latensgate_enclave.keys import ManifestFacts
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.hpke_primitives import Concealed
from latensgate_shared.kms_policy import KeyPolicyParameters, verify_key_policy
from latensgate_shared.limits import (
    AWS_ANSWER_MAX_BYTES,
    AWS_CONTROL_DEADLINE_MS,
    KMS_RECIPIENT_DOCUMENT_S,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.egress import Egress
    from latensgate_enclave.environment import NSM
    from latensgate_enclave.http1 import HttpRequest, HttpResponse
    from latensgate_enclave.identity import UpstreamIdentity
    from latensgate_enclave.measured import MeasuredConfiguration

_Parsed = TypeVar("_Parsed")
SECRET_BYTES: Final = 32
SERVICE: Final = "latensgate"
PARTITION: Final = "aws"
_RSA_BITS: Final = 2048
_RSA_EXPONENT: Final = 65537


class GateError(LatensgateError):
    """The key or what it released is not what the measured configuration demands."""

    code = ErrorCode.ERR_KMS_KEY_UNFIT


class KMSUnreachableError(LatensgateError):
    """KMS could not be asked; nothing is known about its judgement."""

    code = ErrorCode.ERR_KMS_UNREACHABLE


class Recipient:
    """The RSA key that KMS encrypts to, and the document that names it.

    One key a process, never written out; documents are renewed every minute and reused.
    """

    def __init__(self, nsm: NSM, clock: EnclaveClock) -> None:
        self._nsm = nsm
        self._clock = clock
        self._private_key = rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)
        self._spki = self._private_key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        self._document = b""
        self._made_at_s = 0

    async def document(self) -> bytes:
        """Return an attestation document of at most a minute of age with the RSA key in it."""
        now_s = self._clock.now_s()
        if not self._document or now_s - self._made_at_s >= KMS_RECIPIENT_DOCUMENT_S:
            self._document = await self._nsm.attest(
                user_data=None, nonce=None, public_key=self._spki
            )
            self._made_at_s = now_s
        return self._document

    def open(self, blob: bytes) -> bytearray:
        """Open a `CiphertextForRecipient`; whoever keeps the secret wipes it in the end.

        Raises:
            GateError: It is malformed, or not encrypted to this key; one error for every cause
                after the RSA step.
        """
        try:
            return cms.decrypt(blob, self._private_key)
        except (cms.CMSError, cms.CMSDecryptError) as error:
            raise GateError(error.detail) from None


class KMSClient:
    """Sends KMS requests under the checked credentials."""

    def __init__(self, egress: Egress, identity: UpstreamIdentity, clock: EnclaveClock) -> None:
        self._egress = egress
        self._identity = identity
        self._clock = clock

    async def ask(
        self, request: HttpRequest, key: kms.KeyArn, parse: Callable[[HttpResponse], _Parsed]
    ) -> _Parsed:
        """Sign, send, parse.

        Raises:
            KMSUnreachableError: No answer.
            LatensgateError: What `parse` raises, or no checked credentials.
        """
        credentials = self._identity.credentials()
        signed = sign(request, credentials, key.scope, at_s=self._clock.now_s())
        call = Call(signed, AWS_ANSWER_MAX_BYTES, AWS_CONTROL_DEADLINE_MS)
        try:
            response = await self._egress.send(call)
        except (EgressError, HTTPError) as error:
            raise KMSUnreachableError(f"KMS: {error.detail}") from None
        return parse(response)


@dataclass(frozen=True, slots=True, repr=False)
class OpenGate(Concealed):
    """What the gate gave.

    Attributes:
        service_secret: 32 bytes; gates, and nothing durable is derived from it. Wiped when the
            gate closes or another opening takes this one's place.
        wrapped_secret: Its KMS ciphertext, for the parent to keep.
        facts: What manifests say about it.
    """

    service_secret: bytearray = field(repr=False)
    wrapped_secret: bytes
    facts: ManifestFacts


class KMSGate:
    """Checks one key and gets the service secret."""

    def __init__(
        self,
        client: KMSClient,
        recipient: Recipient,
        nsm: NSM,
        configuration: MeasuredConfiguration,
        software_version: str,
    ) -> None:
        self._client = client
        self._recipient = recipient
        self._nsm = nsm
        self._configuration = configuration
        self._software_version = software_version

    async def open(self, key_arn: str, wrapped_secret: bytes | None) -> OpenGate:
        """Judge the key, then have it release the service secret.

        Args:
            key_arn: As the parent says.
            wrapped_secret: Ciphertext of an earlier opening; None for the first of a release.

        Raises:
            LatensgateError: `ERR_KMS_KEY_UNFIT`, `ERR_KMS_DENIED`, `ERR_KMS_UNREACHABLE` or
                `ERR_UPSTREAM_IDENTITY`; nothing was released to anyone but this process.
        """
        key = self._place(key_arn)
        parameters = await self._policy_parameters()
        policy_digest = await self._judge_key(key, parameters)
        context = parameters.encryption_context()
        secret, wrapped = await self._release(key, context, wrapped_secret)
        if len(secret) != SECRET_BYTES:
            raise GateError(f"service secret: {SECRET_BYTES} bytes expected, found {len(secret)}")
        return OpenGate(secret, wrapped, self._facts(key, policy_digest))

    def _place(self, key_arn: str) -> kms.KeyArn:
        deployment = self._configuration.deployment
        try:
            key = kms.parse_key_arn(key_arn)
        except kms.KeyArnError as error:
            raise GateError(error.detail) from None
        if (key.account, key.region) != (deployment.account, deployment.regions[0]):
            raise GateError("KMS key: not of the measured account and home Region")
        return key

    async def _judge_key(self, key: kms.KeyArn, parameters: KeyPolicyParameters) -> str:
        """Read what KMS says about the key; return the digest of its policy."""
        ask = self._client.ask
        described = await ask(
            kms.describe_key_request(key), key, lambda answer: kms.parse_describe_key(answer, key)
        )
        if described != _FIT:
            raise GateError(
                "KMS key: enabled, symmetric, of origin AWS_KMS, single-Region and customer-managed"
                " expected"
            )
        await ask(kms.list_grants_request(key), key, kms.verify_no_grants)
        text = await ask(kms.get_key_policy_request(key), key, kms.parse_get_key_policy)
        return verify_key_policy(text, parameters).digest

    async def _policy_parameters(self) -> KeyPolicyParameters:
        pcrs = await self._nsm.describe_pcrs(0, 1, 2)
        deployment = self._configuration.deployment
        return KeyPolicyParameters(
            account_id=deployment.account,
            partition=PARTITION,
            service_role_arn=deployment.service_role_arn,
            key_admin_role_arn=deployment.key_admin_role_arn,
            pcr0=pcrs[0].hex(),
            pcr1=pcrs[1].hex(),
            pcr2=pcrs[2].hex(),
            context_service=SERVICE,
            context_release=self._software_version,
            context_deployment_digest=self._configuration.deployment_digest,
        )

    async def _release(
        self, key: kms.KeyArn, context: Mapping[str, str], wrapped: bytes | None
    ) -> tuple[bytearray, bytes]:
        document = await self._recipient.document()
        if wrapped is None:
            request = kms.generate_data_key_request(key, context=context, document=document)
            data_key = await self._client.ask(
                request, key, lambda answer: kms.parse_generate_data_key(answer, key)
            )
            return self._recipient.open(data_key.for_recipient), data_key.ciphertext
        request = kms.decrypt_request(key, wrapped, context=context, document=document)
        blob = await self._client.ask(request, key, lambda answer: kms.parse_decrypt(answer, key))
        return self._recipient.open(blob), wrapped

    def _facts(self, key: kms.KeyArn, policy_digest: str) -> ManifestFacts:
        configuration = self._configuration
        return ManifestFacts(
            software_version=self._software_version,
            policy_digest=configuration.policy_digest,
            deployment_digest=configuration.deployment_digest,
            kms_key_arn=key.text,
            kms_key_policy_digest=policy_digest,
            # As measured, not as the key's ARN says: the manifest holds the two against each other.
            service_account=configuration.deployment.account,
            region=configuration.deployment.regions[0],
        )


_FIT: Final = kms.KeyFacts(
    enabled=True,
    origin="AWS_KMS",
    spec="SYMMETRIC_DEFAULT",
    usage="ENCRYPT_DECRYPT",
    manager="CUSTOMER",
    multi_region=False,
)
