"""The keys of one enclave: HPKE generations that rotate, and the receipt key.

HPKE private keys are derived from fresh enclave entropy **and** the service secret, so none exists
before KMS has judged the attestation (DESIGN 3.4). They live in the memory of this process, are
never exported and are dropped when their manifest ends. Recorded traffic therefore stays closed
after a later change of the key policy.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from latensgate_shared.cose import attestation_hash, parse_sign1, signed_digest
from latensgate_shared.hpke_primitives import Concealed, hkdf_expand
from latensgate_shared.limits import ATTESTATION_DOCUMENT_MAX_BYTES, MANIFEST_LIFETIME_S
from latensgate_shared.manifest import (
    SUITES,
    HPKEKey,
    Manifest,
    build_user_data,
    encode_manifest,
)
from latensgate_shared.sealed import KeyStaleError, OpeningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.environment import NSM, Entropy
    from latensgate_shared.hpke import Suite

_FRESH_BYTES: Final = 32
_PRIVATE_KEY_BYTES: Final = 32
"""Of both KEMs: RFC 9180, 7.1; X-Wing draft, 5.2."""


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """What a manifest says besides keys and times; fixed once the KMS gate is open.

    Attributes:
        software_version: Of this release.
        policy_digest: `sha384:` + hex of `policy.toml`.
        deployment_digest: `sha384:` + hex of `deployment.toml`.
        kms_key_arn: The key that released the service secret.
        kms_key_policy_digest: `sha384:` + hex of its canonical policy, as the enclave read it.
        service_account: AWS account, 12 digits.
        region: AWS Region of KMS.
    """

    software_version: str
    policy_digest: str
    deployment_digest: str
    kms_key_arn: str
    kms_key_policy_digest: str
    service_account: str
    region: str


@dataclass(frozen=True, slots=True)
class Publication:
    """What the parent may show to everyone.

    Attributes:
        manifest: Parsed.
        manifest_bytes: Canonical bytes, bound by the document.
        document: Attestation document with a null nonce.
        attestation_hash: `sha384:` + hex over its COSE Sig_structure.
    """

    manifest: Manifest
    manifest_bytes: bytes
    document: bytes
    attestation_hash: str


class Generation(Concealed):
    """One publication with the HPKE private keys behind it.

    Attributes:
        publication: Its public side.
        not_after: Of its manifest, seconds since 1970.
        opening_keys: Key id (8 bytes) → private key.
    """

    __slots__ = ("not_after", "opening_keys", "publication")

    def __init__(self, publication: Publication, opening_keys: Mapping[bytes, OpeningKey]) -> None:
        self.publication = publication
        self.not_after = publication.manifest.not_after
        self.opening_keys = opening_keys


def derive_opening_key(suite: Suite, service_secret: bytes | bytearray, fresh: bytes) -> OpeningKey:
    """Derive one HPKE private key from enclave entropy and the service secret.

    Args:
        suite: Whose KEM.
        service_secret: 32 bytes that KMS released to this image.
        fresh: 32 bytes of enclave entropy, used for nothing else.

    Returns:
        The key; HKDF-SHA256 with the entropy as salt, so that either input alone, if it were
        known, would tell nothing.
    """
    # HKDF-Extract (RFC 5869, 2.2), by a function that makes no `bytes` of the secret.
    prk = hmac.digest(fresh, service_secret, "sha256")
    label = b"latensgate/1 hpke private key\x00" + SUITES[suite].encode()
    return OpeningKey(suite, hkdf_expand(prk, label, _PRIVATE_KEY_BYTES))


def _nothing() -> None:
    """Stand where nothing else need be forgotten."""


class KeyRing(Concealed):
    """The generations that still open requests; the newest one is published.

    Attributes:
        receipt_key: Signs this enclave's receipts; born and dying with the process.
        on_drop: Called when the keys are dropped: what else must be forgotten then.
    """

    __slots__ = (
        "_clock",
        "_entropy",
        "_generations",
        "_nsm",
        "_opening_keys",
        "on_drop",
        "receipt_key",
    )

    def __init__(
        self, nsm: NSM, clock: EnclaveClock, entropy: Entropy, receipt_key: Ed25519PrivateKey
    ) -> None:
        self._nsm = nsm
        self._clock = clock
        self._entropy = entropy
        self.receipt_key = receipt_key
        self.on_drop: Callable[[], None] = _nothing
        self._keep([])

    async def rotate(self, service_secret: bytes | bytearray, facts: ManifestFacts) -> Publication:
        """Make new keys, have the NSM bind them, publish them; drop what has ended.

        Raises:
            LatensgateError: The NSM or the clock failed; the old generation stays.
        """
        opening = {
            suite: derive_opening_key(suite, service_secret, self._entropy(_FRESH_BYTES))
            for suite in SUITES
        }
        keys = tuple(
            HPKEKey(suite, key.private_key.public_key.raw) for suite, key in opening.items()
        )
        publication = await self._publish(facts, keys)
        self._forget_ended()
        newest = Generation(publication, {key.key_id: key for key in opening.values()})
        self._keep([*self._generations, newest])
        return publication

    async def _publish(self, facts: ManifestFacts, keys: tuple[HPKEKey, ...]) -> Publication:
        now_s = self._clock.now_s()
        manifest = Manifest(
            software_version=facts.software_version,
            hpke_keys=keys,
            receipt_public_key=self.receipt_key.public_key().public_bytes_raw(),
            policy_digest=facts.policy_digest,
            deployment_digest=facts.deployment_digest,
            kms_key_arn=facts.kms_key_arn,
            kms_key_policy_digest=facts.kms_key_policy_digest,
            service_account=facts.service_account,
            region=facts.region,
            not_before=now_s,
            not_after=now_s + MANIFEST_LIFETIME_S,
        )
        manifest_bytes = encode_manifest(manifest)
        user_data = build_user_data(manifest_bytes, None)
        document = await self._nsm.attest(user_data=user_data, nonce=None, public_key=None)
        message = parse_sign1(document, max_bytes=ATTESTATION_DOCUMENT_MAX_BYTES)
        name = attestation_hash(signed_digest(message))
        return Publication(manifest, manifest_bytes, document, name)

    def current(self) -> Publication:
        """Return the newest publication.

        Raises:
            KeyStaleError: There is none: the KMS gate is not open.
        """
        self._forget_ended()
        if not self._generations:
            raise KeyStaleError("no HPKE key exists: the KMS gate is not open")
        return self._generations[-1].publication

    def opening_keys(self) -> Mapping[bytes, OpeningKey]:
        """Return every key that still opens requests, by key id (8 bytes)."""
        self._forget_ended()
        return self._opening_keys

    def find(self, key_id: bytes) -> Generation:
        """Return the generation that holds a key.

        Args:
            key_id: 8 bytes, as in a request's header.

        Raises:
            KeyStaleError: Not held, or its manifest has ended.
        """
        self._forget_ended()
        for generation in self._generations:
            if key_id in generation.opening_keys:
                return generation
        raise KeyStaleError(f"key id {key_id.hex()} is not held by this enclave")

    async def fresh_document(self, key_id: bytes | None, nonce: bytes) -> tuple[Publication, bytes]:
        """Have the NSM bind a manifest again, under a caller's nonce (32 bytes).

        Raises:
            KeyStaleError: No such key, or none at all.
        """
        publication = self.current() if key_id is None else self.find(key_id).publication
        user_data = build_user_data(publication.manifest_bytes, nonce)
        document = await self._nsm.attest(user_data=user_data, nonce=nonce, public_key=None)
        return publication, document

    def drop(self) -> None:
        """Forget every HPKE key: KMS has denied, or the enclave stops.

        OpenSSL cleanses a private key when its last user lets go of it (ADR 0016).
        """
        self._keep([])
        self.on_drop()

    def _forget_ended(self) -> None:
        # The oldest is the first to end, as all live equally long.
        if self._generations and self._generations[0].not_after <= self._clock.now_s():
            self._keep(self._generations[1:])
            self._forget_ended()

    def _keep(self, generations: list[Generation]) -> None:
        self._generations = generations
        self._opening_keys = {
            key_id: key for each in generations for key_id, key in each.opening_keys.items()
        }
