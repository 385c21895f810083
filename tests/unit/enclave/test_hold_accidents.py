"""Decisions about held requests where the model or the parent goes away."""

from __future__ import annotations

import pytest

from enclave_doubles import TENANT, Recording, bench, in_loop
from hold_examples import ANN, held, models_asked
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.hold import Decision
from latensgate_sim.faults import Fault, FaultKind


@in_loop
async def test_an_approved_stream_that_is_cut_is_booked() -> None:
    async with bench(model_timeout_ms=1_000) as made:
        await made.open()
        kept = await held(made, stream=True)
        made.world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=3, after_events=2))
        told = await kept.decide(ANN.says(kept.notice))
        assert (told.code, told.public.outcome) == (ErrorCode.ERR_UPSTREAM_TIMEOUT, "failed")
        usage = told.private["usage"]
        assert isinstance(usage, dict)
        assert usage["estimated"] is True
        assert made.parts.receipts.totals()[TENANT]["requests"] == 1


class Gone(Recording):
    """A connection that ends before the answer begins."""

    def begin(self, receipt_id: str) -> None:
        raise LatensgateError(f"gone before {receipt_id}", code=ErrorCode.ERR_CANCELLED)


@pytest.mark.parametrize("decision", list(Decision))
@in_loop
async def test_a_parent_that_goes_as_it_decides_gets_nothing_run(decision: Decision) -> None:
    async with bench() as made:
        await made.open()
        kept = await held(made)
        sink = Gone()
        signed = ANN.says(kept.notice, decision)
        await kept.service.decide(kept.decide_call(signed), kept.body, sink)
        assert sink.released is not None
        assert sink.released.code is ErrorCode.ERR_CANCELLED
        assert models_asked(made) == []
