from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from enclave_client import EMAIL, ask, chat, fields, tell
from enclave_doubles import TENANT, Bench, bench, in_loop, nothing
from latensgate_enclave import pipeline as pipeline_module
from latensgate_enclave import tenant_settings
from latensgate_enclave.pii import parse_floor
from latensgate_enclave.pipeline import Pipeline
from latensgate_enclave.protect import prepare
from latensgate_enclave.steps import Opened, Parts
from latensgate_enclave.tenant_settings import SettingsBook, applied
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.sealed_plaintext import KMSEnvelope, RequestFields
from latensgate_shared.settings import parse_settings
from latensgate_shared.strict_json import JSONObject, JSONValue
from settings_examples import Root

ROOT, OTHER = Root(), Root()
MASKS: JSONObject = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}}}
ALLOWS: JSONObject = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "allow"}}}}
GOOD = ROOT.document(TENANT, 3, policy=MASKS)


async def told_with(
    made: Bench, document: bytes | None, **inside: object
) -> tuple[ErrorCode | None, JSONObject, str]:
    asked = ask(made, chat(f"write to {EMAIL}"), inside=fields(made, **inside))
    told = await tell(made, replace(asked, tenant_settings=document))
    pii = told.private["pii"]
    assert isinstance(pii, dict)
    return told.code, pii, told.text


@in_loop
async def test_settings_under_the_sealed_root_are_applied_and_told() -> None:
    async with bench() as made:
        await made.open()
        code, pii, text = await told_with(
            made, GOOD, tenant_root=ROOT.public, min_settings_version=3
        )
        assert code is None
        assert EMAIL not in text
        assert str(pii["settings"]).startswith("3 sha384:")


@in_loop
async def test_without_a_sealed_root_no_settings_are_applied_whatever_is_supplied() -> None:
    async with bench() as made:
        await made.open()
        for document in (GOOD, b"{}", b"\xff", None):
            code, pii, text = await told_with(made, document)
            assert code is None
            assert EMAIL in text
            assert pii["settings"] == "none"


