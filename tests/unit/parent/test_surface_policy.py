from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from latensgate_parent.http import settings_shelf
from latensgate_parent.http.settings_shelf import SettingsShelf
from latensgate_parent.limits import SETTINGS_REMEMBERED_S
from latensgate_parent.store.interfaces import StoredSettings
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import JSONObject, JSONValue
from settings_examples import Root
from surface_bench import NOW_S, OTHER_TENANT, TENANT, SurfaceBench

ROOT = Root()
MASKS: JSONObject = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}}}


@pytest.fixture
def bench() -> Iterator[SurfaceBench]:
    made = SurfaceBench()
    yield made
    made.close()


def body(version: int = 1, tenant: str = TENANT, **members: JSONValue) -> JSONObject:
    document: JSONObject = json.loads(ROOT.document(tenant, version, **members))
    return document


def test_settings_are_stored_and_shown_as_they_were_signed(bench: SurfaceBench) -> None:
    key = bench.key("policy:read", "policy:write")
    sent = body(policy=MASKS)
    answers = [bench.ask("PUT", "/api/policy", key, json=sent) for _ in range(2)]
    answer = answers[0]
    assert [each.status_code for each in answers] == [200, 200]
    assert answers[1].json() == answer.json()  # the same again changes nothing
    assert {**answer.json(), "stored_at": ""} == {**sent, "version": 1, "stored_at": ""}
    shown = bench.ask("GET", "/api/policy", key)
    assert shown.json() == answer.json()
    assert bench.run(bench.services.settings.document(TENANT)) == ROOT.document(
        TENANT, 1, policy=MASKS
    )


def test_there_may_be_none_and_another_tenants_are_not_shown(bench: SurfaceBench) -> None:
    bench.ask("PUT", "/api/policy", bench.key("policy:write"), json=body())
    told = bench.refused("GET", "/api/policy", bench.key("policy:read", tenant=OTHER_TENANT))
    assert told.error.code is ErrorCode.ERR_NOT_FOUND


@pytest.mark.parametrize(("method", "scope"), [("GET", "policy:write"), ("PUT", "policy:read")])
def test_each_way_has_its_scope(bench: SurfaceBench, method: str, scope: str) -> None:
    told = bench.refused(method, "/api/policy", bench.key(scope), json=body())
    assert told.error.code is ErrorCode.ERR_FORBIDDEN


@pytest.mark.parametrize("version", [1, 2])
def test_the_version_goes_up(bench: SurfaceBench, version: int) -> None:
    key = bench.key("policy:write")
    bench.ask("PUT", "/api/policy", key, json=body(2))
    told = bench.refused("PUT", "/api/policy", key, json=body(version, policy=MASKS))
    assert (told.error.code, told.error.param) == (
        ErrorCode.ERR_SETTINGS_REFUSED,
        "settings.version",
    )
    assert bench.ask("PUT", "/api/policy", key, json=body(3)).status_code == 200


def test_who_has_a_key_and_not_the_root_shuts_nobody_out(bench: SurfaceBench) -> None:
    key = bench.key("policy:read", "policy:write")
    stored = bench.ask("PUT", "/api/policy", key, json=body(2)).json()
    foreign: JSONObject = json.loads(Root().document(TENANT, 9))
    told = bench.refused("PUT", "/api/policy", key, json=foreign)
    assert (told.error.code, told.error.param) == (ErrorCode.ERR_SETTINGS_REFUSED, "settings.root")
    assert bench.ask("GET", "/api/policy", key).json() == stored
    assert bench.ask("PUT", "/api/policy", key, json=body(3)).status_code == 200


def test_a_new_root_comes_after_the_operator_has_forgotten_the_old(bench: SurfaceBench) -> None:
    key = bench.key("policy:write")
    bench.ask("PUT", "/api/policy", key, json=body(9))
    assert bench.run(bench.store.forget_settings(TENANT)) == 1
    foreign: JSONObject = json.loads(Root().document(TENANT, 1))
    assert bench.ask("PUT", "/api/policy", key, json=foreign).status_code == 200


