"""Sealed requests that somebody changed, repeated or made up; the parent carries them all.

Each refusal names its line of defence; ``mutants.py`` proves that the test fails without it.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from e2e_client import (
    Client,
    chat,
    outer_refusal,
    sealed_refusal,
)
from e2e_fixtures import StartStack
from latensgate_shared.chunks import FINAL_MARK, ChunkReader, encode_varint
from latensgate_shared.errors import ErrorCode
from latensgate_shared.kms_policy import render_key_policy_text
from latensgate_shared.limits import CHUNK_MAX_BYTES, REQUEST_WINDOW_S, SEALED_REQUEST_MAX_BYTES
from latensgate_shared.sealed_plaintext import build_plaintext
from latensgate_sim.world import World
from stack import ParentLink, Stack

OPEN_FAILED = outer_refusal(ErrorCode.ERR_OPEN_FAILED)
MALFORMED = outer_refusal(ErrorCode.ERR_MALFORMED)
HEADER_BYTES = 15


# --- what stands outside the seal ---


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": "tnt_ffffffff"},
        {"model": "another-model"},
        {"operation": "policy.dry_run"},
        {"stream": True},
        {"attestation_hash": "sha384:" + "ab" * 48},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_outside_the_seal(
    client: Client, link: ParentLink, change: dict[str, object]
) -> None:
    """Defence: sealed_request.request_info binds SHA-256 of the visible part into HPKE's info."""
    sealed = client.seal(chat("mine")).outside(**change)
    assert client.refusal(link, sealed) == OPEN_FAILED


def test_stream_flag_taken_away_outside(client: Client, link: ParentLink) -> None:
    """Defence: as above."""
    sealed = client.seal(chat("mine", stream=True)).outside(stream=False)
    assert client.refusal(link, sealed) == OPEN_FAILED


def test_body_model_differs_from_the_visible_one(client: Client, link: ParentLink) -> None:
    """A client that seals one model and shows another, to be routed or billed otherwise.

    Defence: sealed_plaintext.check_body_model.
    """
    body = chat("mine")
    sealed = client.seal(body, outer=client.outer(body, model="cheap-model"))
    assert client.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_OUTER_MISMATCH)


def test_stream_flag_inside_differs(client: Client, link: ParentLink) -> None:
    """Defence: pipeline.admit, `request.stream != opened.outer.stream`."""
    body = chat("mine", stream=True)
    sealed = client.seal(body, outer=client.outer(body, stream=False))
    assert client.refusal(link, sealed) == sealed_refusal(ErrorCode.ERR_REQUEST_INVALID)


def test_attestation_of_another_publication(world: World, start_stack: StartStack) -> None:
    """The client verified one publication and sealed to the key of another.

    Defence: pipeline.open_sealed, `publication.attestation_hash != outer.attestation_hash`.
    """
    stack = start_stack(world)
    with stack.link() as link:
        stack.open_gate(link)
        first = Client.attest(stack, link)
        another = stack.world.create_key(render_key_policy_text(stack.parameters()))
        stack.configured(link, another)  # rotates
        second = Client.attest(stack, link)
        assert first.attestation.attestation_hash != second.attestation.attestation_hash
        body = chat("mine")
        outer = first.outer(body, attestation_hash=second.attestation.attestation_hash)
        sealed = first.seal(body, outer=outer)
        assert first.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_OUTER_MISMATCH)
        assert first.ask(link, body).text == "You said: mine"  # the older key still opens


# --- the sealed bytes ---


def long_chat() -> dict[str, object]:
    return chat("a long text of many words. " * 7_000)


