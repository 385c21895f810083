"""Pages of the gateway: self-contained HTML under a policy that allows its own style only."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from fastapi import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_CODE: Final = re.compile(r"`([^`]+)`")


@cache
def asset(name: str) -> str:
    """Return a file of this package's folder of pages."""
    return (files("latensgate_parent.http") / "pages" / name).read_text(encoding="utf-8")


def escape(value: object) -> str:
    """Return a text as HTML shows it."""
    return html.escape(str(value))


def inline(text: str) -> str:
    """Return a line of our own documentation: escaped, with ``code`` between backticks."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def paragraphs(text: str) -> str:
    """Return paragraphs of our own documentation; blank lines part them."""
    return "".join(
        f"<p>{inline(' '.join(part.split()))}</p>" for part in text.split("\n\n") if part
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML."""
    head = "".join(f"<th>{each}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return (
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        title: Plain text.
        body: HTML in the frame.
    """

    title: str
    body: str

    def response(self, headers: Mapping[str, str], status: int = 200) -> Response:
        """Return the page as an answer, with its policy."""
        style = asset("style.css")
        text = (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(self.title)}</title><style>{style}</style></head>"
            f"<body><div class='frame'>{self.body}</div></body></html>"
        )
        policy = {"content-security-policy": content_policy(style)}
        return Response(text, status, {**headers, **policy}, media_type="text/html")


def content_policy(style: str) -> str:
    """Return a policy under which nothing runs and nothing is loaded."""
    digest = base64.b64encode(sha256(style.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