def altered(**changes: JSONValue) -> JSONObject:
    """Settings whose signature is good, and another form than is expected."""
    settings = {**ROOT.settings(TENANT), **changes}
    document: JSONObject = json.loads(ROOT.signed(settings))
    return document


RULE: JSONObject = {"rules": {"EMAIL": {"*": {"action": "mask"}}}}
WRONG: dict[str, tuple[JSONObject, str]] = {
    "signature": ({**body(), "signature": "00" * 64}, "signature"),
    "tenant": (body(tenant=OTHER_TENANT), "settings.tenant_id"),
    "format": (altered(format="x"), "settings.format"),
    "version": (altered(version=0), "settings.version"),
    "root": (altered(root="00" * 32), "settings.root"),
    "policy": (altered(policy=RULE), "settings.policy.rules"),
    "policy form": (altered(policy=[]), "settings.policy"),
    "approver": (
        altered(approvers=[{"name": "a", "ed25519": "x"}]),
        "settings.approvers[0].ed25519",
    ),
    "arn": (altered(kms_key_arn=""), "settings.kms_key_arn"),
    "audit key": (altered(audit_key="00"), "settings.audit_key"),
    "unknown": (altered(more=1), "settings"),
    "no form": ({"settings": {}, "signature": "zz"}, "signature"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_an_error_names_its_field(bench: SurfaceBench, name: str) -> None:
    sent, field = WRONG[name]
    told = bench.refused("PUT", "/api/policy", bench.key("policy:write"), json=sent)
    assert told.error.param == field
    assert told.error.code in {ErrorCode.ERR_POLICY_INVALID, ErrorCode.ERR_REQUEST_INVALID}


def test_what_json_cannot_write_is_refused(bench: SurfaceBench) -> None:
    content = b'{"settings": {"a": "\\ud800"}, "signature": "' + b"00" * 64 + b'"}'
    told = bench.refused(
        "PUT",
        "/api/policy",
        bench.key("policy:write"),
        content=content,
        headers={"content-type": "application/json"},
    )
    assert told.error.code.http_status in {400, 422}


class SlowStore:
    """Answers what it knew when it was asked, as late as it is told to."""

    def __init__(self) -> None:
        self.newest: StoredSettings | None = None
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def settings(self, tenant_id: str) -> StoredSettings | None:
        assert tenant_id == TENANT
        found = self.newest
        self.asked.set()
        await self.go.wait()
        return found

    async def insert_settings(self, settings: StoredSettings) -> bool:
        self.newest = settings
        return True

    async def forget_settings(self, tenant_id: str) -> int:
        raise AssertionError(tenant_id)


@pytest.mark.parametrize("before", [None, StoredSettings(TENANT, 1, b"1", NOW_S)])
def test_an_answer_that_a_change_overtook_is_forgotten(before: StoredSettings | None) -> None:
    async def race() -> list[bytes | None]:
        store = SlowStore()
        store.newest = before
        shelf = SettingsShelf(store, lambda: 0.0)
        reading = asyncio.create_task(shelf.document(TENANT))
        async with asyncio.timeout(10):
            await store.asked.wait()
        newest = StoredSettings(TENANT, 2, b"2", NOW_S)
        await store.insert_settings(newest)
        shelf.changed(newest)
        store.go.set()
        return [await reading, await shelf.document(TENANT)]

    assert asyncio.run(race()) == [b"2", b"2"]


def test_a_shelf_asks_again_after_a_moment_and_forgets_the_oldest(
    bench: SurfaceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_shelf, "SETTINGS_TENANTS_MAX_COUNT", 1)
    shelf = SettingsShelf(bench.store, bench.clock)
    assert bench.run(shelf.document(TENANT)) is None
    bench.run(bench.store.insert_settings(StoredSettings(TENANT, 1, b"1", NOW_S)))
    assert bench.run(shelf.document(TENANT)) is None
    bench.now += SETTINGS_REMEMBERED_S
    assert bench.run(shelf.document(TENANT)) == b"1"
    assert bench.run(shelf.document(OTHER_TENANT)) is None
    bench.run(bench.store.insert_settings(StoredSettings(TENANT, 2, b"2", NOW_S)))
    assert bench.run(shelf.document(TENANT)) == b"2"  # it was forgotten for the other tenant
