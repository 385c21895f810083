"""An enclave process that looks for names, and what can happen to the processes that do it."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from e2e_client import Client, chat
from latensgate_shared.errors import ErrorCode
from paths import REPOSITORY
from stack import ParentLink, Stack

NAME = "Bob Dylan"
NAMES_FLOOR = (
    (REPOSITORY / "enclave/policy.toml").read_text()
    + """
[pii.rules.PERSON.prompt]
action = "mask"

[pii_engine]
names = "spacy"
workers = 1
"""
)
QUICK = {"PII_NER_PIECE_DEADLINE_MS": 2_000}
"""A test must not wait 5 s for a worker that hangs."""


def children(process_id: int) -> list[int]:
    """Return the processes that a process has started."""
    told = Path(f"/proc/{process_id}/task").glob("*/children")
    return [int(child) for each in told for child in each.read_text().split()]


@dataclass
class Scene:
    """An enclave that looks for names, and a client of it.

    Attributes:
        answered: Texts that the client got back, with names masked.
    """

    stack: Stack
    link: ParentLink
    client: Client
    answered: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, stack: Stack, link: ParentLink) -> Scene:
        stack.open_gate(link)
        return cls(stack, link, Client.attest(stack, link))

    def ask(self, text: str = "") -> ErrorCode | None:
        """Ask about somebody; return the code of a sealed refusal, or None."""
        opened = self.client.ask(self.link, chat(f"{NAME} came. {text}"))
        if opened.code is None:
            self.answered.append(opened.text)
            assert NAME not in opened.text
            assert "<PERSON>" in opened.text
            return None
        assert opened.receipt.signed.public.outcome in {"refused", "failed"}
        return opened.code

    @property
    def pid(self) -> int:
        return self.stack.process.process.pid

    @property
    def nest(self) -> int:
        """The process that loaded the model."""
        (nest,) = children(self.pid)
        return nest

    @property
    def worker(self) -> int:
        (worker,) = children(self.nest)
        return worker

    def kill(self) -> None:
        """End the worker, as the kernel does when the machine is out of memory."""
        os.kill(self.worker, signal.SIGKILL)

    def stop(self) -> None:
        """Let it hang."""
        os.kill(self.worker, signal.SIGSTOP)

    def starve(self) -> None:
        """Give it no more memory than it has."""
        pages = int(Path(f"/proc/{self.worker}/statm").read_text().split()[0])
        size_bytes = pages * resource.getpagesize()
        resource.prlimit(self.worker, resource.RLIMIT_AS, (size_bytes, size_bytes))


def scene(stack: Stack) -> Iterator[Scene]:
    """Connect, and give a scene."""
    with stack.link() as link:
        yield Scene.of(stack, link)