def cut(client: Client, wire: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Take a sealed request apart: header and enc, ciphertexts, final ciphertext."""
    start = HEADER_BYTES + client.sealing_key.suite.kem.enc_bytes
    reader = ChunkReader()
    return wire[:start], reader.feed(wire[start:]), reader.finish()


def joined(head: bytes, chunks: list[bytes], final: bytes) -> bytes:
    framed = [encode_varint(len(chunk)) + chunk for chunk in chunks]
    return b"".join([head, *framed, FINAL_MARK, final])


def test_chunks_reordered_duplicated_dropped(client: Client, link: ParentLink) -> None:
    """Defence: the counter in every nonce, hpke.CounterAEAD._nonce."""
    sealed = client.seal(long_chat())
    head, chunks, final = cut(client, sealed.wire)
    assert len(chunks) == 2
    one, two = chunks
    assert joined(head, chunks, final) == sealed.wire
    for changed in ([two, one], [one, one, two], [one, two, two], [one], [two], []):
        wire = joined(head, changed, final)
        assert client.refusal(link, replace(sealed, wire=wire)) == OPEN_FAILED


def test_chunks_spliced_from_another_request(client: Client, link: ParentLink) -> None:
    """Defence: every request has an encapsulated key of its own (hpke.setup_sender)."""
    mine, other = client.seal(long_chat()), client.seal(long_chat())
    head, chunks, final = cut(client, mine.wire)
    _, foreign, foreign_final = cut(client, other.wire)
    for wire in (
        joined(head, [foreign[0], chunks[1]], final),
        joined(head, chunks, foreign_final),
    ):
        assert client.refusal(link, replace(mine, wire=wire)) == OPEN_FAILED


def test_cut_request_passed_off_as_whole(client: Client, link: ParentLink) -> None:
    """A chunk in the middle is marked as the last one. Defence: chunks.FINAL_AAD."""
    pieces = json.dumps(chat("short")).encode()
    plaintext = build_plaintext(client.fields(), pieces)
    padded = plaintext + b" " * (CHUNK_MAX_BYTES - len(plaintext)) + b" " * 10
    sealed = client.seal_raw(padded, client.outer(chat("short")))
    head, chunks, _ = cut(client, sealed.wire)
    wire = head + FINAL_MARK + chunks[0]
    assert client.refusal(link, replace(sealed, wire=wire)) == OPEN_FAILED


def test_truncated_at_every_border(client: Client, link: ParentLink) -> None:
    """Defence: chunks.ChunkReader.finish wants a whole final chunk; its tag wants every byte."""
    sealed = client.seal(chat("mine"))
    whole = len(sealed.wire)
    start = HEADER_BYTES + client.sealing_key.suite.kem.enc_bytes
    for length in (0, 1, HEADER_BYTES, start, start + 1, start + 17):
        wire = sealed.wire[:length]
        assert client.refusal(link, replace(sealed, wire=wire)).code in {
            ErrorCode.ERR_MALFORMED,
            ErrorCode.ERR_OPEN_FAILED,
        }
    for length in (whole - 1, whole - 17):
        wire = sealed.wire[:length]
        assert client.refusal(link, replace(sealed, wire=wire)) == OPEN_FAILED


@pytest.mark.parametrize("place", [20, 1_200, -40, -1])
def test_flipped_bit(client: Client, link: ParentLink, place: int) -> None:
    """Defence: the AEAD, and the KEM's shared secret."""
    sealed = client.seal(chat("mine"))
    wire = bytearray(sealed.wire)
    wire[place] ^= 1
    code = client.refusal(link, replace(sealed, wire=bytes(wire))).code
    assert code in {ErrorCode.ERR_OPEN_FAILED, ErrorCode.ERR_MALFORMED}


def test_length_fields_without_bounds(client: Client, link: ParentLink) -> None:
    """A chunk that says it has 2^61 bytes. Defence: chunks.ChunkReader._next, _check_ciphertext."""
    sealed = client.seal(chat("mine"))
    head, _, _ = cut(client, sealed.wire)
    for length in (CHUNK_MAX_BYTES + 17, 1 << 30, 1 << 61):
        wire = head + encode_varint(length) + bytes(64)
        found = client.refusal(link, replace(sealed, wire=wire))
        assert found == outer_refusal(ErrorCode.ERR_TOO_LARGE)


def test_more_bytes_than_a_request_may_have(client: Client, link: ParentLink) -> None:
    """Defence: session.Session._hold, before anything is opened."""
    sealed = client.seal(chat("mine"))
    wire = sealed.wire + bytes(SEALED_REQUEST_MAX_BYTES)
    found = client.refusal(link, replace(sealed, wire=wire))
    assert found == outer_refusal(ErrorCode.ERR_TOO_LARGE)


def test_plaintext_sent_as_a_sealed_body(client: Client, link: ParentLink, world: World) -> None:
    """There is no plaintext path: it opens nowhere and reaches no model.

    Defence: pipeline.open_sealed has one way in, `open_request`.
    """
    before = len(world.home.bedrock.seen)
    sealed = client.seal(chat("mine"))
    plaintext = build_plaintext(client.fields(), json.dumps(chat("in the clear")).encode())
    for wire in (plaintext, json.dumps(chat("in the clear")).encode()):
        found = client.refusal(link, replace(sealed, wire=wire))
        assert found == outer_refusal(ErrorCode.ERR_VERSION)
    assert len(world.home.bedrock.seen) == before


def test_key_that_this_enclave_never_had(client: Client, link: ParentLink) -> None:
    """The attested key is not the key used. Defence: sealed_request.open_request, `key is None`."""
    key = client.sealing_key
    sealed = client.seal(chat("mine"))
    foreign = key.header[:1] + os.urandom(8) + key.header[9:]
    wire = foreign + sealed.wire[HEADER_BYTES:]
    found = client.refusal(link, replace(sealed, wire=wire))
    assert found == outer_refusal(ErrorCode.ERR_KEY_STALE)


# --- replay and age ---


@pytest.mark.parametrize("stream", [False, True])
def test_replay_in_one_enclave(
    client: Client, link: ParentLink, stack: Stack, *, stream: bool
) -> None:
    """Also over another connection. Defence: replay.ReplayWindow.admit, `in self._seen`."""
    sealed = client.seal(chat("once", stream=stream))
    assert client.send(link, sealed).text == "You said: once"
    assert client.refusal(link, sealed) == sealed_refusal(ErrorCode.ERR_REPLAY)
    with stack.link() as other:
        assert client.refusal(other, sealed) == sealed_refusal(ErrorCode.ERR_REPLAY)


def test_same_request_id_sealed_anew(client: Client, link: ParentLink) -> None:
    """Defence: the id inside the seal is what is remembered, not the bytes."""
    fields = client.fields()
    assert client.send(link, client.seal(chat("once"), fields)).text == "You said: once"
    again = client.seal(chat("twice"), fields)
    assert client.refusal(link, again) == sealed_refusal(ErrorCode.ERR_REPLAY)


def test_replay_side_by_side(client: Client, link: ParentLink) -> None:
    """Twenty copies at once: one is answered. Defence: admit has no await between look and note."""
    sealed = client.seal(chat("once"))
    ids = [link.start(sealed.call, sealed.wire) for _ in range(20)]
    answers = link.finish_all(ids).values()
    opened = [client.open(sealed, each) for each in answers if not isinstance(each, ErrorCode)]
    assert sorted(each.code is None for each in opened) == [False] * 19 + [True]
    assert {each.code for each in opened if each.code} == {ErrorCode.ERR_REPLAY}


def test_replay_after_a_restart(world: World, start_stack: StartStack) -> None:
    """Same image, same KMS key, same wrapped secret: no other process opens the request.

    Defence: keys.KeyRing.rotate, fresh entropy in every key.
    """
    first = start_stack(world)
    with first.link() as link:
        link.call(first.credentials())
        wrapped = first.configured(link)
        client = Client.attest(first, link)
        sealed = client.seal(chat("once"))
        assert client.send(link, sealed).text == "You said: once"
    second = start_stack(world)
    with second.link() as link:
        link.call(second.credentials())
        second.configured(link, first.key_arn, wrapped)
        assert client.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_KEY_STALE)


