"""Tenants over HTTP: what one observes does not depend on what another does, or tries to.

A sequence of requests of two tenants to the whole application over a real database is made once as
it is, and once without the second tenant's requests. The first must get the same answers both
times: status, limits, every byte of the body, once random names are numbered in their order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import cast

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from inference_doubles import ATTESTATION_HASH, KEY_ID, StandInEnclave, request
from latensgate_parent.http.asgi import Gateway
from latensgate_parent.http.sealed_route import SealedRoute
from latensgate_parent.link.interfaces import Enclave, EnclaveError, EnclaveStatus
from latensgate_parent.store import sqlite
from latensgate_parent.store.interfaces import Tenant as StoredTenant
from latensgate_parent.store.open import open_store
from latensgate_shared.calls import InferenceCall
from latensgate_shared.errors import ErrorCode
from surface_bench import NOW_S, SurfaceBench

DOMAIN = "gateway.example"
LIMIT = 25
"""Requests a minute, few enough to be met."""
NEW_TENANTS = count(0x10000000)
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
NUMBERS = st.integers(0, 1)  # few, so that two tenants meet
SCOPES = (["admin"], ["audit:read"], ["keys:write", "keys:read"], ["inference:read"])
ABSENT_KEY, ABSENT_RECEIPT = "key_" + "f" * 16, "aud_" + "f" * 16
TOLD = ("content-type", "retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-remaining")
_RANDOM = re.compile(
    r"key_[0-9a-f]{16}|aud_[0-9a-f]{16}|lg_(?:test|live)_[\w-]{4,43}|[0-9a-f]{8}-[0-9a-f-]{27}"
)
_NAMES_OF_SECRETS = re.compile(r"key_[0-9a-f]{16}|aud_[0-9a-f]{16}|lg_(?:test|live)_[\w-]{43}")


@dataclass(frozen=True)
class Step:
    """One request.

    Attributes:
        is_first: Of the first tenant.
        what: Name of it, in ``STEPS``.
        number, variant: Which key, receipt, text.
        foreign: Whether it names a thing of the other tenant.
        caller: With which of its keys.
    """

    is_first: bool
    what: str
    number: int
    variant: int
    foreign: bool
    caller: int


class NamedEnclave(StandInEnclave):
    """A stand-in whose receipts have names that no other tenant's have."""

    def receipt_id(self) -> str:
        return f"aud_{self.name}{len(self.ends):08x}"


@dataclass
class Fleet:
    """For each tenant a stand-in: a true enclave numbers receipts by tenant, too."""

    of: dict[str, StandInEnclave] = field(default_factory=dict[str, StandInEnclave])
    name: str = "stand-in"

    def holder_of(self, key_id: str) -> Enclave:
        if key_id != KEY_ID.hex():
            raise EnclaveError("no enclave holds it", code=ErrorCode.ERR_KEY_STALE)
        return cast("Enclave", self)

    def ready(self) -> Enclave:
        return cast("Enclave", self)

    def statuses(self) -> tuple[EnclaveStatus, ...]:
        return ()

    def _of(self, call: InferenceCall) -> StandInEnclave:
        made = NamedEnclave(call.tenant_id.removeprefix("tnt_"), content=call.tenant_id.encode())
        return self.of.setdefault(call.tenant_id, made)

    async def infer(self, call: InferenceCall, sealed: bytes) -> object:
        return await self._of(call).infer(call, sealed)

    async def stream(self, call: InferenceCall, sealed: bytes) -> object:
        return await self._of(call).stream(call, sealed)


class Site(SurfaceBench):
    """The whole application over a database."""

    def __init__(self, folder: Path) -> None:
        super().__init__(open_store=lambda: open_store(f"sqlite:///{folder}/tenants.db"))
        self.limit_per_minute, self.runs = LIMIT, 0
        self.route = SealedRoute.over(self.store, self.notes, self.clock)
        inference = self.route.inference(
            self.services.authenticator, self.limiter, Fleet(), monotonic=self.clock
        )
        self.gateway = Gateway(inference, self.surface, tenant_domain=DOMAIN, observer=self.notes)

    def close(self) -> None:
        self.run(self.store.aclose())
        super().close()


