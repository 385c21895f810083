"""The KMS gate: who gets the service secret, and every way in which a parent could plant one.

Each refusal names its line of defence; ``mutants.py`` proves that the test fails without it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from attack_keys import ANYONE, LOOSE, ROOT, Statement, template, with_statements
from attack_tools import altered_kms, changed_code, recorded_kms, rerouted
from e2e_client import Client, chat, gate_refusal
from e2e_fixtures import StartStack
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_sim.tls import EndpointCA
from latensgate_sim.world import ACCOUNT, World
from stack import ParentLink, Stack

PLANTED = b"planted secret of 32 bytes......"
UNFIT = ErrorCode.ERR_KMS_KEY_UNFIT


def planted(world: World, key_arn: str, context: dict[str, str]) -> bytes:
    """Encrypt a secret of one's own, while the key's policy still lets everyone."""
    parameters = {
        "KeyId": key_arn,
        "Plaintext": base64.b64encode(PLANTED).decode(),
        "EncryptionContext": context,
    }
    answer = world.home.kms.call(world.admin.identity, "Encrypt", parameters)
    return base64.b64decode(str(answer["CiphertextBlob"]))


def secret_planted_under_the_key(stack: Stack, context: dict[str, str]) -> tuple[str, bytes]:
    """Make a key, encrypt under it, and only then give it the template's policy."""
    key = stack.world.create_key(LOOSE)
    blob = planted(stack.world, key, context)
    stack.world.set_policy(key, template(stack))
    return key, blob


# --- allowed ---


def test_right_image_is_allowed_and_a_second_enclave_opens_the_same_secret(
    world: World, start_stack: StartStack
) -> None:
    first, second = start_stack(world), start_stack(world)
    with first.link() as link:
        link.call(first.credentials())
        answer = link.call(calls.ConfigureKMSCall(first.key_arn))
        wrapped = calls.ConfigureKMSAnswer.from_head(answer.head).wrapped_secret
        assert Client.attest(first, link).ask(link, chat("hello")).text == "You said: hello"
    assert wrapped is not None
    with second.link() as link:
        link.call(second.credentials())
        answer = link.call(calls.ConfigureKMSCall(first.key_arn, wrapped))
        assert calls.ConfigureKMSAnswer.from_head(answer.head).wrapped_secret is None
        assert Client.attest(second, link).ask(link, chat("hello")).text == "You said: hello"


def test_equal_policy_in_another_spelling_is_allowed(stack: Stack, link: ParentLink) -> None:
    """A scalar equals a list of one, lists are sets, order does not matter."""

    def spell(statements: list[Statement]) -> None:
        statements.reverse()
        for statement in statements:
            cast("list[str]", statement["Action"]).reverse()
            statement["Resource"] = ["*"]

    key = stack.world.create_key(with_statements(stack, spell))
    link.call(calls.ConfigureKMSCall(key))


# --- the image ---


def test_changed_enclave_file_is_denied(
    world: World, start_stack: StartStack, tmp_path: Path
) -> None:
    """One letter of a comment changes PCR0 and PCR1, and the key is not for that image.

    Defence: gate.KMSGate._judge_key compares with the template under its own PCRs.
    """
    honest = start_stack(world)
    code = changed_code(
        tmp_path / "code", "latensgate_enclave/replay.py", "The replay set:", "The Replay set:"
    )
    changed = start_stack(world, code=code)
    mine, theirs = honest.parameters(), changed.parameters()
    assert (mine.pcr0 == theirs.pcr0, mine.pcr1 == theirs.pcr1) == (False, False)
    assert mine.pcr2 == theirs.pcr2
    with changed.link() as link:
        link.call(changed.credentials())
        assert gate_refusal(link, honest.key_arn) is UNFIT


