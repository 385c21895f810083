"""The tenant's own KMS key: opened for its tenant, for a while, and as long as its policy says."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from enclave_doubles import (
    HOME,
    OTHER,
    TENANT,
    Accident,
    Bench,
    bench,
    credentials,
    in_loop,
)
from latensgate_enclave import envelope as envelope_module
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.kms_envelope import encryption_context
from latensgate_shared.limits import TENANT_DATA_KEY_CACHE_S
from latensgate_shared.sealed_plaintext import KMSEnvelope
from latensgate_sim.world import ACCOUNT, SERVICE_ROLE, TENANT_ACCOUNT

OTHER_TENANT = "tnt_00000000"


def tenant_policy(made: Bench, *, pcr0: str | None = None) -> str:
    """A tenant's key policy: all to the account, decryption to the measured image."""
    image = {"kms:RecipientAttestation:PCR0": pcr0 or made.nsm.device.pcr(0).hex()}
    statements = [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{TENANT_ACCOUNT}:root"},
            "Action": "kms:*",
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/{SERVICE_ROLE}"},
            "Action": "kms:Decrypt",
            "Resource": "*",
            "Condition": {"StringEqualsIgnoreCase": image},
        },
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@dataclass
class Tenant:
    made: Bench
    key_arn: str

    def new(self, *, size: int = 32, tenant: str = TENANT) -> tuple[bytes, KMSEnvelope]:
        """Make a data key with the application's own credentials."""
        world = self.made.world
        answer = world.home.kms.call(
            world.tenant.identity,
            "GenerateDataKey",
            {
                "KeyId": self.key_arn,
                "NumberOfBytes": size,
                "EncryptionContext": encryption_context(tenant),
            },
        )
        plain, wrapped = (base64.b64decode(str(answer[n])) for n in ("Plaintext", "CiphertextBlob"))
        return plain, KMSEnvelope(self.key_arn, wrapped)

    async def open(self, envelope: KMSEnvelope, tenant: str = TENANT) -> bytearray:
        return await self.made.parts.tenant_keys.data_key(envelope, tenant)

    async def refusal(self, envelope: KMSEnvelope, tenant: str = TENANT) -> ErrorCode:
        with pytest.raises(LatensgateError) as caught:
            await self.open(envelope, tenant)
        return caught.value.code

    @property
    def decrypted(self) -> int:
        return self.made.cloud.happened.count("Decrypt")


@asynccontextmanager
async def ready() -> AsyncGenerator[Tenant]:
    async with bench() as made:
        world = made.world
        service = world.identities.role_session(ACCOUNT, SERVICE_ROLE, iam_actions=("kms:Decrypt",))
        await made.identity.accept(credentials(service))
        yield Tenant(made, world.create_key(tenant_policy(made), by=world.tenant))


@in_loop
async def test_a_data_key_is_released_and_remembered_for_a_while() -> None:
    async with ready() as tenant:
        plain, envelope = tenant.new()
        assert await tenant.open(envelope) == plain
        tenant.made.advance(100)
        await tenant.made.identity.recheck()
        assert await tenant.open(envelope) == plain
        assert tenant.decrypted == 1
        tenant.made.advance(TENANT_DATA_KEY_CACHE_S - 100)
        await tenant.made.identity.recheck()
        assert await tenant.open(envelope) == plain
        assert tenant.decrypted == 2


@in_loop
async def test_a_changed_key_policy_cuts_us_off() -> None:
    async with ready() as tenant:
        _, envelope = tenant.new()
        await tenant.open(envelope)
        made = tenant.made
        made.world.set_policy(tenant.key_arn, tenant_policy(made, pcr0="ee" * 48))
        made.advance(TENANT_DATA_KEY_CACHE_S)
        await made.identity.recheck()
        assert await tenant.refusal(envelope) is ErrorCode.ERR_KMS_DENIED
        assert await tenant.refusal(tenant.new()[1]) is ErrorCode.ERR_KMS_DENIED


@in_loop
async def test_a_data_key_is_of_one_tenant_also_when_remembered() -> None:
    async with ready() as tenant:
        _, envelope = tenant.new()
        await tenant.open(envelope)
        assert await tenant.refusal(envelope, OTHER_TENANT) is ErrorCode.ERR_KMS_ENVELOPE
        assert tenant.decrypted == 2


