"""No sequence of calls of one tenant shows or changes anything of another."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_parent.store.interfaces import StoredUsage
from latensgate_shared.usage import TenantUsage, UsageTotals, encode_usage_totals
from surface_bench import NOW_S, OTHER_TENANT, TENANT, SurfaceBench, receipt_key_hex

THEIR_NAME = "their-secret-name"
THEIR_RECEIPT = f"aud_{0xDEAD:016x}"

NEW_KEY = {"name": "mine", "scopes": ["audit:read"]}
MAKE = ("POST", "/api/keys")
calls = st.one_of(
    st.tuples(st.just("GET"), st.sampled_from(["/api/keys", "/api/usage", "/api/models"])),
    st.tuples(
        st.just("GET"),
        st.builds("/api/audit?page={}&limit={}".format, st.integers(1, 3), st.integers(1, 100)),
    ),
    st.tuples(
        st.just("GET"),
        st.sampled_from(
            [
                f"/api/audit/{THEIR_RECEIPT}",
                "/api/audit?outcome=held",
                f"/t/{OTHER_TENANT}/api/keys",
            ]
        ),
    ),
    st.tuples(st.sampled_from(["DELETE", "POST"]), st.just("theirs")),
    st.just(MAKE),
)


def other_tenant(bench: SurfaceBench) -> str:
    """Give the other tenant a key, receipts and usage; return the key's id."""
    key = bench.key(tenant=OTHER_TENANT)
    body = {"name": THEIR_NAME, "scopes": ["admin"]}
    made = bench.ask("POST", "/api/keys", key, json=body).json()
    bench.receipt(0xDEAD, tenant=OTHER_TENANT, outcome="held")
    counts = {OTHER_TENANT: TenantUsage(requests=987_654, prompt_tokens=1, completion_tokens=1)}
    totals = encode_usage_totals(UsageTotals(NOW_S, counts))
    bench.run(bench.store.store_usage(StoredUsage(receipt_key_hex(), NOW_S, totals, bytes(64))))
    return str(made["id"])


def everything_of(bench: SurfaceBench, tenant: str) -> str:
    return repr((bench.run(bench.store.keys(tenant)), bench.run(bench.store.tenant(tenant))))


@settings(max_examples=25, deadline=None)
@given(st.lists(calls, min_size=1, max_size=8))
def test_tenants_see_nothing_of_each_other(sequence: list[tuple[str, str]]) -> None:
    bench = SurfaceBench()
    try:
        their_key = other_tenant(bench)
        mine = bench.key()
        bench.receipt(1)
        before = everything_of(bench, OTHER_TENANT)
        for call in sequence:
            method, place = call
            url = f"/api/keys/{their_key}" if place == "theirs" else place
            url += "/rotate" if (method, place) == ("POST", "theirs") else ""
            body = (
                {"name": "mine", "scopes": ["audit:read"]}
                if place == "/api/keys" and method == "POST"
                else None
            )
            answer = bench.ask(method, url, mine, json=body)
            assert answer.status_code in {200, 201, 404}
            for secret in (THEIR_NAME, THEIR_RECEIPT, their_key, OTHER_TENANT, "987654"):
                assert secret not in answer.text
            if "/audit?" in url and answer.status_code == 200:
                assert json.loads(answer.text)["total"] <= 1
        assert everything_of(bench, OTHER_TENANT) == before
        assert bench.run(bench.store.tenant(TENANT)) is not None
    finally:
        bench.close()