def test_changed_enclave_that_skips_its_own_check_is_denied_by_kms(
    world: World, start_stack: StartStack, tmp_path: Path
) -> None:
    """An operator who removes the comparison from the code has another image, and KMS says no.

    Defence: conditions on PCR0, PCR1 and PCR2 in kms_key_policy.json.tftpl, which KMS judges.
    """
    honest = start_stack(world)
    code = changed_code(
        tmp_path / "code", "latensgate_shared/kms_policy.py", "if not equal:", "if False:"
    )
    changed = start_stack(world, code=code)
    with changed.link() as link:
        link.call(changed.credentials())
        assert gate_refusal(link, honest.key_arn) is ErrorCode.ERR_KMS_DENIED
    assert world.home.kms.log[-1][0::2] == ("GenerateDataKey", "AccessDeniedException")


# --- the key's policy, grants and facts ---


def _without_denies(statements: list[Statement]) -> None:
    statements[:] = [each for each in statements if each["Effect"] == "Allow"]


def _without(condition: str) -> Callable[[list[Statement]], None]:
    def change(statements: list[Statement]) -> None:
        tests = cast("dict[str, dict[str, str]]", statements[0]["Condition"])
        del tests["StringEqualsIgnoreCase"][condition]

    return change


def _operator(statements: list[Statement]) -> None:
    tests = cast("dict[str, object]", statements[0]["Condition"])
    tests["StringEqualsIgnoreCaseIfExists"] = tests.pop("StringEqualsIgnoreCase")


def _more_actions(statements: list[Statement]) -> None:
    cast("list[str]", statements[0]["Action"]).append("kms:ReEncryptTo")


def _admin_may_put_policy(statements: list[Statement]) -> None:
    cast("list[str]", statements[2]["Action"]).append("kms:PutKeyPolicy")


LOOSER: dict[str, Callable[[list[Statement]], object]] = {
    "root-delegation": lambda statements: statements.append(ROOT),
    "anyone": lambda statements: statements.append(ANYONE),
    "no-denies": _without_denies,
    "no-pcr0": _without("kms:RecipientAttestation:PCR0"),
    "no-pcr1": _without("kms:RecipientAttestation:PCR1"),
    "no-pcr2": _without("kms:RecipientAttestation:PCR2"),
    "if-exists": _operator,
    "more-actions": _more_actions,
    "admin-puts-policy": _admin_may_put_policy,
}


@pytest.mark.parametrize("change", LOOSER.values(), ids=LOOSER)
def test_looser_key_policy_is_refused(
    stack: Stack, link: ParentLink, change: Callable[[list[Statement]], object]
) -> None:
    """Defence: kms_policy.verify_key_policy, `if not equal:`."""
    key = stack.world.create_key(with_statements(stack, change))
    assert gate_refusal(link, key) is UNFIT


@pytest.mark.parametrize("register", ["pcr0", "pcr1", "pcr2"])
def test_policy_for_another_image_is_refused(stack: Stack, link: ParentLink, register: str) -> None:
    """Defence: kms_policy.verify_key_policy; PCRs are the enclave's own (_policy_parameters)."""
    key = stack.world.create_key(template(stack, **{register: "ab" * 48}))
    assert gate_refusal(link, key) is UNFIT


def test_grant_is_refused(stack: Stack, link: ParentLink) -> None:
    """Defence: aws/kms.py verify_no_grants, `if found.Grants or found.Truncated:`."""
    world = stack.world
    key = world.create_key(template(stack))
    role = world.admin.identity.principal_arn
    held = world.home.kms.keys.resolve(key, ACCOUNT)
    held.add_grant("extra", role, ["Decrypt"], {}, "")
    assert gate_refusal(link, key) is UNFIT


def test_multi_region_key_is_refused(stack: Stack, link: ParentLink) -> None:
    """Defence: gate.KMSGate._judge_key, `if described != _FIT:`."""
    world = stack.world
    key = world.create_key(template(stack))

    def multi_region(operation: str, answer: dict[str, object]) -> dict[str, object]:
        if operation == "DescribeKey":
            cast("dict[str, object]", answer["KeyMetadata"])["MultiRegion"] = True
        return answer

    with altered_kms(world, multi_region):
        assert gate_refusal(link, key) is UNFIT
    named = world.create_key(template(stack), MultiRegion=True)  # its ARN tells, too
    assert gate_refusal(link, named) is UNFIT


