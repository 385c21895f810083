"""The key policy template, and the rule of equality that looser policies must not pass."""

from __future__ import annotations

import base64
import json
import pkgutil
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

import pytest

from latensgate_shared import kms_policy, limits
from latensgate_shared.errors import ErrorCode
from latensgate_shared.kms_policy import KeyPolicyError, KeyPolicyParameters
from paths import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate_shared.strict_json import JSONObject

ACCOUNT: Final = "111122223333"
SERVICE: Final = f"arn:aws:iam::{ACCOUNT}:role/latensgate/service"
ADMIN: Final = f"arn:aws:iam::{ACCOUNT}:role/key-admin"
PCR0, PCR1, PCR2 = "a0" * 48, "b1" * 48, "c2" * 48
DEPLOYMENT: Final = "sha384:" + "d3" * 48
PARAMETERS: Final = KeyPolicyParameters(
    account_id=ACCOUNT,
    partition="aws",
    service_role_arn=SERVICE,
    key_admin_role_arn=ADMIN,
    pcr0=PCR0,
    pcr1=PCR1,
    pcr2=PCR2,
    context_service="latensgate",
    context_release="1.0.0",
    context_deployment_digest=DEPLOYMENT,
)
POLICY: Final = json.dumps(json.loads(kms_policy.render_key_policy_text(PARAMETERS)))
USE: Final = '["kms:Decrypt", "kms:GenerateDataKey"]'
STATEMENTS: Final = '"Statement": ['
ALLOW_ALL: Final = '"Effect": "Allow", "Action": "kms:*", "Resource": "*"'
ONLY_CONTEXT: Final = '"ForAllValues:StringEquals": {"kms:EncryptionContextKeys"'
NULL: Final = ', "Null": {"kms:EncryptionContextKeys": "false"}'


def edited(old: str, new: str) -> str:
    assert POLICY.count(old) >= 1, old
    text = POLICY.replace(old, new, 1)
    assert text != POLICY
    return text


def with_statement(text: str) -> str:
    return edited(STATEMENTS, f"{STATEMENTS}{{{text}}}, ")


def pcr(number: int, value: str) -> str:
    return f'"kms:RecipientAttestation:PCR{number}": "{value}"'


def without_statement(sid: str) -> str:
    policy = json.loads(POLICY)
    policy["Statement"] = [item for item in policy["Statement"] if item["Sid"] != sid]
    return json.dumps(policy)


