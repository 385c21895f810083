"""A tenant with an approver, requests that are held, and decisions about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_client import Asked, Told, ask, chat, fields, open_told, run
from enclave_doubles import TENANT, Bench, Recording
from latensgate_enclave.hold_service import HeldRequests, Shown
from latensgate_enclave.holding import Pending
from latensgate_shared.calls_hold import HoldDecideCall, HoldViewCall
from latensgate_shared.hold import Decision, HoldDecision, HoldNotice, SignedDecision
from latensgate_shared.jcs import canonicalize
from latensgate_shared.sealed import SUITE_XWING, OpeningKey
from latensgate_shared.strict_json import JSONObject, JSONValue
from settings_examples import Root

EMAIL = "bob@example.com"
HOLD_EMAIL: JSONObject = {"rules": {"EMAIL_ADDRESS": {"prompt": {"action": "allow", "hold": True}}}}
ROOT = Root()


def hold_policy(**members: JSONValue) -> JSONObject:
    return {**HOLD_EMAIL, **members}


@dataclass(frozen=True)
class Ann:
    """An approver."""

    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    name: str = "Ann"
    xwing: OpeningKey | None = None

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def member(self) -> JSONObject:
        more: JSONObject = {}
        if self.xwing is not None:
            more = {"xwing": self.xwing.sealing_key.public_key.raw.hex()}
        return {"name": self.name, "ed25519": self.public.hex(), **more}

    def says(
        self, notice: HoldNotice, decision: Decision = Decision.APPROVE, **changes: object
    ) -> SignedDecision:
        given: dict[str, object] = {
            "pending_id": notice.pending_id,
            "plan_digest": notice.plan_digest,
            "decision": decision,
            "expires_at": notice.expires_at,
            **changes,
        }
        decided = HoldDecision(**given)  # type: ignore[arg-type]  # checked there
        return SignedDecision.sign(decided, self.public, self.private.sign)


def with_xwing(seed: bytes = bytes(range(32))) -> Ann:
    return Ann(xwing=OpeningKey(SUITE_XWING, seed))


ANN = Ann()


def settings(
    *approvers: Ann, version: int = 1, root: Root = ROOT, policy: JSONObject | None = None
) -> bytes:
    named: list[JSONValue] = [each.member() for each in approvers or (ANN,)]
    return root.document(
        TENANT, version, approvers=named, policy=HOLD_EMAIL if policy is None else policy
    )


@dataclass
class Held:
    """A request that is held, with all that the parent keeps of it."""

    made: Bench
    asked: Asked
    told: Told
    pending: Pending
    service: HeldRequests
    settings_then: bytes

    @property
    def notice(self) -> HoldNotice:
        error = self.told.records[-1].error
        assert error is not None
        assert error.hold is not None
        return error.hold

    def decide_call(self, signed: SignedDecision, **changes: object) -> HoldDecideCall:
        call = HoldDecideCall(
            self.pending.state,
            self.settings_then,
            len(self.settings_then),
            canonicalize(signed.to_json()),
        )
        return replace(call, **changes)  # type: ignore[arg-type]  # checked there

    @property
    def body(self) -> bytes:
        return self.settings_then + self.asked.request.wire

    async def decide(
        self, signed: SignedDecision, *, body: bytes | None = None, **changes: object
    ) -> Told:
        """Present a decision; what comes is opened by the original caller."""
        sink = Recording()
        given = self.body if body is None else body
        await self.service.decide(self.decide_call(signed, **changes), given, sink)
        outer = replace(self.asked.outer, stream=False)  # fetched as a whole
        return open_told(replace(self.asked, outer=outer), sink)

    async def view(self, ann: Ann, **changes: object) -> Shown:
        call = HoldViewCall(
            self.pending.state, self.settings_then, len(self.settings_then), ann.public
        )
        return await self.service.view(replace(call, **changes), self.body)  # type: ignore[arg-type]


async def told_of(
    made: Bench,
    body: JSONObject | None = None,
    *,
    document: bytes | None,
    stream: bool = False,
    operation: str = "chat.completions",
    **inside: object,
) -> tuple[Asked, Recording]:
    """Ask under settings; what left."""
    given: dict[str, object] = {} if document is None else {"tenant_root": ROOT.public}
    sealed = fields(made, **(given | inside))
    asked = ask(
        made,
        chat(f"Write to {EMAIL}") if body is None else body,
        inside=sealed,
        stream=stream,
        operation=operation,
    )
    asked = replace(asked, tenant_settings=document)
    sink = Recording()
    await run(made.pipeline, asked, sink)
    return asked, sink


async def held(
    made: Bench,
    body: JSONObject | None = None,
    *,
    document: bytes | None = None,
    stream: bool = False,
    operation: str = "chat.completions",
    **inside: object,
) -> Held:
    """Ask for something that is held."""
    document = document or settings()
    asked, sink = await told_of(
        made, body, document=document, stream=stream, operation=operation, **inside
    )
    told = open_told(asked, sink)
    assert sink.released is not None
    assert sink.released.pending is not None, told.records
    service = HeldRequests(made.pipeline)
    return Held(made, asked, told, sink.released.pending, service, document)


def models_asked(made: Bench) -> Sequence[str]:
    """Return the model calls that AWS carried out."""
    return [each for each in made.cloud.happened if each.startswith(("converse", "invoke"))]
