"""The pool of workers: asks them, replaces those that fail, and never answers without them.

Whatever happens to a worker (killed, hung, out of memory, an answer that is none) ends the scan
that it worked on with a typed error and takes the worker out; the next scan finds another one. A
scan waits for a worker in a bounded queue, and for its names until a deadline. A long text gives
its workers back after a piece where others wait, so that nobody's text holds up everybody's.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from latensgate_enclave.ner.nest import SLOTS_PER_NEST, Nest, Worker
from latensgate_enclave.ner.wire import Entity, Status, WireError, decode_answer, encode_text
from latensgate_enclave.pii.errors import (
    PIIBusyError,
    PIIDeadlineError,
    PIIEngineError,
    PIIMemoryError,
    PIIWorkerLostError,
)
from latensgate_shared.limits import (
    PII_NER_DEADLINE_MS,
    PII_NER_PIECE_DEADLINE_MS,
    PII_NER_PIECE_MAX_CHARS,
    PII_NER_QUEUE_MAX_COUNT,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NS_PER_MS: Final = 1_000_000
_START_S: Final = 60
"""For the model to load at the start of the enclave: 2 s, and more where all boots at once."""
_START_INTERVAL_NS: Final = 1_000 * _NS_PER_MS
"""Between two starts of a model that keeps failing: nobody's requests may keep a core busy."""


class NamesPool:
    """Finds entities in texts; for threads.

    Args:
        command: Of the process that loads the model (`ner.nest.worker_command`).
        workers: How many at once: one for each processor that may be spent.
        monotonic_ns: The enclave's clock of durations.
        deadline_ms: Of one text, its waiting included.
        piece_deadline_ms: Of one piece of it.
        queue: Scans that may wait.
        slots: Lives of workers before the model is loaded anew.
    """

    def __init__(  # noqa: PLR0913 - limits that tests set
        self,
        command: Sequence[str],
        workers: int,
        monotonic_ns: Callable[[], int],
        *,
        deadline_ms: int = PII_NER_DEADLINE_MS,
        piece_deadline_ms: int = PII_NER_PIECE_DEADLINE_MS,
        queue: int = PII_NER_QUEUE_MAX_COUNT,
        slots: int = SLOTS_PER_NEST,
    ) -> None:
        """Load the model and fork the workers.

        Raises:
            PIIEngineError: The model does not load, or is not the pinned one.
        """
        self._command = tuple(command)
        self._monotonic_ns = monotonic_ns
        self._deadline_ns = deadline_ms * _NS_PER_MS
        self._piece_deadline_ns = piece_deadline_ms * _NS_PER_MS
        self._queue = queue
        self._slots = slots
        self._changed = threading.Condition()
        self._idle: list[Worker] = []
        self._room = workers  # workers that could be idle or busy and are not there
        self._line: deque[object] = deque()  # who waits for a worker, in the order of coming
        self._started_ns = monotonic_ns() - _START_INTERVAL_NS
        self._nest: Nest | None = None
        self._first_nest()

    def find(self, text: str) -> list[Entity]:
        """Return the entities of a text, in order of their place.

        Raises:
            PIIEngineError: A subclass that says why there is no answer.
        """
        deadline_ns = self._monotonic_ns() + self._deadline_ns
        pieces = deque(split(text))
        bounds = deadline_ns, self._piece_deadline_ns
        work = _Work(pieces, self._monotonic_ns, *bounds, others_wait=lambda: bool(self._line))
        while pieces:
            gang = self._hire(len(pieces), deadline_ns)
            try:
                work.go_on_with(gang)
            finally:
                self._release(gang, work.spoilt)
        return sorted(work.found)

    def close(self) -> None:
        """End all processes."""
        with self._changed:
            self._leave_nest()

    def _hire(self, wanted: int, deadline_ns: int) -> list[Worker]:
        """Take one worker, waiting for it, and more if they are idle."""
        with self._changed:
            if self._nest is not None and not self._nest.is_alive:
                self._leave_nest()  # its idle workers went with it
            self._wait_for_one(deadline_ns)
            gang: list[Worker] = []
            try:
                while len(gang) < wanted and (self._idle or self._room):
                    if gang and self._line:
                        break  # the rest is for others
                    gang.append(self._idle.pop() if self._idle else self._forked())
            except PIIEngineError:
                if not gang:
                    raise
            return gang

    def _wait_for_one(self, deadline_ns: int) -> None:
        if len(self._line) >= self._queue:
            raise PIIBusyError(f"at most {self._queue} scans for names may wait")
        ticket = object()
        self._line.append(ticket)
        try:
            while self._line[0] is not ticket or not (self._idle or self._room):
                left_ns = deadline_ns - self._monotonic_ns()
                if left_ns <= 0:
                    raise PIIDeadlineError("no worker for names was free in time")
                self._changed.wait(left_ns / (1_000 * _NS_PER_MS))
        finally:
            self._line.remove(ticket)
            self._changed.notify_all()  # whoever is the first now, once this one has its workers

    def _release(self, gang: list[Worker], spoilt: set[Worker]) -> None:
        with self._changed:
            for worker in gang:
                if worker in spoilt or worker.nest is not self._nest:
                    worker.nest.discard(worker)
                    self._room += 1
                else:
                    self._idle.append(worker)
            self._changed.notify_all()

    def _forked(self) -> Worker:
        """Have a new worker, of a new nest if the old one has none left.

        Raises:
            PIIWorkerLostError: There is none to be had now.
        """
        try:
            worker = self._living_nest().fork()
        except OSError:
            raise PIIWorkerLostError("no worker for names could be started") from None
        self._room -= 1
        return worker

    def _living_nest(self) -> Nest:
        nest = self._nest
        return nest if nest is not None and nest.has_slots else self._new_nest()

    def _new_nest(self) -> Nest:
        now_ns = self._monotonic_ns()
        if now_ns - self._started_ns < _START_INTERVAL_NS:
            raise PIIWorkerLostError("the model for names has just been started")
        self._started_ns = now_ns
        self._leave_nest()
        self._nest = nest = Nest(self._command, self._slots)
        return nest

    def _leave_nest(self) -> None:
        nest, self._nest = self._nest, None
        if nest is None:
            return
        for worker in self._idle:
            nest.discard(worker)
            self._room += 1
        self._idle.clear()
        nest.retire()  # what is busy may finish, if the process lives

    def _first_nest(self) -> None:
        try:
            nest = self._new_nest()
        except OSError:
            raise PIIEngineError("the process for names does not start") from None
        if not nest.wait_until_ready(_START_S):
            self.close()
            raise PIIEngineError("the model for names does not load, or is not the pinned one")
        while self._room:
            self._idle.append(self._forked())


