"""``latensgate upstream-credential``: bring the key of a model's upstream into the enclaves.

It runs where the operator trusts the machine, which need not be the gateway's: the key is sealed
here, to keys of an attestation that was verified here, and signed with the operator's own key. The
operators' listener of the gateway, reached over a tunnel, carries it and learns nothing.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from latensgate.attested import Attester
from latensgate.cli.evidence import UnreadableError
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.operator_listener import OperatorListener
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import facts_table, plain
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import NONCE_BYTES, UPSTREAM_CREDENTIAL_MAX_CHARS
from latensgate_shared.manifest import SUITES
from latensgate_shared.upstream_credential import (
    UpstreamCredential,
    seal_credential,
    verify_confirmation,
)

if TYPE_CHECKING:
    from latensgate.cli.session import Session
    from latensgate.verify import AppraisalPolicy

_WATCH_S: Final = 15.0
_KEY_MODE: Final = 0o600
_LISTENER: Final = click.option(
    "--operator-url",
    metavar="URL",
    default="http://127.0.0.1:8701",
    show_default=True,
    help="The gateway's operators' listener, for example the near end of ssh -L.",
)


@click.group(name="upstream-credential")
def upstream_credential() -> None:
    """Bring keys of OpenAI-compatible upstreams into the enclaves, sealed (docs/upstreams.md)."""


@upstream_credential.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def keygen(file: Path) -> None:
    """Make the operator's signing key in FILE and print what deployment.toml names.

    FILE must not exist. Whoever holds it can choose the account that prompts are sent under.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _KEY_MODE), "wb") as out:
            out.write(pem)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    click.echo(f'upstream_operator_key = "{key.public_key().public_bytes_raw().hex()}"')


@dataclass(frozen=True, slots=True)
class _Push:
    """What is brought where."""

    listener: OperatorListener
    policy: AppraisalPolicy
    upstream: str
    secret: str
    key: Ed25519PrivateKey

    def to_all_that_lack_it(self) -> dict[str, str]:
        """Push once to every enclave that lacks it; return enclave → what became of it."""
        outcome: dict[str, str] = {}
        for name, missing in self.listener.missing().items():
            if missing is None:
                outcome[name] = "did not answer"
            elif self.upstream in missing:
                outcome[name] = self.to_one(name)
        return outcome

    def to_all(self) -> dict[str, str]:
        """Push to every enclave that answers, also in place of an older key."""
        return {
            name: "did not answer" if missing is None else self.to_one(name)
            for name, missing in self.listener.missing().items()
        }

    def to_one(self, name: str) -> str:
        """Verify one enclave, seal to it, and verify that it has taken the key."""
        attester = Attester(self.policy, frozenset(SUITES.values()), time.time, _nonce)
        nonce, sent = _nonce(), attester.now()
        evidence = self.listener.attestation(name, nonce)
        attested = attester.judge(evidence, nonce=nonce, sent=sent, at=attester.now())
        attestation_hash = attested.attestation.attestation_hash
        now_ms = time.time_ns() // 1_000_000
        credential = UpstreamCredential(attestation_hash, self.upstream, now_ms, self.secret)
        sealed = seal_credential(credential, attested.sealing_key, self.key.sign)
        confirmed = self.listener.hand_over(name, attestation_hash, self.upstream, sealed.wire)
        verify_confirmation(sealed.answer_secret, confirmed)
        return "taken"


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


@upstream_credential.command(epilog=epilog(DONE, ExitCode.UNTRUSTED, ExitCode.UNREACHABLE))
@click.argument("upstream")
@click.option("--signing-key", required=True, metavar="FILE", help="Made by keygen.")
@click.option("--secret-file", required=True, metavar="FILE", help="Holds the key; - is stdin.")
@_LISTENER
@click.option("--watch", is_flag=True, help="Go on: bring it to enclaves that start later, too.")
@gateway_command
def push(  # noqa: PLR0913 -- a command's options
    session: Session,
    upstream: str,
    signing_key: str,
    secret_file: str,
    operator_url: str,
    *,
    watch: bool,
) -> ExitCode:
    """Seal the key of UPSTREAM to every enclave that proves what it is, and check each receipt.

    Enclaves forget it when they end; with --watch this command brings it again. To replace a key,
    push the new one: enclaves take what was sealed last.
    """
    secret = _secret(secret_file)
    with OperatorListener(operator_url) as listener:
        work = _Push(listener, session.policy, upstream, secret, _signing_key(signing_key))
        outcome = work.to_all()
        _tell(session, upstream, outcome)
        while watch:
            time.sleep(_WATCH_S)
            try:
                outcome = work.to_all_that_lack_it()
            except LatensgateError as error:
                session.out.note(f"not now: {error.detail}")
                continue
            if outcome:
                _tell(session, upstream, outcome)
    return DONE if all(each == "taken" for each in outcome.values()) else ExitCode.LATER


def _tell(session: Session, upstream: str, outcome: dict[str, str]) -> None:
    enclaves = {**outcome}
    session.out.data(
        {"format": "latensgate-credential/1", "upstream": upstream, "enclaves": {**enclaves}}
    )
    session.out.show(facts_table([(name, plain(said)) for name, said in outcome.items()]))


def _secret(file: str) -> str:
    try:
        with click.open_file(file) as source:
            return str(source.read(UPSTREAM_CREDENTIAL_MAX_CHARS + 2)).strip()
    except (OSError, UnicodeDecodeError):
        raise UnreadableError(f"{file}: cannot be read as text") from None


def _signing_key(file: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(Path(file).read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        raise UnreadableError(f"{file}: no private key in PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise LatensgateError(f"{file}: an Ed25519 key expected", code=ErrorCode.ERR_CONFIGURATION)
    return key