def test_imported_key_material_is_refused(stack: Stack, link: ParentLink) -> None:
    """Defence: gate.KMSGate._judge_key, `if described != _FIT:`."""
    world = stack.world
    key = world.create_key(template(stack))
    world.home.kms.keys.resolve(key, ACCOUNT).origin = "EXTERNAL"
    assert gate_refusal(link, key) is UNFIT


# --- another key, Region, account, alias ---


def test_alias_is_refused(stack: Stack, link: ParentLink) -> None:
    """Whoever moves an alias moves the key. Defence: aws/kms.py parse_key_arn."""
    world = stack.world
    key = world.create_key(template(stack))
    backend = world.home.kms.keys.backend(ACCOUNT)
    backend.create_alias(key.rpartition("/")[2], "alias/gate")
    alias = key.rpartition(":")[0] + ":alias/gate"
    assert gate_refusal(link, alias) is UNFIT


def test_bare_key_id_is_refused(stack: Stack, link: ParentLink) -> None:
    """Defence: aws/kms.py parse_key_arn."""
    assert gate_refusal(link, stack.key_arn.rpartition("/")[2]) is UNFIT


def test_key_of_another_region_is_refused(stack: Stack, link: ParentLink) -> None:
    """A measured Region, and still not the home one. Defence: gate.KMSGate._place."""
    other = stack.world.regions["eu-west-1"].kms
    parameters = {"Policy": template(stack), "BypassPolicyLockoutSafetyCheck": True}
    answer = other.call(stack.world.admin.identity, "CreateKey", parameters)
    metadata = cast("dict[str, object]", answer["KeyMetadata"])
    assert gate_refusal(link, str(metadata["Arn"])) is UNFIT


def test_key_of_another_account_is_refused(stack: Stack, link: ParentLink) -> None:
    """Defence: gate.KMSGate._place."""
    world = stack.world
    key = world.create_key(template(stack), by=world.tenant)
    assert gate_refusal(link, key) is UNFIT


# --- the service secret ---


def test_secret_planted_by_the_parent_under_its_own_key_is_refused(
    stack: Stack, link: ParentLink
) -> None:
    """A blob that the parent made: KMS is told the one key that may decrypt it.

    Defence: `"KeyId": key.text` in aws/kms.py _released, and `_check_key` on the answer.
    """
    world = stack.world
    own = world.create_key(LOOSE)
    blob = planted(world, own, stack.parameters().encryption_context())
    assert gate_refusal(link, stack.key_arn, blob) is UNFIT
    assert gate_refusal(link, own, blob) is UNFIT  # and its own key has not the right policy


def test_secret_of_another_release_or_deployment_is_refused(stack: Stack, link: ParentLink) -> None:
    """Under the right key, but under another context. Defence: the context in _released."""
    other = {**stack.parameters().encryption_context(), "release": "0.0.1"}
    key, blob = secret_planted_under_the_key(stack, other)
    assert gate_refusal(link, key, blob) is UNFIT


def test_context_is_the_measured_one(stack: Stack, link: ParentLink) -> None:
    """The parent cannot say which context: it is made of what the image holds.

    Defence: gate.KMSGate._policy_parameters.
    """
    key = stack.world.create_key(template(stack))
    with recorded_kms(stack.world) as seen:
        link.call(calls.ConfigureKMSCall(key))
    (released,) = [sent for operation, sent in seen if operation == "GenerateDataKey"]
    assert released["EncryptionContext"] == stack.parameters().encryption_context()
    assert released["KeyId"] == key