class _Work:
    """One text on its way through some workers.

    Attributes:
        found: Entities of the pieces that are done, with their places in the text.
        spoilt: Workers that must not be used again.
    """

    def __init__(
        self,
        pieces: deque[tuple[int, str]],
        monotonic_ns: Callable[[], int],
        deadline_ns: int,
        piece_deadline_ns: int,
        *,
        others_wait: Callable[[], bool],
    ) -> None:
        self._todo = pieces
        self._others_wait = others_wait
        self._monotonic_ns = monotonic_ns
        self._deadline_ns = deadline_ns
        self._piece_deadline_ns = piece_deadline_ns
        self._busy: dict[int, tuple[Worker, int, int, int]] = {}
        self.found: list[Entity] = []
        self.spoilt: set[Worker] = set()

    def go_on_with(self, gang: list[Worker]) -> None:
        """Work on until all is done, others wait, or every worker of the gang has to end."""
        poller = select.poll()
        try:
            for worker in gang:
                poller.register(worker.answers, select.POLLIN)
                self._give(worker)
            while self._busy:
                for descriptor, _ in self._ready(poller):
                    self._take(*self._busy[descriptor])
        finally:
            self.spoilt |= {worker for worker, *_ in self._busy.values()}

    def _ready(self, poller: select.poll) -> list[tuple[int, int]]:
        now_ns = self._monotonic_ns()
        until_ns = min(self._deadline_ns, *(piece for *_, piece in self._busy.values()))
        ready = poller.poll(max(0, (until_ns - now_ns) / _NS_PER_MS))
        if not ready:
            raise PIIDeadlineError("a worker for names did not answer in time")
        for descriptor, _ in ready:
            if descriptor not in self._busy:  # it has ended, and would be reported for ever
                poller.unregister(descriptor)
        return [pair for pair in ready if pair[0] in self._busy]

    def _give(self, worker: Worker) -> None:
        if not self._todo or worker in self.spoilt:
            return
        offset, piece = self._todo.popleft()
        deadline_ns = self._monotonic_ns() + self._piece_deadline_ns
        self._busy[worker.answers] = worker, offset, len(piece), deadline_ns
        try:
            worker.ask(encode_text(piece))
        except OSError:
            raise PIIWorkerLostError("a worker for names ended") from None

    def _take(self, worker: Worker, offset: int, chars: int, _deadline_ns: int) -> None:
        try:
            payload = worker.receive()
            if payload is None:
                return
            status, entities = decode_answer(payload, chars)
        except (OSError, WireError):
            raise PIIWorkerLostError("a worker for names ended within a scan") from None
        if status is Status.NO_MEMORY:
            raise PIIMemoryError("a worker for names ran out of memory")
        if status not in {Status.FOUND, Status.FOUND_LAST}:
            raise PIIEngineError("a worker for names could not finish a scan")
        del self._busy[worker.answers]
        self.found += [Entity(e.start + offset, e.end + offset, e.label) for e in entities]
        if status is Status.FOUND_LAST:
            self.spoilt.add(worker)
        if not self._others_wait():
            self._give(worker)


def split(text: str, max_chars: int = PII_NER_PIECE_MAX_CHARS) -> Iterator[tuple[int, str]]:
    """Cut a text at line ends, or at blanks, or anywhere, into pieces with their offsets.

    The same text is always cut the same way. A name over a cut that is neither is lost in part.
    """
    start = 0
    while len(text) - start > max_chars:
        end = _cut(text, start, start + max_chars)
        yield start, text[start:end]
        start = end
    if start < len(text):
        yield start, text[start:]


def _cut(text: str, start: int, limit: int) -> int:
    middle = (start + limit) // 2
    for mark in ("\n", ". ", " "):
        place = text.rfind(mark, middle, limit)
        if place >= 0:
            return place + len(mark)
    return limit
