"""The transport of ``Latensgate``: the exchange, driven by threads."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

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
    from collections.abc import Generator, Iterator

    from latensgate.attested import Attested
    from latensgate.carrier import SyncCarrier
    from latensgate.exchange_steps import Given, Received, Reply, Step, Talk
    from latensgate.exchange_stream import StreamOpener
    from latensgate.transport_routes import Router
    from latensgate.trust import TrustParts


class SyncTrust(Trust[httpx.Client]):
    """A client's trust, for threads."""

    carrier: SyncCarrier

    def __init__(self, parts: TrustParts, carried_by: SyncCarrier) -> None:
        super().__init__(parts, carried_by)
        self._pid, self._attesting = os.getpid(), threading.Lock()

    def in_this_process(self) -> None:
        """Leave behind what belongs to threads that were not forked with this process."""
        super().in_this_process()
        if self._pid != os.getpid():
            self._pid, self._attesting = os.getpid(), threading.Lock()

    def carry(self, send: Send, timing: object) -> tuple[Received, httpx.Response | None]:
        """Send sealed bytes; a stream is left open and its response returned too.

        Raises:
            httpx.TransportError: As httpx does; the OpenAI client retries and tells it.
            AnswerInvalidError: The answer is longer than any answer.
        """
        request = carrier.outgoing(self.client, self.root, send, timing)
        response = self.client.send(request, stream=True, follow_redirects=False)
        if carrier.is_stream(send, response):
            return carrier.received(response, b"", streaming=True), response
        reader = carrier.BodyReader(send.max_bytes)
        try:
            if not answer_bounds.is_encoded(response):
                for piece in answer_bounds.patient(response.iter_bytes(), carrier.patience_s(send)):
                    reader.add(piece)
        finally:
            response.close()
        return carrier.received(response, reader.whole(), streaming=False), None

    def attested(self, need: NeedAttested, timing: object) -> Attested:
        """Return what may be sealed to; concurrent callers attest once.

        Raises:
            LatensgateError: The attestation failed; nothing was sealed.
            httpx.TransportError: The gateway was not reached.
        """
        held = self.held(need)
        if held is None:
            with self._attesting:
                held = self.held(need) or self.restored(need) or self._attest(need, timing)
        if self.begins_renewal():
            self._begin(need, timing)
        return held

    def _attest(self, need: NeedAttested, timing: object) -> Attested:
        talk = self.exchange.attester.attest(need.headers)
        received, _ = self.carry(next(talk), timing)
        return self.kept(concluded(talk, received), need.stale)

    def proven(self, patience: object) -> AttestationProof:
        """Attest now, whatever is held, and hold that from now on.

        Raises:
            LatensgateClientError: The enclave was not proven to be one that is accepted.
            openai.APIConnectionError: The gateway was not reached.
        """
        self.in_this_process()
        try:
            return AttestationProof.of(self._attest(NeedAttested(), carrier.timing(patience)))
        except LatensgateError as error:
            raise attestation_error(error, self.root) from error
        except carrier.broken_connections() as error:
            raise unreached(error, self.root) from error

    def _begin(self, need: NeedAttested, timing: object) -> None:
        """Renew beside the caller, whose keys are good: no thread to be had harms nobody."""
        try:
            threading.Thread(target=self.renew, args=(need, timing), daemon=True).start()
        except RuntimeError as error:  # too many threads, or the interpreter ends
            self.end_renewal(error)

    def renew(self, need: NeedAttested, timing: object) -> None:
        """Attest again in the background; whoever does this has claimed it."""
        failed: BaseException | None = RenewalCancelledError()
        try:
            with self.carrier.borrowed():
                self._attest(need, timing)
            failed = None
        except carrier.renewal_faults() as error:
            failed = error
        finally:
            self.end_renewal(failed)


class SealingTransport(httpx.BaseTransport):
    """Seals what the OpenAI client sends and opens what comes back; refuses everything else."""

    def __init__(self, trust: SyncTrust, router: Router) -> None:
        self.trust = trust
        self.router = router

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Exchange one request. Afterwards it holds no plaintext any more.

        Raises:
            httpx.TransportError: The gateway was not reached.
        """
        self.trust.in_this_process()
        body = request.read()
        forget_body(request)
        talk = self.router.talk(request, body)
        if isinstance(talk, Failure):
            return whole_response(talk)
        reply, response = self._drive(talk, request.extensions.get("timeout"))
        if isinstance(reply, Streaming):
            assert response is not None  # noqa: S101 -- streams come with the response they are read from
            return stream_response(reply, OpenedStream(reply.opener, response, bare(request)))
        return whole_response(reply)

    def _drive(self, talk: Talk, timing: object) -> tuple[Reply, httpx.Response | None]:
        response: httpx.Response | None = None
        try:
            step = next(talk)
            while True:
                try:
                    given, response = self._perform(step, timing)
                except LatensgateError as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(given)
        except StopIteration as end:
            reply: Reply = end.value
            return reply, response
        except LatensgateError as error:
            return failure_of(error), None

    def _perform(self, step: Step, timing: object) -> tuple[Given, httpx.Response | None]:
        if isinstance(step, Send):
            return self.trust.carry(step, timing)
        if isinstance(step, NeedAttested):
            return self.trust.attested(step, timing), None
        return self.trust.made_data_key(step), None

    def close(self) -> None:
        """Close the carrier, unless it is the application's own."""
        self.trust.carrier.close()


class OpenedStream(httpx.SyncByteStream):
    """A sealed stream, opened while it is read."""

    def __init__(
        self, opener: StreamOpener, response: httpx.Response, request: httpx.Request
    ) -> None:
        self._opener = opener
        self._response = response
        self._request = request
        self._events = self._opened()

    def __iter__(self) -> Iterator[bytes]:
        """Return the one iterator: who asks again gets what is left."""
        return self._events

    def _opened(self) -> Generator[bytes]:
        """Yield OpenAI events; the last one only after the receipt was verified.

        Raises:
            LatensgateClientError: The stream was cut, changed, or ended in a sealed error.
        """
        try:
            pieces = answer_bounds.patient(
                self._response.iter_bytes(), answer_bounds.ANSWER_WAIT_MAX_S
            )
            for piece in pieces:
                yield from self._opener.feed(piece)
            yield from self._opener.finish()
        except LatensgateError as error:
            raise stream_error(failure_of(error), self._request) from None
        except carrier.timeouts():
            raise
        except carrier.broken_connections():
            raise stream_error(cut_stream(), self._request) from None

    def close(self) -> None:
        """Leave the rest of the stream unread; the gateway cancels it."""
        with contextlib.suppress(ValueError):  # it is being read at this moment
            self._events.close()
        self._response.close()
