"""``latensgate verify``: a document by its hash, a receipt that you kept, an entry of the log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.session import gateway_command
from latensgate.cli.verify_document import verify_hash
from latensgate.cli.verify_receipt import verify_entry, verify_file

if TYPE_CHECKING:
    from latensgate.cli.session import Session

_HASH: Final = re.compile(r"sha384:[0-9a-f]{96}")
_RECEIPT: Final = re.compile(r"aud_[0-9a-f]{16}")
_PREFIXES: Final = ("sha384:", "aud_")
_CODES: Final = (
    DONE,
    ExitCode.UNREADABLE,
    ExitCode.UNTRUSTED,
    ExitCode.MEASUREMENTS,
    ExitCode.SIMULATED,
    ExitCode.RECEIPT,
    ExitCode.GAPS,
    ExitCode.UNREACHABLE,
    ExitCode.REFUSED,
)


@click.command(epilog=epilog(*_CODES))
@click.argument("what", metavar="HASH|RECEIPT_ID|FILE")
@gateway_command
def verify(session: Session, what: str) -> ExitCode:
    r"""Verify a document, a receipt of the log, or a receipt that you kept.

    \b
    sha384:…   the archived document of this name, judged here and not by the gateway
    aud_…      this receipt of the log: its document, its signature, the receipt before it
    FILE       a receipt as the SDK exports it; it brings its document, so no gateway is asked

    An archived document is judged at its own second: that shows what ran then.
    """
    if _HASH.fullmatch(what):
        return verify_hash(session, what)
    if _RECEIPT.fullmatch(what):
        return verify_entry(session, what)
    if what.startswith(_PREFIXES) and not Path(what).exists():
        raise click.BadParameter(
            f"{what!r}: sha384: and 96, or aud_ and 16, lower-case hex digits expected",
            param_hint="HASH|RECEIPT_ID|FILE",
        )
    return verify_file(session, what)
