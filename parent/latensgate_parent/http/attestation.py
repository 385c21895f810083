"""``GET /api/attestation``: the evidence that clients verify before they seal."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from latensgate_parent.http.access import PUBLIC, TheServices
from latensgate_parent.http.schemas import Attestation, AttestationQuery
from latensgate_parent.limits import ATTESTATION_PUBLIC_CACHE_S
from latensgate_shared.formats import to_base64

router = APIRouter(tags=["attestation"])


@router.get(
    "/api/attestation",
    dependencies=PUBLIC,
    summary="Evidence of an enclave",
    response_model_exclude_none=True,
)
async def get_attestation(
    query: Annotated[AttestationQuery, Query()], services: TheServices, response: Response
) -> Attestation:
    """Return the published attestation document and its manifest.

    With a nonce there is a second document over the same manifest that answers it: proof that the
    enclave lives now. A client that seals always sends one, verifies both documents and believes
    nothing else of this answer.
    """
    nonce = None if query.nonce is None else bytes.fromhex(query.nonce)
    found = await services.attestations.ask(nonce, query.key_id)
    fresh = found.nonce_document
    if nonce is None:
        response.headers["cache-control"] = f"public, max-age={ATTESTATION_PUBLIC_CACHE_S}"
    return Attestation(
        attestation_hash=found.attestation_hash,
        document=to_base64(found.document),
        manifest=to_base64(found.manifest),
        nonce_document=None if fresh is None else to_base64(fresh),
    )
