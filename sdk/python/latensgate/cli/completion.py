"""``latensgate completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "latensgate"
VARIABLE = "_LATENSGATE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the shell's completion of this command.

    \b
    bash   latensgate completion bash > ~/.local/share/bash-completion/completions/latensgate
    zsh    latensgate completion zsh > a file _latensgate in a folder of $fpath
    fish   latensgate completion fish > ~/.config/fish/completions/latensgate.fish
    """
    made = get_completion_class(shell)
    if made is None:  # pragma: no cover - the three above are click's own
        raise click.UsageError(f"no completion for {shell}")
    source = made(context.find_root().command, {}, PROGRAM, VARIABLE)
    click.echo(source.source_template % source.source_vars())
