"""`stoker completion`: the script that makes a shell complete commands, options and endpoint names."""

import click
from click.shell_completion import get_completion_class

from stoker.cli.session import Command


@click.command(
    cls=Command,
    example="""
    echo 'eval "$(stoker completion bash)"' >> ~/.bashrc
    echo 'eval "$(stoker completion zsh)"' >> ~/.zshrc
    stoker completion fish > ~/.config/fish/completions/stoker.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of your shell."""
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells"
    # `source` alone, not the class' checks: they start the shell to ask its version, which may be another machine's.
    completer = kind(ctx.find_root().command, {}, "stoker", "_STOKER_COMPLETE")
    click.echo(completer.source_template % completer.source_vars())
