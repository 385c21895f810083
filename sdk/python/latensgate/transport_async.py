"""The transport of ``AsyncLatensgate``: the exchange, driven by an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx

from latensgate import answer_bounds, carrier
from latensgate.attested import AttestationProof
from latensgate.exchange_failure import Failure, cut_stream, failure_of
from latensgate.exchange_steps import NeedAttested, Send, Streaming
from latensgate.transport_routes import (
    attestation_error,
    bare,
    forget_body,
    stream_error,
    stream_response,
    unreached,
    whole_response,
)
from latensgate.trust import RenewalCancelledError, Trust, concluded
from latensgate_shared.errors import LatensgateError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine

    from latensgate.attested import Attested
    from latensgate.carrier import AsyncCarrier
    from latensgate.exchange_steps import Given, Received, Reply, Step, Talk
    from latensgate.exchange_stream import StreamOpener
    from latensgate.transport_routes import Router
    from latensgate.trust import TrustParts


class AsyncTrust(Trust[httpx.AsyncClient]):
    """A client's trust, for tasks."""

    carrier: AsyncCarrier

    def __init__(self, parts: TrustParts, carried_by: AsyncCarrier) -> None:
        super().__init__(parts, carried_by)
        self._attesting = anyio.Lock()

    async def carry(self, send: Send, timing: object) -> tuple[Received, httpx.Response | None]:
        """Send sealed bytes; a stream is left open and its response returned too.

        Raises:
            httpx.TransportError: As httpx does; the OpenAI client retries and tells it.
            AnswerInvalidError: The answer is longer than any answer.
        """
        request = carrier.outgoing(self.client, self.root, send, timing)
        response = await self.client.send(request, stream=True, follow_redirects=False)
        if carrier.is_stream(send, response):
            return carrier.received(response, b"", streaming=True), response
        reader = carrier.BodyReader(send.max_bytes)
        try:
            if not answer_bounds.is_encoded(response):
                patience_s = carrier.patience_s(send)
                async for piece in answer_bounds.patient_async(response.aiter_bytes(), patience_s):
                    reader.add(piece)
        finally:
            await response.aclose()
        return carrier.received(response, reader.whole(), streaming=False), None

    async def attested(self, need: NeedAttested, timing: object) -> Attested:
        """Return what may be sealed to; concurrent callers attest once.

        Raises:
            LatensgateError: The attestation failed; nothing was sealed.
            httpx.TransportError: The gateway was not reached.
        """
        held = self.held(need)
        if held is None:
            async with self._attesting:
                held = self.held(need) or self.restored(need) or (await self._attest(need, timing))
        if self.begins_renewal():
            await self._begin(self.renew(need, timing))
        return held

    async def _attest(self, need: NeedAttested, timing: object) -> Attested:
        talk = self.exchange.attester.attest(need.headers)
        received, _ = await self.carry(next(talk), timing)
        return self.kept(concluded(talk, received), need.stale)

    async def proven(self, patience: object) -> AttestationProof:
        """Attest now, whatever is held, and hold that from now on.

        Raises:
            LatensgateClientError: The enclave was not proven to be one that is accepted.
            openai.APIConnectionError: The gateway was not reached.
        """
        self.in_this_process()
        try:
            return AttestationProof.of(await self._attest(NeedAttested(), carrier.timing(patience)))
        except LatensgateError as error:
            raise attestation_error(error, self.root) from error
        except carrier.broken_connections() as error:
            raise unreached(error, self.root) from error

    async def _begin(self, renewal: Coroutine[None, None, None]) -> None:
        """Run a renewal beside the caller; event loops other than asyncio's wait for it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            await renewal
        else:
            self.carrier.run_beside(renewal)

    async def renew(self, need: NeedAttested, timing: object) -> None:
        """Attest again in the background; whoever does this has claimed it."""
        failed: BaseException | None = RenewalCancelledError()
        try:
            await self._attest(need, timing)
            failed = None
        except carrier.renewal_faults() as error:
            failed = error
        finally:
            self.end_renewal(failed)


class AsyncSealingTransport(httpx.AsyncBaseTransport):
    """Seals what the OpenAI client sends and opens what comes back; refuses everything else."""

    def __init__(self, trust: AsyncTrust, router: Router) -> None:
        self.trust = trust
        self.router = router

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Exchange one request. Afterwards it holds no plaintext any more.

        Raises:
            httpx.TransportError: The gateway was not reached.
        """
        self.trust.in_this_process()
        body = await request.aread()
        forget_body(request)
        talk = self.router.talk(request, body)
        if isinstance(talk, Failure):
            return whole_response(talk)
        reply, response = await self._drive(talk, request.extensions.get("timeout"))
        if isinstance(reply, Streaming):
            assert response is not None  # noqa: S101 -- streams come with the response they are read from
            return stream_response(reply, AsyncOpenedStream(reply.opener, response, bare(request)))
        return whole_response(reply)

    async def _drive(self, talk: Talk, timing: object) -> tuple[Reply, httpx.Response | None]:
        response: httpx.Response | None = None
        try:
            step = next(talk)
            while True:
                try:
                    given, response = await self._perform(step, timing)
                except LatensgateError as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(given)
        except StopIteration as end:
            reply: Reply = end.value
            return reply, response
        except LatensgateError as error:
            return failure_of(error), None

    async def _perform(self, step: Step, timing: object) -> tuple[Given, httpx.Response | None]:
        if isinstance(step, Send):
            return await self.trust.carry(step, timing)
        if isinstance(step, NeedAttested):
            return await self.trust.attested(step, timing), None
        return await anyio.to_thread.run_sync(self.trust.made_data_key, step), None

    async def aclose(self) -> None:
        """Close the carrier, unless it is the application's own."""
        await self.trust.carrier.aclose()


class AsyncOpenedStream(httpx.AsyncByteStream):
    """A sealed stream, opened while it is read."""

    def __init__(
        self, opener: StreamOpener, response: httpx.Response, request: httpx.Request
    ) -> None:
        self._opener = opener
        self._response = response
        self._request = request
        self._events = self._opened()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return the one iterator: the OpenAI client asks again for what it left unread."""
        return self._events

    async def _opened(self) -> AsyncGenerator[bytes, None]:
        """Yield OpenAI events; the last one only after the receipt was verified.

        Raises:
            LatensgateClientError: The stream was cut, changed, or ended in a sealed error.
        """
        try:
            pieces = self._response.aiter_bytes()
            async for piece in answer_bounds.patient_async(pieces, answer_bounds.ANSWER_WAIT_MAX_S):
                for event in self._opener.feed(piece):
                    yield event
            for event in self._opener.finish():
                yield event
        except LatensgateError as error:
            raise stream_error(failure_of(error), self._request) from None
        except carrier.timeouts():
            raise
        except carrier.broken_connections():
            raise stream_error(cut_stream(), self._request) from None

    async def aclose(self) -> None:
        """Leave the rest of the stream unread; the gateway cancels it."""
        with contextlib.suppress(RuntimeError):  # it is being read at this moment
            await self._events.aclose()
        await self._response.aclose()
