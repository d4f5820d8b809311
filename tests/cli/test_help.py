"""Every help page says in one line what the command does, and shows how."""

import click
import pytest
from click.testing import CliRunner

from stoker.cli.main import COMMANDS, cli


def pages() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        found.append((name,))
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            found += [(name, inner) for inner in command.commands]
    return found


@pytest.mark.parametrize("words", pages(), ids=" ".join)
def test_every_help_page_ends_with_examples_of_that_command(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0, result.output
    _, _, example = result.output.partition("\nExample:\n")
    assert f"stoker {' '.join(words)}" in example, result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_says_what_the_command_itself_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help is not None
    assert command.help.startswith(COMMANDS[name].help.rstrip("."))


@pytest.mark.parametrize("words", pages(), ids=" ".join)
def test_every_option_is_explained(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(words)}: {parameter.opts}"


def test_the_first_page_names_every_command_and_the_first_steps() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    assert all(f"\n  {name} " in output for name in COMMANDS)
    assert "stoker up --demo" in output
