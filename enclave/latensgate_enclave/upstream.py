"""The models behind the enclave: who is asked, how often, and what stays as evidence.

Every call leaves evidence of who was asked: host, hash of the TLS certificate that answered, place,
and which attempts failed before. A call is repeated only where it certainly has not run (nothing
was sent, or the upstream turned it away) and never after the first byte of an answer, so nobody
pays twice; elsewhere only means another measured place of the same route (ADR 0040).
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.breaker import Breaker
from latensgate_enclave.egress import Call, EgressError
from latensgate_enclave.http1 import HTTPError, HttpResponse
from latensgate_enclave.retry import Plan
from latensgate_enclave.values import Value
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import BEDROCK_ANSWER_MAX_BYTES, BEDROCK_STREAM_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from latensgate_enclave.chat_answer import ChatDelta
    from latensgate_enclave.egress import Egress, Reply
    from latensgate_enclave.environment import Entropy, MonotonicClock
    from latensgate_enclave.http1 import HttpRequest
    from latensgate_enclave.measured import ModelRoute
    from latensgate_enclave.operation import AnswerReader, Forwarding, ModelAnswer
    from latensgate_shared.strict_json import JSONObject, JSONValue

_OK: Final = 200
_SERVER_ERROR: Final = 500
_NS_PER_MS: Final = 1_000_000
Witness: TypeAlias = "Callable[[JSONObject], None]"
"""Takes the evidence of one call, as receipts state it."""


class Prepared(Value, frozen=True):
    """One request to one place.

    Attributes:
        request: With its credential.
        evidence: Of who is asked; without the certificate, which is not known yet.
    """

    request: HttpRequest
    evidence: Mapping[str, JSONValue]


class Provider(Protocol):
    """One kind of upstream."""

    def places(self, route: ModelRoute) -> tuple[str, ...]:
        """Return where a route may be asked, in order of preference; at least one."""
        ...

    def prepare(self, forwarding: Forwarding, place: str, *, stream: bool) -> Prepared:
        """Return the request to one place.

        Raises:
            LatensgateError: There is no credential for it. With ``ERR_UPSTREAM_LOGGING`` another
                place may be asked.
        """
        ...

    def refused(self, response: HttpResponse) -> UpstreamError:
        """Return what an answer with another status than 200 means."""
        ...

    def deltas(self, reply: Reply, reader: AnswerReader) -> AsyncGenerator[list[ChatDelta]]:
        """Read a streamed answer; raises a `LatensgateError` if it is none, or cut short."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What calls need besides upstreams.

    Attributes:
        egress: The way out.
        monotonic_ns: For deadlines, pauses and breakers.
        entropy: For jitter.
        deadline_ms: Of a whole answer with all its attempts, milliseconds.
        sleep: Waits seconds.
    """

    egress: Egress
    monotonic_ns: MonotonicClock
    entropy: Entropy
    deadline_ms: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class _Run:
    """One call on its way to an answer."""

    forwarding: Forwarding
    provider: Provider
    witness: Witness
    stream: bool
    plan: Plan
    ends_at_ms: int
    refused: set[str] = field(default_factory=set[str])
    attempts: int = 0
    failed: list[JSONValue] = field(default_factory=list["JSONValue"])
    evidence: JSONObject = field(default_factory=dict[str, "JSONValue"])
    last: LatensgateError | None = None

    def tell(self, **evidence: JSONValue) -> None:
        """Note what is known now; what is known of the attempts stands beside it."""
        told: JSONObject = {**evidence, "upstream": self.forwarding.route.upstream}
        told["attempts"] = self.attempts
        if self.failed:
            told["failed_attempts"] = list(self.failed)
        self.evidence = told
        self.witness(told)

    def failed_at(self, place: str, error: LatensgateError) -> None:
        """Note an attempt that gave no answer."""
        self.failed.append({"place": place, "code": error.code.name})
        self.last = error
        self.tell(**self.evidence)


class Upstreams:
    """Calls models, by the upstream that their route names.

    Args:
        providers: By name of the upstream.
        surroundings: What calls need.
    """

    def __init__(self, providers: Mapping[str, Provider], surroundings: Surroundings) -> None:
        self._providers = providers
        self._at = surroundings
        self._breakers: dict[tuple[str, str], Breaker] = {}

    async def converse(self, forwarding: Forwarding, witness: Witness) -> ModelAnswer:
        """Return a whole answer.

        Args:
            forwarding: What is sent.
            witness: Told the evidence of the call before anything is sent, and of each failure.

        Raises:
            LatensgateError: No credential, no connection, or the upstream refused.
        """
        run = self._run(forwarding, witness, stream=False)
        async with self._answered(run) as reply:
            body = b"".join([piece async for piece in reply])
        return forwarding.reader.whole(HttpResponse(reply.head.status, reply.head.headers, body))

    @asynccontextmanager
    async def converse_stream(
        self, forwarding: Forwarding, witness: Witness
    ) -> AsyncGenerator[AsyncIterator[list[ChatDelta]]]:
        """Hand out an answer while it comes; arguments as `converse`.

        Leaving the block early cuts the connection, which ends the model's work.

        Raises:
            LatensgateError: As `converse`; also while the answer comes.
        """
        run = self._run(forwarding, witness, stream=True)
        async with (
            self._answered(run) as reply,
            aclosing(run.provider.deltas(reply, forwarding.reader)) as deltas,
        ):
            yield deltas

    def _run(self, forwarding: Forwarding, witness: Witness, *, stream: bool) -> _Run:
        provider = self._providers[forwarding.route.upstream]
        ends_at_ms = self._now_ms() + self._at.deadline_ms
        plan = Plan(provider.places(forwarding.route), ends_at_ms, self._at.entropy)
        return _Run(forwarding, provider, witness, stream, plan, ends_at_ms)

    @asynccontextmanager
    async def _answered(self, run: _Run) -> AsyncGenerator[Reply]:
        while True:
            async with AsyncExitStack() as life:
                reply = await self._attempt(run, life)
                if reply is not None:
                    yield reply
                    return

    async def _attempt(self, run: _Run, life: AsyncExitStack) -> Reply | None:
        """Ask one place; return nothing if it has not run the call and another try may follow."""
        place = await self._next_place(run)
        prepared = self._prepared(run, place)
        breaker = self._breaker(run, place)
        # Asked last: who is admitted and does not report leaves an open breaker without a probe.
        permit = None if prepared is None else breaker.admit(self._now_ms())
        if prepared is None or permit is None:  # it may have opened during the pause
            return None
        run.attempts += 1
        try:
            reply = await self._send(run, prepared, life)
        except LatensgateError as error:
            now_ms = self._now_ms()
            if _is_down(error):
                breaker.failed(permit, now_ms)
            else:
                breaker.succeeded(permit)
            run.failed_at(place, error)
            if not _has_not_run(error):
                raise
            wait_ms = error.retry_after_ms if isinstance(error, UpstreamError) else None
            run.plan.failed(place, now_ms, wait_ms)
            return None
        except BaseException:  # the caller went away
            breaker.abandoned(permit)
            raise
        breaker.succeeded(permit)
        return reply

    async def _next_place(self, run: _Run) -> str:
        def is_open(place: str) -> bool:
            waits = self._breaker(run, place).wait_ms(self._now_ms())
            return place not in run.refused and not waits

        attempt = run.plan.next(self._now_ms(), is_open)
        if attempt is None:
            raise run.last or self._unavailable(run)
        if attempt.pause_ms:
            await self._at.sleep(attempt.pause_ms / 1_000)
        return attempt.place

    def _prepared(self, run: _Run, place: str) -> Prepared | None:
        """Return the request to a place; nothing where the policy keeps us from it."""
        try:
            prepared = run.provider.prepare(run.forwarding, place, stream=run.stream)
        except LatensgateError as error:
            if error.code is not ErrorCode.ERR_UPSTREAM_LOGGING:
                raise
            run.refused.add(place)
            run.failed_at(place, error)
            return None
        return prepared

    async def _send(self, run: _Run, prepared: Prepared, life: AsyncExitStack) -> Reply:
        def connected(leaf_sha256: str) -> None:
            run.tell(**prepared.evidence, leaf_certificate_sha256=leaf_sha256)

        limit = BEDROCK_STREAM_MAX_BYTES if run.stream else BEDROCK_ANSWER_MAX_BYTES
        left_ms = max(run.ends_at_ms - self._now_ms(), 1)
        call = Call(prepared.request, limit, left_ms, connected)
        reply = await life.enter_async_context(self._at.egress.open(call))
        if reply.head.status != _OK:
            body = b"".join([piece async for piece in reply])
            told = HttpResponse(reply.head.status, reply.head.headers, body)
            raise run.provider.refused(told)
        return reply

    def _breaker(self, run: _Run, place: str) -> Breaker:
        return self._breakers.setdefault((run.forwarding.route.upstream, place), Breaker())

    def _unavailable(self, run: _Run) -> UpstreamError:
        places = run.provider.places(run.forwarding.route)
        wait_ms = min(self._breaker(run, place).wait_ms(self._now_ms()) for place in places)
        return UpstreamError(
            "the upstream failed again and again and is left alone",
            code=ErrorCode.ERR_UPSTREAM_UNAVAILABLE,
            retry_after_ms=wait_ms,
        )

    def _now_ms(self) -> int:
        return self._at.monotonic_ns() // _NS_PER_MS


def _is_down(error: LatensgateError) -> bool:
    """Whether an error speaks of the upstream itself and not of this one request."""
    if isinstance(error, UpstreamError):
        return error.status is not None and error.status >= _SERVER_ERROR
    return isinstance(error, EgressError | HTTPError)


def _has_not_run(error: LatensgateError) -> bool:
    """Whether it is certain that no model has begun: asking again costs nothing twice."""
    if isinstance(error, UpstreamError):
        return error.not_run
    return isinstance(error, EgressError) and error.nothing_sent
