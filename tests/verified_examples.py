"""Real verified values for tests: made by the verifier itself, under roots that nobody trusts."""

from __future__ import annotations

import hashlib
from functools import cache

from latensgate.verify import (
    AppraisalPolicy,
    Measurements,
    VerifiedAttestation,
    parse_untrusted_document,
    verify_attestation,
)
from latensgate_shared.manifest import Manifest, build_user_data, encode_manifest
from nitro_factory import Draft
from protocol_examples import manifest


def trusting(document: bytes, manifest_bytes: bytes) -> VerifiedAttestation:
    """Verify a document under the root and the measurements that it brings along itself."""
    said = parse_untrusted_document(document)
    policy = AppraisalPolicy(
        measurements=(Measurements(said.pcrs[0], said.pcrs[1], said.pcrs[2]),),
        unsafe_accept_simulated_root_sha256=hashlib.sha256(said.cabundle[0]).hexdigest(),
    )
    return verify_attestation(document, manifest_bytes, policy=policy, at=said.timestamp)


@cache
def attested(bound: Manifest | None = None) -> VerifiedAttestation:
    """Return the attestation of a document that binds this manifest."""
    manifest_bytes = encode_manifest(bound or manifest())
    document = Draft(user_data=build_user_data(manifest_bytes, None)).sign()
    return trusting(document, manifest_bytes)
