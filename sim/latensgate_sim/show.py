"""What the developer's stack prints: what runs where, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from latensgate_sim.dev_stack import DevStack

_DIGEST_SHOWN_CHARS: Final = 32


def show_stack(stack: DevStack, console: Console) -> None:
    """Print what runs and where."""
    world = stack.world
    table = Table(title="Simulated AWS (not Amazon's: trust its roots on purpose only)")
    table.add_column("what", no_wrap=True)
    table.add_column("where", overflow="fold")
    if stack.options.parent:
        table.add_row("gateway (parent, untrusted)", f"{stack.plan.url}  reference page: /")
        table.add_row("operator's metrics", f"{stack.plan.operator_url}/metrics")
    for enclave in stack.enclaves:
        table.add_row(f"{enclave.name} (process {enclave.process.pid})", str(enclave.listen))
    for name, value in stack.deployed.measurements.items():
        table.add_row(name, f"{value[:_DIGEST_SHOWN_CHARS]}…")
    table.add_row("NSM, KMS, STS, Bedrock", f"this process, in {', '.join(world.regions)}")
    table.add_row("KMS key of this release", stack.deployed.key_arn)
    table.add_row("attestation root SHA-256", world.nitro_root_sha256)
    table.add_row("files and logs", str(world.folder))
    table.add_row("answers come from", _answers(stack))
    console.print(table)


def _answers(stack: DevStack) -> str:
    if stack.options.bedrock:
        return "Amazon Bedrock, with your credentials"
    local = stack.world.config.default_engine == "local"
    return "SmolLM2-135M on this machine" if local else "scripted replies (no model)"


def show_next(stack: DevStack, console: Console) -> None:
    """Print how to go on."""
    console.rule("Next")
    if stack.tenant is None:
        console.print("The enclaves wait for a parent: credentials, the KMS key, then requests.")
        console.print(f"python -m latensgate_parent --config {stack.plan.settings}", soft_wrap=True)
    else:
        console.print("In another terminal (this stack is in your client configuration already):")
        for line, comment in _commands(stack):
            console.print(f"  [bold]{line}[/bold]", soft_wrap=True, highlight=False)
            console.print(f"      {comment}", style="dim", soft_wrap=True, highlight=False)
        key = stack.tenant.api_key
        console.print(f"  tenant {stack.tenant.tenant_id}, key {key}", soft_wrap=True)
    console.print("Ctrl-C stops it.")


def _commands(stack: DevStack) -> list[tuple[str, str]]:
    return [
        (".venv/bin/latensgate chat --simulated", "talk to it"),
        (".venv/bin/latensgate attest --simulated", "what runs, proven step by step"),
        (".venv/bin/latensgate audit list --simulated", "the receipts of this tenant"),
        (".venv/bin/latensgate doctor --simulated", "everything between here and the enclave"),
        (f"curl {stack.plan.url}/api/health", "what a deployment check sees"),
    ]