def test_recipient_is_in_every_call_that_releases(
    stack: Stack, link: ParentLink, world: World
) -> None:
    """Without it KMS would answer in the clear. Defence: `"Recipient"` in aws/kms.py _released."""
    key = world.create_key(template(stack))
    with recorded_kms(world) as seen:
        answer = link.call(calls.ConfigureKMSCall(key))
        wrapped = calls.ConfigureKMSAnswer.from_head(answer.head).wrapped_secret
        link.call(calls.ConfigureKMSCall(key, wrapped))
    releasing = [sent for operation, sent in seen if operation in {"GenerateDataKey", "Decrypt"}]
    assert len(releasing) == 2
    for sent in releasing:
        recipient = cast("dict[str, str]", sent["Recipient"])
        assert recipient["KeyEncryptionAlgorithm"] == "RSAES_OAEP_SHA_256"
        assert len(base64.b64decode(recipient["AttestationDocument"])) > 2_000


def test_answer_with_a_plaintext_is_refused(stack: Stack, link: ParentLink, world: World) -> None:
    """Whoever answers in the clear has not understood Recipient.

    Defence: aws/kms.py _for_recipient, `if found.Plaintext:`.
    """

    def with_plaintext(operation: str, answer: dict[str, object]) -> dict[str, object]:
        shown = {"Plaintext": base64.b64encode(PLANTED).decode()}
        return {**answer, **shown} if operation == "GenerateDataKey" else answer

    key = world.create_key(template(stack))
    with altered_kms(world, with_plaintext):
        assert gate_refusal(link, key) is UNFIT


def test_answer_about_another_key_is_refused(stack: Stack, link: ParentLink, world: World) -> None:
    """Defence: aws/kms.py _check_key."""
    other = world.create_key(LOOSE)

    def of_another(operation: str, answer: dict[str, object]) -> dict[str, object]:
        return {**answer, "KeyId": other} if operation == "GenerateDataKey" else answer

    key = world.create_key(template(stack))
    with altered_kms(world, of_another):
        assert gate_refusal(link, key) is UNFIT


def test_secret_known_to_the_attacker_opens_nothing(stack: Stack, link: ParentLink) -> None:
    """A key made under ``Encrypt`` passes every check, and it is harmless: the secret only gates.

    Defence: keys.KeyRing.rotate mixes fresh entropy into every key, `self._entropy(_FRESH_BYTES)`.
    """
    key, blob = secret_planted_under_the_key(stack, stack.parameters().encryption_context())
    publics: set[bytes] = set()
    for _ in range(2):
        link.call(calls.ConfigureKMSCall(key, blob))
        manifest = Client.attest(stack, link).attestation.manifest
        stack.configured(link)  # another key in between, so that the first one makes new keys again
        publics |= {each.public_key for each in manifest.hpke_keys}
    assert len(publics) == 4


def test_parent_that_answers_in_place_of_kms_is_not_believed(
    own_world: World, start_stack: StartStack
) -> None:
    """Answers to Recipient are encrypted, not authenticated: only TLS under pinned roots is.

    Defence: egress.tls_context, `load_verify_locations(cadata=ca_pem)` on PROTOCOL_TLS_CLIENT.
    """
    stack, host = start_stack(own_world), "kms.us-east-1.amazonaws.com"
    with stack.link() as link:
        link.call(stack.credentials())
        with rerouted(own_world, host, EndpointCA()):
            assert gate_refusal(link, stack.key_arn) is ErrorCode.ERR_KMS_UNREACHABLE
            assert own_world.home.kms.log[1:] == []  # but CreateKey, nothing was asked
        with rerouted(own_world, host, own_world.ca):
            stack.configured(link)  # the certificate was what it failed for


def test_refused_key_changes_nothing_for_those_who_are_served(
    client: Client, link: ParentLink, world: World
) -> None:
    """A parent cannot close an open gate by naming a bad key. Defence: supervisor.configure_kms."""
    assert gate_refusal(link, world.create_key(LOOSE)) is UNFIT
    assert client.ask(link, chat("still here")).text == "You said: still here"
