"""What a caller, or a model, could slip through the chat contract past the scan."""

from __future__ import annotations

import json

import pytest

from latensgate_enclave.aws.bedrock import UpstreamError
from latensgate_enclave.aws.converse_answer import parse_converse_answer
from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.chat_values import UnsupportedError
from latensgate_enclave.pii import PIIHardFailError
from latensgate_enclave.pii.attachments import judge_attachments
from latensgate_shared.pii_names import Action, Category, Direction
from latensgate_shared.pii_policy import Policy, Rule
from latensgate_shared.strict_json import JSONObject


def asked(part: JSONObject) -> JSONObject:
    return {"model": "m", "messages": [{"role": "user", "content": [part]}]}


def test_no_address_that_leads_out_of_the_request_is_taken() -> None:
    image: JSONObject = {"type": "image_url", "image_url": {"url": "https://169.254.169.254,AAAA"}}
    with pytest.raises(UnsupportedError, match="nothing is fetched"):
        parse_chat_request(asked(image))


def test_a_policy_that_refuses_attachments_lets_none_through() -> None:
    rules = {(Category.ATTACHMENT, Direction.PROMPT): Rule(Action.MASK)}
    told: list[object] = []
    with pytest.raises(PIIHardFailError):
        judge_attachments(1, Policy(rules), told.append)
    assert told == [{"ATTACHMENT": {"prompt": 1}}]


def test_words_do_not_pass_as_what_only_a_provider_reads() -> None:
    thought = {"reasoningContent": {"redactedContent": "mail bob@example.com"}}
    answer = {
        "output": {"message": {"content": [thought]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 1},
    }
    with pytest.raises(UpstreamError):
        parse_converse_answer(json.dumps(answer).encode(), offered=frozenset())