class Tenant:
    """One tenant's hand, and what it has seen."""

    def __init__(self, site: Site, address: str) -> None:
        self.site = site
        self.address = address
        self.tenant_id = f"tnt_{next(NEW_TENANTS):08x}"
        site.run(
            site.store.insert_tenant(
                StoredTenant(self.tenant_id, "t", site.limit_per_minute, NOW_S)
            )
        )
        self.secrets = [site.key("admin", tenant=self.tenant_id)]
        self.keys: list[str] = []
        self.receipts: list[str] = []
        self.seen: list[str] = []
        self.other: Tenant = self

    def mine(self, step: Step) -> Tenant:
        return self.other if step.foreign else self

    def key_id(self, step: Step) -> str:
        return _at(self.mine(step).keys, step.number, ABSENT_KEY)

    def receipt_id(self, step: Step) -> str:
        return _at(self.mine(step).receipts, step.number, ABSENT_RECEIPT)

    def place(self, step: Step) -> tuple[str, dict[str, str]]:
        """The tenant URL by path, by host, or none."""
        name = self.mine(step).tenant_id
        if step.variant and step.number:
            return f"/t/{name}", {}
        return "", {"host": f"{name}.{DOMAIN}"} if step.number else {}

    def do(self, step: Step) -> None:
        """Send a request; note all that it shows."""
        method, path, body = STEPS[step.what](self, step)
        prefix, headers = self.place(step) if step.foreign or step.variant else ("", {})
        secret = self.secrets[-1] if step.caller else self.secrets[0]
        answer = self.site.ask(
            method, prefix + path, secret, json=body, headers=headers, peer=self.address
        )
        self.note(step, answer.status_code, dict(answer.headers), answer.text)
        if answer.status_code == 201:
            self.secrets.append(answer.json()["key"])
            self.keys.append(answer.json()["id"])

    def infer(self, step: Step) -> None:
        """Send a sealed request: under a few keys, sometimes in the other's name."""
        prefix, host = self.place(step) if step.variant else ("", {})
        key = f"key-{step.number}" if step.caller or step.foreign else None
        named = self.mine(step).tenant_id
        headers, body = request(
            f"text {step.variant}", key=key, tenant_id=named, stream=bool(step.variant)
        )
        sent = {
            **{name.decode(): value.decode() for name, value in headers},
            **host,
            "authorization": f"Bearer {self.secrets[0]}",
        }
        del sent["content-length"]
        answer = self.site.ask(
            "POST", f"{prefix}/api/inference", content=body, headers=sent, peer=self.address
        )
        self.note(step, answer.status_code, dict(answer.headers), answer.text)
        found = re.search(r"aud_[0-9a-f]{16}", answer.text)
        if found:
            self.receipts.append(found[0])

    def note(self, step: Step, status: int, headers: dict[str, str], text: str) -> None:
        told = {name: headers[name] for name in TOLD if name in headers}
        self.seen.append(json.dumps([step.what, status, told, text]))

    def names(self) -> set[str]:
        return {self.tenant_id, *self.secrets, *self.keys, *self.receipts}

    def numbered(self) -> str:
        """All that was seen, with its own name and all random ones in order."""
        found: dict[str, str] = {}
        text = "\n".join(self.seen)
        for name in (self.tenant_id, self.other.tenant_id):
            plain, sealed = name.encode().hex(), _base64(name)
            text = text.replace(name, "NAME").replace(plain, "NAME").replace(sealed, "NAME")
        return _RANDOM.sub(lambda each: found.setdefault(each[0], f"#{len(found)}"), text)


def _base64(name: str) -> str:
    import base64  # noqa: PLC0415

    return base64.b64encode(name.encode()).decode().rstrip("=")


def _at(known: list[str], number: int, absent: str) -> str:
    return known[number] if number < len(known) else absent


