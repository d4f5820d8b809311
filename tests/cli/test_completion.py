"""Completion scripts are printed, and the command answers them."""

import pytest

from tests.cli.run import stoker


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_prints_the_script_of_each_shell(shell: str) -> None:
    done = stoker("completion", shell)
    assert done.returncode == 0
    assert "_STOKER_COMPLETE" in done.stdout


def test_completes_commands_and_options() -> None:
    words = stoker(_STOKER_COMPLETE="bash_complete", COMP_WORDS="stoker de", COMP_CWORD="1").stdout
    assert {"plain,deploy", "plain,describe", "plain,delete"} <= set(words.split())
    words = stoker(_STOKER_COMPLETE="bash_complete", COMP_WORDS="stoker deploy x --mo", COMP_CWORD="3").stdout
    assert "plain,--model" in words


def test_completing_an_endpoint_without_a_platform_gives_nothing_and_no_error() -> None:
    done = stoker(_STOKER_COMPLETE="bash_complete", COMP_WORDS="stoker chat s", COMP_CWORD="2", STOKER_HOME="/nowhere")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
