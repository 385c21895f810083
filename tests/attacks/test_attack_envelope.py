"""Bodies under a data key of the tenant's own KMS key: another tenant's, another request's.

Each refusal names its line of defence; ``mutants.py`` proves that the test fails without it.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from e2e_client import TENANT, Client, chat, outer_refusal, tenant_key
from e2e_fixtures import StartStack
from latensgate_shared.errors import ErrorCode
from latensgate_shared.kms_envelope import encryption_context
from latensgate_shared.sealed_plaintext import KMSEnvelope, build_plaintext
from latensgate_sim.world import World
from stack import CallFailedError, ParentLink, Stack


def test_body_model_under_the_tenant_key_differs(
    client: Client, link: ParentLink, stack: Stack
) -> None:
    """Defence: pipeline.open_sealed checks the model of what the envelope held."""
    key = tenant_key(stack)
    data_key, wrapped = key.data_key(encryption_context(TENANT))
    body, outer = chat("mine", model="other"), client.outer(chat("mine"))
    sealed = client.seal_under(body, data_key, KMSEnvelope(key.arn, wrapped), outer)
    assert client.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_OUTER_MISMATCH)


def test_data_key_of_another_tenant(client: Client, link: ParentLink, stack: Stack) -> None:
    """Swapped context. Defence: envelope.TenantKeys._decrypt, the context names the tenant."""
    context = encryption_context("tnt_ffffffff")
    sealed = client.seal_enveloped(chat("mine"), tenant_key(stack), wrap=context)
    assert client.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_KMS_ENVELOPE)


def test_data_key_cached_for_one_tenant_serves_no_other(
    client: Client, link: ParentLink, stack: Stack
) -> None:
    """Defence: envelope.TenantKeys.data_key, the tenant is part of the cache's index."""
    key = tenant_key(stack)
    context = encryption_context(TENANT)
    data_key, wrapped = key.data_key(context)
    envelope = KMSEnvelope(key.arn, wrapped)
    assert client.send(link, client.seal_under(chat("a"), data_key, envelope)).code is None
    other = replace(client, tenant_id="tnt_ffffffff")
    sealed = other.seal_under(chat("a"), data_key, envelope)
    assert other.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_KMS_ENVELOPE)


def test_body_of_another_request_under_the_same_data_key(
    client: Client, link: ParentLink, stack: Stack
) -> None:
    """Defence: kms_envelope, the request id is the AAD."""
    key = tenant_key(stack)
    data_key, wrapped = key.data_key(encryption_context(TENANT))
    envelope = KMSEnvelope(key.arn, wrapped)
    one = client.fields(kms_envelope=envelope)
    two = client.fields(kms_envelope=envelope)
    body = chat("mine")
    under = client.under(data_key, one, body)
    sealed = client.seal_raw(build_plaintext(two, under), client.outer(body))
    assert client.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_KMS_ENVELOPE)


def test_tenant_key_that_denies(client: Client, link: ParentLink, stack: Stack) -> None:
    """Defence: KMS judges; the enclave passes its word on."""
    key = tenant_key(stack)
    sealed = client.seal_enveloped(chat("mine"), key)
    stack.world.set_policy(key.arn, tenant_only())
    assert client.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_KMS_DENIED)


def tenant_only() -> str:
    everything = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::444455556666:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [everything]})


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:kms:us-east-1:444455556666:alias/mine",
        "arn:aws:kms:us-west-2:444455556666:key/00000000-0000-4000-8000-000000000000",
        "arn:aws:kms:us-east-1:444455556666:key/00000000-0000-4000-8000-000000000000",
    ],
    ids=["alias", "other-region", "absent"],
)
def test_tenant_key_that_is_none(client: Client, link: ParentLink, stack: Stack, arn: str) -> None:
    """Defence: aws/kms.py parse_key_arn; envelope.TenantKeys._decrypt, `key.region`."""
    key = tenant_key(stack)
    data_key, wrapped = key.data_key(encryption_context(TENANT))
    sealed = client.seal_under(chat("mine"), data_key, KMSEnvelope(arn, wrapped))
    assert client.refusal(link, sealed) == outer_refusal(ErrorCode.ERR_KMS_ENVELOPE)


def test_tenant_key_revoked_while_serving(own_world: World, start_stack: StartStack) -> None:
    """Refused as soon as the remembered data key has aged, on enclave time.

    Defence: envelope.TenantKeys.data_key, `now_s - cached[0] < TENANT_DATA_KEY_CACHE_S`.
    """
    stack = start_stack(own_world, limits={"CLOCK_REFRESH_S": 0.1, "IDENTITY_CHECK_S": 0.2})
    with stack.link() as link:
        stack.open_gate(link)
        client, key = Client.attest(stack, link), tenant_key(stack)
        data_key, wrapped = key.data_key(encryption_context(TENANT))
        envelope = KMSEnvelope(key.arn, wrapped)

        def refused() -> ErrorCode | None:
            sealed = client.seal_under(chat("mine"), data_key, envelope)
            try:
                client.send(link, sealed)
            except CallFailedError as error:
                return error.code
            return None

        assert refused() is None
        own_world.set_policy(key.arn, tenant_only())
        assert refused() is None  # remembered
        stack.advance(250)
        assert refused() is None
        stack.advance(51)
        assert refused() is ErrorCode.ERR_KMS_DENIED