@pytest.mark.parametrize("off_s", [-REQUEST_WINDOW_S - 5, REQUEST_WINDOW_S + 5])
def test_old_and_future_requests(client: Client, link: ParentLink, off_s: int) -> None:
    """Defence: replay.ReplayWindow.admit, `abs(now_ms - issued_at_ms) > _WINDOW_MS`."""
    now_ms = int(client.world.clock.seconds() * 1000)
    fields = client.fields(issued_at_ms=now_ms + off_s * 1000)
    found = client.refusal(link, client.seal(chat("late"), fields))
    assert found == sealed_refusal(ErrorCode.ERR_REQUEST_AGE)


def test_time_is_the_nsms_and_nobody_elses(own_world: World, start_stack: StartStack) -> None:
    """The machine's clock, which is the parent's, is a day off; the enclave does not notice.

    Defence: clock.EnclaveClock.refresh takes the time from its own NSM document.
    """
    own_world.clock.advance(-86_400)
    stack = start_stack(own_world)
    with stack.link() as link:
        stack.open_gate(link)
        client = Client.attest(stack, link)
        opened = client.ask(link, chat("what day is it"))
        issued_at = opened.receipt.signed.public.issued_at
        assert abs(issued_at - own_world.clock.seconds()) < 120
        machine = client.fields(issued_at_ms=int((own_world.clock.seconds() + 86_400) * 1000))
        found = client.refusal(link, client.seal(chat("tomorrow"), machine))
        assert found == sealed_refusal(ErrorCode.ERR_REQUEST_AGE)


