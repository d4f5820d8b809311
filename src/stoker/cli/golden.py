"""`stoker golden`: the examples with known answers that an endpoint holds, against which every new revision is held."""

import hashlib
from pathlib import Path
from typing import Final

import click

from stoker.cli.output import age, show
from stoker.cli.session import (
    Command,
    Session,
    checked_name,
    complete_endpoint,
    output_option,
    project_option,
    write_example,
)
from stoker.client.releases import ReleaseClient
from stoker.core.gate import golden
from stoker.core.gate.golden import BadGolden, Example
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.releases import GOLDEN_BYTES_MAX, GoldenSet
from stoker.types.units import format_bytes

_EXAMPLE: Final = """
stoker golden set digits examples.jsonl
stoker golden show digits
stoker golden remove digits
"""


def read_golden(path: Path) -> tuple[Example, ...]:
    """Return the examples of a file. Raises NotFound, or InvalidInput with the lines that are wrong."""
    return _read(path)[1]


def _read(path: Path) -> tuple[bytes, tuple[Example, ...]]:
    try:
        with path.open("rb") as file:
            data = file.read(GOLDEN_BYTES_MAX + 1)
        return data, golden.read(data)
    except FileNotFoundError as missing:
        raise NotFound(f"there is no file {path}") from missing
    except OSError as refused:
        raise InvalidInput(f"{path} cannot be read: {refused.strerror}") from refused
    except BadGolden as wrong:
        raise InvalidInput(f"{path}: {wrong}") from wrong


class GoldenGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=GoldenGroup)
def command() -> None:
    """Hold revisions against examples with known answers.

    A line of the file is a JSON object: {"input": [0, 12], "expected": 7} (or "inputs" by name) for a predict model,
    {"messages": […], "expected": "…"} for a chat model, {"input": "…", "expected": […]} for an embedding model; and
    optionally "weight".
    """


@command.command("set", cls=Command, example="stoker golden set digits examples.jsonl")
@click.argument("endpoint", callback=checked_name, shell_complete=complete_endpoint)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@output_option
@project_option
@click.pass_obj
def set_(session: Session, endpoint: str, file: Path, output: str, project: str) -> None:
    """Have ENDPOINT hold the examples in FILE. What serves goes on; the next revision is held against them."""
    data, _ = _read(file)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    control = session.control()
    if not control.has_blob(digest):
        control.put_blob(digest, len(data), (data,))
    held = ReleaseClient(control.connection).set_golden(project, endpoint, digest)
    show(held, output, lambda: _people(endpoint, held))


@command.command("show", cls=Command, example="stoker golden show digits -o json")
@click.argument("endpoint", callback=checked_name, shell_complete=complete_endpoint)
@output_option
@project_option
@click.pass_obj
def show_(session: Session, endpoint: str, output: str, project: str) -> None:
    """Show which examples ENDPOINT holds."""
    held = ReleaseClient(session.control().connection).golden(project, endpoint)
    show(held, output, lambda: _people(endpoint, held))


@command.command("remove", cls=Command, example="stoker golden remove digits")
@click.argument("endpoint", callback=checked_name, shell_complete=complete_endpoint)
@project_option
@click.pass_obj
def remove(session: Session, endpoint: str, project: str) -> None:
    """Have ENDPOINT hold no examples any more."""
    ReleaseClient(session.control().connection).remove_golden(project, endpoint)
    click.echo(f"{endpoint} holds no examples any more")


def _people(endpoint: str, held: GoldenSet) -> str:
    size = f"{held.rows} example{'' if held.rows == 1 else 's'}, {format_bytes(held.size_bytes)}"
    return f"{click.style(endpoint, bold=True)} holds {size}, set {age(held.set_at_s)} ago: {held.digest}"