REFUSED: Final[dict[str, str]] = {
    "root delegation": with_statement(
        f'{ALLOW_ALL}, "Principal": {{"AWS": "arn:aws:iam::{ACCOUNT}:root"}}'
    ),
    "account delegation": with_statement(f'{ALLOW_ALL}, "Principal": {{"AWS": "{ACCOUNT}"}}'),
    "an extra statement for anyone": with_statement(f'{ALLOW_ALL}, "Principal": "*"'),
    "an extra statement that only denies": with_statement(
        '"Effect": "Deny", "Action": "kms:Sign", "Resource": "*", "Principal": {"AWS": "*"}'
    ),
    "an empty statement": with_statement(""),
    "PCR0 missing": edited(pcr(0, PCR0) + ", ", ""),
    "PCR1 missing": edited(pcr(1, PCR1) + ", ", ""),
    "PCR2 missing": edited(", " + pcr(2, PCR2), ""),
    "PCR3 in place of PCR2": edited("PCR2", "PCR3"),
    "ImageSha384 in place of PCR0": edited("Attestation:PCR0", "Attestation:ImageSha384"),
    "another PCR0": edited(PCR0, "a1" * 48),
    "zero PCR0": edited(PCR0, "00" * 48),
    "PCR0 in upper case": edited(PCR0, PCR0.upper()),
    "a second PCR0": edited(f'"{PCR0}"', f'["{PCR0}", "{"a1" * 48}"]'),
    "a pattern as PCR0": edited(PCR0, "*"),
    "no PCR value at all": edited(f'"{PCR0}"', "[]"),
    "StringLike": edited("StringEqualsIgnoreCase", "StringLike"),
    "StringEquals for PCRs": edited("StringEqualsIgnoreCase", "StringEquals "),
    "StringNotEqualsIgnoreCase": edited("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"),
    "IfExists on PCRs": edited("StringEqualsIgnoreCase", "StringEqualsIgnoreCaseIfExists"),
    "IfExists on the context": edited('"StringEquals"', '"StringEqualsIfExists"'),
    "the context missing": edited(f', "kms:EncryptionContext:deployment": "{DEPLOYMENT}"', ""),
    "another release": edited('release": "1.0.0"', 'release": "1.0.1"'),
    "two releases": edited('release": "1.0.0"', 'release": ["1.0.0", "1.0.1"]'),
    "another deployment": edited(DEPLOYMENT, "sha384:" + "d4" * 48),
    "more context keys": edited('["service", ', '["service", "more", '),
    "ForAnyValue": edited("ForAllValues:", "ForAnyValue:"),
    "context keys unbounded": edited(ONLY_CONTEXT, '"X": {"kms:EncryptionContextKeys"'),
    "no Null check": edited(NULL, ""),
    "Null turned round": edited('Keys": "false"', 'Keys": "true"'),
    "Null as a boolean": edited('Keys": "false"', 'Keys": false'),
    "a number": edited('Keys": "false"', 'Keys": 0'),
    "no condition": re.sub(r', "Condition": \{.*?"Null": \{[^}]*\}\}', "", POLICY),
    "an empty condition": re.sub(
        r'"Condition": \{.*?"Null": \{[^}]*\}\}', '"Condition": {}', POLICY
    ),
    "another condition in another operator": edited(
        '"Null": {', '"Bool": {"aws:SecureTransport": "true"}, "Null": {'
    ),
    "NotPrincipal": edited('"Principal"', '"NotPrincipal"'),
    "NotAction": edited('"Action"', '"NotAction"'),
    "NotResource": edited('"Resource"', '"NotResource"'),
    "a wildcard action": edited(USE, '"kms:*"'),
    "a wildcard beside the actions": edited(
        USE, '["kms:Decrypt", "kms:GenerateDataKey", "kms:De*"]'
    ),
    "an action more": edited(USE, '["kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateMac"]'),
    "an action less": edited(USE, '"kms:Decrypt"'),
    "an action in another case": edited('"kms:Decrypt"', '"KMS:Decrypt"'),
    "a second principal": edited(f'"{SERVICE}"', f'["{SERVICE}", "{ADMIN}"]'),
    "a role of another account": edited(ACCOUNT, "444455556666"),
    "everyone uses": edited(f'"{SERVICE}"', '"*"'),
    "a service as principal": edited(f'"AWS": "{SERVICE}"', '"Service": "ec2.amazonaws.com"'),
    "a deleted role": edited(SERVICE, "AROAEXAMPLEEXAMPLE001"),
    "Deny of another spelling of everyone": edited('{"AWS": "*"}', '"*"'),
    "Deny turned to Allow": edited('"Deny"', '"Allow"'),
    "Deny with a way round": edited(
        '"Effect": "Deny"',
        '"Effect": "Deny", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "false"}}',
    ),
    "Deny for one role only": edited('{"AWS": "*"}', f'{{"AWS": "{SERVICE}"}}'),
    "CreateGrant not denied": edited('"kms:CreateGrant", ', ""),
    "PutKeyPolicy not denied": edited('"kms:PutKeyPolicy", ', ""),
    "Encrypt not denied": edited('"kms:Encrypt", ', ""),
    "ReEncryptTo only": edited("kms:ReEncrypt*", "kms:ReEncryptTo"),
    "PutKeyPolicy for the administrator": edited('"kms:DisableKey"', '"kms:PutKeyPolicy"'),
    "no Deny of loosening": without_statement("NobodyLoosens"),
    "no Deny of ciphertext": without_statement("NobodyMakesCiphertextOutsideTheEnclave"),
    "another Sid": edited("UseByMeasuredEnclaveOnly", "Use"),
    "another Id": edited("latensgate-release-key", "key"),
    "an older language": edited("2012-10-17", "2008-10-17"),
    "no statements": re.sub(r'"Statement": .*', '"Statement": []}', POLICY),
    "statements of another kind": re.sub(r'"Statement": .*', '"Statement": "all"}', POLICY),
    "a member more": edited('"Version"', '"Comment": "x", "Version"'),
    "a repeated Statement": POLICY[:-1] + ', "Statement": []}',
    "a repeated condition": edited(pcr(1, PCR1), pcr(0, PCR0)),
    "a list in a list": edited(USE, f"[{USE}]"),
    "null": edited('"Null": {', '"X": null, "Null": {'),
    "not JSON": POLICY[:-1],
    "bytes after": POLICY + "{}",
    "a list of policies": f"[{POLICY}]",
    "nothing": "",
    "a lone surrogate": "\ud800",
    "too long": POLICY + " " * limits.KMS_KEY_POLICY_MAX_BYTES,
}


