"""`stoker boundary`: who owns what of an endpoint, made from its spec, with what was seen of each duty now."""

from collections.abc import Sequence
from typing import Final

import click

from stoker.cli.output import clock, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.client.boundary import boundary
from stoker.types.boundary import PLATFORM, PROJECT, Boundary, Duty, Standing

_MARKS: Final[dict[Standing, tuple[str, str]]] = {
    "holds": ("✓", "green"),
    "fails": ("✗", "red"),
    "unknown": ("?", "yellow"),
    "said": ("·", "bright_black"),
}
_WORDS: Final[dict[Standing, str]] = {"holds": "kept", "fails": "**not kept**", "unknown": "not known", "said": ""}


@click.command(
    cls=Command,
    example="""
    stoker boundary digits
    stoker boundary digits --markdown > digits-responsibilities.md
    stoker boundary digits --output json
    """,
)
@click.argument("name", shell_complete=complete_endpoint)
@click.option("--markdown", is_flag=True, help="Write it as a document.")
@output_option
@project_option
@click.pass_obj
def command(session: Session, name: str, markdown: bool, output: str, project: str) -> None:
    """Say who owns what of an endpoint, and whether it is kept: the platform's duties, and its project's.

    Each that can be looked at was looked at now. Where the platform does not keep one of its own, the endpoint's
    condition BoundaryHolds says so too.
    """
    found = boundary(session.control().connection, project, name)
    show(found, output, lambda: document(found) if markdown else page(found))


def page(found: Boundary) -> str:
    """Return it for people at a terminal."""
    parts = [click.style(f"{found.project}/{found.endpoint}", bold=True)]
    for side, title in ((PLATFORM, "the platform"), (PROJECT, f"the project {found.project}")):
        parts += ["", click.style(title, bold=True), *map(_line, _of(found, side))]
    return "\n".join(parts)


def document(found: Boundary) -> str:
    """Return it as Markdown."""
    lines = [f"# {found.project}/{found.endpoint}: who owns what", "", f"As seen at {clock(found.at_s)}."]
    for side, title in ((PLATFORM, "The platform"), (PROJECT, f"The project {found.project}")):
        lines += ["", f"## {title}", "", "| duty | kept | seen |", "|---|---|---|"]
        lines += [
            f"| {_cell(each.text)} | {_WORDS[each.standing]} | {_cell(each.because)} |" for each in _of(found, side)
        ]
    return "\n".join(lines)


def _of(found: Boundary, side: str) -> Sequence[Duty]:
    return [each for each in found.duties if each.side == side]


def _line(duty: Duty) -> str:
    mark, colour = _MARKS[duty.standing]
    because = "\n      " + click.style(duty.because, dim=True) if duty.because else ""
    return f"  {click.style(mark, fg=colour)} {duty.text}{because}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