NAMES: tuple[Callable[[str], str], ...] = (
    lambda arn: arn.rpartition("/")[2],
    lambda arn: arn.replace("key/", "alias/"),
    lambda arn: arn.replace(HOME, "ap-south-1"),
    lambda arn: arn.replace(HOME, OTHER),  # measured, but there is no such key
    lambda _: "nonsense",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_may_not_be_asked_is_refused(name: Callable[[str], str]) -> None:
    @in_loop
    async def scenario() -> None:
        async with ready() as tenant:
            _, envelope = tenant.new()
            wrong = KMSEnvelope(name(tenant.key_arn), envelope.wrapped_data_key)
            assert await tenant.refusal(wrong) is ErrorCode.ERR_KMS_ENVELOPE

    scenario()


@in_loop
async def test_a_data_key_of_another_length_is_refused() -> None:
    async with ready() as tenant:
        assert await tenant.refusal(tenant.new(size=16)[1]) is ErrorCode.ERR_KMS_ENVELOPE


@in_loop
async def test_a_blob_that_is_not_encrypted_to_us_is_refused() -> None:
    async with ready() as tenant:
        _, envelope = tenant.new()
        kms = tenant.made.world.home.kms

        async def cut(request: object) -> object:
            response = await kms.handle(request)  # type: ignore[arg-type]  # the server's own
            members = json.loads(response.body)  # type: ignore[arg-type]  # never a stream
            members["CiphertextForRecipient"] = members["CiphertextForRecipient"][:64]
            return type(response)(200, {}, json.dumps(members).encode())

        tenant.made.cloud.instead["Decrypt"] = cut  # type: ignore[assignment]  # as above
        assert await tenant.refusal(envelope) is ErrorCode.ERR_KMS_ENVELOPE


@pytest.mark.parametrize("accident", list(Accident))
def test_an_unreachable_kms_is_told_and_nothing_remembered(accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with ready() as tenant:
            plain, envelope = tenant.new()
            tenant.made.cloud.fail("Decrypt", accident)
            assert await tenant.refusal(envelope) is ErrorCode.ERR_KMS_UNREACHABLE
            assert await tenant.open(envelope) == plain

    scenario()


def test_the_oldest_data_key_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope_module, "TENANT_DATA_KEY_CACHE_MAX_COUNT", 2)

    @in_loop
    async def scenario() -> None:
        async with ready() as tenant:
            envelopes = [tenant.new()[1] for _ in range(3)]
            for envelope in envelopes:
                await tenant.open(envelope)
            await tenant.open(envelopes[2])
            await tenant.open(envelopes[1])
            assert tenant.decrypted == 3
            await tenant.open(envelopes[0])
            assert tenant.decrypted == 4

    scenario()


@in_loop
async def test_a_data_key_that_nobody_asks_for_again_is_forgotten_too() -> None:
    async with ready() as tenant:
        _, first = tenant.new()
        await tenant.open(first)
        tenant.made.advance(TENANT_DATA_KEY_CACHE_S)
        await tenant.made.identity.recheck()
        _, second = tenant.new()
        await tenant.open(second)
        cache = tenant.made.parts.tenant_keys._cache  # pyright: ignore[reportPrivateUsage] # secrets have no other view
        assert len(cache) == 1


@in_loop
async def test_a_data_key_is_wiped_when_it_is_forgotten() -> None:
    async with ready() as tenant:
        plain, envelope = tenant.new()
        held = await tenant.open(envelope)
        assert held == plain
        tenant.made.advance(TENANT_DATA_KEY_CACHE_S)
        await tenant.made.identity.recheck()
        await tenant.open(tenant.new()[1])
        assert held == bytes(32)


@in_loop
async def test_a_data_key_is_wiped_when_another_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envelope_module, "TENANT_DATA_KEY_CACHE_MAX_COUNT", 1)
    async with ready() as tenant:
        first = await tenant.open(tenant.new()[1])
        plain, envelope = tenant.new()
        second = await tenant.open(envelope)
        assert first == bytes(32)
        assert second == plain


@in_loop
async def test_two_who_ask_at_once_both_get_the_key() -> None:
    async with ready() as tenant:
        plain, envelope = tenant.new()
        seen: list[bytes] = []

        async def use() -> None:
            seen.append(bytes(await tenant.open(envelope)))

        await asyncio.gather(use(), use())
        assert seen == [plain, plain]
        assert await tenant.open(envelope) == plain
