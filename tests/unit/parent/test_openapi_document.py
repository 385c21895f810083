"""docs/openapi.json is what the code makes, and says what the routes do."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import pytest

from latensgate_parent.http.auth import SCOPES
from latensgate_shared.errors import ErrorCode
from paths import REPOSITORY

GENERATOR = runpy.run_path(str(REPOSITORY / "scripts/gen_openapi.py"))
DOCUMENT: dict[str, Any] = json.loads((REPOSITORY / "docs/openapi.json").read_text())
OPERATIONS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def test_the_page_is_the_codes() -> None:
    assert (REPOSITORY / "docs/openapi.json").read_text() == GENERATOR["document"]()


def test_the_seeds_routes_are_there() -> None:
    assert {(path, method) for path, method, _ in OPERATIONS} >= {
        ("/api/inference", "post"),
        ("/api/attest", "get"),
        ("/api/audit", "get"),
        ("/api/keys", "get"),
        ("/api/keys", "post"),
        ("/api/health", "get"),
    }


TAKES_POLICIES = {("/api/inference", "post"), ("/api/policy", "put")}
"""Nothing else has a code of this status, which FastAPI would name everywhere."""


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_every_operation_is_told_well(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"], (path, method)
    assert operation["description"]
    assert operation.get("x-required-scope", "admin") in SCOPES
    assert bool(operation["security"]) == ("x-required-scope" in operation)
    assert ("422" in operation["responses"]) == ((path, method) in TAKES_POLICIES)
    for status, answer in operation["responses"].items():
        assert "Latensgate-Correlation-Id" in answer["headers"]
        assert ("Retry-After" in answer["headers"]) == (status in {"429", "503"})


def test_every_reference_leads_somewhere() -> None:
    for reference in set(re.findall(r'"#/([^"]+)"', json.dumps(DOCUMENT))):
        at: Any = DOCUMENT
        for part in reference.split("/"):
            at = at[part]


def test_every_error_has_an_example() -> None:
    assert DOCUMENT["components"]["examples"].keys() == {code.name for code in ErrorCode}
