"""What looks for personal data fails, in a real enclave process: a denial with its own code, then
service again by itself.

The model for names is a stand-in here (`ner_fake.py`); `tests/ner` does the same with the real one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import ner_fake
from attack_tools import changed_code
from e2e_client import Client, chat
from e2e_fixtures import StartStack
from latensgate_shared.errors import ErrorCode
from latensgate_sim.world import World
from ner_faults import NAMES_FLOOR, QUICK, Scene
from stack import START_TIMEOUT_S, ParentLink

FAKE = f"({sys.executable!r}, {ner_fake.__file__!r})"
MAIL = "ann.smith@example.com"
Change = tuple[str, str, str]


@pytest.fixture
def faulty(
    own_world: World, start_stack: StartStack, tmp_path: Path
) -> Iterator[Callable[..., Scene]]:
    """Start an enclave with one place of its code changed."""
    with ExitStack() as life:

        def start(change: Change, **how: object) -> Scene:
            code = changed_code(tmp_path / "code", *change)
            stack = start_stack(own_world, code=code, **how)
            link = life.enter_context(stack.link())
            stack.open_gate(link)
            return Scene(stack, link, Client.attest(stack, link))

        yield start


@pytest.fixture
def named(faulty: Callable[..., Scene]) -> Scene:
    """An enclave that looks for names, by a stand-in for the model."""
    change = "latensgate_enclave/engines.py", "worker_command()\n", f"{FAKE}\n"
    return faulty(change, policy=NAMES_FLOOR, limits=QUICK)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("DIE", ErrorCode.ERR_PII_WORKER_LOST),
        ("HANG", ErrorCode.ERR_PII_DEADLINE),
        ("EXHAUST", ErrorCode.ERR_PII_MEMORY),
        ("BOOM", ErrorCode.ERR_PII_ENGINE),
    ],
)
def test_a_worker_that_fails_denies_and_service_goes_on(
    named: Scene, word: str, code: ErrorCode
) -> None:
    before = len(named.stack.world.home.bedrock.seen)
    for _ in range(2):
        assert named.ask(word) is code
        assert len(named.stack.world.home.bedrock.seen) == before  # nothing was forwarded
        assert named.ask() is None
        before += 1


def _forged(place: str) -> str:
    return f"self._entries[{place}] = entry[:-1] + bytes([entry[-1] ^ 1])"


def test_a_poisoned_cache_denies_once(faulty: Callable[..., Scene]) -> None:
    change = (
        "latensgate_enclave/pii/cache.py",
        "            self._entries[place] = entry\n",
        f"            {_forged('place')}\n",
    )
    scene = faulty(change)
    body = chat(f"Please write to {MAIL} " + "as often as you can. " * 5)

    def ask() -> ErrorCode | None:
        fields = scene.client.fields(conversation_secret=bytes(32))
        return scene.client.send(scene.link, scene.client.seal(body, fields)).code

    assert ask() is None  # what it found is stored, and falsified
    assert ask() is ErrorCode.ERR_PII_CACHE
    assert ask() is None  # forgotten, and looked for anew


def test_a_pattern_that_gives_up_on_a_text_denies(faulty: Callable[..., Scene]) -> None:
    """As RE2 does when it may take no more memory: the set does not come to the text's end."""
    change = (
        "latensgate_enclave/pii/matching.py",
        "        matched = self._set.Match(data)\n",
        '        matched = None if b"giveup" in data else self._set.Match(data)\n',
    )
    scene = faulty(change)
    for _ in range(2):
        assert scene.client.ask(scene.link, chat("giveup")).code is ErrorCode.ERR_PII_PATTERN
        assert scene.client.ask(scene.link, chat("go on")).code is None


def test_an_enclave_whose_own_pattern_is_refused_does_not_start(
    own_world: World, start_stack: StartStack, tmp_path: Path
) -> None:
    pattern = r"\bnpm_[A-Za-z0-9]{36}\b"
    change = "latensgate_enclave/pii/own.py", pattern, r"\bnpm_(?=[A-Za-z0-9])"
    stack = start_stack(own_world, code=changed_code(tmp_path / "code", *change))
    assert stack.process.process.wait(START_TIMEOUT_S) != 0
    assert stack.event_count("LISTENING") == 0


def test_a_pattern_of_a_request_that_re2_refuses_is_refused_by_name(
    client: Client, link: ParentLink
) -> None:
    policy = {"recognizers": [{"name": "ahead", "pattern": "a(?=b)"}]}
    refused = client.send(link, client.seal(chat("ab"), client.fields(policy=policy)))
    assert refused.code is ErrorCode.ERR_POLICY_INVALID
    assert client.ask(link, chat("ab")).code is None