Request = tuple[str, str, object]
STEPS: dict[str, Callable[[Tenant, Step], Request]] = {
    "list keys": lambda _me, _step: ("GET", "/api/keys", None),
    "make a key": lambda _me, step: (
        "POST",
        "/api/keys",
        {"name": f"k{step.number}", "scopes": SCOPES[2 * step.number + step.variant]},
    ),
    "revoke": lambda me, step: ("DELETE", f"/api/keys/{me.key_id(step)}", None),
    "rotate": lambda me, step: (
        "POST",
        f"/api/keys/{me.key_id(step)}/rotate",
        {"grace": None if step.variant else "1h"},
    ),
    "audit": lambda _me, step: ("GET", f"/api/audit?page={1 + step.variant}&limit=2", None),
    "audit of a key": lambda _me, step: (
        "GET",
        f"/api/audit?key_id={KEY_ID.hex()}&attestation_hash={ATTESTATION_HASH}&outcome="
        + ("refused" if step.number else "answered"),
        None,
    ),
    "one receipt": lambda me, step: ("GET", f"/api/audit/{me.receipt_id(step)}", None),
    "usage": lambda _me, _step: ("GET", "/api/usage", None),
    "models": lambda _me, _step: ("GET", "/api/models", None),
    "attest": lambda _me, _step: ("GET", f"/api/attest?hash={ATTESTATION_HASH}", None),
    "no route": lambda _me, _step: ("GET", "/api/nothing", None),
}
WHATS = [*sorted(STEPS), "infer", "infer", "infer", "make a key"]
CALLS = st.lists(
    st.builds(
        Step, st.booleans(), st.sampled_from(WHATS), NUMBERS, NUMBERS, st.booleans(), NUMBERS
    ),
    min_size=15,
    max_size=40,
)


def make(site: Site, steps: list[Step]) -> str:
    """Send the requests of two fresh tenants; return what the first saw."""
    site.runs += 1  # limits by address begin anew
    first, second = (Tenant(site, f"2001:db8:{site.runs:x}:{each}::1") for each in (1, 2))
    first.other, second.other = second, first
    for step in steps:
        actor = first if step.is_first else second
        actor.infer(step) if step.what == "infer" else actor.do(step)
    for one in (first, second):
        secrets = {name for name in one.other.names() if _NAMES_OF_SECRETS.fullmatch(name)}
        shown = "\n".join(one.seen)
        assert not [name for name in secrets if name in shown], "a name of the other was shown"
    assert site.notes.faults == []
    return first.numbered()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    fast = tuple(each for each in sqlite.SETTINGS if "synchronous" not in each)
    monkeypatch.setattr(sqlite, "SETTINGS", (*fast, "synchronous=OFF"))
    made = Site(tmp_path)
    yield made
    made.close()


def test_no_requests_of_one_tenant_show_or_change_anything_of_another(site: Site) -> None:
    @settings(max_examples=10, deadline=None, phases=NO_SHRINKING, database=None)
    @given(CALLS)
    def holds(steps: list[Step]) -> None:
        alone = [step for step in steps if step.is_first]
        assert make(site, steps) == make(site, alone)

    holds()


def everything(*, foreign: bool) -> list[Step]:
    """Every request in every form, first of all those that make something."""
    begin = [
        Step(who, what, 0, 0, foreign=False, caller=0)
        for what in ("make a key", "infer")
        for who in (True, False)
    ]
    middle = [
        Step(who, what, number, variant, foreign, 0)
        for what in sorted({*WHATS}, key=lambda name: (name == "revoke", name))
        for number in (0, 1)
        for variant in (0, 1)
        for who in (True, False)
    ]
    end = [
        Step(True, what, 0, 0, foreign=False, caller=caller)  # noqa: FBT003 -- of the first
        for what in ("list keys", "audit", "infer")
        for caller in (0, 1)
    ]
    return [*begin, *middle, *end]


@pytest.mark.parametrize("foreign", [False, True])
def test_each_request_once(site: Site, foreign: bool) -> None:  # noqa: FBT001 -- a parameter
    """So that no kind of request is left to chance."""
    site.limit_per_minute = 1_000
    steps = everything(foreign=foreign)
    seen = make(site, steps)
    assert seen == make(site, [step for step in steps if step.is_first])
    for what in STEPS:
        assert f'["{what}", 2' in seen or what in {"attest", "no route"} or foreign
        assert f'["{what}", 4' in seen or not foreign
    assert '["infer", 200' in seen


def test_a_leak_would_be_seen(site: Site) -> None:
    """The comparison is worth something: counting both in one bucket is noticed."""
    honest = site.limiter.take_now

    def together(bucket: str, limit: int, now: float) -> object:
        del bucket
        return honest(f"one for all of run {site.runs}", limit, now)

    site.limiter.take_now = together  # type: ignore[method-assign,assignment]  # planted
    site.limit_per_minute = 40
    steps = everything(foreign=False)
    assert make(site, steps) != make(site, [step for step in steps if step.is_first])
