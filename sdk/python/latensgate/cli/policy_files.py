"""The files of a tenant's administrator: root key, draft, signed settings; one set for each tenant.

They stand in the configuration folder, as `tnt_….root.pem` (mode 0600), `tnt_….policy.toml` and
`tnt_….settings.json`.
"""

from __future__ import annotations

import time
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from latensgate.cli.evidence import UnreadableError, read_file
from latensgate.config import Surroundings
from latensgate.state import write_private
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.limits import TENANT_SETTINGS_MAX_BYTES
from latensgate_shared.pii_policy import PolicyError
from latensgate_shared.pii_policy_document import parse_policy
from latensgate_shared.settings import (
    SETTINGS_FORMAT,
    SettingsError,
    check_settings,
    parse_settings,
)

if TYPE_CHECKING:
    from pathlib import Path

    from latensgate.cli.session import Session
    from latensgate_shared.settings import TenantSettings
    from latensgate_shared.strict_json import JSONObject

TEMPLATE: Final = """\
# Settings of {tenant}. `latensgate policy sign` makes them a signed document.
# What stands here joins the gateway's floor: the strictest action counts. What you leave out, you
# have no opinion on. All of it: docs/spec/policy.md and docs/spec/settings.md.

# kms_key_arn = "arn:aws:kms:…"      # every request must come wrapped under this key of yours
# audit_key = "2432 hex digits"      # of `latensgate audit keygen`: your auditor opens what is told

[policy.rules.EMAIL_ADDRESS]
prompt = {{ action = "pseudonymise" }}         # the model reads [EMAIL_k7q2], you the address
tool_results = {{ action = "pseudonymise" }}
tool_arguments = {{ action = "pseudonymise" }}
answer = {{ action = "flag" }}

[policy.rules.US_SSN]
"*" = {{ action = "mask" }}

# [policy.rules.API_KEY]
# "*" = {{ action = "fail", threshold = 0.5 }}

# [policy.lists]
# deny = ["Project Bluebird"]       # masked, unless a rule for DENY_LISTED says otherwise
# allow = ["support@example.com"]   # exempt from the rules of this document

# [[policy.recognizers]]
# name = "staff number"
# pattern = "EMP-[0-9]{{6}}"          # RE2 syntax
# context = ["employee", "staff"]

# [policy.rules.US_PASSPORT]
# prompt = {{ action = "mask", hold = true }}    # an approver decides first: docs/holds.md

# [policy.hold]
# show_content = true               # approvers see what would be forwarded, sealed to them
# expires_s = 3600

# [[approvers]]                     # who may decide: latensgate approvals keygen
# name = "Ann"
# ed25519 = "64 hex digits"
# xwing = "2,432 hex digits"
"""


@dataclass(frozen=True, slots=True)
class TenantFiles:
    """Where one tenant's files are.

    Attributes:
        tenant: ``tnt_`` and 8 hex digits.
        folder: The configuration folder.
    """

    tenant: str
    folder: Path

    @classmethod
    def of(cls, session: Session) -> TenantFiles:
        """Name the files of the tenant that the settings name.

        Raises:
            ConfigurationError: They name none.
        """
        tenant = session.found.tenant
        if tenant is None:
            raise ConfigurationError("tenant: tnt_ and 8 hex digits expected (--tenant)")
        return cls(tenant, Surroundings.of_process().config_dir)

    @property
    def root(self) -> Path:
        """The private root key."""
        return self.folder / f"{self.tenant}.root.pem"

    @property
    def audit_key(self) -> Path:
        """The auditor's private key."""
        return self.folder / f"{self.tenant}.audit.key"

    @property
    def draft(self) -> Path:
        """What is edited."""
        return self.folder / f"{self.tenant}.policy.toml"

    @property
    def signed(self) -> Path:
        """What was signed last."""
        return self.folder / f"{self.tenant}.settings.json"


def write_text(path: Path, data: bytes) -> None:
    """Write a file of one's own.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        write_private(path, data)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or 'cannot be written'}") from None


def read_signed(path: Path) -> bytes:
    """Read signed settings.

    Raises:
        UnreadableError: There are none.
    """
    return read_file(str(path), TENANT_SETTINGS_MAX_BYTES)


def last_version(path: Path) -> int:
    """Return the version that was signed last on this machine; 0 if there is none."""
    try:
        return parse_settings(read_signed(path)).version
    except (UnreadableError, SettingsError):
        return 0


def settings_of(draft: bytes, tenant: str, root: bytes, version: int) -> JSONObject:
    """Put the settings of a draft together.

    Raises:
        ConfigurationError: Names the field at fault.
    """
    members = _toml(draft)
    settings: JSONObject = {
        **members,
        "format": SETTINGS_FORMAT,
        "tenant_id": tenant,
        "root": root.hex(),
        "version": version,
        "issued_at": int(time.time()),
    }
    given = members.keys() & {"format", "tenant_id", "root", "version", "issued_at"}
    if given:
        raise ConfigurationError(f"draft: {min(given)}: `policy sign` writes this member itself")
    _checked(settings)
    return settings


def policy_file(path: Path) -> JSONObject:
    """Read a request policy in TOML: the table ``policy`` of a draft, or that table alone.

    Raises:
        UnreadableError: It cannot be read.
        ConfigurationError: Names the field at fault.
    """
    members = _toml(read_file(str(path), TENANT_SETTINGS_MAX_BYTES))
    policy = members.get("policy", members)
    if not isinstance(policy, dict):
        raise ConfigurationError("policy: a table expected")
    try:
        parse_policy(policy)
    except PolicyError as error:
        raise ConfigurationError(error.detail) from None
    return policy


def _checked(settings: JSONObject) -> TenantSettings:
    try:
        return check_settings(settings)
    except SettingsError as error:
        raise ConfigurationError(f"draft: {error.detail}") from None


def _toml(draft: bytes) -> JSONObject:
    try:
        return cast("JSONObject", tomllib.loads(draft.decode("utf-8")))
    except (UnicodeDecodeError, RecursionError):
        problem = "TOML in UTF-8 expected"
    except tomllib.TOMLDecodeError as error:
        problem = f"TOML expected: {error}"
    raise ConfigurationError(f"draft: {problem}")


def checked_draft(draft: bytes, tenant: str) -> TenantSettings:
    """Check a draft as if it were signed.

    Raises:
        ConfigurationError: Names the field at fault.
    """
    return _checked(settings_of(draft, tenant, _ANY_KEY, 1))


_ANY_KEY: Final = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""A public key of RFC 8032, section 7.1, where a form wants one and none is signed with."""
