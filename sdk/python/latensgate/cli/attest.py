"""``latensgate attest``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from latensgate.cli.attest_live import show_live
from latensgate.cli.evidence import STDIN, UnreadableError, read_file, recognise
from latensgate.cli.exit_codes import INSPECTION_CODES, ExitCode, epilog
from latensgate.cli.inspection import Question, inspect
from latensgate.cli.machine import to_json
from latensgate.cli.output import Terminal
from latensgate.cli.render import report
from latensgate.cli.session import gateway_options, run_session
from latensgate.verify.document import parse_untrusted_document
from latensgate.verify.errors import ConfigurationError, VerificationError
from latensgate.verify.policy import AppraisalPolicy, Measurements
from latensgate.verify.releases import parse_release_list
from latensgate_shared import limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate.config import Wanted
    from latensgate.verify.policy import Release

_EXIT_CODES: Final = "\n".join(f"  {code:>2}  {code.meaning}" for code in INSPECTION_CODES)
_LIVE_EPILOG: Final = epilog(
    *(code for code in INSPECTION_CODES if code is not ExitCode.NOT_COMPARED),
    ExitCode.CLOCK,
    ExitCode.UNREACHABLE,
)
_EPILOG: Final = "\b\nExit codes:\n" + _EXIT_CODES


@click.group(invoke_without_command=True, epilog=_LIVE_EPILOG)
@click.option("--key-id", metavar="HEX", help="Ask the enclave that holds this key.")
@click.option("--save", metavar="FOLDER", help="Write what was served, for other verifiers.")
@click.pass_context
@gateway_options
def attest(
    wanted: Wanted, context: click.Context, key_id: str | None, save: str | None, *, as_json: bool
) -> None:
    """Prove what runs behind the gateway at this moment, step by step.

    Asks for a document over a fresh nonce and judges it under what your configuration accepts.
    With the word inspect: looks at a document in a file, without a gateway.
    """
    if context.invoked_subcommand is None:
        run_session(wanted, lambda session: show_live(session, key_id, save), as_json=as_json)


@attest.command("inspect", epilog=_EPILOG)
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print the same facts for programs.")
@click.option(
    "--at",
    default="now",
    metavar="now|document|TIME",
    show_default=True,
    help="Evaluation time. 'document' is the document's own second; TIME is ISO 8601 with a zone.",
)
@click.option("--pcr0", metavar="HEX", help="Accepted PCR0, with --pcr1 and --pcr2.")
@click.option("--pcr1", metavar="HEX", help="Accepted PCR1.")
@click.option("--pcr2", metavar="HEX", help="Accepted PCR2.")
@click.option("--releases", metavar="FILE", help="List of accepted releases (JSON).")
@click.option("--nonce", metavar="HEX", help="The challenge that the document must answer.")
@click.option("--manifest", metavar="FILE", help="Manifest that the document must bind.")
@click.option(
    "--unsafe-accept-simulated-root-sha256",
    "simulated_root",
    metavar="HEX",
    help="Trust this simulator's root in the place of Amazon's. The verdict is then never"
    " 'verified'.",
)
def inspect_command(file: str, *, as_json: bool, at: str, **options: str | None) -> None:
    """Show an attestation document of a Nitro enclave and judge it step by step.

    FILE holds raw CBOR, base64 or hexadecimal text; - is standard input. Without --pcr0, --pcr1
    and --pcr2, or --releases, the image inside the enclave is compared with nothing.
    """
    try:
        document, _ = recognise(read_file(file))
        inspection = inspect(_question(document, at, options))
    except UnreadableError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(ExitCode.UNREADABLE)
    except ConfigurationError as error:
        raise click.UsageError(error.detail) from None
    if as_json:
        click.echo(to_json(inspection))
    else:
        Terminal().print(report(inspection))
    sys.exit(inspection.code)


def _question(document: bytes, at: str, options: Mapping[str, str | None]) -> Question:
    nonce, manifest = options["nonce"], options["manifest"]
    return Question(
        document=document,
        at=_time(at, document),
        policy=_policy(options),
        nonce=None if nonce is None else _nonce(nonce),
        manifest=None if manifest is None else _manifest(manifest),
        simulated_root=options["simulated_root"],
    )


def _time(text: str, document: bytes) -> datetime:
    if text == "now":
        return datetime.now(UTC)
    if text == "document":
        try:
            return parse_untrusted_document(document).timestamp
        except VerificationError:
            return datetime.now(UTC)  # it will be refused before any time is looked at
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--at: 'now', 'document' or a time such as 2026-06-01T12:30:00Z expected, not {text!r}"
        ) from None
    if moment.tzinfo is None:
        raise ConfigurationError(f"--at: {text} has no time zone; put Z at its end for UTC")
    return moment


def _policy(options: Mapping[str, str | None]) -> AppraisalPolicy | None:
    given = [options[name] for name in ("pcr0", "pcr1", "pcr2")]
    values = [value.lower() for value in given if value is not None]
    releases = () if options["releases"] is None else _releases(options["releases"])
    if not values and not releases:
        return None
    if values and len(values) != len(given):
        raise ConfigurationError(
            "--pcr0, --pcr1 and --pcr2 go together: one alone proves too little"
        )
    measurements = (Measurements.from_hex(*values),) if values else ()  # type: ignore[arg-type]  # three texts, counted above
    return AppraisalPolicy(
        measurements=measurements,
        releases=releases,
        unsafe_accept_simulated_root_sha256=options["simulated_root"],
    )


def _releases(name: str) -> tuple[Release, ...]:
    _refuse_stdin("--releases", name)
    return parse_release_list(read_file(name, limits.RELEASE_LIST_MAX_BYTES))


def _manifest(name: str) -> bytes:
    _refuse_stdin("--manifest", name)
    return read_file(name, limits.MANIFEST_MAX_BYTES)


def _refuse_stdin(option: str, name: str) -> None:
    if name == STDIN:
        raise ConfigurationError(f"{option}: a file expected; standard input is for the document")


def _nonce(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigurationError("--nonce: hexadecimal digits expected") from None
