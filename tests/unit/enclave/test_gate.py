"""The KMS gate: every way in which a key is not the one, and every way in which KMS fails."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from enclave_doubles import HOME, OTHER, Accident, Answering, Bench, bench, credentials, in_loop
from latensgate.verify.document import parse_untrusted_document
from latensgate_enclave import VERSION
from latensgate_enclave.gate import KMSUnreachableError
from latensgate_enclave.nitro.nsm import NSMError
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.kms_policy import render_key_policy_text, verify_key_policy
from latensgate_shared.limits import IDENTITY_MAX_AGE_S, KMS_RECIPIENT_DOCUMENT_S
from latensgate_sim import cms
from latensgate_sim.http_server import Request, Response
from latensgate_sim.world import ACCOUNT, SERVICE_ROLE

FOREIGN = "999988887777"


@asynccontextmanager
async def ready() -> AsyncGenerator[Bench]:
    """A bench whose credentials have passed."""
    async with bench() as made:
        await made.identity.accept(credentials(made.world.service))
        made.cloud.happened.clear()
        yield made


async def refusal(made: Bench, key_arn: str, wrapped: bytes | None = None) -> ErrorCode:
    with pytest.raises(LatensgateError) as caught:
        await made.gate.open(key_arn, wrapped)
    assert "Latensgate" not in str(caught.value)  # nothing of what AWS says
    return caught.value.code


@in_loop
async def test_a_fit_key_releases_the_secret_and_later_the_same_one() -> None:
    async with ready() as made:
        key_arn = made.create_key()
        first = await made.gate.open(key_arn, None)
        again = await made.gate.open(key_arn, first.wrapped_secret)
        assert len(first.service_secret) == 32
        assert again.service_secret == first.service_secret
        assert again.wrapped_secret == first.wrapped_secret
        assert first.service_secret.hex() not in repr(first)
        policy = render_key_policy_text(made.policy_parameters())
        facts = first.facts
        assert (
            facts.kms_key_policy_digest
            == verify_key_policy(policy, made.policy_parameters()).digest
        )
        assert (facts.software_version, facts.kms_key_arn) == (VERSION, key_arn)
        assert (facts.service_account, facts.region) == (ACCOUNT, HOME)
        reads = ["DescribeKey", "ListGrants", "GetKeyPolicy"]
        assert made.cloud.happened == [*reads, "GenerateDataKey", *reads, "Decrypt"]


def other_place(made: Bench, *, account: str = ACCOUNT, region: str = HOME) -> str:
    key_id = made.create_key().rpartition("/")[2]
    return f"arn:aws:kms:{region}:{account}:key/{key_id}"


Naming = Callable[[Bench], str]
ELSEWHERE: dict[str, Naming] = {
    "alias": lambda _made: f"arn:aws:kms:{HOME}:{ACCOUNT}:alias/latensgate",
    "bare id": lambda made: made.create_key().rpartition("/")[2],
    "other account": lambda made: other_place(made, account=FOREIGN),
    "other Region": lambda made: other_place(made, region=OTHER),
    "other partition": lambda made: made.create_key().replace("arn:aws:", "arn:aws-us-gov:"),
}


@pytest.mark.parametrize("name", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_name_of_another_place_is_refused(name: Naming) -> None:
    @in_loop
    async def scenario() -> None:
        async with ready() as made:
            assert await refusal(made, name(made)) is ErrorCode.ERR_KMS_KEY_UNFIT
            assert "GenerateDataKey" not in made.cloud.happened

    scenario()


def disabled(made: Bench) -> str:
    key_arn = made.create_key()
    made.world.home.kms.call(made.world.admin.identity, "DisableKey", {"KeyId": key_arn})
    return key_arn


def granted(made: Bench) -> str:
    key_arn = made.create_key()
    key = made.world.home.kms.keys.resolve(key_arn, ACCOUNT)
    key.add_grant("", f"arn:aws:iam::{ACCOUNT}:root", ["Decrypt"], {}, "")
    return key_arn


def looser(made: Bench) -> str:
    policy = json.loads(render_key_policy_text(made.policy_parameters()))
    statement = {"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}
    policy["Statement"].append(statement)
    return made.world.create_key(json.dumps(policy))


def of_another_image(made: Bench) -> str:
    parameters = made.policy_parameters(pcr0="ee" * 48)
    return made.world.create_key(render_key_policy_text(parameters))


def of_another_deployment(made: Bench) -> str:
    parameters = made.policy_parameters(context_deployment_digest="sha384:" + "ee" * 48)
    return made.world.create_key(render_key_policy_text(parameters))


UNFIT: dict[str, Naming] = {
    "disabled": disabled,
    "granted": granted,
    "looser policy": looser,
    "another image's policy": of_another_image,
    "another deployment's policy": of_another_deployment,
    "multi-Region": lambda made: made.create_key(multi_region=True),
    "imported": lambda made: made.create_key(origin="EXTERNAL"),
    "absent": lambda _made: f"arn:aws:kms:{HOME}:{ACCOUNT}:key/{uuid.UUID(int=0)}",
}


@pytest.mark.parametrize("make", UNFIT.values(), ids=UNFIT.keys())
def test_a_key_that_is_not_as_measured_is_unfit(make: Naming) -> None:
    @in_loop
    async def scenario() -> None:
        async with ready() as made:
            assert await refusal(made, make(made)) is ErrorCode.ERR_KMS_KEY_UNFIT
            assert "GenerateDataKey" not in made.cloud.happened

    scenario()


@in_loop
async def test_a_role_that_the_policy_does_not_name_is_denied() -> None:
    async with ready() as made:
        other_role = made.world.identities.role_session(ACCOUNT, "AnotherRole")
        await made.identity.accept(credentials(other_role))
        assert await refusal(made, made.create_key()) is ErrorCode.ERR_KMS_DENIED


@in_loop
async def test_a_debug_enclave_cannot_even_state_a_policy() -> None:
    async with ready() as made:
        key_arn = made.create_key()
        made.nsm.debug = True
        assert await refusal(made, key_arn) is ErrorCode.ERR_KMS_KEY_UNFIT


@in_loop
async def test_a_secret_under_another_key_or_context_is_refused() -> None:
    async with ready() as made:
        key_arn, other_arn = made.create_key(), made.create_key()
        other = await made.gate.open(other_arn, None)
        assert await refusal(made, key_arn, other.wrapped_secret) is ErrorCode.ERR_KMS_KEY_UNFIT
        assert await refusal(made, key_arn, b"planted") is ErrorCode.ERR_KMS_KEY_UNFIT
        key = made.world.home.kms.keys.resolve(key_arn, ACCOUNT)
        backend = made.world.home.kms.keys.backend(ACCOUNT)
        context = made.policy_parameters().encryption_context() | {"release": "0.0.0"}
        planted, _ = backend.encrypt(key.id, bytes(32), context)
        assert await refusal(made, key_arn, planted) is ErrorCode.ERR_KMS_KEY_UNFIT


def planting(key_arn: str, secret: bytes, **extra: object) -> Answering:
    """A KMS that answers with a secret of the attacker's, encrypted to the enclave."""

    async def answer(request: Request) -> Response:
        recipient = json.loads(request.body)["Recipient"]
        document = parse_untrusted_document(base64.b64decode(recipient["AttestationDocument"]))
        assert document.public_key is not None
        public_key = load_der_public_key(document.public_key)
        assert isinstance(public_key, RSAPublicKey)
        blob = base64.b64encode(cms.envelope(secret, public_key)).decode()
        members = {"KeyId": key_arn, "CiphertextForRecipient": blob, "CiphertextBlob": "AAAA"}
        return Response(200, {}, json.dumps({**members, **extra}).encode())

    return answer


