"""llm-comply (PyPI): every answer against OpenAI's own document and the Open Responses one.

In this process, so that its requests can be renamed; it speaks HTTP to the proxy with a client of
its own.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from outside_words import Words
from proxy_process import ProxyProcess

comply: Any = import_module("llm_comply")
config: Any = import_module("llm_comply.config")
runner: Any = import_module("llm_comply.runner")
schema: Any = import_module("llm_comply.schema")
chat: Any = import_module("llm_comply.tests.openai_chat")
responses: Any = import_module("llm_comply.tests.open_responses")

# The suite's own use of a class that its library is about to drop; ours is none of it.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")

SPECS = Path(comply.__file__).parent / "specs"
CASES = [
    *(pytest.param("openai_chat.json", case, id=case.id) for case in chat.OPENAI_CHAT_TESTS),
    *(
        pytest.param("openresponses.json", case, id=f"responses-{case.id}")
        for case in responses.OPEN_RESPONSES_TESTS
    ),
]
REFUSED = {
    # Sends a member `reasoning`, which OpenAI's chat requests do not have: refused, not dropped.
    "chat-reasoning-summary": "reasoning",
}
WARNED = {
    # Advice on an endpoint that a server may lack: ours stores nothing and has no compaction.
    "compact-response",
}


def test_the_suite_has_as_many_cases_as_the_documentation_says() -> None:
    assert (len(chat.OPENAI_CHAT_TESTS), len(responses.OPEN_RESPONSES_TESTS)) == (9, 13)


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_case_passes(proxy: ProxyProcess, words: Words, spec: str, case: Any) -> None:  # noqa: ANN401 -- untyped package
    model = words.reasoning_model if "reasoning" in case.id else words.bedrock_model
    settings = config.ComplianceConfig(
        base_url=proxy.base_url, api_key="any", model=model, verbose=True
    )

    def build(given: Any) -> Any:  # noqa: ANN401 -- untyped package
        return words.renamed(case.build_request(given))

    own = replace(case, build_request=build)
    ran = runner.TestRunner(settings, [own], schema.SpecLoader(str(SPECS / spec))).run_one(own)
    if case.id in REFUSED:
        assert ran.response["error"]["param"] == REFUSED[case.id]
        return
    assert ran.errors == [], ran.response
    assert ran.status.value == "passed"
    if case.id not in WARNED:
        assert ran.warnings == [], ran.response