CHANGED = GOOD.replace(b'"mask"', b'"flag"')
REFUSED: dict[str, bytes | None] = {
    "none": None,
    "empty": b"{}",
    "no json": b"\xff",
    "unsigned": json.dumps({"settings": ROOT.settings(TENANT, 3)}, separators=(",", ":")).encode(),
    "changed": CHANGED,
    "older": ROOT.document(TENANT, 2),
    "of another tenant": ROOT.document("tnt_00000000", 3),
    "of another root": OTHER.document(TENANT, 3),
    "of another root in our name": OTHER.signed(ROOT.settings(TENANT, 3)),
    "signed without the label": GOOD.replace(
        json.loads(GOOD)["signature"].encode(),
        ROOT.private.sign(json.dumps(ROOT.settings(TENANT, 3)).encode()).hex().encode(),
    ),
    "with white space": GOOD + b"\n",
    "long": GOOD + b" " * 70_000,
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_parent_gets_nothing_else_through(name: str) -> None:
    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            code, pii, text = await told_with(
                made, REFUSED[name], tenant_root=ROOT.public, min_settings_version=3
            )
            assert code is ErrorCode.ERR_SETTINGS_REFUSED
            assert pii["settings"] == "none"
            assert EMAIL not in text
            assert not made.world.home.bedrock.seen

    scenario()


@in_loop
async def test_settings_loosen_within_the_floors_ranges_only() -> None:
    async with bench() as made:
        await made.open()
        loosening = ROOT.document(TENANT, policy=ALLOWS)
        ranges = {"EMAIL_ADDRESS": {"*": {"action": "allow"}}}
        for given, masked in (({}, True), ({"ranges": ranges}, False)):
            floor = parse_floor({**MASKS, **given})
            pipeline = Pipeline(replace(made.parts, floor=floor), nothing)
            asked = ask(made, chat(f"to {EMAIL}"), inside=fields(made, tenant_root=ROOT.public))
            told = await tell(made, replace(asked, tenant_settings=loosening), pipeline=pipeline)
            assert (EMAIL not in told.text) is masked


@in_loop
async def test_a_request_tightens_what_settings_loosened() -> None:
    async with bench() as made:
        await made.open()
        code, _, text = await told_with(
            made,
            ROOT.document(TENANT, policy=ALLOWS),
            tenant_root=ROOT.public,
            policy=MASKS,
        )
        assert code is None
        assert EMAIL not in text


@in_loop
async def test_settings_that_name_a_kms_key_refuse_what_is_not_under_it() -> None:
    async with bench() as made:
        await made.open()
        document = ROOT.document(TENANT, kms_key_arn="arn:aws:kms:us-east-1:1:key/k")
        code, pii, _ = await told_with(made, document, tenant_root=ROOT.public)
        assert code is ErrorCode.ERR_KMS_ENVELOPE
        assert pii["policy_digest"] is None


def test_a_request_under_the_key_that_settings_name_has_their_policy() -> None:
    arn = "arn:aws:kms:us-east-1:1:key/k"
    settings = parse_settings(ROOT.document(TENANT, policy=MASKS, kms_key_arn=arn))
    asked = RequestFields("01890a5d-ac96-774b-bcce-b302099a8057", 1)
    under = replace(asked, kms_envelope=KMSEnvelope(arn, b"w"))
    found = applied(parse_floor({}), under, settings)
    assert found.policy == settings.policy
    other = replace(asked, kms_envelope=KMSEnvelope(f"{arn}2", b"w"))
    with pytest.raises(LatensgateError) as caught:
        applied(parse_floor({}), other, settings)
    assert caught.value.code is ErrorCode.ERR_KMS_ENVELOPE


def demanded(book: SettingsBook, document: bytes, **inside: object) -> object:
    given: dict[str, object] = {
        "request_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "issued_at_ms": 1,
        **inside,
    }
    return book.demanded(RequestFields(**given), document, TENANT)  # type: ignore[arg-type]  # checked there


def test_what_was_read_is_remembered_and_the_oldest_goes_first() -> None:
    book = SettingsBook(max_count=2)
    documents = [ROOT.document(TENANT, version) for version in (1, 2, 3)]
    first = demanded(book, documents[0], tenant_root=ROOT.public)
    assert demanded(book, documents[0], tenant_root=ROOT.public) is first
    for document in documents[1:]:
        demanded(book, document, tenant_root=ROOT.public)
    again = demanded(book, documents[0], tenant_root=ROOT.public)
    assert again == first
    assert again is not first


def test_settings_that_one_request_took_do_not_serve_another_root() -> None:
    book = SettingsBook()
    demanded(book, GOOD, tenant_root=ROOT.public)
    with pytest.raises(Exception, match="root"):
        demanded(book, GOOD, tenant_root=OTHER.public)
    with pytest.raises(Exception, match="version"):
        demanded(book, GOOD, tenant_root=ROOT.public, min_settings_version=4)


def test_a_book_is_bounded_in_bytes_too() -> None:
    documents = [ROOT.document(TENANT, version) for version in range(1, 6)]
    size = max(len(each) for each in documents)
    book = SettingsBook(max_bytes=2 * size)
    for document in [*documents, documents[-1]]:
        demanded(book, document, tenant_root=ROOT.public)
    assert [book.known(each) is not None for each in documents] == [False, False, False, True, True]
    terms: list[JSONValue] = ["a" * 256] * 16
    large = ROOT.document(TENANT, 9, policy={"lists": {"deny": terms}})
    demanded(book, large, tenant_root=ROOT.public)
    assert book.known(large) is None  # larger than the whole book: read each time
    demanded(book, documents[0], tenant_root=ROOT.public)
    assert book.known(documents[0]) is not None  # and its bytes were given back


def test_a_document_that_two_threads_read_at_once_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = ROOT.document(TENANT, 1)
    book = SettingsBook(max_bytes=len(document))
    parse = [parse_settings]

    def slowly(given: bytes) -> object:
        if parse:  # meanwhile another one reads it, too
            parse.pop()
            demanded(book, document, tenant_root=ROOT.public)
        return parse_settings(given)

    monkeypatch.setattr(tenant_settings, "parse_settings", slowly)
    demanded(book, document, tenant_root=ROOT.public)
    assert book.known(document) is not None  # counted twice it would not fit


@pytest.mark.parametrize(
    ("inside", "document", "beside"),
    [
        ({}, GOOD, False),
        ({"policy": MASKS}, None, False),
        ({"policy": {"lists": {"deny": ["a"]}}}, None, True),
        ({"policy": {"recognizers": [{"name": "a", "pattern": "("}]}}, None, True),
        ({"tenant_root": ROOT.public}, None, False),
        ({"tenant_root": ROOT.public}, GOOD, True),
        ({"tenant_root": ROOT.public}, b"{}", True),
        (
            {"tenant_root": ROOT.public},
            ROOT.document(TENANT, 4, policy={"lists": {"deny": ["b"]}}),
            True,
        ),
    ],
)
def test_what_takes_long_to_compile_is_compiled_beside_the_loop(
    inside: dict[str, object],
    document: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
    *,
    beside: bool,
) -> None:
    threads: list[bool] = []

    def seen(parts: Parts, opened: Opened) -> None:
        threads.append(threading.current_thread() is not threading.main_thread())
        prepare(parts, opened)

    monkeypatch.setattr(pipeline_module, "prepare", seen)

    @in_loop
    async def scenario() -> None:
        async with bench() as made:
            await made.open()
            for _ in range(2):
                await told_with(made, document, **inside)

    scenario()
    # Settings without terms and patterns are remembered as such from the second request on.
    again = beside and document is not GOOD
    assert threads == [True] * (beside + again)
