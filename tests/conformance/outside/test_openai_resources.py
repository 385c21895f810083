"""OpenAI's own tests of its Python client's resources, out of its source distribution.

They are made for a mock that serves OpenAI's document. Here the proxy stands in its place, and the
client judges every answer with strict response validation. What is out of scope is listed with its
reason, here and in docs/compatibility-suites.md, and must end in a typed refusal.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from outside_stack import VENV, needed
from outside_words import PUBLISHED, Words
from proxy_process import ProxyProcess

SUITE = VENV / "openai_suite"
SOURCE = "sdist/openai-3.54.0.tar.gz"
HOW = "make outside"
SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
xfail_strict = true
filterwarnings =
    error
"""
BASE64 = "the client asks base64 by itself; its strict validation then demands numbers"
OWNER = "models are the operator's, not a tenant's to delete"
NO_MODEL = "names neither a model nor an input, and there is no default for either"
STATE = "needs a stored conversation, background work or a stored prompt"


@dataclass(frozen=True)
class Resource:
    """One file of tests.

    Attributes:
        path: In ``tests/api_resources``.
        chosen: Expression for ``-k``.
        passing: How many pass.
        outside: Pattern of a test's name, and why it is out of scope.
    """

    path: str
    chosen: str
    passing: int
    outside: tuple[tuple[str, str], ...] = ()


RESOURCES = (
    Resource("chat/test_completions.py", "create", 40),
    Resource(
        "test_models.py", "", 40, ((r"_(method|raw_response|streaming_response)_delete", OWNER),)
    ),
    Resource(
        "test_embeddings.py",
        "",
        11,
        ((r"(method|response)_create\[(strict|aiohttp)\]", BASE64),),
    ),
    Resource(
        "test_responses.py",
        "create",
        0,
        ((r"_create_with_all_params", STATE), (r"_create", NO_MODEL)),
    ),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests, unpacked."""
    archive, folder = needed(SUITE / SOURCE, HOW), tmp_path_factory.mktemp("openai")
    with tarfile.open(archive) as packed:
        members = [one for one in packed.getmembers() if one.name.partition("/")[2][:6] == "tests/"]
        packed.extractall(folder, members=members, filter="data")
    return next(folder.iterdir())


def _rename(folder: Path, words: Words) -> None:
    """Let the tests ask with other words."""
    names = {
        PUBLISHED.model: words.model,
        PUBLISHED.embedding_model: words.embedding_model,
        '"content": "string"': f'"content": "{words.of("string")}"',
        '"name": "name"': f'"name": "{words.of("name")}"',
        "The quick brown fox": words.of("The quick brown fox"),
    }
    for file in folder.rglob("test_*.py"):
        text = file.read_text()
        for published, renamed in names.items():
            text = text.replace(published, renamed)
        file.write_text(text)


def _outcomes(folder: Path, resource: Resource, base_url: str) -> dict[str, str]:
    """Run a file of tests; returns what each case said, empty where it passed."""
    report = folder / "report.xml"
    (folder / "pytest.ini").write_text(SETTINGS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "pytest_asyncio.plugin",
        "-p",
        "no:cacheprovider",
    ]
    target = [f"tests/api_resources/{resource.path}", "-k", resource.chosen]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "PYTEST_", "COV_"))
    }
    subprocess.run(
        [*command, *target, f"--junitxml={report}"],
        cwd=folder,
        env={
            **kept,
            "PYTHONPATH": str(SUITE),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TEST_API_BASE_URL": base_url,
            "NO_PROXY": "127.0.0.1",
        },
        capture_output=True,
        timeout=110,
        check=False,
    )
    cases = ET.parse(report).iter("testcase")  # noqa: S314 -- pytest's own report
    return {
        f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}": _said(case)
        for case in cases
    }


def _said(case: ET.Element) -> str:
    return " ".join(
        (one.get("message") or one.text or one.tag)
        for one in case
        if one.tag in {"failure", "error", "skipped"}
    )


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.path)
def test_resource(
    proxy: ProxyProcess, words: Words, source: Path, tmp_path: Path, resource: Resource
) -> None:
    folder = tmp_path / "source"
    subprocess.run(["cp", "-r", str(source), str(folder)], check=True)
    _rename(folder, words)
    outcomes = _outcomes(folder, resource, proxy.base_url)
    outside = {
        name for name in outcomes if any(re.search(each, name) for each, _ in resource.outside)
    }
    failed = {name: said for name, said in outcomes.items() if said and name not in outside}
    assert failed == {}
    assert len(outcomes) - len(outside) == resource.passing
    untyped = {
        name: outcomes[name]
        for name in outside
        if outcomes[name]
        and not re.search(
            r"openai\.(BadRequest|NotFound|APIStatus|APIResponseValidation)Error", outcomes[name]
        )
    }
    assert untyped == {}
