"""The KMS table: who gets the service secret under the deployed policy, and who does not."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from latensgate_shared.kms_policy import KeyPolicyParameters, render_key_policy_text
from latensgate_sim.errors import AWSError
from latensgate_sim.measure import Measurements
from latensgate_sim.world import ACCOUNT, TENANT_ACCOUNT, World, WorldConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latensgate_sim.identity import Identity
    from latensgate_sim.world import SimulatedEnclave

IMAGE = Measurements(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
DIGEST = "sha384:" + "ab" * 48
CONTEXT = {"service": "latensgate", "release": "0.1.0", "deployment": DIGEST}
RSA_KEY = rsa.generate_private_key(65537, 2048)
SPKI = RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
OPEN = {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(WorldConfig(regions=("us-east-1", "eu-west-1"))) as made:
        yield made


@pytest.fixture(scope="module")
def enclave(world: World) -> SimulatedEnclave:
    return world.add_enclave("good", IMAGE)


@pytest.fixture
def key(world: World) -> str:
    return world.create_key(template(world))


def template(world: World) -> str:
    return render_key_policy_text(
        KeyPolicyParameters(
            account_id=ACCOUNT,
            partition="aws",
            service_role_arn=world.service.identity.principal_arn,
            key_admin_role_arn=world.admin.identity.principal_arn,
            pcr0=IMAGE.pcr0.hex(),
            pcr1=IMAGE.pcr1.hex(),
            pcr2=IMAGE.pcr2.hex(),
            context_service="latensgate",
            context_release="0.1.0",
            context_deployment_digest=DIGEST,
        )
    )


def call(
    world: World,
    operation: str,
    *,
    by: Identity | None = None,
    region: str = "us-east-1",
    **parameters: object,
) -> dict[str, object]:
    return call_with(world, operation, parameters, by=by, region=region)


def call_with(
    world: World,
    operation: str,
    parameters: dict[str, object],
    *,
    by: Identity | None = None,
    region: str = "us-east-1",
) -> dict[str, object]:
    identity = by or world.service.identity
    return world.regions[region].kms.call(identity, operation, parameters)


def recipient(enclave: SimulatedEnclave, spki: bytes | None = SPKI) -> dict[str, str]:
    document = enclave.nsm.attest(public_key=spki)
    return {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
        "AttestationDocument": base64.b64encode(document).decode(),
    }


def generate(
    world: World, key: str, enclave: SimulatedEnclave, **changes: object
) -> dict[str, object]:
    wanted: dict[str, object] = {
        "KeyId": key,
        "KeySpec": "AES_256",
        "EncryptionContext": CONTEXT,
        "Recipient": recipient(enclave),
        **changes,
    }
    return call_with(world, "GenerateDataKey", wanted)


def refusal(error: pytest.ExceptionInfo[AWSError]) -> tuple[str, int]:
    return error.value.code, error.value.status


def test_the_measured_enclave_gets_the_secret(
    world: World, key: str, enclave: SimulatedEnclave
) -> None:
    made = generate(world, key, enclave)
    assert set(made) == {"CiphertextBlob", "KeyId", "CiphertextForRecipient"}
    opened = call(
        world,
        "Decrypt",
        KeyId=key,
        CiphertextBlob=made["CiphertextBlob"],
        EncryptionContext=CONTEXT,
        Recipient=recipient(enclave),
    )
    assert opened["KeyId"] == key
    assert "Plaintext" not in opened


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_changed_measurement_is_denied(world: World, key: str, index: int) -> None:
    values = [IMAGE.pcr0, IMAGE.pcr1, IMAGE.pcr2]
    values[index] = b"\xee" * 48
    changed = world.add_enclave(f"changed-{index}", Measurements(*values))
    with pytest.raises(AWSError, match="no resource-based policy allows") as error:
        generate(world, key, changed)
    assert refusal(error) == ("AccessDeniedException", 400)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"service": "latensgate"},
        {**CONTEXT, "release": "0.2.0"},
        {**CONTEXT, "deployment": "sha384:" + "cd" * 48},
        {**CONTEXT, "extra": "1"},
    ],
)
def test_another_context_is_denied(
    world: World, key: str, enclave: SimulatedEnclave, context: dict[str, str]
) -> None:
    with pytest.raises(AWSError, match="no resource-based policy allows"):
        generate(world, key, enclave, EncryptionContext=context)


def test_without_recipient_and_for_others_it_is_denied(
    world: World, key: str, enclave: SimulatedEnclave
) -> None:
    with pytest.raises(AWSError, match="no resource-based policy allows"):
        call(world, "GenerateDataKey", KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
    for other in (world.admin, world.tenant):
        with pytest.raises(AWSError, match="no resource-based policy allows"):
            call(
                world,
                "GenerateDataKey",
                by=other.identity,
                KeyId=key,
                KeySpec="AES_256",
                EncryptionContext=CONTEXT,
                Recipient=recipient(enclave),
            )


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("Encrypt", {"Plaintext": "AAAA", "EncryptionContext": CONTEXT}),
        ("GenerateDataKeyWithoutPlaintext", {"KeySpec": "AES_256", "EncryptionContext": CONTEXT}),
        ("CreateGrant", {"GranteePrincipal": "x", "Operations": ["Decrypt"]}),
        ("PutKeyPolicy", {"Policy": json.dumps({"Statement": [OPEN]})}),
        ("EnableKey", {}),
    ],
)
def test_nobody_plants_or_loosens(
    world: World, key: str, operation: str, parameters: dict[str, object]
) -> None:
    for caller in (world.service, world.admin):
        with pytest.raises(AWSError, match="with an explicit deny in a resource-based policy"):
            call_with(world, operation, {"KeyId": key, **parameters}, by=caller.identity)


def test_re_encrypt_into_the_key_is_denied(world: World, key: str) -> None:
    other = world.create_key()
    made = call(world, "Encrypt", by=world.admin.identity, KeyId=other, Plaintext="AAAA")
    with pytest.raises(AWSError, match="explicit deny"):
        call(
            world,
            "ReEncrypt",
            by=world.admin.identity,
            CiphertextBlob=made["CiphertextBlob"],
            DestinationKeyId=key,
            DestinationEncryptionContext=CONTEXT,
        )
    moved = call(
        world,
        "ReEncrypt",
        by=world.admin.identity,
        CiphertextBlob=made["CiphertextBlob"],
        DestinationKeyId=world.create_key(),
    )
    assert moved["SourceKeyId"] == other


def test_planted_ciphertext_under_a_looser_policy_opens_so_the_enclave_must_look(
    world: World, enclave: SimulatedEnclave
) -> None:
    loose = world.create_key(json.dumps({"Statement": [OPEN]}))
    planted = call(world, "Encrypt", KeyId=loose, Plaintext="AAAA", EncryptionContext=CONTEXT)
    world.set_policy(loose, template(world))
    opened = call(
        world,
        "Decrypt",
        KeyId=loose,
        CiphertextBlob=planted["CiphertextBlob"],
        EncryptionContext=CONTEXT,
        Recipient=recipient(enclave),
    )
    assert "CiphertextForRecipient" in opened
    world.set_policy(loose, json.dumps({"Statement": [OPEN]}))
    plain = call(
        world, "Decrypt", CiphertextBlob=planted["CiphertextBlob"], EncryptionContext=CONTEXT
    )
    assert plain["Plaintext"] == "AAAA"


def test_revoked_while_serving(world: World, key: str, enclave: SimulatedEnclave) -> None:
    generate(world, key, enclave)
    call(world, "DisableKey", by=world.admin.identity, KeyId=key)
    with pytest.raises(AWSError, match="is disabled") as error:
        generate(world, key, enclave)
    assert refusal(error) == ("DisabledException", 400)
    call(
        world,
        "ScheduleKeyDeletion",
        by=world.admin.identity,
        KeyId=key,
        PendingWindowInDays=7,
    )
    with pytest.raises(AWSError, match="pending deletion"):
        generate(world, key, enclave)


def test_policy_changed_by_aws_alone_cuts_off(
    world: World, key: str, enclave: SimulatedEnclave
) -> None:
    world.set_policy(key, json.dumps({"Statement": []}))
    with pytest.raises(AWSError, match="no resource-based policy"):
        generate(world, key, enclave)


def test_an_extra_grant_lets_in_what_the_policy_does_not(world: World) -> None:
    key = world.create_key(json.dumps({"Statement": [OPEN]}))
    role = world.identities.role_session(ACCOUNT, "Stranger").identity
    constraints = {"EncryptionContextSubset": {"a": "1"}}
    made = call(
        world,
        "CreateGrant",
        KeyId=key,
        GranteePrincipal=role.principal_arn,
        Operations=["Decrypt", "Encrypt"],
        Constraints=constraints,
    )
    read = {
        "Effect": "Allow",
        "Principal": {"AWS": world.admin.identity.principal_arn},
        "Action": ["kms:ListGrants", "kms:RevokeGrant"],
        "Resource": "*",
    }
    world.set_policy(key, json.dumps({"Statement": read}))
    blob = call(
        world, "Encrypt", by=role, KeyId=key, Plaintext="AAAA", EncryptionContext={"a": "1"}
    )
    assert blob["KeyId"] == key
    for context in ({}, {"a": "2"}):
        with pytest.raises(AWSError, match="no resource-based policy"):
            call(world, "Encrypt", by=role, KeyId=key, Plaintext="AAAA", EncryptionContext=context)
    with pytest.raises(AWSError, match="no resource-based policy"):
        call(world, "GenerateDataKey", by=role, KeyId=key, KeySpec="AES_256")
    grants = call(world, "ListGrants", by=world.admin.identity, KeyId=key)["Grants"]
    assert isinstance(grants, list)
    assert grants[0]["GranteePrincipal"] == role.principal_arn
    call(world, "RevokeGrant", by=world.admin.identity, KeyId=key, GrantId=made["GrantId"])
    with pytest.raises(AWSError, match="no resource-based policy"):
        call(world, "Encrypt", by=role, KeyId=key, Plaintext="AAAA", EncryptionContext={"a": "1"})


def test_grant_with_an_exact_context_and_another_grantee(world: World) -> None:
    key = world.create_key(json.dumps({"Statement": [OPEN]}))
    role = world.identities.role_session(ACCOUNT, "Exact").identity
    other = world.identities.role_session(ACCOUNT, "Other").identity
    call(
        world,
        "CreateGrant",
        KeyId=key,
        GranteePrincipal=role.principal_arn,
        Operations=["Encrypt"],
        Constraints={"EncryptionContextEquals": {"a": "1"}},
    )
    world.set_policy(key, json.dumps({"Statement": []}))
    call(world, "Encrypt", by=role, KeyId=key, Plaintext="AAAA", EncryptionContext={"a": "1"})
    for caller, context in ((role, {"a": "1", "b": "2"}), (other, {"a": "1"})):
        with pytest.raises(AWSError, match="no resource-based policy"):
            call(
                world, "Encrypt", by=caller, KeyId=key, Plaintext="AAAA", EncryptionContext=context
            )


def test_alias_and_other_region(world: World, enclave: SimulatedEnclave) -> None:
    key = world.create_key()
    admin = world.admin.identity
    call(world, "CreateAlias", by=admin, AliasName="alias/latensgate", TargetKeyId=key)
    with pytest.raises(AWSError, match="already exists"):
        call(world, "CreateAlias", by=admin, AliasName="alias/latensgate", TargetKeyId=key)
    for name in ("alias/latensgate", f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/latensgate"):
        found = call(world, "DescribeKey", by=admin, KeyId=name)["KeyMetadata"]
        assert isinstance(found, dict)
        assert found["Arn"] == key
    call(world, "DeleteAlias", by=admin, AliasName="alias/latensgate")
    with pytest.raises(AWSError, match="is not found"):
        call(world, "DescribeKey", by=admin, KeyId="alias/latensgate")
    with pytest.raises(AWSError, match="Invalid arn us-east-1") as error:
        call(world, "DescribeKey", by=admin, region="eu-west-1", KeyId=key)
    assert refusal(error) == ("NotFoundException", 400)
    with pytest.raises(AWSError, match="does not exist"):
        call(world, "DescribeKey", by=admin, KeyId="00000000-0000-0000-0000-000000000000")
    made = generate(world, world.create_key(template(world)), enclave)
    with pytest.raises(AWSError) as error:
        call(
            world,
            "Decrypt",
            region="eu-west-1",
            CiphertextBlob=made["CiphertextBlob"],
            EncryptionContext=CONTEXT,
        )
    assert error.value.code == "InvalidCiphertextException"


def test_multi_region_flag_is_visible(world: World) -> None:
    key = world.create_key(MultiRegion=True)
    found = call(world, "DescribeKey", by=world.admin.identity, KeyId=key)["KeyMetadata"]
    assert isinstance(found, dict)
    assert found["MultiRegion"] is True
    assert found["MultiRegionConfiguration"]["MultiRegionKeyType"] == "PRIMARY"
    assert "key/mrk-" in key


def test_tenant_key_of_another_account_needs_both_sides(
    world: World, enclave: SimulatedEnclave
) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [world.service.identity.principal_arn, TENANT_ACCOUNT]},
        "Action": "kms:*",
        "Resource": "*",
    }
    key = world.create_key(json.dumps({"Statement": [statement]}), by=world.tenant)
    with pytest.raises(AWSError, match="no identity-based policy allows"):
        generate(world, key, enclave)
    allowed = world.identities.role_session(
        ACCOUNT, "LatensgateService", iam_actions=("kms:GenerateDataKey",)
    ).identity
    made = call(
        world,
        "GenerateDataKey",
        by=allowed,
        KeyId=key,
        NumberOfBytes=64,
        Recipient=recipient(enclave),
    )
    assert made["KeyId"] == key


def test_lockout_safety_check(world: World) -> None:
    with pytest.raises(AWSError, match="will not allow you to update") as error:
        call(world, "CreateKey", by=world.admin.identity, Policy=template(world))
    assert error.value.code == "MalformedPolicyDocumentException"
    with pytest.raises(AWSError, match="no identity-based policy allows the kms:CreateKey"):
        call(world, "CreateKey")
    key = world.create_key()
    with pytest.raises(AWSError, match="will not allow you to update"):
        call(world, "PutKeyPolicy", by=world.admin.identity, KeyId=key, Policy=template(world))
    call(
        world,
        "PutKeyPolicy",
        by=world.admin.identity,
        KeyId=key,
        Policy=template(world),
        BypassPolicyLockoutSafetyCheck=True,
    )
    text = call(world, "GetKeyPolicy", KeyId=key)["Policy"]
    assert json.loads(str(text)) == json.loads(template(world))


def test_administrator_reads(world: World, key: str) -> None:
    admin = world.admin.identity
    assert call(world, "ListKeyPolicies", by=admin, KeyId=key)["PolicyNames"] == ["default"]
    assert call(world, "ListResourceTags", by=admin, KeyId=key)["Tags"] == []
    rotation = call(world, "GetKeyRotationStatus", by=admin, KeyId=key)
    assert rotation["KeyRotationEnabled"] is False


def test_enable_after_disable_without_the_deny(world: World) -> None:
    key = world.create_key()
    admin = world.admin.identity
    call(world, "DisableKey", by=admin, KeyId=key)
    call(world, "EnableKey", by=admin, KeyId=key)
    made = call(world, "GenerateDataKeyWithoutPlaintext", by=admin, KeyId=key, KeySpec="AES_128")
    assert set(made) == {"CiphertextBlob", "KeyId"}


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"KeySpec": "AES_256", "Recipient": "x"}, "SerializationException"),
        ({"KeySpec": "AES_256", "Recipient": {}}, "ValidationException"),
        ({"KeySpec": "AES_512"}, "ValidationException"),
        ({"NumberOfBytes": 1025}, "ValidationException"),
        ({"NumberOfBytes": "1"}, "ValidationException"),
        ({"KeySpec": "AES_256", "EncryptionContext": ["x"]}, "SerializationException"),
        ({"KeySpec": 7}, "ValidationException"),
    ],
)
def test_malformed_parameters(world: World, parameters: dict[str, object], code: str) -> None:
    key = world.create_key()
    with pytest.raises(AWSError) as error:
        call_with(world, "GenerateDataKey", {"KeyId": key, **parameters}, by=world.admin.identity)
    assert error.value.code == code


def test_other_refusals(world: World, enclave: SimulatedEnclave) -> None:
    admin, key = world.admin.identity, world.create_key()
    with pytest.raises(AWSError) as error:
        call(world, "Nonsense")
    assert error.value.code == "UnknownOperationException"
    with pytest.raises(AWSError) as error:
        call(world, "Decrypt", CiphertextBlob="!")
    assert error.value.code == "SerializationException"
    with pytest.raises(AWSError) as error:
        call(world, "Encrypt", by=admin, KeyId=key, Plaintext="")
    assert error.value.code == "ValidationException"
    with pytest.raises(AWSError) as error:
        call(world, "RevokeGrant", by=admin, KeyId=key, GrantId="none")
    assert error.value.code == "NotFoundException"
    ec_spki = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = ec_spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for spki in (None, b"junk", der):
        with pytest.raises(AWSError, match="public_key") as error:
            call(
                world,
                "GenerateDataKey",
                by=admin,
                KeyId=key,
                KeySpec="AES_256",
                Recipient=recipient(enclave, spki),
            )
        assert error.value.code == "ValidationException"
    broken = {**recipient(enclave), "AttestationDocument": "!"}
    with pytest.raises(AWSError, match="base64"):
        call(world, "GenerateDataKey", by=admin, KeyId=key, KeySpec="AES_256", Recipient=broken)


def test_expired_document_is_refused(world: World, key: str, enclave: SimulatedEnclave) -> None:
    stale = recipient(enclave)
    world.clock.advance(4 * 3600)
    try:
        with pytest.raises(AWSError, match="ERR_ATTESTATION_INVALID") as error:
            generate(world, key, enclave, Recipient=stale)
    finally:
        world.clock.advance(-4 * 3600)
    assert error.value.code == "ValidationException"
