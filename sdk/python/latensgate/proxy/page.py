"""The page for people at ``/``, and the status for programs: no script, nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from latensgate_shared.strict_json import JSONObject, JSONValue

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
HEADERS: Final = (
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        _POLICY,
    ),
    ("referrer-policy", "no-referrer"),
)
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color-scheme:light dark}table{border-collapse:collapse}td,th{text-align:left;"
    "padding:.2rem 1rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}"
    "code{overflow-wrap:anywhere}"
)
_WHERE: Final = (
    "<p>OpenAI's API is at <code>/v1</code>; this state, for programs, at"
    " <a href=/status>/status</a>.</p>"
)
_SAID: Final = {
    "verified": "Verified: requests are sealed to an enclave that your configuration accepts.",
    "simulated": "Simulated: requests are sealed to a simulator; worth nothing in production.",
    "unproven": "Unproven: no enclave is proven at the moment, so requests are refused.",
}
_SHOWN: Final = ("attestation_hash", "module_id", "region", "suite", "software_version",
                 "policy_digest", "deployment_digest", "sealable_until")  # fmt: skip


def status_json(snapshot: JSONObject) -> bytes:
    """Return the status for programs."""
    return json.dumps(snapshot, indent=2).encode() + b"\n"


def render(snapshot: JSONObject) -> bytes:
    """Return the page."""
    word = str(snapshot["status"])
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Latensgate proxy</title>",
        f"<meta http-equiv=refresh content=5><style>{_STYLE}</style>",
        f"<h1>Latensgate proxy</h1><p><strong>{escape(_SAID.get(word, word))}</strong></p>",
        _fault(snapshot["fault"]),
        _WHERE,
        _table(_facts(snapshot)),
        "<h2>Last receipts</h2>",
        _receipts(snapshot["receipts"]),
    ]
    return "".join(parts).encode()


def _fault(fault: JSONValue) -> str:
    if not isinstance(fault, dict):
        return ""
    said = f"Not renewed since {fault['since']}: {fault['message']}"
    return f"<p><strong>{escape(said)}</strong></p>"


def _facts(snapshot: JSONObject) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        (name, snapshot[name]) for name in ("gateway", "tenant_id", "served", "active")
    ]
    attestation = snapshot["attestation"]
    if isinstance(attestation, dict):
        rows += [(name, attestation[name]) for name in _SHOWN]
        pcrs = attestation["pcrs"]
        rows += list(pcrs.items()) if isinstance(pcrs, dict) else []
    return rows


def _receipts(receipts: JSONValue) -> str:
    if not isinstance(receipts, list) or not receipts:
        return "<p>None yet.</p>"
    rows = [
        (str(one["audit_receipt_id"]), f"{one['route']}: {one['outcome']}, {one['took_ms']} ms")
        for one in receipts
        if isinstance(one, dict)
    ]
    return _table(rows)


def _table(rows: list[tuple[str, object]] | list[tuple[str, str]]) -> str:
    cells = (
        f"<tr><th scope=row>{escape(name)}<td><code>{escape(str(value))}</code>"
        for name, value in rows
    )
    return f"<table>{''.join(cells)}</table>"
