"""What ``chat`` shows: the verified state, the question, the answer, the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.panel import Panel
from rich.text import Text

from latensgate.cli.archive import Archive, Evidence
from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.cli.failures import failure_of
from latensgate.cli.receipt_view import Check, checks_table, pii_words, usage_words
from latensgate.cli.simple import facts_table, plain, short_hash
from latensgate.cli.text import coarse, utc
from latensgate.verify import VerificationError, verify_receipt
from latensgate_shared.manifest import SUITES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from latensgate.attested import AttestationProof
    from latensgate.receipts import AnswerReceipt
    from latensgate.verify import AppraisalPolicy, VerifiedReceipt
    from latensgate_shared.manifest import Manifest
    from latensgate_shared.strict_json import JSONObject

_SUITE_WORDS = {
    "xwing": "X-Wing (X25519 and ML-KEM-768: post-quantum), AES-256-GCM",
    "x25519": "X25519, AES-256-GCM",
}


def state_panel(base_url: str, proof: AttestationProof) -> RenderableType:
    """Return the verified state, as it is shown before the first prompt."""
    simulated = proof.status == "simulated"
    pcr0 = proof.enclave_image_sha.removeprefix("sha384:")
    colour = "yellow" if simulated else "green"
    title = "Simulated enclave" if simulated else "Verified enclave"
    rows = [
        ("gateway", plain(f"{base_url} (untrusted: carries sealed bytes)")),
        ("enclave", plain(f"{proof.module_id} in {proof.region}")),
        ("image", plain(f"PCR0 {pcr0[:24]}…, one that you accept")),
        ("document", plain(short_hash(proof.attestation_hash, 24))),
        ("sealed with", plain(_SUITE_WORDS[proof.suite])),
        ("until", plain(utc(proof.sealable_until))),
    ]
    note = (
        Text("Under a simulator's root, which you chose to accept: not Amazon's.", "yellow")
        if simulated
        else Text("Proven by a fresh attestation under Amazon's root.", "green")
    )
    table = facts_table(rows)
    table.add_row("", note)
    return Panel(table, title=f"✓ {title}", border_style=colour, title_align="left")


def question_panel(text: str) -> RenderableType:
    """Return the question."""
    return Panel(plain(text), title="Question", title_align="left", border_style="cyan")


def answer_panel(text: str) -> RenderableType:
    """Return the answer."""
    return Panel(_answer_text(text), title="Answer", title_align="left", border_style="magenta")


def _answer_text(text: str) -> Text:
    """A model's text, line by line: it may hold what steers a terminal."""
    return Text("\n").join(plain(line) for line in text.splitlines())


def receipt_line(receipt: AnswerReceipt) -> Text:
    """Return the verdict on one line."""
    simulated = receipt.status == "simulated"
    told = Text.assemble(("✓ ", "bold yellow" if simulated else "bold green"))
    told.append("simulated" if simulated else "verified", "yellow" if simulated else "green")
    scan = "personal data found" if receipt.pii_detected else "no personal data"
    facts = (
        receipt.audit_receipt_id,
        receipt.outcome,
        usage_words(receipt.usage),
        scan,
        f"{receipt.latency_ms:,} ms",
    )
    told.append(" · " + " · ".join(facts), "dim")
    return told


def judged(receipt: AnswerReceipt, policy: AppraisalPolicy) -> tuple[tuple[Check, ...], ExitCode]:
    """Judge a receipt once more from what is kept of it, as an auditor will; tell every step."""

    def kept(_attestation_hash: str) -> Evidence:
        return Evidence(receipt.document, receipt.manifest)

    try:
        attestation = Archive(kept, policy).attestation(receipt.attestation_hash)
        verified = verify_receipt(
            receipt.export()["receipt"],
            attestation=attestation,
            tenant_id=receipt.tenant_id,
            request_hash=receipt.request_hash,
            response_hash=receipt.response_hash,
        )
    except VerificationError as error:
        failed = Check(
            "The receipt does not verify", f"step {error.step}: {error.detail}", good=False
        )
        return (failed,), failure_of(error).exit_code
    checks = _checks(receipt, verified, attestation.manifest)
    return checks, DONE if receipt.status == "verified" else ExitCode.SIMULATED


def _checks(
    receipt: AnswerReceipt, verified: VerifiedReceipt, manifest: Manifest
) -> tuple[Check, ...]:
    public, private = verified.signed.public, verified.private
    root = "a simulator's root" if receipt.status == "simulated" else "Amazon's root"
    suite = next(SUITES[key.suite] for key in manifest.hpke_keys if key.key_id == public.key_id)
    return (
        Check("Attestation document verifies", f"13 steps, {root}, image that you accept"),
        Check("Question was sealed to a key in it", f"{public.key_id}, {suite}"),
        Check("Receipt is signed by the key in it", f"Ed25519, {receipt.audit_receipt_id}"),
        Check("It covers the bytes that you sent", short_hash(public.request_hash)),
        Check("It covers the bytes that came back", short_hash(public.response_hash)),
        Check("It commits to its private part", short_hash(public.private_digest)),
        Check("It was issued while the keys lived", f"{coarse(public.issued_at)} UTC"),
        Check("Personal data was looked for", pii_words(private.get("pii"))),
        Check("Model that was asked", _model(private)),
        Check("Place in the enclave's chain", f"place {public.sequence:,}"),
    )


def _model(private: JSONObject) -> str:
    asked, served, upstream = (
        private.get(key) for key in ("model_asked", "model_served", "upstream")
    )
    told = str(asked)
    if served:
        told += f", served by {served}"
    if isinstance(upstream, dict):
        told += f", at {upstream.get('host')} over TLS that ends in the enclave"
        told += f", invocation logging {upstream.get('invocation_logging')}"
    return told


def explanation(receipt: AnswerReceipt, checks: tuple[Check, ...]) -> list[RenderableType]:
    """Return the receipt's verdict, step by step."""
    title = Text.assemble(("Receipt ", "bold"), plain(receipt.audit_receipt_id, "bold"))
    rows = [
        ("tokens", plain(usage_words(receipt.usage))),
        ("in the enclave", plain(f"{receipt.latency_ms:,} ms")),
        ("document", plain(receipt.attestation_hash)),
    ]
    return [title, checks_table(checks), "", facts_table(rows), ""]


def receipt_json(receipt: AnswerReceipt) -> JSONObject:
    """Return what programs read of a receipt."""
    return {
        "status": receipt.status,
        "audit_receipt_id": receipt.audit_receipt_id,
        "attestation_hash": receipt.attestation_hash,
        "outcome": receipt.outcome,
        "pii_detected": receipt.pii_detected,
        "latency_ms": receipt.latency_ms,
        "usage": receipt.usage,
    }
