"""``latensgate policy``: what is done with personal data, signed by the tenant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latensgate.cli.evidence import read_file
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.policy_explain import explain_command
from latensgate.cli.policy_files import (
    TEMPLATE,
    TenantFiles,
    checked_draft,
    last_version,
    read_signed,
    settings_of,
    write_text,
)
from latensgate.cli.policy_view import settings_json, settings_view
from latensgate.cli.session import gateway_command
from latensgate.tenant_root import TenantRoot
from latensgate.verify.errors import ConfigurationError
from latensgate_shared import formats
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import TENANT_SETTINGS_MAX_BYTES
from latensgate_shared.settings import TenantSettings, parse_settings, verify_settings

if TYPE_CHECKING:
    from latensgate.cli.session import Session

_FILES = epilog(DONE, ExitCode.USAGE, ExitCode.UNREADABLE, ExitCode.REFUSED)
_ONLINE = epilog(
    DONE, ExitCode.USAGE, ExitCode.UNREACHABLE, ExitCode.REFUSED, ExitCode.UNAUTHENTICATED
)
_draft_option = click.option(
    "--draft", metavar="FILE", help="The draft.  [default: tnt_….policy.toml beside config.toml]"
)
_root_option = click.option(
    "--root-key", metavar="FILE", help="Root key.  [default: tnt_….root.pem beside config.toml]"
)


@click.group()
def policy() -> None:
    """Draft, sign and store the tenant's settings: policy, approvers, keys."""


policy.add_command(explain_command)


@policy.command("edit", epilog=_FILES)
@_draft_option
@gateway_command
def edit_command(session: Session, draft: str | None) -> ExitCode:
    """Open the draft in $EDITOR, a new one with examples, and check it when you are done."""
    files = TenantFiles.of(session)
    path = files.draft if draft is None else Path(draft)
    if not path.exists():
        write_text(path, TEMPLATE.format(tenant=files.tenant).encode())
    if not (sys.stdin.isatty() or {"VISUAL", "EDITOR"} & os.environ.keys()):
        raise ConfigurationError(
            f"no terminal for an editor: set EDITOR, or change {path}, then latensgate policy check"
        )
    click.edit(filename=str(path))
    return _checked(session, path, files.tenant)


@policy.command("check", epilog=_FILES)
@_draft_option
@gateway_command
def check_command(session: Session, draft: str | None) -> ExitCode:
    """Check the draft; an error names the field."""
    files = TenantFiles.of(session)
    return _checked(session, files.draft if draft is None else Path(draft), files.tenant)


def _checked(session: Session, path: Path, tenant: str) -> ExitCode:
    found = checked_draft(read_file(str(path), TENANT_SETTINGS_MAX_BYTES), tenant)
    told = settings_json(found) | {"version": None, "digest": None, "tenant_root": None}
    session.out.data({"format": "latensgate-settings-draft/1", "draft": str(path), **told})
    if found.policy is None:
        session.out.line("The draft has no policy.")
    else:
        session.out.show(*settings_view(found)[1:])
    session.out.line(f"{path} is good. Next: latensgate policy sign")
    return DONE


@policy.command("sign", epilog=_FILES)
@_draft_option
@_root_option
@click.option(
    "--settings-version",
    "version",
    type=click.IntRange(1),
    metavar="N",
    help="Version of the document.  [default: one above the last one signed here]",
)
@click.option(
    "--out", metavar="FILE", help="Where to.  [default: tnt_….settings.json beside config.toml]"
)
@gateway_command
def sign_command(
    session: Session, draft: str | None, root_key: str | None, version: int | None, out: str | None
) -> ExitCode:
    """Sign the draft with the root key. Nothing is sent."""
    files = TenantFiles.of(session)
    path = files.signed if out is None else Path(out)
    root = TenantRoot.read(files.root if root_key is None else Path(root_key))
    data = read_file(str(draft or files.draft), TENANT_SETTINGS_MAX_BYTES)
    number = last_version(path) + 1 if version is None else version
    document = root.sign(settings_of(data, files.tenant, root.public, number))
    found = verify_settings(document, root=root.public, tenant_id=files.tenant, min_version=number)
    write_text(path, document)
    session.out.data(
        {"format": "latensgate-settings/1", "file": str(path), "settings": settings_json(found)}
    )
    session.out.show(*settings_view(found))
    session.out.line(f"Signed as version {number} in {path}. Next: latensgate policy push")
    return DONE


@policy.command("push", epilog=_ONLINE)
@click.argument("file", required=False)
@gateway_command
def push_command(session: Session, file: str | None) -> ExitCode:
    """Store signed settings at the gateway; they apply from the next request on."""
    files = TenantFiles.of(session)
    document = read_signed(files.signed if file is None else Path(file))
    found = parse_settings(document)
    if found.tenant_id != files.tenant:
        raise ConfigurationError(f"settings: of {files.tenant} expected, these are another's")
    session.tenant_gateway().store_settings(document)
    session.out.data(
        {"format": "latensgate-settings/1", "pushed": True, "settings": settings_json(found)}
    )
    session.out.line(f"Version {found.version} is stored ({found.digest[:19]}…).")
    session.out.note(
        f"Applications demand it with tenant_root={found.root.hex()!r}"
        f" and min_settings_version={found.version}."
    )
    return DONE


@policy.command("show", epilog=epilog(DONE, ExitCode.UNTRUSTED, ExitCode.NOT_COMPARED))
@click.option("--tenant-root", metavar="HEX", help="Public root key that must have signed.")
@click.option("--file", metavar="FILE", help="Show this document, and ask no gateway.")
@_root_option
@gateway_command
def show_command(
    session: Session, tenant_root: str | None, file: str | None, root_key: str | None
) -> ExitCode:
    """Show the settings that the gateway stores, and whether your root signed them."""
    files = TenantFiles.of(session)
    root = _known_root(session, tenant_root, files.root if root_key is None else Path(root_key))
    document = (
        session.tenant_gateway().settings().document if file is None else read_signed(Path(file))
    )
    found = parse_settings(document)
    code = _judged(found, root, files.tenant)
    session.out.data(
        {
            "format": "latensgate-settings/1",
            "verdict": code.verdict,
            "exit_code": int(code),
            "settings": settings_json(found),
        }
    )
    session.out.show(*settings_view(found))
    session.out.line(_WORDS[code], "" if code is DONE else "bold red")
    return code


_WORDS = {
    DONE: "✓ Signed by your root key.",
    ExitCode.UNTRUSTED: "✗ Not signed by your root key, or not for your tenant: do not rely on it.",
    ExitCode.NOT_COMPARED: "? You named no root key, so nobody was compared: --tenant-root.",
}


def _judged(found: TenantSettings, root: bytes | None, tenant: str) -> ExitCode:
    if root is None:
        return ExitCode.NOT_COMPARED
    return DONE if (found.root, found.tenant_id) == (root, tenant) else ExitCode.UNTRUSTED


def _known_root(session: Session, given: str | None, path: Path) -> bytes | None:
    """Return the root that this machine knows; never one from the gateway."""
    text = given or session.found.tenant_root
    if text is None:
        return TenantRoot.read(path).public if path.exists() else None
    try:
        return formats.hex_bytes(text, "tenant_root", 32)
    except MalformedError as error:
        raise ConfigurationError(error.detail) from None
