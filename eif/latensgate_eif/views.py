"""What people see. Every text of an image goes through here as plain text, never as markup."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_eif.compare import Change, Difference
    from latensgate_eif.describe import Description
    from latensgate_eif.measure import ImageMeasurements


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def show_measurements(measured: ImageMeasurements, *, as_json: bool) -> None:
    """Print registers, in JSON with the names that Nitro's tools use."""
    if as_json:
        measurements = {"HashAlgorithm": "SHA384", **measured.hex()}
        click.echo(json.dumps({"Measurements": measurements}, indent=1))
        return
    for name, value in measured.hex().items():
        click.echo(f"{name}  {value}")


def show_description(facts: Description) -> None:
    """Print what `describe` returned."""
    console = _console()
    lines = [
        f"architecture: {facts.architecture}",
        f"defaults, not measured: {facts.default_memory_bytes} bytes, {facts.default_cpus} CPUs",
        f"command line: {facts.command_line}",
    ]
    for section in facts.sections:
        entries = "" if section.entries is None else f", {section.entries} entries"
        lines.append(f"{section.number} {section.type}: {section.bytes} bytes{entries}")
        lines.append(f"    {section.sha256}")
    lines += [f"{name}  {value}" for name, value in facts.measurements.items()]
    lines.append(f"signature: {_signature(facts)}")
    lines.append(f"metadata, not measured, by whoever: {facts.metadata_unmeasured or 'none'}")
    for line in lines:
        console.print(Text(line))


def _signature(facts: Description) -> str:
    signature = facts.signature
    if signature is None:
        return "none"
    named = f"certificate {signature.certificate_sha256}"
    if signature.reason is not None:
        return f"WRONG ({signature.reason}); {named}"
    return f"by the key of {named}, {signature.subject}"


def show_difference(difference: Difference) -> None:
    """Print what `compare_images` returned."""
    console = _console()
    parts: Sequence[tuple[str, Sequence[Change]]] = (
        ("measurements", difference.registers),
        ("header, not measured", difference.header),
        ("sections", difference.sections),
        ("files", difference.files),
    )
    for title, changes in parts:
        if changes:
            console.print(Text(f"{title}:", style="bold"))
        for change in changes:
            console.print(Text(f"  {change.what}"))
            console.print(Text(f"    - {change.old or 'absent'}"))
            console.print(Text(f"    + {change.new or 'absent'}"))
    if difference.nothing:
        console.print(Text("The images are the same."))
