"""An inspection as a program reads it: the same facts, stable names."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from latensgate.cli.certificates import shown_chain
from latensgate.cli.text import utc
from latensgate.cli.words import explanation, headline, pcr_meaning

if TYPE_CHECKING:
    from latensgate.cli.certificates import ShownCertificate
    from latensgate.cli.inspection import Inspection
    from latensgate.verify.document import UntrustedDocument
    from latensgate_shared.strict_json import JSONObject

FORMAT = "latensgate-inspection/1"


def to_json(inspection: Inspection) -> str:
    """Return the JSON text that ``--json`` prints; members are only ever added."""
    return json.dumps(inspection_json(inspection), indent=2, ensure_ascii=True)


def inspection_json(inspection: Inspection) -> JSONObject:
    """Return the same as a value, for commands that tell more."""
    failure = inspection.failure
    return {
        "format": FORMAT,
        "verdict": inspection.code.verdict,
        "exit_code": int(inspection.code),
        "headline": headline(inspection),
        "explanation": [*explanation(inspection)],
        "evaluated_at": utc(inspection.question.at),
        "valid_at_its_own_time": inspection.good_at_its_own_time or failure is None,
        "image_compared": inspection.question.policy is not None,
        "release": None if inspection.release is None else inspection.release.version,
        "failure": None
        if failure is None
        else {"step": failure.step, "kind": failure.kind, "detail": failure.detail},
        "steps": [
            {"number": s.number, "title": s.title, "state": s.state.value, "reason": s.reason}
            for s in inspection.steps
        ],
        "document": None if inspection.said is None else _document(inspection, inspection.said),
    }


def _document(inspection: Inspection, said: UntrustedDocument) -> JSONObject:
    return {
        "module_id": said.module_id,
        "region": inspection.region,
        "timestamp_ms": said.timestamp_ms,
        "timestamp": utc(said.timestamp),
        "attestation_hash": said.attestation_hash,
        "debug": said.debug,
        "pcrs": {
            str(index): {"value": value.hex(), "meaning": pcr_meaning(index)}
            for index, value in sorted(said.pcrs.items())
        },
        "user_data": _field(said.user_data),
        "nonce": _field(said.nonce),
        "public_key": _field(said.public_key),
        "certificates": [_certificate(entry) for entry in shown_chain(said)],
    }


def _field(value: bytes | None) -> JSONObject | None:
    if value is None:
        return None
    return {"bytes": len(value), "sha256": sha256(value).hexdigest(), "hex": value.hex()}


def _certificate(entry: ShownCertificate) -> JSONObject:
    return {
        "role": entry.role,
        "subject": entry.subject,
        "sha256": entry.sha256,
        "key": entry.key,
        "not_before": None if entry.not_before is None else utc(entry.not_before),
        "not_after": None if entry.not_after is None else utc(entry.not_after),
    }
