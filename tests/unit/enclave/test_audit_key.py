"""The tenant's auditor gets the private part of each receipt, sealed; nobody else does."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from enclave_client import EMAIL, ask, chat, fields, open_told, run, tell
from enclave_doubles import TENANT, Recording, bench, in_loop
from latensgate_enclave.service import _ReplySink  # pyright: ignore[reportPrivateUsage]  # what it hands over
from latensgate_shared.audit_seal import AuditSealError, open_private_part
from latensgate_shared.calls import InferenceEnd
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import HeadMap
from latensgate_shared.hpke import XWING
from latensgate_shared.limits import REQUEST_WINDOW_S
from latensgate_shared.strict_json import JSONObject
from settings_examples import Root

ROOT = Root()
KEY, OTHER = (XWING.load_private_key(bytes([number]) * 32) for number in (1, 2))
POLICY: JSONObject = {"rules": {"EMAIL_ADDRESS": {"prompt": {"action": "mask"}}}}
SETTINGS = ROOT.document(TENANT, audit_key=KEY.public_key.raw.hex(), policy=POLICY)


class Reply:
    """Keeps the end of an answer."""

    def __init__(self) -> None:
        self.fields: HeadMap = {}

    def head(self, fields: HeadMap) -> None: ...
    def body(self, data: bytes) -> None: ...
    def end(self, fields: HeadMap, body: bytes = b"") -> None:
        del body
        self.fields = fields

    async def drained(self) -> None: ...


@pytest.mark.parametrize("stream", [False, True])
def test_the_private_part_is_sealed_to_the_audit_key(stream: bool) -> None:  # noqa: FBT001  # a parameter
    @in_loop
    async def scene() -> None:
        async with bench() as made:
            await made.open()
            inside = fields(made, tenant_root=ROOT.public)
            asked = ask(made, chat(f"To {EMAIL}"), inside=inside, stream=stream)
            asked = replace(asked, tenant_settings=SETTINGS)
            sink = Recording()
            await run(made.pipeline, asked, sink)
            told = open_told(asked, sink)
            assert sink.released is not None
            sealed = sink.released.private_sealed
            assert sealed is not None
            private = open_private_part(KEY, told.public, sealed).value
            assert private == told.private
            pii = cast("JSONObject", private["pii"])
            assert pii["actions"] == {"EMAIL_ADDRESS": {"prompt": "mask"}}
            with pytest.raises(AuditSealError):
                open_private_part(OTHER, told.public, sealed)
            reply = Reply()
            _ReplySink(reply).finish(sink.released, b"")
            assert InferenceEnd.from_head(reply.fields).private_sealed == sealed

    scene()


@in_loop
async def test_refusals_are_sealed_to_the_auditor_too() -> None:
    async with bench() as made:
        await made.open()
        policy: JSONObject = {"rules": {"EMAIL_ADDRESS": {"prompt": {"action": "fail"}}}}
        inside = fields(made, tenant_root=ROOT.public, policy=policy)
        asked = replace(ask(made, chat(EMAIL), inside=inside), tenant_settings=SETTINGS)
        sink = Recording()
        await run(made.pipeline, asked, sink)
        told = open_told(asked, sink)
        assert told.code is ErrorCode.ERR_PII_HARD_FAIL
        assert sink.released is not None
        assert sink.released.private_sealed is not None
        private = open_private_part(KEY, told.public, sink.released.private_sealed).value
        pii = cast("JSONObject", private["pii"])
        assert pii["actions"] == {"EMAIL_ADDRESS": {"prompt": "fail"}}


@in_loop
async def test_without_settings_that_the_request_demands_nothing_is_sealed() -> None:
    async with bench() as made:
        await made.open()
        for inside in (
            fields(made),
            fields(made, tenant_root=Root().public),
            replace(fields(made), issued_at_ms=made.clock.now_ms() - REQUEST_WINDOW_S * 2_000),
        ):
            asked = replace(ask(made, chat(EMAIL), inside=inside), tenant_settings=SETTINGS)
            sink = Recording()
            await run(made.pipeline, asked, sink)
            assert sink.released is not None
            assert sink.released.private_sealed is None


@in_loop
async def test_dry_runs_are_audited_as_others_are() -> None:
    async with bench() as made:
        await made.open()
        inside = fields(made, tenant_root=ROOT.public)
        body: JSONObject = {"model": "any", "texts": [{"text": EMAIL}]}
        asked = ask(made, body, operation="policy.dry_run", inside=inside)
        told = await tell(made, replace(asked, tenant_settings=SETTINGS))
        pii = cast("JSONObject", told.private["pii"])
        assert (told.public.outcome, pii["counts"]) == ("dry_run", {"EMAIL_ADDRESS": {"prompt": 1}})