# --- settings, texts, envelopes ---


def test_tenant_root_is_refused_rather_than_ignored(client: Client, link: ParentLink) -> None:
    """Defence: pipeline.admit, `fields.tenant_root is not None`."""
    sealed = client.seal(chat("mine"), client.fields(tenant_root=bytes(32)))
    assert client.refusal(link, sealed) == sealed_refusal(ErrorCode.ERR_SETTINGS_REFUSED)


def test_request_policy_cannot_loosen_the_floor(
    client: Client, link: ParentLink, world: World
) -> None:
    """Defence: pipeline.admit, `policy.joined`: the strictest action wins."""
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "A1b2C3d4" * 40 + "\n-----END RSA PRIVATE KEY-----"
    rule = {"rules": {"*": {"*": {"action": "allow"}}}}
    before = len(world.home.bedrock.seen)
    sealed = client.seal(chat(f"Keep {key}"), client.fields(policy=rule))
    assert "A1b2C3d4" not in client.send(link, sealed).text
    assert b"A1b2C3d4" not in b"".join(list(world.home.bedrock.seen)[before:])


SHAPES = [
    "<EMAIL_ADDRESS>",
    "<PERSON_1> and [PERSON_2] and {{EMAIL_ADDRESS_1}}",
    "\\u003cEMAIL_ADDRESS\\u003e",
    "lg_pseudonym_0000000000000001",
    "pairs \U0001f512 and \u00e9 \u202e",
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", SHAPES)
def test_surrogate_shaped_text_passes_untouched(
    client: Client, link: ParentLink, text: str, *, stream: bool
) -> None:
    """What looks like a placeholder of ours is text like any other, both ways.

    Defence: nothing is ever put back (pipeline.render), so there is nothing to trick.
    """
    assert client.ask(link, chat(text, stream=stream)).text == f"You said: {text}"


def test_lone_surrogate_is_refused(client: Client, link: ParentLink) -> None:
    """It has no UTF-8 form, so nobody could scan it. Defence: strict_json."""
    body = chat("mine")
    raw = json.dumps(body).replace("mine", "\\ud800").encode()
    honest = build_plaintext(client.fields(), json.dumps(body).encode())
    plaintext = honest.replace(json.dumps(body).encode(), raw)
    sealed = client.seal_raw(plaintext, client.outer(body))
    assert client.refusal(link, sealed) == MALFORMED
