"""``GET /verify``: a small page that shows ``GET /api/attest`` to people.

It works without scripts. Like the route, it shows this gateway's own opinion, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request, Response

from latensgate_parent.http.access import PUBLIC, TheServices
from latensgate_parent.http.attest import shown
from latensgate_parent.http.html_page import Page, escape, table
from latensgate_shared.formats import sha384_digest
from latensgate_shared.strict_json import JSONError

if TYPE_CHECKING:
    from latensgate_parent.http.context import Services
    from latensgate_parent.http.schemas import Attest

router = APIRouter(include_in_schema=False)

_HASH: Final = "hash"
_FORM: Final = (
    "<form action='/verify' method='get'><input name='hash' aria-label='attestation hash' "
    "placeholder='sha384:…' autocomplete='off' spellcheck='false' value='{value}'>"
    "<button>Look up</button></form>"
)
_HEAD: Final = (
    "<h1>Verify a hash</h1><p class='lead'>Paste the <code>attestation_hash</code> of an answer or "
    "a receipt. This page shows the archived document and this gateway's own judgement of it.</p>"
)
_WARNING: Final = (
    "<p class='note'>A gateway's opinion of its own enclave proves nothing to you. Judge the "
    "document yourself: <code>latensgate attest inspect</code>, with the measurements that you "
    "accept.</p>"
)
_NAVIGATION: Final = "<nav><strong><a href='/'>Latensgate</a></strong></nav>"


@router.get("/verify", dependencies=PUBLIC)
async def get_verify(request: Request, services: TheServices) -> Response:
    """Return the page, with the judgement if a hash was given."""
    asked = request.query_params.get(_HASH, "").strip()
    found = await _found(asked, services) if asked else ""
    body = _HEAD + _FORM.format(value=escape(asked[:200])) + found
    return Page("Latensgate: verify a hash", f"{_NAVIGATION}<main>{body}</main>").response({})


async def _found(asked: str, services: Services) -> str:
    try:
        attestation_hash = sha384_digest(asked, _HASH)
    except JSONError:
        return "<p class='bad'>A hash has the form sha384: and 96 lower-case hex digits.</p>"
    archived = await services.store.document(attestation_hash)
    if archived is None:
        return "<p class='bad'>No document with this hash is archived here.</p>"
    return _judgement(shown(archived, services.judge.judge(archived), services.clock()))


def _judgement(told: Attest) -> str:
    style = "good" if told.status == "verified" else "bad"
    facts = [
        ("status", f"<span class='{style}'>{escape(told.status)}</span>"),
        ("document made", escape(told.timestamp)),
        ("Region", escape(told.region)),
        ("keys still in use", "yes" if told.fresh else "no"),
        *((escape(name), f"<code>{value}</code>") for name, value in told.pcr_values.items()),
    ]
    steps = [
        (
            str(step.number),
            escape(step.title),
            f"<span class='{_style(step.state)}'>{escape(step.state)}</span>",
            escape(step.reason or ""),
        )
        for step in told.verdict
    ]
    return (
        f"<h2>What the document says</h2>{table(('', ''), facts)}"
        f"<h2>Step by step</h2>{table(('', 'step', 'state', ''), steps)}{_WARNING}"
    )


def _style(state: str) -> str:
    return {"passed": "good", "failed": "bad"}.get(state, "note")