@pytest.mark.parametrize("size", [0, 16, 31, 33])
@pytest.mark.parametrize("wrapped", [None, b"wrapped"])
def test_a_secret_of_another_length_is_refused(size: int, wrapped: bytes | None) -> None:
    @in_loop
    async def scenario() -> None:
        async with ready() as made:
            key_arn = made.create_key()
            for operation in ("GenerateDataKey", "Decrypt"):
                made.cloud.instead[operation] = planting(key_arn, bytes(size))
            assert await refusal(made, key_arn, wrapped) is ErrorCode.ERR_KMS_KEY_UNFIT

    scenario()


@pytest.mark.parametrize(
    "extra",
    [
        {"KeyId": f"arn:aws:kms:{HOME}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000"},
        {"Plaintext": "AAAA"},
        {"CiphertextForRecipient": "AAAA"},
    ],
    ids=["another key", "plaintext", "no CMS"],
)
def test_an_answer_that_is_not_the_one_asked_for_is_refused(extra: dict[str, object]) -> None:
    @in_loop
    async def scenario() -> None:
        async with ready() as made:
            key_arn = made.create_key()
            made.cloud.instead["Decrypt"] = planting(key_arn, bytes(32), **extra)
            assert await refusal(made, key_arn, b"wrapped") is ErrorCode.ERR_KMS_KEY_UNFIT

    scenario()


@pytest.mark.parametrize("accident", list(Accident))
@pytest.mark.parametrize(
    "operation", ["DescribeKey", "ListGrants", "GetKeyPolicy", "GenerateDataKey", "Decrypt"]
)
def test_an_unreachable_kms_has_judged_nothing(operation: str, accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with ready() as made:
            key_arn = made.create_key()
            first = await made.gate.open(key_arn, None)
            wrapped = first.wrapped_secret if operation == "Decrypt" else None
            made.cloud.fail(operation, accident)
            with pytest.raises(KMSUnreachableError) as caught:
                await made.gate.open(key_arn, wrapped)
            assert caught.value.code is ErrorCode.ERR_KMS_UNREACHABLE
            opened = await made.gate.open(key_arn, wrapped)
            assert (opened.service_secret == first.service_secret) == (wrapped is not None)

    scenario()


@pytest.mark.parametrize("accident", list(Accident))
def test_a_failing_nsm_opens_no_gate(accident: Accident) -> None:
    @in_loop
    async def scenario() -> None:
        async with ready() as made:
            made.nsm.accidents.append(accident)
            with pytest.raises(NSMError):
                await made.gate.open(made.create_key(), None)
            assert "GenerateDataKey" not in made.cloud.happened

    scenario()


@in_loop
async def test_the_recipient_document_is_reused_for_a_minute() -> None:
    async with ready() as made:
        document = await made.recipient.document()
        made.advance(KMS_RECIPIENT_DOCUMENT_S - 1)
        assert await made.recipient.document() is document
        made.advance(1)
        newer = await made.recipient.document()
        assert newer is not document
        keys = {parse_untrusted_document(each).public_key for each in (document, newer)}
        assert len(keys) == 1


@in_loop
async def test_stale_credentials_ask_nothing() -> None:
    async with ready() as made:
        key_arn = made.create_key()
        made.advance(IDENTITY_MAX_AGE_S + 1)
        assert await refusal(made, key_arn) is ErrorCode.ERR_UPSTREAM_IDENTITY
        assert made.cloud.happened == []


@in_loop
async def test_the_session_of_the_service_role_is_enough() -> None:
    async with ready() as made:
        session = made.world.identities.role_session(ACCOUNT, SERVICE_ROLE, "another-session")
        await made.identity.accept(credentials(session))
        await made.gate.open(made.create_key(), None)
