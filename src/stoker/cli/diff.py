"""`stoker diff`: what apply would change."""

import click

from stoker.cli.apply import result_lines
from stoker.cli.exits import Exit
from stoker.cli.manifests import read_manifests
from stoker.cli.output import show
from stoker.cli.session import Command, Session, output_option
from stoker.client.connection import ManifestRefused, PolicyRefused


@click.command(
    cls=Command,
    example="""
    stoker diff -f endpoints.yaml
    stoker diff -f deploy/ --exit-code || echo "there is something to apply"
    """,
)
@click.option("-f", "--file", "files", multiple=True, required=True, help="File, folder, or - for standard input.")
@click.option("--exit-code", is_flag=True, help=f"End with {Exit.DIFFERENT:d} when something would change.")
@output_option
@click.pass_obj
def command(session: Session, files: tuple[str, ...], exit_code: bool, output: str) -> int:
    """Show what apply would change, and change nothing."""
    manifests = read_manifests(files)
    try:
        results = session.control().apply(manifests.text, dry_run=True)
    except (ManifestRefused, PolicyRefused) as wrong:
        raise manifests.located(wrong) from wrong
    changed = tuple(one for one in results if one.action != "unchanged")
    people = result_lines(changed, with_diff=True) or "nothing would change"
    show({"results": results}, output, lambda: people)
    return Exit.DIFFERENT if changed and exit_code else Exit.OK
