"""A parent that changes, repeats or misdirects sealed requests."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from hostile_fixtures import ANSWER, MAIL, PROMPT, UNARY, WAYS, Victims, in_turn
from latensgate import errors
from latensgate_shared.errors import ErrorCode
from malicious_gateway import Asked, Honest, Reply, Told, requests

OUTSIDE: dict[str, Callable[[Asked], Asked]] = {
    "another model": lambda asked: asked.changed(model="nova-2-lite"),
    "an unknown model": lambda asked: asked.changed(model="absent"),
    "a stream of what is none": lambda asked: asked.changed(stream=True),
    "another operation": lambda asked: asked.changed(operation="embeddings"),
    "another attestation": lambda asked: asked.headed(latensgate_attestation="sha384:" + "0" * 96),
    "a byte of the seal": lambda asked: asked.with_sealed(
        asked.sealed[:-1] + bytes([asked.sealed[-1] ^ 1])
    ),
    "half of the seal": lambda asked: asked.with_sealed(asked.sealed[: len(asked.sealed) // 2]),
    "another version": lambda asked: asked.with_sealed(b"\x02" + asked.sealed[1:]),
    "another suite": lambda asked: asked.with_sealed(
        asked.sealed[:9] + bytes.fromhex("002000010001") + asked.sealed[15:]
    ),
    "the prompt in plain": lambda asked: asked.without("prompt_ciphertext").changed(
        messages=[{"role": "user", "content": "x"}]
    ),
}


@pytest.mark.parametrize(("name", "way"), in_turn(OUTSIDE, UNARY))
def test_changed_outside_the_seal(victims: Victims, name: str, way: str) -> None:
    """Defence: HPKE `info` over the outer. The model is never asked."""
    before = len(victims.stack.dev.world.home.bedrock.seen)
    got = victims.suffer(requests(OUTSIDE[name]), way)
    assert isinstance(got.error, errors.LatensgateClientError), got
    assert got.text == ""
    assert got.error.receipt is None
    assert len(victims.stack.dev.world.home.bedrock.seen) == before


@pytest.mark.parametrize("way", UNARY)
def test_request_sent_for_another_tenant(victims: Victims, way: str) -> None:
    """With the other's key, which the parent has seen: what is sealed stays its owner's."""

    def change(asked: Asked) -> Asked:
        key = {"authorization": f"Bearer {victims.other.api_key}"}
        return asked.changed(tenant_id=victims.other.tenant_id).headed(**key)

    before = len(victims.stack.dev.world.home.bedrock.seen)
    got = victims.suffer(requests(change), way)
    assert isinstance(got.error, errors.LatensgateClientError)
    assert got.error.error_code is ErrorCode.ERR_OPEN_FAILED
    assert len(victims.stack.dev.world.home.bedrock.seen) == before
    mine = requests(lambda asked: asked.changed(tenant_id=victims.other.tenant_id))
    got = victims.suffer(
        mine, way
    )  # the other's name with one's own key: the parent itself refuses
    assert isinstance(got.error, errors.LatensgateClientError)
    assert len(victims.stack.dev.world.home.bedrock.seen) == before


@pytest.mark.parametrize("way", WAYS)
def test_request_sent_twice(victims: Victims, way: str) -> None:
    """Under two keys, so that the honest parent would run both: the enclave runs one."""

    def twice(asked: Asked, honest: Honest) -> Reply:
        if asked.inference:
            honest(asked)
            asked = asked.headed(idempotency_key=str(uuid.uuid4()))
        return honest(asked)

    before = len(victims.stack.dev.world.home.bedrock.seen)
    got = victims.suffer(twice, way)
    assert isinstance(got.error, errors.Replayed), got
    assert got.error.receipt is not None  # the enclave said so, sealed to this client
    assert len(victims.stack.dev.world.home.bedrock.seen) == before + 1

    def once_more(asked: Asked, honest: Honest) -> Reply:
        honest(asked)
        return honest(asked)

    got = victims.suffer(once_more, way)
    assert (got.text, got.error) == (ANSWER, None)  # under one key: one run, and its one answer
    assert len(victims.stack.dev.world.home.bedrock.seen) == before + 2


@pytest.mark.parametrize("way", UNARY)
def test_answer_kept_for_a_later_request(victims: Victims, way: str) -> None:
    """The first answer to every later request, under whatever key."""
    kept: list[Told] = []

    def replay(asked: Asked, honest: Honest) -> Reply:
        if not asked.inference:
            return honest(asked)
        kept.append(honest(asked))
        return kept[0]

    assert victims.suffer(replay, way).text == ANSWER
    got = victims.suffer(replay, way)
    assert isinstance(got.error, errors.AnswerInvalid)


def test_retry_sends_the_same_bytes_and_no_other(victims: Victims) -> None:
    """A parent that drops answers learns nothing more from the next try."""
    left = ["dropped"]

    def drop(asked: Asked, honest: Honest) -> Reply:
        told = honest(asked)
        return Told(502, b"") if asked.inference and left and left.pop() else told

    before = len(victims.stack.dev.world.home.bedrock.seen)
    got = victims.suffer(drop, "unary")
    assert got.text == ANSWER
    first, second = victims.gateway.inferences
    assert (first.body, first.headers["idempotency-key"]) == (
        second.body,
        second.headers["idempotency-key"],
    )
    assert len(victims.stack.dev.world.home.bedrock.seen) == before + 1


@pytest.mark.parametrize("way", WAYS)
def test_policy_cannot_be_taken_out(victims: Victims, way: str) -> None:
    """It is sealed; a parent that adds one outside is refused."""
    policy: dict[str, object] = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "fail"}}}}
    loosen = requests(lambda asked: asked.changed(policy={"rules": {}}))
    got = victims.suffer(loosen, way, f"{PROMPT} {MAIL}", policy=policy)
    assert isinstance(got.error, errors.LatensgateClientError)
    assert got.error.error_code is not ErrorCode.ERR_PII_HARD_FAIL
    assert got.text == ""


def test_key_of_nobody(victims: Victims) -> None:
    """One new attestation and one new seal, then the caller is told."""
    swap = requests(lambda asked: asked.with_sealed(asked.sealed[:1] + bytes(8) + asked.sealed[9:]))
    got = victims.suffer(swap, "unary")
    assert isinstance(got.error, errors.KeyStale)
    assert len(victims.gateway.inferences) == 2
