from __future__ import annotations

import json

import pytest

from latensgate_shared.errors import ErrorCode
from latensgate_shared.hpke_kem import XWingPrivateKey
from latensgate_shared.settings import (
    SettingsError,
    check_settings,
    encode_settings,
    parse_settings,
    settings_to_sign,
    verify_settings,
)
from latensgate_shared.strict_json import JSONObject, JSONValue
from settings_examples import LABEL, Root, canonical

TENANT = "tnt_00000001"
ROOT, OTHER = Root(), Root()
XWING = XWingPrivateKey(bytes(32)).public_key.raw.hex()
ANN: JSONObject = {"name": "Ann", "ed25519": OTHER.public.hex(), "xwing": XWING}
POLICY: JSONObject = {"rules": {"URL": {"*": {"action": "mask"}}}}
WHOLE: JSONObject = {
    "policy": POLICY,
    "approvers": [ANN, {"name": "Bob", "ed25519": ROOT.public.hex()}],
    "audit_key": XWING,
    "kms_key_arn": "arn:aws:kms:us-east-1:123456789012:key/k",
}


def test_all_members_are_read() -> None:
    document = ROOT.document(TENANT, 7, **WHOLE)
    found = verify_settings(document, root=ROOT.public, tenant_id=TENANT, min_version=7)
    assert (found.version, found.tenant_id, found.root) == (7, TENANT, ROOT.public)
    assert found.policy_document == POLICY
    assert [each.name for each in found.approvers] == ["Ann", "Bob"]
    assert found.approvers[1].xwing is None
    assert found.audit_key == bytes.fromhex(XWING)
    assert found.kms_key_arn == WHOLE["kms_key_arn"]
    assert found.told == f"7 {found.digest}"
    assert check_settings(ROOT.settings(TENANT, 7, **WHOLE)).policy == found.policy


def test_what_is_signed_and_encoded_is_what_another_implementation_makes() -> None:
    settings = ROOT.settings(TENANT, 1)
    assert settings_to_sign(settings) == LABEL + canonical(settings)
    signature = ROOT.private.sign(settings_to_sign(settings))
    assert encode_settings(settings, signature) == ROOT.signed(settings)


def test_few_members_are_enough() -> None:
    found = parse_settings(ROOT.document(TENANT))
    assert (found.policy, found.approvers, found.audit_key, found.kms_key_arn) == (
        None,
        (),
        None,
        None,
    )


def changed(**changes: JSONValue) -> bytes:
    return ROOT.signed({**ROOT.settings(TENANT), **changes})


def without(name: str) -> bytes:
    settings = ROOT.settings(TENANT)
    del settings[name]
    return ROOT.signed(settings)


GOOD = ROOT.document(TENANT)
REFUSED: dict[str, tuple[bytes, str]] = {
    "no json": (b"{", "document"),
    "array": (b"[]", "document"),
    "member": (b'{"settings":{}}', "document"),
    "spaces": (GOOD.replace(b":", b": ", 1), "document"),
    "signature form": (canonical({"settings": {}, "signature": "0"}), "signature"),
    "signature": (OTHER.signed(ROOT.settings(TENANT)), "signature"),
    "format": (changed(format="latensgate-tenant-settings/2"), "settings.format"),
    "settings": (canonical({"settings": [], "signature": "00" * 64}), "settings"),
    "missing": (without("version"), "settings"),
    "unknown": (changed(more=1), "settings"),
    "null": (changed(audit_key=None), "settings"),
    "null policy": (changed(policy=None), "settings"),
    "version": (changed(version=0), "settings.version"),
    "version true": (changed(version=True), "settings.version"),
    "tenant": (changed(tenant_id="x"), "settings.tenant_id"),
    "issued": (changed(issued_at=-1), "settings.issued_at"),
    "root": (changed(root="00"), "settings.root"),
    "small order": (changed(root="01" + "00" * 31), "settings.root"),
    "policy": (changed(policy=[]), "settings.policy"),
    "policy rule": (changed(policy={"rules": {"URL": []}}), "settings.policy.rules.URL"),
    "approvers": (changed(approvers={}), "settings.approvers"),
    "many": (
        changed(approvers=[{"name": "a", "ed25519": OTHER.public.hex()} for _ in range(33)]),
        "settings.approvers",
    ),
    "twice": (changed(approvers=[ANN, ANN]), "settings.approvers"),
    "approver": (changed(approvers=["Ann"]), "settings.approvers[0]"),
    "approver key": (changed(approvers=[{**ANN, "xwing": "ab"}]), "settings.approvers[0].xwing"),
    "audit": (changed(audit_key="ab"), "settings.audit_key"),
    "no key": (changed(audit_key="ff" * 1216), "settings.audit_key"),
    "arn": (changed(kms_key_arn=""), "settings.kms_key_arn"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_anything_else_is_refused_by_its_field(name: str) -> None:
    document, field = REFUSED[name]
    with pytest.raises(SettingsError) as caught:
        parse_settings(document)
    assert caught.value.field == field
    assert caught.value.code is ErrorCode.ERR_SETTINGS_REFUSED


def test_an_object_that_cannot_be_signed_names_its_field() -> None:
    with pytest.raises(SettingsError) as caught:
        check_settings({"a": "\ud800"})
    assert caught.value.field == "document"
    with pytest.raises(SettingsError) as caught:
        check_settings(json.loads(canonical(ROOT.settings(TENANT, policy={"x": 1}))))
    assert caught.value.field == "settings.policy"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "document"),
        (OTHER.document(TENANT, 9), "settings.root"),
        (ROOT.document("tnt_00000002", 9), "settings.tenant_id"),
        (ROOT.document(TENANT, 8), "settings.version"),
    ],
)
def test_others_than_are_asked_for_are_refused(document: bytes | None, field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        verify_settings(document, root=ROOT.public, tenant_id=TENANT, min_version=9)
    assert caught.value.field == field
