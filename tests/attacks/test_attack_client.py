"""What a client is shown: documents, manifests, answers and receipts that are not what they say.

These attacks pass the enclave by or come after it, and end at the one verifier and in the opener.
Each names its line of defence; ``mutants.py`` proves that the test fails without it.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from e2e_client import Client, Sealed, appraisal_policy, chat
from e2e_fixtures import StartStack
from latensgate.verify import AppraisalPolicy, Measurements, verify_attestation, verify_receipt
from latensgate.verify.errors import (
    BindingMismatch,
    DebugModeRefused,
    ManifestExpired,
    MeasurementMismatch,
    NonceMismatch,
    ReceiptInvalid,
    UntrustedRoot,
)
from latensgate.verify.manifest import verify_sealable
from latensgate_shared import calls
from latensgate_shared.chunks import FINAL_MARK, ChunkReader, encode_varint
from latensgate_shared.sealed import (
    AnswerInvalidError,
    AnswerTruncatedError,
    request_hash,
)
from latensgate_sim.world import World
from stack import Answer, ParentLink, Stack

NONCE_BYTES = 32


def told(link: ParentLink, nonce: bytes | None = None) -> calls.AttestationAnswer:
    answer = link.call(calls.AttestationCall(nonce=nonce))
    return calls.AttestationAnswer.from_head(answer.head)


# --- documents ---


def test_debug_document_is_refused(world: World, start_stack: StartStack) -> None:
    """An enclave in debug mode serves its operator's console, and no client.

    Its own check fails already: the policy template takes no zero PCRs. So the document is asked of
    its device. Defence: verify/attestation.py, `if said.debug:` before any comparison.
    """
    stack = start_stack(world, debug=True)
    document = stack.process.device.nsm.attest(user_data=bytes(112))
    accepts = appraisal_policy(stack)
    with pytest.raises(DebugModeRefused):
        verify_attestation(document, b"{}", policy=accepts, at=world.clock.now())


def test_debug_enclave_gets_no_secret(world: World, start_stack: StartStack, stack: Stack) -> None:
    """Defence: kms_policy._PCR takes no zeros."""
    debug = start_stack(world, debug=True)
    with debug.link() as link:
        link.call(debug.credentials())
        with pytest.raises(Exception, match="ERR_KMS_KEY_UNFIT"):
            debug.configured(link, stack.key_arn)


def test_document_under_another_root_is_refused(
    stack: Stack, link: ParentLink, own_world: World
) -> None:
    """Without being told, not even the simulator's. Defence: verify/chain.py, the pinned root."""
    answer, at = told(link), stack.world.clock.now()
    pcrs = stack.process.device.measurements
    measurements = (Measurements(pcrs.pcr0, pcrs.pcr1, pcrs.pcr2),)
    for root in (None, own_world.nitro_root_sha256):
        policy = AppraisalPolicy(
            measurements=measurements, unsafe_accept_simulated_root_sha256=root
        )
        with pytest.raises(UntrustedRoot):
            verify_attestation(answer.document, answer.manifest, policy=policy, at=at)


def test_document_of_another_image_is_refused(stack: Stack, link: ParentLink) -> None:
    """Defence: verify/policy.py, AppraisalPolicy.appraise."""
    answer = told(link)
    pcrs = stack.process.device.measurements
    policy = replace(
        appraisal_policy(stack), measurements=(Measurements(b"\1" * 48, pcrs.pcr1, pcrs.pcr2),)
    )
    with pytest.raises(MeasurementMismatch):
        verify_attestation(
            answer.document, answer.manifest, policy=policy, at=stack.world.clock.now()
        )


def test_old_proof_is_refused(stack: Stack, link: ParentLink) -> None:
    """A document that answers an earlier challenge. Defence: verify/attestation.py, step 11."""
    old, policy, at = told(link, os.urandom(32)), appraisal_policy(stack), stack.world.clock.now()
    nonce = os.urandom(32)
    for document in (old.nonce_document, old.document):
        assert document is not None
        with pytest.raises(NonceMismatch):
            verify_attestation(document, old.manifest, policy=policy, at=at, nonce=nonce)


