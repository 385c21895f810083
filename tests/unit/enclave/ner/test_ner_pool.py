"""Every way in which a worker can fail: a typed refusal, and then service as before."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ner_fake
from latensgate_enclave.ner.nest import Nest, Worker, worker_command
from latensgate_enclave.ner.pool import NamesPool, _Work, split  # pyright: ignore[reportPrivateUsage]  # as below
from latensgate_enclave.ner.wire import Entity, Status, framed
from latensgate_enclave.pii.errors import (
    PIIBusyError,
    PIIDeadlineError,
    PIIEngineError,
    PIIMemoryError,
    PIIWorkerLostError,
)
from latensgate_shared.errors import ErrorCode

SECRET = "Ann Unlikely"  # noqa: S105 - a name
TEXT = f"{SECRET} met Bob Stone."
FOUND = [Entity(0, 12, "PERSON"), Entity(17, 26, "PERSON")]


@contextmanager
def pool(workers: int = 2, **limits: int) -> Generator[NamesPool]:
    opened = NamesPool(ner_fake.command(), workers, time.monotonic_ns, **limits)
    try:
        yield opened
    finally:
        opened.close()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _children() -> set[int]:
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name.isdigit() and int(stat[1]) == os.getpid() and stat[0] != "Z":
            found.add(int(entry.name))
    return found


def test_names_are_found_and_nothing_is_left_behind() -> None:
    before, children = _descriptors(), _children()
    with pool() as names:
        assert names.find(TEXT) == FOUND
        assert names.find("") == []
    assert _descriptors() == before
    assert _children() == children


def test_a_long_text_is_shared_out_and_found_as_a_whole() -> None:
    line = "Ann Lee came. " * 3 + "\n"
    text = line * 400
    with pool() as names:
        found = names.find(text)
    assert [text[e.start : e.end] for e in found] == ["Ann Lee"] * 1_200
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("word", "error", "code"),
    [
        ("DIE", PIIWorkerLostError, ErrorCode.ERR_PII_WORKER_LOST),
        ("HANG", PIIDeadlineError, ErrorCode.ERR_PII_DEADLINE),
        ("EXHAUST", PIIMemoryError, ErrorCode.ERR_PII_MEMORY),
        ("BOOM", PIIEngineError, ErrorCode.ERR_PII_ENGINE),
        ("STRAY", PIIWorkerLostError, ErrorCode.ERR_PII_WORKER_LOST),
    ],
)
def test_a_worker_that_fails_denies_and_is_replaced(
    word: str, error: type[PIIEngineError], code: ErrorCode
) -> None:
    with pool(workers=1, piece_deadline_ms=1_500) as names:
        for _ in range(2):
            with pytest.raises(error) as caught:
                names.find(f"{SECRET} {word}")
            assert caught.value.code is code
            assert SECRET not in str(caught.value)
            assert caught.value.__cause__ is None
            assert names.find(TEXT) == FOUND


def test_a_worker_that_has_grown_answers_and_is_replaced() -> None:
    with pool(workers=1) as names:
        assert names.find(f"GROW {TEXT}") == [
            Entity(e.start + 5, e.end + 5, e.label) for e in FOUND
        ]
        assert names.find(TEXT) == FOUND


def test_a_text_goes_on_with_another_worker_where_one_has_grown() -> None:
    text = f"GROW {TEXT}\n" + "Ann Lee came.\n" * 900
    with pool(workers=1) as names:
        assert len(names.find(text)) == 902


def test_lives_used_up_mean_a_new_nest_and_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latensgate_enclave.ner.pool._START_INTERVAL_NS", 0)
    with pool(workers=1, slots=2) as names:
        for _ in range(5):
            assert len(names.find(f"GROW {TEXT}")) == 2


def test_the_process_of_the_model_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latensgate_enclave.ner.pool._START_INTERVAL_NS", 0)
    children = _children()
    with pool() as names:
        (nest,) = _children() - children
        os.kill(nest, signal.SIGKILL)
        while nest in _children():
            time.sleep(0.01)
        assert names.find(TEXT) == FOUND
        assert names.find(TEXT) == FOUND


def later(names: NamesPool) -> None:
    """Let the model have been started just now, however slow the machine is."""
    names._started_ns = time.monotonic_ns() + 10**12  # pyright: ignore[reportPrivateUsage] # no clock of ours goes back


def test_a_model_that_keeps_failing_is_not_started_at_every_request() -> None:
    children = _children()
    with pool(workers=1) as names:
        (nest,) = _children() - children
        later(names)
        os.kill(nest, signal.SIGKILL)
        while nest in _children():
            time.sleep(0.01)
        for _ in range(2):
            with pytest.raises(PIIWorkerLostError):
                names.find(TEXT)
        assert _children() == children


def test_no_process_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_nest: Nest) -> None:
        raise BlockingIOError

    monkeypatch.setattr("latensgate_enclave.ner.pool._START_INTERVAL_NS", 0)
    with pool(workers=1) as names:
        with pytest.raises(PIIWorkerLostError):
            names.find("DIE")
        monkeypatch.setattr(Nest, "fork", none_left)
        with pytest.raises(PIIWorkerLostError):
            names.find(TEXT)
        monkeypatch.undo()
        assert names.find(TEXT) == FOUND


def test_one_worker_does_where_another_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_nest: Nest) -> None:
        raise BlockingIOError

    with pool(workers=2) as names:
        with pytest.raises(PIIWorkerLostError):
            names.find("DIE")
        monkeypatch.setattr(Nest, "fork", none_left)
        assert len(names.find("Ann Lee came.\n" * 900)) == 900


def test_a_wait_ends() -> None:
    with pool(workers=0, deadline_ms=50) as names, pytest.raises(PIIDeadlineError):
        names.find(TEXT)


def test_workers_that_were_killed_while_idle() -> None:
    children = _children()
    with pool() as names:
        (nest,) = _children() - children
        for worker in Path(f"/proc/{nest}/task/{nest}/children").read_text().split():
            os.kill(int(worker), signal.SIGKILL)
            _await_end(worker)
        for _ in range(2):
            with pytest.raises(PIIWorkerLostError):
                names.find(TEXT)
        assert names.find(TEXT) == FOUND


def test_a_retired_nest_waits_for_its_last_worker() -> None:
    before = _descriptors()
    nest = Nest(ner_fake.command(), 2)
    assert nest.wait_until_ready(60)
    one, two = nest.fork(), nest.fork()
    nest.retire()
    nest.discard(one)
    assert nest.is_alive
    nest.discard(two)
    assert _descriptors() == before


def test_an_answer_may_come_in_parts() -> None:
    nest = Nest(ner_fake.command(), 1)
    out, into = os.pipe()
    requests = os.open("/dev/null", os.O_WRONLY)
    worker = Worker(nest, 0, requests, out)
    answer = framed(Status.READY.value) + framed(b"F")
    for byte in answer[:-1]:
        os.write(into, bytes([byte]))
        assert worker.receive() is None
    os.write(into, answer[-1:])
    assert worker.receive() == b"F"
    worker.close()
    os.close(into)
    nest.close()


def test_a_full_queue_refuses_at_once_and_a_wait_ends() -> None:
    with pool(workers=1, queue=1, deadline_ms=1_500) as names:
        problems: list[PIIEngineError] = []

        def hang() -> None:
            try:
                names.find("HANG")
            except PIIEngineError as error:
                problems.append(error)

        threads = [threading.Thread(target=hang) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.3)
        with pytest.raises(PIIBusyError) as caught:
            names.find(TEXT)
        assert caught.value.code is ErrorCode.ERR_PII_BUSY
        for thread in threads:
            thread.join()
        assert [type(problem) for problem in problems] == [PIIDeadlineError] * 2
        assert names.find(TEXT) == FOUND


def test_scans_side_by_side() -> None:
    with pool() as names:
        found: list[list[Entity]] = []
        threads = [
            threading.Thread(target=lambda: found.append(names.find(TEXT))) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [FOUND] * 12


def test_a_long_text_lets_others_in_between() -> None:
    with pool(workers=1) as names:
        long: list[list[Entity]] = []
        text = "Ann Lee is SLOW.\n" * 8_000  # some thirty pieces
        thread = threading.Thread(target=lambda: long.append(names.find(text)))
        thread.start()
        while names._idle:  # pyright: ignore[reportPrivateUsage]  # until it has the worker
            time.sleep(0.001)
        for _ in range(3):
            assert names.find(TEXT) == FOUND
            assert not long
        thread.join()
        assert len(long[0]) == 8_000


def test_who_waits_leaves_workers_for_the_next_in_line() -> None:
    with pool(workers=2) as names:
        found: list[int] = []
        text = "Ann Lee is SLOW.\n" * 2_000  # some eight pieces

        def find() -> None:
            found.append(len(names.find(text)))

        threads = [threading.Thread(target=find) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [2_000] * 4


def test_a_worker_that_has_ended_does_not_keep_a_core_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[object] = []
    ready = _Work._ready  # pyright: ignore[reportPrivateUsage]  # nobody else sees it wait

    def counted(work: _Work, poller: select.poll) -> list[tuple[int, int]]:
        waits.append(work)
        return ready(work, poller)

    monkeypatch.setattr(_Work, "_ready", counted)
    with pool(workers=2) as names:
        # One worker grows, says so and ends, while the other one works on for a while.
        text = "GROW " + "x" * 4_080 + "\n" + "Ann Lee is SLOW.\n" * 4_000
        assert len(names.find(text)) == 4_000
    assert len(waits) < 100  # tens of thousands where its end is reported again and again


@pytest.mark.parametrize(
    "command",
    [
        ("/nonexistent/program",),
        (sys.executable, "-c", "raise SystemExit(1)"),
        (sys.executable, "-c", "import os; os.write(1, b'no')"),
        (sys.executable, "-c", "import os; os.write(1, b'\\0' * 4)"),
    ],
)
def test_what_does_not_load_ends_the_start(command: tuple[str, ...]) -> None:
    before, children = _descriptors(), _children()
    with pytest.raises(PIIEngineError):
        NamesPool(command, 1, time.monotonic_ns)
    assert _descriptors() == before
    assert _children() == children


def test_what_says_nothing_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latensgate_enclave.ner.pool._START_S", 0.2)
    with pytest.raises(PIIEngineError):
        NamesPool((sys.executable, "-c", "import time; time.sleep(60)"), 1, time.monotonic_ns)


def test_workers_end_with_the_process_that_forked_them() -> None:
    children = _children()
    with pool() as names:
        (nest,) = _children() - children
        tasks = Path(f"/proc/{nest}/task/{nest}/children")
        workers = tasks.read_text().split()
        assert len(workers) == 2
        names.close()
        for worker in workers:
            _await_end(worker)


def _await_end(process: str) -> None:
    for _ in range(500):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    pytest.fail("a worker outlived the process that forked it")


def test_texts_are_cut_where_no_name_is() -> None:
    assert list(split("", 10)) == []
    assert list(split("a b", 10)) == [(0, "a b")]
    assert list(split("aaaaaa\nbbbbbb", 10)) == [(0, "aaaaaa\n"), (7, "bbbbbb")]
    assert list(split("aaaaa. bbb bb", 10)) == [(0, "aaaaa. "), (7, "bbb bb")]
    assert list(split("aaaaaa bbbbbb", 10)) == [(0, "aaaaaa "), (7, "bbbbbb")]
    assert list(split("a" * 25, 10)) == [(0, "a" * 10), (10, "a" * 10), (20, "a" * 5)]


def test_the_command_is_there_where_the_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = worker_command(tmp_path, "sha256:00")
    assert command is not None
    assert command[-2:] == (str(tmp_path), "sha256:00")
    monkeypatch.setattr("latensgate_enclave.ner.nest.MODEL_PACKAGE", "no_such_package_at_all")
    assert worker_command() is None
    package = tmp_path / "some_model_package"
    package.mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("latensgate_enclave.ner.nest.MODEL_PACKAGE", "some_model_package")
    found = worker_command()
    assert found is not None
    assert found[-2] == str(package / "some_model_package-3.8.0")
