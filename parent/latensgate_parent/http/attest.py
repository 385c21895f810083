"""``GET /api/attest``: the archived document behind a hash, and what the gateway thinks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from latensgate_parent.clock import to_rfc3339
from latensgate_parent.http.access import PUBLIC, TheServices
from latensgate_parent.http.errors import GatewayError
from latensgate_parent.http.schemas import Attest, AttestQuery, Step
from latensgate_shared.errors import ErrorCode
from latensgate_shared.formats import to_base64

if TYPE_CHECKING:
    from latensgate.verify import UntrustedDocument
    from latensgate_parent.http.verdict import Judgement
    from latensgate_parent.store.interfaces import ArchivedDocument

router = APIRouter(tags=["attestation"])


@router.get("/api/attest", dependencies=PUBLIC, summary="The document behind a hash")
async def get_attest(query: Annotated[AttestQuery, Query()], services: TheServices) -> Attest:
    """Return the archived attestation document, judged by the gateway's own verifier.

    It is judged at its own second: the answer says what ran then. `status` is the gateway's opinion
    of its own enclave; whoever relies on it verifies `document` and `manifest` under a policy of
    their own, for example with `latensgate attest inspect`.
    """
    archived = await services.store.document(query.hash)
    if archived is None:
        raise GatewayError(
            ErrorCode.ERR_ATTESTATION_UNKNOWN, "No document with this hash is archived here."
        )
    return shown(archived, services.judge.judge(archived), services.clock())


def shown(archived: ArchivedDocument, judged: Judgement, now: float) -> Attest:
    """Return a document and its judgement as they are told."""
    said = judged.said
    registers = {} if said is None else _registers(said)
    image = registers.get("PCR0")
    return Attest(
        hash=archived.attestation_hash,
        pcr_values=registers,
        timestamp=None if said is None else to_rfc3339(said.timestamp_ms // 1000),
        enclave_image_sha=None if image is None else f"sha384:{image}",
        status=judged.status,
        region=judged.region,
        document=to_base64(archived.document),
        manifest=to_base64(archived.manifest),
        fresh=judged.not_after is not None and now < judged.not_after,
        verdict=[
            Step(number=step.number, title=step.title, state=step.state, reason=step.reason)
            for step in judged.steps
        ],
    )


def _registers(said: UntrustedDocument) -> dict[str, str]:
    return {f"PCR{index}": value.hex() for index, value in sorted(said.pcrs.items())}
