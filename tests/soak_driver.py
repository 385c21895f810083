"""Load for one enclave process: everything that a parent and its clients do, all day long.

Several connections, several calls on each. Every answer is opened, every receipt counted: the
sequence numbers of a tenant must come without a hole, except where a connection was cut on purpose.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from latensgate_shared import calls
from latensgate_shared.answer_records import parse_content_record, parse_final_record
from latensgate_shared.cbor import CBORValue
from latensgate_shared.errors import ErrorCode
from latensgate_shared.frames import (
    Accepted,
    Cancel,
    Chunk,
    End,
    Error,
    Event,
    FrameConnection,
    Head,
    HeadMap,
    LocalProtocolError,
    Role,
    split_body,
)
from latensgate_shared.manifest import parse_manifest
from latensgate_shared.messages import Outer
from latensgate_shared.receipts import parse_receipt
from latensgate_shared.sealed import SealedRequest, SealingKey, open_answer, seal_request
from latensgate_shared.sealed_plaintext import RequestFields, build_plaintext
from stack import MODEL

TENANTS: Final = tuple(f"tnt_{number:08x}" for number in range(16))
CALL_TIMEOUT_S: Final = 60.0
RENEW_S: Final = 30.0
"""A manifest is asked for again so often: keys rotate while the load runs."""
TEXT: Final = (
    "Please summarise: Jane wrote from jane.doe@example.com that invoice 4711 is due on Friday, "
    "and that the card 4111 1111 1111 1111 was charged twice. "
)
HARD_FAIL: Final = {"rules": {"EMAIL_ADDRESS": {"prompt": {"action": "fail"}}}}
MIX: Final = {
    "unary": 44,
    "stream": 16,
    "unknown_model_field": 8,
    "unsupported": 6,
    "hard_fail": 6,
    "not_sealed": 5,
    "replay": 4,
    "cancel": 5,
    "cancel_at_once": 2,
    "cut": 1,
    "attestation": 2,
    "health": 1,
}
"""Kinds of calls and how often each comes."""


class UnexpectedAnswerError(Exception):
    """The enclave did not do what it should for this kind of call."""


@dataclass
class Ended:
    """How a call ended: with an end head and body, or with an error code."""

    head: HeadMap
    body: bytes = b""
    end: HeadMap = field(default_factory=dict[str, CBORValue])
    code: ErrorCode | None = None


class Link:
    """One connection of the parent, many calls at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameConnection(Role.PARENT)
        self._queues: dict[int, asyncio.Queue[Event | None]] = {}
        self._task = asyncio.create_task(self._pump())

    @classmethod
    async def open(cls, path: Path) -> Link:
        return cls(*await asyncio.open_unix_connection(str(path), limit=1 << 18))

    async def _pump(self) -> None:
        while data := await self._reader.read(1 << 18):
            for event in self._frames.receive(data):
                call_id = getattr(event, "call_id", None)
                if call_id in self._queues:
                    self._queues[call_id].put_nowait(event)
        for queue in self._queues.values():
            queue.put_nowait(None)

    def start(self, call: calls.Call, body: bytes = b"") -> int:
        call_id = self._frames.next_call_id
        self._queues[call_id] = asyncio.Queue()
        out = self._frames.send(calls.request_frame(call_id, call))
        out += b"".join(self._frames.send(chunk) for chunk in split_body(call_id, body))
        self._writer.write(out + self._frames.send(End(call_id)))
        return call_id

    def cancel(self, call_id: int) -> None:
        """Cancel, unless the answer is here already."""
        with suppress(LocalProtocolError):
            self._writer.write(self._frames.send(Cancel(call_id)))

    async def begun(self, call_id: int) -> Event | None:
        """Wait for the first event after the acceptance, and leave it in the queue's place."""
        queue = self._queues[call_id]
        event = await queue.get()
        return await queue.get() if isinstance(event, Accepted) else event

    async def finish(self, call_id: int, seen: Event | None = None) -> Ended:
        queue = self._queues[call_id]
        ended = Ended({})
        event = seen
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                while True:
                    event = event or await queue.get()
                    match event:
                        case Head():
                            ended.head = event.head
                        case Chunk():
                            ended.body += event.data
                        case End():
                            ended.end = event.head
                            return ended
                        case Error():
                            ended.code = event.code
                            return ended
                        case None:
                            raise ConnectionError("the enclave closed the connection")
                        case _:
                            pass
                    event = None
        finally:
            del self._queues[call_id]

    def cut(self) -> None:
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        await self._task


