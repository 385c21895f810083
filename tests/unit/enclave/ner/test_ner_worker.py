"""The worker's own side, in this process; forked workers are met by the pool's tests."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from latensgate_enclave.ner import model, wire, worker
from latensgate_enclave.ner.model import ModelError, load_finder, model_digest
from latensgate_enclave.ner.wire import Entity, Status, WireError

ANN = Entity(0, 3, "PERSON")


def _found(text: str) -> list[Entity]:
    if text == "memory":
        raise MemoryError
    if text == "boom":
        raise ValueError(text)
    return [ANN, Entity(1, 2, "NO_SUCH_LABEL")] if text.startswith("Ann") else []


class _Ends:
    """Both ends of a worker's pipes."""

    def __init__(self) -> None:
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        self.slot = worker.Slot(f"{requests},{answers}")

    def answered(self) -> list[bytes]:
        os.close(self.slot.answers)
        frames: list[bytes] = []
        while (frame := wire.read_frame(self.answers)) is not None:
            frames.append(frame)
        os.close(self.answers)
        os.close(self.slot.requests)
        return frames

    def serve(self, *texts: str, resident: Callable[[], int] = lambda: 0) -> list[bytes]:
        for text in texts:
            wire.write_all(self.requests, wire.encode_text(text))
        os.close(self.requests)
        worker.serve_pieces(self.slot, _found, resident, 10)
        return self.answered()


def test_pieces_are_answered_until_the_pool_closes() -> None:
    ready, found, nothing = _Ends().serve("Ann Lee", "\ud800é")
    assert ready == Status.READY.value
    assert wire.decode_answer(found, 7) == (Status.FOUND, [ANN])
    assert wire.decode_answer(nothing, 2) == (Status.FOUND, [])


def test_no_worker_goes_on_after_a_failure() -> None:
    assert _Ends().serve("memory", "Ann")[1:] == [Status.NO_MEMORY.value]
    assert _Ends().serve("boom", "Ann")[1:] == [Status.FAILED.value]
    (last,) = _Ends().serve("Ann", "Ann", resident=lambda: 11)[1:]
    assert wire.decode_answer(last, 3) == (Status.FOUND_LAST, [ANN])


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"Z",
        b"F12345",
        b"F" + bytes(12),
        b"F" + b"\0\0\0\0\x04\0\0\0\0\0\0\0",
        b"F" + b"\0\0\0\0\1\0\0\0\xff\0\0\0",
    ],
)
def test_an_answer_of_another_form_is_none(answer: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_answer(answer, 3)


@pytest.mark.parametrize("data", [b"\1", b"\2\0\0\0x", b"\0\0\0\0", b"\0\0\0\xffx", b"\1\0\0\0"])
def test_half_a_frame_is_none(data: bytes) -> None:
    out, into = os.pipe()
    os.write(into, data)
    os.close(into)
    with pytest.raises(WireError):
        wire.read_frame(out)
    os.close(out)


def test_memory_is_known_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []

    def record(_kind: int, limits: tuple[int, int]) -> None:
        set_to.append(limits)

    monkeypatch.setattr(resource, "setrlimit", record)
    resident = worker.resident_now_bytes()
    worker.limit_memory(0)
    worker.limit_memory(resident + 2**40)
    assert 2**20 < resident < set_to[0][0] < set_to[1][0]


def test_a_worker_asks_to_die_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    def prctl(*what: int) -> None:
        asked.append(what)

    library = SimpleNamespace(prctl=prctl)
    monkeypatch.setattr(ctypes, "CDLL", _returning(library))
    worker.die_with_parent()
    assert asked == [(1, signal.SIGKILL, 0, 0, 0)]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    dead: list[int] = []

    def kill(process: int, _signal: int) -> None:
        dead.append(process)

    def wait(process: int, _options: int) -> None:
        dead.append(-process)

    monkeypatch.setattr(os, "fork", lambda: 4_242)
    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(os, "waitpid", wait)
    yield dead
    monkeypatch.undo()


def test_the_nest_forks_a_slot_once_and_kills_only_its_own(killed: list[int]) -> None:
    ends = _Ends()
    commands, into = os.pipe()
    told = [(b"F", 0), (b"F", 0), (b"F", 7), (b"?", 0), (b"K", 3), (b"K", 0), (b"K", 0)]
    wire.write_all(into, b"".join([worker.COMMAND.pack(kind, number) for kind, number in told]))
    os.close(into)
    worker.Nest([ends.slot], _found).obey(commands)
    os.close(commands)
    assert killed == [4_242, -4_242]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(ends.slot.requests)  # held by the worker alone
    os.close(ends.requests)
    os.close(ends.answers)


def _returning(value: object) -> Callable[[str], object]:
    def give(_name: str) -> object:
        return value

    return give


def _with_standard_streams(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    commands, into = os.pipe()
    out, said = os.pipe()
    os.close(into)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: commands))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(fileno=lambda: said))
    return out, said