@pytest.mark.parametrize("name", REFUSED)
def test_every_other_policy_is_refused(name: str) -> None:
    with pytest.raises(KeyPolicyError) as caught:
        kms_policy.verify_key_policy(REFUSED[name], PARAMETERS)
    assert caught.value.code is ErrorCode.ERR_KMS_KEY_UNFIT
    for value in (ACCOUNT, "role/", PCR0, "444455556666"):
        assert value not in caught.value.detail


ACCEPTED: Final[dict[str, str]] = {
    "as rendered": kms_policy.render_key_policy_text(PARAMETERS),
    "without white space": json.dumps(json.loads(POLICY), separators=(",", ":")),
    "members in another order": json.dumps(json.loads(POLICY), sort_keys=True),
    "a list for a scalar": edited(f'"{SERVICE}"', f'["{SERVICE}"]'),
    "a list for a condition value": edited(f'"{PCR0}"', f'["{PCR0}"]'),
    "actions in another order": edited(USE, '["kms:GenerateDataKey", "kms:Decrypt"]'),
    "an action said twice": edited(USE, '["kms:Decrypt", "kms:GenerateDataKey", "kms:Decrypt"]'),
    "a list for Resource": edited('"Resource": "*"', '"Resource": ["*"]'),
    "statements in another order": json.dumps(
        json.loads(POLICY) | {"Statement": json.loads(POLICY)["Statement"][::-1]}
    ),
    "escapes": edited("kms:Decrypt", "kms:\\u0044ecrypt"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_same_policy_in_another_spelling_is_accepted(name: str) -> None:
    verified = kms_policy.verify_key_policy(ACCEPTED[name], PARAMETERS)
    rendered = kms_policy.render_key_policy(PARAMETERS)
    assert verified.policy == json.loads(ACCEPTED[name])
    assert verified.digest == kms_policy.key_policy_digest(rendered)
    assert re.fullmatch(r"sha384:[0-9a-f]{96}", verified.digest)
    assert kms_policy.policies_equal(verified.policy, rendered)


def test_one_statement_needs_no_list() -> None:
    lone: JSONObject = {"Statement": {"Effect": "Deny"}}
    listed: JSONObject = {"Statement": [{"Effect": "Deny"}]}
    assert kms_policy.policies_equal(lone, listed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (without_statement("NobodyLoosens"), "missing or changed: NobodyLoosens; others found: 0"),
        (REFUSED["another PCR0"], "changed: UseByMeasuredEnclaveOnly; others found: 1"),
        (REFUSED["root delegation"], "changed: none; others found: 1"),
        (REFUSED["another Id"], "members beside the statements differ"),
        (REFUSED["not JSON"], "JSON"),
    ],
)
def test_the_error_says_where(text: str, says: str) -> None:
    with pytest.raises(KeyPolicyError, match=re.escape(says)):
        kms_policy.verify_key_policy(text, PARAMETERS)


BAD_VALUES: Final[list[tuple[str, str]]] = [
    ("account_id", "11112222333"),
    ("account_id", "١١١١٢٢٢٢٣٣٣٣"),
    ("account_id", "111122223333\n"),
    ("partition", "amazon"),
    ("partition", "aws-"),
    ("service_role_arn", SERVICE.replace(ACCOUNT, "444455556666")),
    ("service_role_arn", SERVICE.replace("arn:aws:", "arn:aws-cn:")),
    ("service_role_arn", f"arn:aws:iam::{ACCOUNT}:root"),
    ("service_role_arn", f"arn:aws:iam::{ACCOUNT}:user/x"),
    ("service_role_arn", SERVICE + "*"),
    ("service_role_arn", SERVICE + '", "*'),
    ("service_role_arn", SERVICE + "\\"),
    ("service_role_arn", SERVICE + "${aws:username}"),
    ("service_role_arn", f"arn:aws:sts::{ACCOUNT}:assumed-role/service/i-0"),
    ("key_admin_role_arn", SERVICE),
    ("key_admin_role_arn", "*"),
    *((f"pcr{number}", "0" * 96) for number in range(3)),
    *((f"pcr{number}", "A0" * 48) for number in range(3)),
    ("pcr0", "a0" * 47),
    ("pcr0", "a0" * 32),
    ("context_service", ""),
    ("context_service", "*"),
    ("context_release", 'x", "y": "z'),
    ("context_release", "1" * 65),
    ("context_deployment_digest", "d3" * 48),
    ("context_deployment_digest", "sha256:" + "d3" * 32),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_no_other_value_reaches_the_template(name: str, value: str) -> None:
    with pytest.raises(KeyPolicyError) as caught:
        replace(PARAMETERS, **{name: value})
    assert value == "" or value not in caught.value.detail


def test_only_text_reaches_the_template() -> None:
    with pytest.raises(KeyPolicyError):
        replace(PARAMETERS, pcr0=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - the mistake under test


def test_other_partitions_render() -> None:
    china = replace(
        PARAMETERS,
        partition="aws-cn",
        service_role_arn=SERVICE.replace("aws", "aws-cn", 1),
        key_admin_role_arn=ADMIN.replace("aws", "aws-cn", 1),
    )
    text = kms_policy.render_key_policy_text(china)
    assert kms_policy.verify_key_policy(text, china).digest != (
        kms_policy.key_policy_digest(kms_policy.render_key_policy(PARAMETERS))
    )


def test_every_parameter_that_a_key_must_be_bound_to_stands_in_the_policy() -> None:
    unused = {"account_id", "partition"}  # within the role ARNs
    for name, value in asdict(PARAMETERS).items():
        assert name in unused or f'"{value}"' in POLICY


def test_the_encryption_context_is_the_one_that_the_policy_demands() -> None:
    assert PARAMETERS.encryption_context() == {
        "service": "latensgate",
        "release": "1.0.0",
        "deployment": DEPLOYMENT,
    }


def test_an_installation_without_its_template_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_package: str, _resource: str) -> None:
        return None

    monkeypatch.setattr(pkgutil, "get_data", absent)
    with pytest.raises(KeyPolicyError, match="template"):
        kms_policy.render_key_policy(PARAMETERS)


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_renders_the_same_bytes(tmp_path: Path) -> None:
    template = REPOSITORY / "shared" / "latensgate_shared" / kms_policy.TEMPLATE_NAME
    call = f"templatefile({json.dumps(str(template))}, {json.dumps(asdict(PARAMETERS))})"
    terraform = shutil.which("terraform") or ""
    done = subprocess.run(
        [terraform, "console"],
        input=f"base64encode({call})\n",
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    expected = kms_policy.render_key_policy_text(PARAMETERS).encode()
    assert base64.b64decode(json.loads(done.stdout)) == expected


def test_a_verified_policy_is_made_by_the_comparison_only() -> None:
    verified = kms_policy.verify_key_policy(POLICY, PARAMETERS)
    for seal in (None, object()):
        with pytest.raises(TypeError, match="nothing else"):
            kms_policy.VerifiedKeyPolicy(verified.policy, verified.digest, seal)