def test_old_manifest_is_not_sealed_to(client: Client) -> None:
    """Defence: verify/manifest.py verify_sealable."""
    at = client.world.clock.now()
    verify_sealable(client.attestation.binding, at=at)
    with pytest.raises(ManifestExpired):
        verify_sealable(client.attestation.binding, at=at + dt.timedelta(minutes=70))


@pytest.mark.parametrize("member", ["hpke_keys", "receipt_key", "kms_key_arn", "not_after"])
def test_manifest_with_another_key_is_refused(
    stack: Stack, link: ParentLink, start_stack: StartStack, member: str
) -> None:
    """The attested key is not the key used: the parent shows keys of its own.

    Defence: verify/manifest.py, the hash of the manifest in user_data.
    """
    answer, other = told(link), start_stack(stack.world)
    with other.link() as another:
        other.open_gate(another)
        foreign = json.loads(told(another).manifest)
    mine = json.loads(answer.manifest)
    mine[member] = foreign[member] + 1 if member == "not_after" else foreign[member]
    forged = json.dumps(mine, sort_keys=True, separators=(",", ":")).encode()
    policy, at = appraisal_policy(stack), stack.world.clock.now()
    with pytest.raises(BindingMismatch):
        verify_attestation(answer.document, forged, policy=policy, at=at)


def test_request_sealed_to_a_parents_key_is_the_parents_loss(
    client: Client, link: ParentLink
) -> None:
    """A man in the middle who seals on cannot answer: the receipt key is the enclave's.

    Defence: verify/receipt.py, signature under the key of the verified manifest.
    """
    opened = client.ask(link, chat("mine"))
    receipt = copy.deepcopy(opened.final.receipt)
    cast("dict[str, object]", receipt["public"])["outcome"] = "refused"
    with pytest.raises(ReceiptInvalid) as error:
        verify_receipt(receipt, attestation=client.attestation, tenant_id=client.tenant_id)
    assert error.value.step == 3


# --- answers ---


def asked(
    client: Client, link: ParentLink, text: str = "of the sea " * 20
) -> tuple[Sealed, Answer]:
    sealed = client.seal(chat(text, stream=True))
    return sealed, link.call(sealed.call, sealed.wire)


def cut(answer: Answer) -> tuple[bytes, list[bytes], bytes]:
    """Take a sealed answer apart: nonce, framed content chunks, framed final chunk."""
    nonce = answer.body[:NONCE_BYTES]
    chunks = ChunkReader().feed(answer.body[NONCE_BYTES:])
    framed = [encode_varint(len(chunk)) + chunk for chunk in chunks]
    return nonce, framed, cast("bytes", answer.end["final_chunk"])


def with_chunks(answer: Answer, chunks: list[bytes]) -> Answer:
    return replace(answer, body=b"".join([answer.body[:NONCE_BYTES], *chunks]))


def with_final(answer: Answer, final: object) -> Answer:
    return replace(answer, end={**answer.end, "final_chunk": cast("bytes", final)})


CHANGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "reordered": lambda chunks: [chunks[1], chunks[0], *chunks[2:]],
    "duplicated": lambda chunks: [chunks[0], *chunks],
    "first-dropped": lambda chunks: chunks[1:],
    "last-dropped": lambda chunks: chunks[:-1],
    "all-dropped": lambda _: [],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_answer_chunks_changed(
    client: Client, link: ParentLink, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    """Defence: the counter in every nonce, hpke_primitives/hpke CounterAEAD."""
    sealed, answer = asked(client, link)
    _, chunks, _ = cut(answer)
    with pytest.raises(AnswerInvalidError):
        client.open(sealed, with_chunks(answer, change(chunks)))


def test_answer_cut_short(client: Client, link: ParentLink) -> None:
    """A cut stream is an error, never a short answer. Defence: AnswerOpener.finish."""
    sealed, answer = asked(client, link)
    _, chunks, final = cut(answer)
    for left in (chunks, chunks[:1], []):
        with pytest.raises(AnswerTruncatedError):
            client.open(sealed, with_final(with_chunks(answer, left), b""))
    with pytest.raises(AnswerTruncatedError):
        client.open(sealed, with_final(answer, final[:8]))


def test_content_chunk_passed_off_as_the_final_one(client: Client, link: ParentLink) -> None:
    """Defence: chunks.FINAL_AAD."""
    sealed, answer = asked(client, link)
    _, chunks, _ = cut(answer)
    ciphertext = ChunkReader().feed(chunks[-1])[0]
    forged = with_final(with_chunks(answer, chunks[:-1]), FINAL_MARK + ciphertext)
    with pytest.raises(AnswerInvalidError, match="open"):
        client.open(sealed, forged)


def test_chunks_spliced_from_another_answer(client: Client, link: ParentLink) -> None:
    """Defence: the secret of each request (sealed_answer.AnswerSecret.messages)."""
    sealed, answer = asked(client, link)
    _, other = asked(client, link)
    chunks, foreign = cut(answer)[1], cut(other)[1]
    for forged in (
        with_chunks(answer, [*chunks[:-1], foreign[len(chunks) - 1]]),
        with_final(answer, other.end["final_chunk"]),
        other,
    ):
        with pytest.raises(AnswerInvalidError):
            client.open(sealed, forged)


def test_answer_of_another_enclave(
    client: Client, link: ParentLink, start_stack: StartStack
) -> None:
    """Another enclave of the same image answers its own request; the parent swaps the answers.

    Defence: the secret of each request (sealed_answer.AnswerSecret.messages).
    """
    stack = start_stack(client.world)
    with stack.link() as another:
        stack.open_gate(another)
        other = Client.attest(stack, another)
        theirs, answer = asked(other, another)
        assert other.open(theirs, answer).code is None
        mine, _ = asked(client, link)
        with pytest.raises(AnswerInvalidError):
            client.open(mine, answer)
        with pytest.raises(ReceiptInvalid) as error:  # nor does its receipt pass for ours
            verify_receipt(
                other.open(theirs, answer).final.receipt,
                attestation=client.attestation,
                tenant_id=client.tenant_id,
            )
        assert error.value.step == 2


def test_receipt_of_another_request(client: Client, link: ParentLink) -> None:
    """Defence: verify/receipt.py _check_owner: request, response and tenant are yours."""
    sealed = client.seal(chat("mine"))
    opened = client.send(link, sealed)
    public = opened.receipt.signed.public
    other = client.seal(chat("other"))
    wrong: list[dict[str, str]] = [
        {"request_hash": request_hash(other.wire)},
        {"response_hash": "sha384:" + "ab" * 48},
        {"tenant_id": "tnt_ffffffff"},
    ]
    right = {
        "request_hash": public.request_hash,
        "response_hash": public.response_hash,
        "tenant_id": public.tenant_id,
    }
    for change in wrong:
        with pytest.raises(ReceiptInvalid) as error:
            verify_receipt(
                opened.final.receipt, attestation=client.attestation, **{**right, **change}
            )
        assert error.value.step == 5


def test_private_part_of_another_receipt(client: Client, link: ParentLink) -> None:
    """Defence: verify/receipt.py, step 4."""
    one, other = (client.ask(link, chat(text)).final.receipt for text in ("a", "b"))
    with pytest.raises(ReceiptInvalid) as error:
        verify_receipt(
            {**one, "private": other["private"]},
            attestation=client.attestation,
            tenant_id=client.tenant_id,
        )
    assert error.value.step == 4
