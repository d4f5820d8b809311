"""`stoker quota`: how quotas stand, and what bounds a project or the platform."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from stoker.cli.output import columns, items, show
from stoker.cli.session import Command, Session, output_option, project_option, write_example
from stoker.client import quotas
from stoker.types.quotas import ProjectQuota, QuotaView
from stoker.types.units import format_bytes

_BAR: Final = 10
_EXAMPLE: Final = """
stoker quota
stoker quota set vision endpoints=10 storage=50Gi requests_at_once=64
stoker quota set vision storage=none
stoker quota set --platform keys=500 replicas=40
"""
_COLOURS: Final = {"within": "green", "near": "yellow", "used up": "red"}
_SOON_S: Final = 2 * 86_400.0


class QuotaGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=QuotaGroup, invoke_without_command=True)
@click.option("-A", "--all-projects", is_flag=True, help="Quotas of every project, and the platform's own.")
@output_option
@project_option
@click.pass_context
def command(ctx: click.Context, all_projects: bool, output: str, project: str) -> None:
    """Show how quotas stand, or change what bounds a project or the platform."""
    if ctx.invoked_subcommand is None:
        found = listed(ctx.obj, None, None if all_projects else project)
        show(items(found), output, lambda: table(found, "" if all_projects else project))


@command.command("set", cls=Command, example="stoker quota set vision endpoints=10 storage=50Gi gpu_hours=200")
@click.argument("what", nargs=-1, required=True, metavar="[PROJECT] NAME=VALUE...")
@click.option("--platform", is_flag=True, help="What bounds all projects together, instead of one.")
@click.pass_obj
def set_quota(session: Session, what: tuple[str, ...], platform: bool) -> None:
    """Change some limits of a project, or of the platform; the others stay. `none` takes a limit away."""
    project, *limits = what if "=" not in what[0] else ("", *what)
    if platform == bool(project) or not limits:
        raise click.UsageError("name a project and limits, or --platform and limits: endpoints=10 storage=50Gi")
    changed = quotas.change(session.control(), project, dict(map(_limit, limits)))
    named = msgspec.to_builtins(changed)
    said = ", ".join(f"{name} {_plain(value)}" for name, value in named.items()) or "no limits"
    click.echo(f"{f'project {project}' if project else 'the platform'}: {said}")


def listed(session: Session, name: str | None, project: str | None) -> list[QuotaView]:
    """Return the quotas of a project, or all; of that name."""
    return [each for each in quotas.everything(session.control(), project) if name in (None, each.name)]


def table(found: Sequence[QuotaView], project: str = "") -> str:
    """Return quotas, a line each. project: the one that was asked for; "" for all."""
    header = ("PROJECT", "FOR", "QUOTA", "USED", "", "LIMIT", "AT THE LIMIT", "ANEW")
    rows = [
        (
            each.project or "(platform)",
            f"{each.scope} {each.of}".strip(),
            each.name,
            "-" if each.used is None else amount(each, each.used),
            bar(each),
            amount(each, each.limit) + (f" {each.unit}" if each.unit not in ("", "usd") else "") + _each(each),
            "refuse" if each.is_hard else "warn",
            anew(each.resets_at_s),
        )
        for each in found
    ]
    which = f"no quotas of project {project}" if project else "no quotas"
    return columns(header, rows, empty=f"{which}; `stoker quota set {project or 'PROJECT'} endpoints=10` makes one")


def amount(quota: QuotaView, count: float) -> str:
    """Return an amount of what a quota is of, as people read it."""
    if quota.unit == "usd":
        return f"${count:,.2f}"
    if quota.name in ("memory", "storage") and not quota.unit:
        return format_bytes(int(count))
    return f"{count:,.0f}" if count >= 1000 or count == int(count) else f"{count:,.2f}"


def bar(quota: QuotaView) -> str:
    """Return how much is used: `████······  41%`."""
    if quota.used is None:
        return ""
    ratio = quota.used / quota.limit if quota.limit else 1.0
    full = min(round(ratio * _BAR), _BAR)
    return f"{click.style('█' * full, fg=_COLOURS.get(quota.state))}{'·' * (_BAR - full)} {ratio:4.0%}"


def anew(resets_at_s: float) -> str:
    """Return when a quota begins anew: soon in hours, else as a date of UTC."""
    if not resets_at_s:
        return "-"
    left_s = resets_at_s - time.time()
    if left_s < _SOON_S:
        hours, minutes = divmod(int(max(left_s, 0.0)) // 60, 60)
        return f"in {hours} h {minutes} min"
    return f"{datetime.fromtimestamp(resets_at_s, UTC):%Y-%m-%d %H:%M} UTC"


def _each(quota: QuotaView) -> str:
    return f" a {quota.period}" if quota.period not in ("", "total") else ""


def _plain(value: object) -> str:
    """Return a value as it was written: 300000, and not 300000.0."""
    return f"{int(value)}" if isinstance(value, float) and value.is_integer() else str(value)


def _limit(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or name not in ProjectQuota.__struct_fields__:
        known = ", ".join(ProjectQuota.__struct_fields__)
        raise click.UsageError(f"{text!r} is no limit; write NAME=VALUE with a name of: {known}")
    if value.lower() in ("none", ""):
        return name, None
    try:
        return name, msgspec.json.decode(value.encode(), type=int | float)
    except msgspec.MsgspecError:
        return name, value  # 50Gi, Europe/Berlin
