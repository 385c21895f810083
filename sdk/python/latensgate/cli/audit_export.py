"""``latensgate audit export``: a log that can be checked without the gateway, years later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from latensgate.cli.archive import Evidence
from latensgate.cli.audit_filters import audit_filters
from latensgate.cli.evidence import STDIN, UnreadableError
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.text import utc
from latensgate.gateway.audit import MAX_LIMIT, parse_entry
from latensgate.verify.errors import ConfigurationError
from latensgate_shared import formats
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import (
    ATTESTATION_DOCUMENT_MAX_BYTES,
    MANIFEST_MAX_BYTES,
)
from latensgate_shared.strict_json import JSONError, parse_json_object

if TYPE_CHECKING:
    from latensgate.cli.audit_filters import Filters
    from latensgate.cli.session import Session
    from latensgate.gateway import AuditEntry, GatewayClient
    from latensgate_shared.strict_json import JSONObject, JSONValue

FORMAT: Final = "latensgate-audit-export/1"
_MEMBERS: Final = frozenset({"format", "gateway", "exported_at", "entries", "documents"})


@dataclass(frozen=True, slots=True)
class Export:
    """An exported log, not verified.

    Attributes:
        entries: Receipts, newest first.
        documents: ``attestation_hash`` → document and manifest.
    """

    entries: tuple[AuditEntry, ...]
    documents: dict[str, Evidence]


@click.command(
    "export",
    epilog=epilog(DONE, ExitCode.UNREADABLE, ExitCode.UNREACHABLE, ExitCode.UNAUTHENTICATED),
)
@click.option(
    "--output",
    "-o",
    "target",
    default=STDIN,
    metavar="FILE",
    help="Where to write; standard output otherwise. A file is only ever replaced as a whole.",
)
@audit_filters
@gateway_command
def export_command(session: Session, target: str, filters: Filters) -> ExitCode:
    """Write receipts and the documents behind them as one JSON file.

    latensgate audit check FILE judges it later, without the gateway.
    """
    entries = tuple(session.tenant_gateway().audit_entries(filters.query(MAX_LIMIT)))
    told = _json(session.base_url, entries, _documents(session.gateway(), entries))
    if target == STDIN:
        click.echo(json.dumps(told, indent=1))
        return DONE
    _write(Path(target), json.dumps(told, indent=1) + "\n")
    done: JSONObject = {"format": "latensgate-audit-exported/1", "receipts": len(entries)}
    session.out.data(done)
    session.out.line(f"{len(entries):,} receipts written to {target}")
    return DONE


def _documents(gateway: GatewayClient, entries: tuple[AuditEntry, ...]) -> JSONObject:
    found: JSONObject = {}
    for name in dict.fromkeys(entry.public.attestation_hash for entry in entries):
        archived = gateway.attest(name)
        found[name] = {
            "document": formats.to_base64(archived.document),
            "manifest": formats.to_base64(archived.manifest),
        }
    return found


def _json(base_url: str, entries: tuple[AuditEntry, ...], documents: JSONObject) -> JSONObject:
    return {
        "format": FORMAT,
        "gateway": base_url,
        "exported_at": utc(datetime.now(UTC)),
        "entries": [entry.to_json() for entry in entries],
        "documents": documents,
    }


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text(text, encoding="ascii")
        partial.replace(path)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or 'cannot be written'}") from None


def parse_export(data: bytes, name: str, max_bytes: int) -> Export:
    """Read an export.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        value = parse_json_object(data, max_bytes=max_bytes)
        members = formats.members(value, "export", _MEMBERS)
        if members["format"] != FORMAT:
            raise JSONError(f"export.format: {FORMAT} expected")
        entries, documents = members["entries"], members["documents"]
        if type(entries) is not list or type(documents) is not dict:
            raise JSONError("export: entries in an array and documents in an object expected")
        return Export(
            tuple(parse_entry(entry) for entry in entries),
            {key: _evidence(value) for key, value in documents.items()},
        )
    except MalformedError as error:
        raise ConfigurationError(f"{name}: {error.detail}") from None


def _evidence(value: JSONValue) -> Evidence:
    members = formats.members(value, "export.documents", frozenset({"document", "manifest"}))
    return Evidence(
        formats.base64_bytes(members["document"], "document", ATTESTATION_DOCUMENT_MAX_BYTES),
        formats.base64_bytes(members["manifest"], "manifest", MANIFEST_MAX_BYTES),
    )
