"""``latensgate attest``: what runs behind the gateway at this moment, proven step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.panel import Panel
from rich.text import Text

from latensgate.cli.evidence import UnreadableError
from latensgate.cli.exit_codes import ExitCode
from latensgate.cli.live import attest_live
from latensgate.cli.machine import inspection_json
from latensgate.cli.render import steps_table
from latensgate.cli.simple import facts_table, plain
from latensgate.cli.text import duration, printable, utc
from latensgate.cli.words import headline
from latensgate.verify.manifest import sealable_until

if TYPE_CHECKING:
    from rich.console import RenderableType

    from latensgate.cli.live import LiveAttestation
    from latensgate.cli.session import Session
    from latensgate_shared.manifest import Manifest
    from latensgate_shared.strict_json import JSONObject

_COLOURS = {ExitCode.VERIFIED: "green", ExitCode.SIMULATED: "yellow"}


def show_live(session: Session, key_id: str | None, save: str | None) -> ExitCode:
    """Fetch, judge and show a live attestation."""
    live = attest_live(session.gateway(), session.policy, key_id=key_id)
    if save is not None:
        _save(live, Path(save))
    session.out.data(_json(session.base_url, live))
    session.out.show(_verdict(live))
    if live.attested is not None:
        session.out.show(_facts(session.base_url, live), "")
    session.out.show(steps_table(live.steps))
    if save is not None:
        session.out.note(f"Written to {save}: document.cbor, nonce_document.cbor, manifest.json")
    return live.code


def _save(live: LiveAttestation, folder: Path) -> None:
    """Write what was served, for ``attest inspect`` or another verifier."""
    files = {
        "document.cbor": live.evidence.document,
        "nonce_document.cbor": live.evidence.nonce_document or b"",
        "manifest.json": live.evidence.manifest,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise UnreadableError(f"{folder}: {error.strerror or 'cannot be written'}") from None


def _verdict(live: LiveAttestation) -> RenderableType:
    colour = _COLOURS.get(live.code, "red")
    body = Text(_headline(live), f"bold {colour}")
    if live.error is not None:
        body.append("\n\n" + printable(live.error.detail), "default not bold")
        body.append("\n\nDo not send anything confidential there.", "default not bold")
        if live.inspection.failure is not None and live.inspection.failure.kind == "untrusted-root":
            body.append(
                "\nIs it a developer's stack? Then say so: --simulated.", "default not bold"
            )
    elif live.code is ExitCode.SIMULATED:
        body.append(
            "\n\nEvery step passed, but under a simulator's root, which you chose to accept:"
            " whoever holds its key can state anything.",
            "default not bold",
        )
    return Panel(body, border_style=colour, padding=(1, 2))


def _headline(live: LiveAttestation) -> str:
    if live.inspection.failure is not None or live.error is None:
        return headline(live.inspection)
    if live.code is ExitCode.CLOCK:
        return "Refused: this machine and the enclave disagree about the time."
    return "Refused: what the gateway gave is no fresh proof."


def _facts(base_url: str, live: LiveAttestation) -> RenderableType:
    attested = live.attested
    if attested is None:  # pragma: no cover - the caller looked
        return ""
    document, manifest = attested.attestation.document, attested.attestation.manifest
    until = sealable_until(manifest)
    rows = [
        ("gateway", plain(f"{base_url} (answered in {live.fetched_ms} ms)")),
        ("enclave", plain(document.module_id)),
        ("software", plain(manifest.software_version)),
        ("attestation_hash", plain(attested.attestation.attestation_hash)),
        *((f"PCR{index}", plain(document.pcrs[index].hex())) for index in (0, 1, 2)),
        ("service account", plain(f"{manifest.service_account} in {manifest.region}")),
        ("KMS key", plain(manifest.kms_key_arn)),
        ("policy", plain(manifest.policy_digest)),
        ("keys", plain(", ".join(key.key_id for key in manifest.hpke_keys))),
        ("seal until", plain(f"{utc(until)} ({duration(until - document.timestamp)} from then)")),
    ]
    return facts_table(rows)


def manifest_json(manifest: Manifest) -> JSONObject:
    """Return what a verified manifest states, for programs."""
    return {
        "software_version": manifest.software_version,
        "key_ids": [key.key_id for key in manifest.hpke_keys],
        "receipt_public_key": manifest.receipt_public_key.hex(),
        "policy_digest": manifest.policy_digest,
        "deployment_digest": manifest.deployment_digest,
        "kms_key_arn": manifest.kms_key_arn,
        "kms_key_policy_digest": manifest.kms_key_policy_digest,
        "service_account": manifest.service_account,
        "region": manifest.region,
        "not_before": manifest.not_before,
        "not_after": manifest.not_after,
    }


def _json(base_url: str, live: LiveAttestation) -> JSONObject:
    error, attested = live.error, live.attested
    return {
        "format": "latensgate-attestation/1",
        "gateway": base_url,
        "verdict": live.code.verdict,
        "exit_code": int(live.code),
        "headline": _headline(live),
        "failure": None
        if error is None
        else {"code": error.code.name, "detail": printable(error.detail)},
        "steps": [
            {"number": s.number, "title": s.title, "state": s.state.value, "reason": s.reason}
            for s in live.steps
        ],
        "attestation_hash": None if attested is None else attested.attestation.attestation_hash,
        "manifest": None if attested is None else manifest_json(attested.attestation.manifest),
        "published": inspection_json(live.inspection),
    }