@dataclass
class Tally:
    """What has happened so far."""

    calls: Counter[str] = field(default_factory=Counter[str])
    codes: Counter[str] = field(default_factory=Counter[str])
    sequences: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    cut_tenants: Counter[str] = field(default_factory=Counter[str])

    def take_receipt(self, tenant_id: str, sequence: int) -> None:
        seen = self.sequences.setdefault(tenant_id, set())
        if sequence in seen:
            raise UnexpectedAnswerError(f"{tenant_id}: sequence {sequence} twice")
        seen.add(sequence)

    def check_sequences(self) -> None:
        """Demand every receipt of every tenant, apart from those of cut connections."""
        for tenant_id, seen in self.sequences.items():
            missing = max(seen) + 1 - len(seen)
            if missing > self.cut_tenants[tenant_id]:
                raise UnexpectedAnswerError(f"{tenant_id}: {missing} receipts are missing")

    @property
    def count(self) -> int:
        return sum(self.calls.values())


def uuid7() -> str:
    stamp, rest = int(time.time() * 1000), os.urandom(10)
    raw = stamp.to_bytes(6, "big") + bytes([0x70 | rest[0] & 15, rest[1], 0x80 | rest[2] & 63])
    digits = (raw + rest[3:]).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Driver:
    """Puts load on an enclave.

    Args:
        path: Its socket.
        count: Calls altogether.
        lanes: Calls at once.
        on_call: Told after each call.
        tally: Of earlier load on the same enclave, which goes on numbering receipts.
    """

    def __init__(
        self,
        path: Path,
        count: int,
        *,
        lanes: int = 6,
        on_call: Callable[[Tally], None],
        tally: Tally | None = None,
    ) -> None:
        self._path = path
        self._left = count
        self._lanes = lanes
        self._on_call = on_call
        self._random = random.Random(1)  # noqa: S311  # a reproducible mix, no secret
        self._renewed_at = float("-inf")
        self.tally = tally or Tally()

    async def run(self) -> Tally:
        """Make all calls."""
        link = await Link.open(self._path)
        await self._renew(link)
        await link.close()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._lanes):
                tasks.create_task(self._lane())
        self.tally.check_sequences()
        return self.tally

    async def _lane(self) -> None:
        """Calls one after the other; two lanes share nothing, a lane has its own connection."""
        link = await Link.open(self._path)
        while self._left > 0:
            self._left -= 1
            kind = self._random.choices(list(MIX), list(MIX.values()))[0]
            await self._renew(link)
            if kind == "cut":
                await self._cut(link)
                link = await Link.open(self._path)
            else:
                await getattr(self, f"_{kind}")(link)
            self.tally.calls[kind] += 1
            self._on_call(self.tally)
        await link.close()

    async def _renew(self, link: Link) -> None:
        if time.monotonic() - self._renewed_at < RENEW_S:
            return
        self._renewed_at = time.monotonic()
        ended = await link.finish(link.start(calls.AttestationCall()))
        answer = calls.AttestationAnswer.from_head(ended.head)
        key = parse_manifest(answer.manifest).hpke_keys[0]
        self._key = SealingKey(key.suite, key.public_key)
        self._attestation_hash = answer.attestation_hash

    # --- one request ---

    def _seal(
        self, *, stream: bool = False, **members: object
    ) -> tuple[calls.InferenceCall, SealedRequest]:
        policy = members.pop("policy", None)
        tenant_id = self._random.choice(TENANTS)
        text = TEXT * self._random.choices((1, 2, 8, 40), (80, 12, 7, 1))[0]
        body: dict[str, object] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            **({"stream": True} if stream else {}),
            **members,
        }
        outer = Outer(self._attestation_hash, MODEL, tenant_id, stream=stream)
        fields = RequestFields(uuid7(), int(time.time() * 1000), policy=policy)  # type: ignore[arg-type]  # JSON
        plaintext = build_plaintext(fields, json.dumps(body).encode())
        call = calls.InferenceCall(
            outer.attestation_hash, outer.model, tenant_id, outer.operation, stream
        )
        return call, seal_request(self._key, outer.canonical(), plaintext)

    def _check(
        self,
        call: calls.InferenceCall,
        sealed: SealedRequest,
        ended: Ended,
        *wanted: ErrorCode | None,
    ) -> None:
        """Open the answer, count its receipt, compare the sealed outcome."""
        if ended.code is not None:
            raise UnexpectedAnswerError(f"not sealed: {ended.code.name}")
        final_chunk = ended.end["final_chunk"]
        assert isinstance(final_chunk, bytes)
        opened = open_answer(sealed.answer_secret, ended.body + final_chunk)
        final = parse_final_record(opened.final)
        receipt = parse_receipt(final.receipt)
        self.tally.take_receipt(call.tenant_id, receipt.public.sequence)
        if call.stream:
            code = ErrorCode[str(ended.end["code"])] if "code" in ended.end else None
        else:
            error = parse_content_record(opened.content).error
            code = error.code if error else None
        self.tally.codes[code.name if code else "answered"] += 1
        if code not in wanted:
            raise UnexpectedAnswerError(f"{code} where one of {wanted} was expected")

    async def _ask(self, link: Link, *wanted: ErrorCode | None, **members: object) -> None:
        call, sealed = self._seal(**members)  # type: ignore[arg-type]  # stream is among them
        self._check(call, sealed, await link.finish(link.start(call, sealed.wire)), *wanted)

    async def _refused(self, link: Link, call: calls.Call, body: bytes, code: ErrorCode) -> None:
        ended = await link.finish(link.start(call, body))
        if ended.code is not code:
            raise UnexpectedAnswerError(f"{ended.code} where {code} was expected")
        self.tally.codes[f"{code.name} (not sealed)"] += 1

    # --- the kinds of MIX ---

    async def _unary(self, link: Link) -> None:
        await self._ask(link, None)

    async def _stream(self, link: Link) -> None:
        await self._ask(link, None, stream=True)

    async def _unknown_model_field(self, link: Link) -> None:
        await self._ask(link, ErrorCode.ERR_REQUEST_INVALID, temperature="warm")

    async def _unsupported(self, link: Link) -> None:
        await self._ask(link, ErrorCode.ERR_UNSUPPORTED, logprobs=True)

    async def _hard_fail(self, link: Link) -> None:
        await self._ask(link, ErrorCode.ERR_PII_HARD_FAIL, policy=HARD_FAIL)

    async def _not_sealed(self, link: Link) -> None:
        call, sealed = self._seal()
        changed = sealed.wire[:-1] + bytes([sealed.wire[-1] ^ 1])
        await self._refused(link, call, changed, ErrorCode.ERR_OPEN_FAILED)

    async def _replay(self, link: Link) -> None:
        call, sealed = self._seal()
        first = link.start(call, sealed.wire)
        again = link.start(call, sealed.wire)
        ended = [await link.finish(first), await link.finish(again)]
        for each in ended:
            self._check(call, sealed, each, None, ErrorCode.ERR_REPLAY)

    async def _cancel(self, link: Link) -> None:
        """Cancel once the answer has begun: a sealed end and a receipt come all the same."""
        call, sealed = self._seal(stream=True)
        call_id = link.start(call, sealed.wire)
        seen = await link.begun(call_id)
        link.cancel(call_id)
        ended = await link.finish(call_id, seen)
        self._check(call, sealed, ended, None, ErrorCode.ERR_CANCELLED)

    async def _cancel_at_once(self, link: Link) -> None:
        """Cancel before the enclave has read the request: an error frame, or a sealed refusal."""
        call, sealed = self._seal()
        call_id = link.start(call, sealed.wire)
        link.cancel(call_id)
        ended = await link.finish(call_id)
        if ended.code is ErrorCode.ERR_CANCELLED:
            self.tally.codes["ERR_CANCELLED (not sealed)"] += 1
            return
        self._check(call, sealed, ended, None, ErrorCode.ERR_CANCELLED)

    async def _cut(self, link: Link) -> None:
        """Break the connection in the middle of an answer."""
        call, sealed = self._seal(stream=True)
        await link.begun(link.start(call, sealed.wire))
        self.tally.cut_tenants[call.tenant_id] += 1
        link.cut()

    async def _attestation(self, link: Link) -> None:
        ended = await link.finish(link.start(calls.AttestationCall(nonce=os.urandom(32))))
        if ended.code is not ErrorCode.ERR_RATE_LIMITED:  # freshness proofs are few a second
            calls.AttestationAnswer.from_head(ended.head)

    async def _health(self, link: Link) -> None:
        ended = await link.finish(link.start(calls.HealthCall()))
        if calls.HealthAnswer.from_head(ended.head).enclave is not calls.EnclaveState.READY:
            raise UnexpectedAnswerError(f"not ready: {ended.head}")
