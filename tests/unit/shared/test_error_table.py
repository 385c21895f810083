"""docs/spec/errors.md is the enumeration, and the enumeration is docs/spec/errors.md."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable

from latensgate_shared.errors import ErrorCode
from paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "spec" / "errors.md"
ROW = re.compile(r"^\| (\d{3}) \| `(ERR_[A-Z_]+)` \| (\d{3}) \|", re.MULTILINE)


def test_page_is_what_the_script_prints() -> None:
    page: Callable[[], str] = runpy.run_path(str(REPOSITORY / "scripts/gen_error_table.py"))["page"]

    assert page() == PAGE.read_text(), (
        "run: python scripts/gen_error_table.py > docs/spec/errors.md"
    )


def test_page_has_every_code_once() -> None:
    rows = {
        name: (int(number), int(status)) for number, name, status in ROW.findall(PAGE.read_text())
    }

    assert rows == {code.name: (code.number, code.http_status) for code in ErrorCode}
    assert len(ROW.findall(PAGE.read_text())) == len(ErrorCode)


def test_no_specification_names_a_code_that_is_none() -> None:
    pages = [*(REPOSITORY / "docs" / "spec").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"ERR_[A-Z_]*[A-Z]", page.read_text())}

    assert named <= set(ErrorCode.__members__), "a page names a code that does not exist"
