"""API keys over HTTP: shown once, scopes, ends, rotation, isolation."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from latensgate.gateway.keys import parse_keys, parse_new_key
from latensgate_parent import api_keys
from latensgate_parent.limits import KEYS_ACTIVE_MAX_COUNT
from latensgate_shared.errors import ErrorCode
from latensgate_shared.strict_json import parse_json_object
from surface_bench import NOW_S, OTHER_TENANT, TENANT, SurfaceBench

SEED = {
    "name": "production-pipeline",
    "scopes": ["inference:read", "audit:read"],
    "expiry": "90d",
}
DAY = 86_400


@pytest.fixture
def bench() -> Generator[SurfaceBench]:
    running = SurfaceBench()
    yield running
    running.close()


def test_the_seeds_example(bench: SurfaceBench) -> None:
    admin = bench.key()
    answer = bench.ask("POST", "/api/keys", admin, json=SEED)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    parse_new_key(parse_json_object(answer.content, max_bytes=1 << 20))
    assert told["name"] == "production-pipeline"
    assert told["scopes"] == ["audit:read", "inference:read"]
    assert (told["created_at"], told["expires_at"]) == (
        "2026-06-01T12:03:20Z",
        "2026-08-30T12:03:20Z",
    )
    assert (told["status"], told["revoked_at"]) == ("active", None)
    full = told["key"]
    assert full.startswith("lg_test_")
    assert len(full) == len("lg_test_") + 43
    listed = bench.ask("GET", "/api/keys", admin)
    assert full not in listed.text
    assert told["id"] in {
        key.key_id for key in parse_keys(parse_json_object(listed.content, max_bytes=1 << 20))
    }
    assert bench.ask("GET", "/api/audit", full).status_code == 200
    assert bench.refused("GET", "/api/keys", full).error.code is ErrorCode.ERR_FORBIDDEN


def test_the_full_key_is_kept_nowhere(bench: SurfaceBench) -> None:
    full = bench.ask("POST", "/api/keys", bench.key(), json=SEED).json()["key"]
    kept = repr([vars(bench.store), bench.run(bench.store.keys(TENANT)), bench.notes.done])
    assert full not in kept
    assert full.removeprefix("lg_test_")[8:] not in kept


def test_keys_end(bench: SurfaceBench) -> None:
    admin = bench.key()
    full = bench.ask("POST", "/api/keys", admin, json=SEED | {"expiry": "12h"}).json()["key"]
    bench.now += 12 * 3600 - 1
    assert bench.ask("GET", "/api/audit", full).status_code == 200
    bench.now += 1
    assert bench.refused("GET", "/api/audit", full).error.code is ErrorCode.ERR_UNAUTHENTICATED
    statuses = {
        key["name"]: key["status"] for key in bench.ask("GET", "/api/keys", admin).json()["keys"]
    }
    assert statuses == {"production-pipeline": "expired", "bench": "active"}


@pytest.mark.parametrize(("expiry", "days"), [("1h", 1 / 24), (None, None), ("3650d", 3650)])
def test_expiry(bench: SurfaceBench, expiry: str | None, days: float | None) -> None:
    made = bench.ask("POST", "/api/keys", bench.key(), json=SEED | {"expiry": expiry}).json()
    key = bench.run(bench.store.key(TENANT, made["id"]))
    assert key is not None
    assert key.expires_at_s == (None if days is None else NOW_S + days * DAY)


def test_expiry_left_out_is_ninety_days(bench: SurfaceBench) -> None:
    body = {"name": "n", "scopes": ["audit:read"]}
    assert (
        bench.ask("POST", "/api/keys", bench.key(), json=body).json()["expires_at"][:10]
        == "2026-08-30"
    )


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "a" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "\u202eevil"}, "name"),
        ({"name": " a"}, "name"),
        ({"name": 1}, "name"),
        ({"name": None}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "audit:read"}, "scopes"),
        ({"scopes": ["audit:write"]}, "scopes.0"),
        ({"scopes": ["audit:read", "audit:read"]}, "scopes"),
        ({"expiry": "90"}, "expiry"),
        ({"expiry": "0d"}, "expiry"),
        ({"expiry": "3651d"}, "expiry"),
        ({"expiry": "90w"}, "expiry"),
        ({"expiry": 90}, "expiry"),
        ({"expiry": "-1d"}, "expiry"),
        ({"admin": True}, "admin"),
    ],
)
def test_bodies_of_another_form(bench: SurfaceBench, change: dict[str, object], param: str) -> None:
    admin = bench.key()
    told = bench.refused("POST", "/api/keys", admin, json=SEED | change)
    assert (told.error.code, told.error.param) == (ErrorCode.ERR_REQUEST_INVALID, param)
    assert len(bench.run(bench.store.keys(TENANT))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "name: a valid string expected."),
        ({"name": "a" * 101}, "name: String should have at most 100 characters."),
        ({"scopes": None}, "scopes: a valid list expected."),
        ({"admin": True}, "admin: no such field."),
    ],
)
def test_what_is_expected_is_said_in_our_words(
    bench: SurfaceBench, change: dict[str, object], message: str
) -> None:
    told = bench.refused("POST", "/api/keys", bench.key(), json=SEED | change)
    assert told.error.message == message


def test_so_are_queries(bench: SurfaceBench) -> None:
    told = bench.refused("POST", "/api/keys", bench.key(), json={"name": "a"})
    assert told.error.message == "scopes: missing."
    for number in ("01", "1.5", "a"):
        told = bench.refused("GET", f"/api/audit?page={number}", bench.key())
        assert told.error.message.startswith("page: a whole number")
    told = bench.refused("GET", "/api/audit?since=yesterday", bench.key())
    assert told.error.message == "since: a second in UTC such as 2026-11-14T09:23:41Z expected."


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", ErrorCode.ERR_MALFORMED),
        (b"[]", ErrorCode.ERR_MALFORMED),
        (b"{", ErrorCode.ERR_MALFORMED),
        (b'{"name":"a","name":"b","scopes":["audit:read"]}', ErrorCode.ERR_MALFORMED),
        (b'{"name":NaN}', ErrorCode.ERR_MALFORMED),
        (b"\xff", ErrorCode.ERR_MALFORMED),
        (b"[" * 60_000, ErrorCode.ERR_MALFORMED),
        (b" " * 65_537, ErrorCode.ERR_TOO_LARGE),
    ],
)
def test_bodies_that_are_no_strict_json(
    bench: SurfaceBench, content: bytes, code: ErrorCode
) -> None:
    told = bench.refused(
        "POST",
        "/api/keys",
        bench.key(),
        content=content,
        headers={"content-type": "application/json"},
    )
    assert told.error.code is code


def test_content_type_must_be_json(bench: SurfaceBench) -> None:
    told = bench.refused("POST", "/api/keys", bench.key(), content=b"{}")
    assert told.error.param == "Content-Type"


def test_a_caller_gives_only_what_it_has(bench: SurfaceBench) -> None:
    writer = bench.key("keys:write", "audit:read")
    told = bench.refused("POST", "/api/keys", writer, json=SEED)
    assert told.error.code is ErrorCode.ERR_FORBIDDEN
    assert "inference:read" in told.error.message
    told = bench.refused("POST", "/api/keys", writer, json=SEED | {"scopes": ["admin"]})
    assert told.error.code is ErrorCode.ERR_FORBIDDEN
    body = SEED | {"scopes": ["audit:read"]}
    assert bench.ask("POST", "/api/keys", writer, json=body).status_code == 201
    assert bench.refused("GET", "/api/keys", writer).error.code is ErrorCode.ERR_FORBIDDEN


def test_live_keys_make_live_keys(bench: SurfaceBench) -> None:
    made = api_keys.make_key(TENANT, "live", ["admin"], now_s=NOW_S, life_s=None)
    bench.run(bench.store.insert_key(made.stored))
    assert (
        bench.ask("POST", "/api/keys", made.full, json=SEED).json()["hint"].startswith("lg_live_")
    )


def test_revoking_is_at_once_and_again_changes_nothing(bench: SurfaceBench) -> None:
    admin = bench.key()
    made = bench.ask("POST", "/api/keys", admin, json=SEED).json()
    assert bench.ask("GET", "/api/audit", made["key"]).status_code == 200
    answers = [bench.ask("DELETE", f"/api/keys/{made['id']}", admin)]
    assert (
        bench.refused("GET", "/api/audit", made["key"]).error.code is ErrorCode.ERR_UNAUTHENTICATED
    )
    bench.now += 100
    answers.append(bench.ask("DELETE", f"/api/keys/{made['id']}", admin))
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["revoked_at"] == "2026-06-01T12:03:20Z"


def test_keys_of_others_look_absent(bench: SurfaceBench) -> None:
    theirs = bench.key(tenant=OTHER_TENANT)
    key_id = bench.run(bench.store.keys(OTHER_TENANT))[0].key_id
    mine = bench.key()
    for method, url in (("DELETE", f"/api/keys/{key_id}"), ("POST", f"/api/keys/{key_id}/rotate")):
        told = bench.refused(method, url, mine)
        assert (told.error.code, told.error.param) == (ErrorCode.ERR_NOT_FOUND, "key_id")
    assert bench.ask("GET", "/api/keys", theirs).status_code == 200
    assert key_id not in bench.ask("GET", "/api/keys", mine).text
    assert bench.refused("DELETE", "/api/keys/x", mine).error.code is ErrorCode.ERR_REQUEST_INVALID


def rotated(bench: SurfaceBench, body: dict[str, object] | None) -> tuple[str, dict[str, object]]:
    admin = bench.key()
    made = bench.ask("POST", "/api/keys", admin, json=SEED).json()
    bench.ask("GET", "/api/audit", made["key"])
    bench.now += 10
    answer = bench.ask("POST", f"/api/keys/{made['id']}/rotate", admin, json=body)
    assert answer.status_code == 201, answer.text
    parse_new_key(parse_json_object(answer.content, max_bytes=1 << 20), rotated=True)
    told: dict[str, object] = answer.json()
    assert told["replaces"] == made["id"]
    assert (told["name"], told["scopes"]) == (made["name"], made["scopes"])
    assert bench.ask("GET", "/api/audit", str(told["key"])).status_code == 200
    return made["key"], told


def test_rotation_has_a_day_of_grace(bench: SurfaceBench) -> None:
    old, told = rotated(bench, None)
    assert told["expires_at"] == "2026-08-30T12:03:30Z"
    assert bench.ask("GET", "/api/audit", old).status_code == 200
    bench.now += DAY
    assert bench.refused("GET", "/api/audit", old).error.code is ErrorCode.ERR_UNAUTHENTICATED


def test_rotation_without_grace_ends_the_old_key_at_once(bench: SurfaceBench) -> None:
    old, told = rotated(bench, {"grace": None, "expiry": None})
    assert told["expires_at"] is None
    assert bench.refused("GET", "/api/audit", old).error.code is ErrorCode.ERR_UNAUTHENTICATED


def test_grace_never_makes_a_key_live_longer(bench: SurfaceBench) -> None:
    admin = bench.key()
    made = bench.ask("POST", "/api/keys", admin, json=SEED | {"expiry": "1h"}).json()
    bench.ask("POST", f"/api/keys/{made['id']}/rotate", admin, json={"grace": "30d"})
    bench.now += 3600
    assert (
        bench.refused("GET", "/api/audit", made["key"]).error.code is ErrorCode.ERR_UNAUTHENTICATED
    )


def test_rotation_is_no_way_to_more_scopes(bench: SurfaceBench) -> None:
    bench.key()
    admin_id = bench.run(bench.store.keys(TENANT))[0].key_id
    writer = bench.key("keys:write")
    told = bench.refused("POST", f"/api/keys/{admin_id}/rotate", writer)
    assert told.error.code is ErrorCode.ERR_FORBIDDEN


def test_ended_keys_cannot_be_rotated(bench: SurfaceBench) -> None:
    admin = bench.key()
    made = bench.ask("POST", "/api/keys", admin, json=SEED).json()
    bench.ask("DELETE", f"/api/keys/{made['id']}", admin)
    told = bench.refused("POST", f"/api/keys/{made['id']}/rotate", admin)
    assert (told.error.code, told.error.param) == (ErrorCode.ERR_REQUEST_INVALID, "key_id")
    for body in ({"grace": "31d"}, {"grace": 1}, {"expiry": "x"}, {"name": "x"}):
        told = bench.refused("POST", f"/api/keys/{made['id']}/rotate", admin, json=body)
        assert told.error.param in {"grace", "expiry", "name"}


def test_active_keys_are_bounded(bench: SurfaceBench) -> None:
    admin = bench.key()
    for _ in range(KEYS_ACTIVE_MAX_COUNT - 1):
        bench.key("audit:read")
    told = bench.refused("POST", "/api/keys", admin, json=SEED)
    assert told.error.code is ErrorCode.ERR_REQUEST_INVALID
    key_id = bench.run(bench.store.keys(TENANT))[0].key_id
    assert bench.ask("POST", f"/api/keys/{key_id}/rotate", admin).status_code == 201
    bench.ask("DELETE", f"/api/keys/{key_id}", admin)
