"""`stoker apply`: make the platform match manifests."""

from collections.abc import Sequence
from functools import partial

import click

from stoker.cli.manifests import read_manifests
from stoker.cli.output import clock, show
from stoker.cli.session import Command, Session, output_option
from stoker.client.connection import ManifestRefused, PolicyRefused
from stoker.client.views import ApplyResult

_MARKS = {"created": ("+", "green"), "updated": ("~", "yellow"), "unchanged": ("=", None)}


def result_lines(results: Sequence[ApplyResult], *, with_diff: bool) -> str:
    """Return what happened to each resource, a line each, with its changed fields below."""
    lines: list[str] = []
    for one in results:
        mark, colour = _MARKS.get(one.action, ("?", None))
        name = f"{one.project}/{one.name}" if one.project and one.kind != "Project" else one.name
        lines.append(click.style(f"{mark} {one.kind.lower()} {name} {one.action}", fg=colour))
        if with_diff and one.action == "updated":
            lines += [
                f"    {change.path}: {_value(change.old, 'red')} → {_value(change.new, 'green')}" for change in one.diff
            ]
        lines += [*warning_lines(one), *taken_back_lines(one)]
    return "\n".join(lines)


def warning_lines(result: ApplyResult) -> list[str]:
    """Return what admission policies warn of, a line each."""
    return [f"  {click.style('warning', fg='yellow')}: {text}" for text in result.warnings]


def taken_back_lines(result: ApplyResult) -> list[str]:
    """Return what became of the revision that is asked for when it was tried before, if it was taken back."""
    back = result.taken_back
    if back is None:
        return []
    was = "was refused" if back.phase == "refused" else "was rolled back"
    said = f"{back.revision} ({back.model}) {was} at {clock(back.ended_s)} (rollout {back.rollout}): {back.because}"
    if back.begins:
        then = "it is tried again now"
    else:
        serving = f"; {back.serving} serves on" if back.serving else ""
        then = f"it does not begin again by itself{serving}: `stoker rollouts retry {result.name}` tries it again"
    return [f"  {click.style('note', fg='yellow')}: {said}", f"  {then}"]


@click.command(
    cls=Command,
    example="""
    stoker apply -f endpoints.yaml
    stoker apply -f deploy/ -f extra.yaml
    stoker get endpoint digits -o manifest | sed s/digits@1/digits@2/ | stoker apply -f -
    """,
)
@click.option("-f", "--file", "files", multiple=True, required=True, help="File, folder, or - for standard input.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--over-budget", is_flag=True, help="Roll out though an error budget's policy freezes rollouts.")
@output_option
@click.pass_obj
def command(session: Session, files: tuple[str, ...], dry_run: bool, over_budget: bool, output: str) -> None:
    """Make the platform match manifests: all of them, or none when one is wrong.

    A file of OpenSLO documents changes the objectives of the endpoints that they name.
    """
    manifests, control = read_manifests(files), session.control()
    text = manifests.text
    apply = control.apply
    if b"openslo/" in text:
        from stoker.cli import openslo  # PyYAML takes longer to import than most commands to run

        apply = partial(openslo.applied, control)
    try:
        results = apply(text, dry_run=dry_run, over_budget=over_budget)
    except (ManifestRefused, PolicyRefused) as wrong:
        raise manifests.located(wrong) from wrong
    show({"results": results}, output, lambda: result_lines(results, with_diff=True))


def _value(value: object, colour: str) -> str:
    return click.style("nothing" if value is None else _words(value), fg=colour)


def _words(value: object) -> str:
    """Return a value as a manifest has it in one line; what is empty within it is left out."""
    if isinstance(value, dict):
        held = ((name, each) for name, each in value.items() if each not in (None, "", [], {}))
        return f"{{{', '.join(f'{name}: {_words(each)}' for name, each in held)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_words, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'