def test_a_loaded_model_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)
    out, said = _with_standard_streams(monkeypatch)
    warm: list[str] = []

    def find(text: str) -> list[Entity]:
        warm.append(text)
        return []

    assert worker.run(lambda: find, []) == 0
    os.close(said)
    assert wire.read_frame(out) == Status.READY.value
    assert warm


def test_a_model_that_is_not_the_pinned_one_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = _with_standard_streams(monkeypatch)
    ends = _Ends()
    written = f"{ends.slot.requests},{ends.slot.answers}"
    (tmp_path / "config.cfg").write_text("[nlp]")
    assert worker.main([str(tmp_path), model.MODEL_DIGEST, written]) == 1
    os.close(said)
    assert wire.read_frame(out) is None


def test_every_file_counts_into_the_digest(tmp_path: Path) -> None:
    (tmp_path / "ner").mkdir()
    (tmp_path / "ner" / "model").write_bytes(b"weights")
    first = model_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"code of Python's own")
    assert model_digest(tmp_path) == first
    (tmp_path / "ner" / "model").write_bytes(b"Weights")
    assert model_digest(tmp_path) != first
    (tmp_path / "ner" / "model").write_bytes(b"weights")
    (tmp_path / "ner" / "more").write_bytes(b"")
    assert model_digest(tmp_path) != first


def _language(*pipes: str) -> object:
    entity = SimpleNamespace(start_char=0, end_char=3, label_="PERSON")

    class Language:
        pipe_names: ClassVar = list(pipes)

        def __call__(self, _text: str) -> object:
            return SimpleNamespace(ents=(entity,))

        def memory_zone(self) -> object:
            return nullcontext()

    return Language()


def test_only_names_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    pipes = ["ner"]

    def load(_directory: Path, *, exclude: list[str]) -> object:
        asked.append(exclude)
        return _language(*pipes)

    library = SimpleNamespace(load=load, AVAILABLE_ENTRY_POINTS={"spacy_factories": ["more"]})
    monkeypatch.setattr(model, "import_module", _returning(library))
    for name in ("spacy.cli", "spacy.cli.info"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # so that it is put back
        monkeypatch.delitem(sys.modules, name)
    digest = model_digest(tmp_path)
    assert load_finder(tmp_path, digest)("Ann") == [ANN]
    assert "parser" in asked[0]
    assert library.AVAILABLE_ENTRY_POINTS == {}  # no plug-in of another package
    # What spaCy's package imports of its command line is empty: no client of the network.
    assert import_module("spacy.cli.info").info is None
    assert not hasattr(import_module("spacy.cli"), "app")
    pipes.append("parser")
    with pytest.raises(ModelError):
        load_finder(tmp_path, digest)
    with pytest.raises(ModelError):
        load_finder(tmp_path, "sha256:00")
