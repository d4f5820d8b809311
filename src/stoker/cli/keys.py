"""`stoker keys`: who may call."""

from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from stoker.cli import tables
from stoker.cli.output import clock, items, show
from stoker.cli.session import Command, Session, output_option, pairs, project_option, write_example
from stoker.cli.values import lifetime_s
from stoker.client import access
from stoker.client.views import NewKey
from stoker.types.access import ADMIN, PERMISSIONS, USUAL, KeyAccess
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.keys import PRIORITIES, UNLIMITED, KeyLimits
from stoker.types.units import parse_seconds

_EXAMPLE: Final = """
stoker keys create batch-job --expires 30d --priority sheddable --tpm 60000
stoker keys list
stoker keys limit a1b2c3d4 --rps 20
stoker keys rotate a1b2c3d4 --overlap 24h
stoker keys revoke a1b2c3d4
"""
# Option, field of KeyLimits, type, what it is.
_LIMITS: Final[tuple[tuple[str, str, Any, str], ...]] = (
    ("--rps", "requests_per_s", float, "Requests a second, on average; 0: any."),
    ("--burst", "burst", int, "Requests that may come at once; by default those of one second."),
    ("--tpm", "tokens_per_min", float, "Tokens a minute, prompts and answers together; 0: any."),
    ("--at-once", "requests_at_once", int, "Requests that may run at the same time; 0: any."),
    ("--priority", "priority", click.Choice(PRIORITIES), "The most urgent band it may use; standard by default."),
    ("--weight", "weight", float, "Its share of a busy endpoint against other tenants'; 1 by default."),
    ("--tenant", "tenant", str, "Keys of one tenant share one share; by default each key is its own."),
)


def limit_options(command_: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what a key is held to."""
    for option, field, kind, meaning in reversed(_LIMITS):
        command_ = click.option(option, field, type=kind, help=meaning)(command_)
    tag = "Counts its usage by NAME=VALUE too, such as team=search; several times for several."
    command_ = click.option("--tag", "tags", multiple=True, callback=_tags, metavar="NAME=VALUE", help=tag)(command_)
    samples = "Whether its requests may be kept as samples; by default they may, where an endpoint keeps any."
    return click.option("--samples/--no-samples", "samples", default=None, help=samples)(command_)


def access_options(command_: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what a key may do."""
    for option in reversed(_ACCESS):
        command_ = option(command_)
    return command_


def _asked(given: dict[str, Any]) -> tuple[KeyAccess, str]:
    """Return what a key is to be able to do, and whose it is; take it out of `given`."""
    role, permissions, endpoints = given.pop("role"), given.pop("permissions"), given.pop("endpoints")
    is_admin, everywhere, subject = given.pop("admin"), given.pop("everywhere"), given.pop("subject")
    if is_admin:
        if role or permissions or endpoints:
            raise click.UsageError("--admin is everything already; name it alone")
        return ADMIN, subject
    usual = USUAL if not role and not permissions else KeyAccess()
    return (
        KeyAccess(role or usual.role, tuple(permissions) or usual.permissions, tuple(endpoints), everywhere),
        subject,
    )


def _changed(limits: KeyLimits, given: dict[str, Any]) -> KeyLimits:
    """Return `limits` with what was given. Raises InvalidInput for a value that cannot be."""
    named = {field: value for field, value in given.items() if value is not None}
    try:
        return msgspec.convert({**msgspec.structs.asdict(limits), **named}, KeyLimits)
    except msgspec.ValidationError as wrong:
        raise InvalidInput(str(wrong).replace(" - at `$.", " (").rstrip("`") + ")") from wrong


_ACCESS: Final[tuple[Callable[..., Any], ...]] = (
    click.option("--admin", is_flag=True, help="May do everything, everywhere."),
    click.option("--role", default="", help="viewer, caller, deployer, operator, owner, or a role of your own."),
    click.option(
        "--permission",
        "permissions",
        multiple=True,
        type=click.Choice(PERMISSIONS),
        metavar="NAME",
        help="What it may do besides; repeat it. By default it calls, and reads traces, metrics and usage.",
    ),
    click.option(
        "--endpoint", "endpoints", multiple=True, metavar="PATTERN", help="Only these, such as chat-*; repeat it."
    ),
    click.option("--everywhere", is_flag=True, help="In every project, and for the platform itself."),
    click.option("--subject", default="", metavar="WHO", help="Whose it is: user:alice@example.org, service:ci."),
)


def _tags(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    """Return the tags; None where none is given, which changes none."""
    return pairs(ctx, parameter, values) or None


class KeysGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


def _lifetime(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of a time such as 30d."""
    if value is None:
        return None
    try:
        seconds = lifetime_s(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from wrong
    if seconds <= 0:
        raise click.BadParameter("a key must live longer than that")
    return seconds


def _overlap(ctx: click.Context, parameter: click.Parameter, value: str) -> float:
    """Return the seconds of a time such as 24h, or 0."""
    try:
        return parse_seconds(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from wrong


@click.group(cls=KeysGroup)
def command() -> None:
    """Create, list, limit, rotate and revoke API keys."""


@command.command(
    cls=Command,
    example="""
    stoker keys create batch-job --expires 30d --rps 5 --priority sheddable
    stoker keys create acme --endpoint 'chat-*' --permission endpoints:call --rps 5
    stoker keys create ci --project vision --role deployer --subject service:ci
    export OPENAI_API_KEY=$(stoker keys create laptop -q)
    """,
)
@click.argument("name")
@access_options
@click.option(
    "--expires", "expires_in_s", callback=_lifetime, metavar="TIME", help="When it ends: 12h, 30d. By default never."
)
@limit_options
@click.option("-q", "--quiet", is_flag=True, help="Print the key and nothing else.")
@output_option
@project_option
@click.pass_obj
def create(
    session: Session,
    /,
    name: str,
    expires_in_s: float | None,
    quiet: bool,
    output: str,
    project: str,
    **more: Any,
) -> None:
    """Make a key called NAME. It is shown this once; only its hash is kept."""
    asked, subject = _asked(more)
    limits = _changed(UNLIMITED, more)
    made = access.create_key(
        session.control(), project, name, asked, subject=subject, expires_in_s=expires_in_s, limits=limits
    )
    _say_behind(made)
    if quiet:
        click.echo(made.key)
        return
    until = f", until {clock(made.expires_at_s)}" if made.expires_at_s else ""
    where = "every project" if asked.everywhere else f"project {made.project}"
    note = click.style(f"{made.id} for {where}{until}; shown this once", dim=True)
    show(made, output, lambda: f"{click.style(made.key, bold=True)}\n{note}")


def _say_behind(made: NewKey) -> None:
    """Say which gateways do not know the key yet: seldom any."""
    if made.behind:
        names = ", ".join(made.behind)
        click.echo(f"{names}: does not know it yet; where it answers 401, wait some seconds before you go on", err=True)


@command.command("list", cls=Command, example="stoker keys list -o json")
@output_option
@click.pass_obj
def list_keys(session: Session, output: str) -> None:
    """List keys, without their secrets."""
    found = session.control().keys()
    show(items(found), output, lambda: tables.keys_table(found))


@command.command(
    cls=Command,
    example="""
    stoker keys limit a1b2c3d4 --rps 20 --burst 50
    stoker keys limit a1b2c3d4 --rps 0 --priority critical
    """,
)
@click.argument("key_id")
@limit_options
@output_option
@click.pass_obj
def limit(session: Session, /, key_id: str, output: str, **limits: Any) -> None:
    """Hold a key to other limits, over all gateways together. What is not named stays as it is."""
    control = session.control()
    found = control.keys()
    known = next((key for key in found if key.id == key_id), None)
    if known is None:
        raise NotFound(f"no key {key_id!r}; `stoker keys list` shows them")
    made = control.limit_key(key_id, _changed(known.limits, limits))
    show(made, output, lambda: tables.keys_table([made]))


@command.command(cls=Command, example="stoker keys rotate a1b2c3d4 --overlap 24h")
@click.argument("key_id")
@click.option(
    "--overlap",
    "overlap_s",
    default="24h",
    show_default=True,
    callback=_overlap,
    metavar="TIME",
    help="How long the secret before works on; 0: not at all.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print the key and nothing else.")
@output_option
@click.pass_obj
def rotate(session: Session, key_id: str, overlap_s: float, quiet: bool, output: str) -> None:
    """Give a key another secret: the same key, with its limits and its account. The new one is shown this once."""
    made = access.rotate_key(session.control(), key_id, overlap_s)
    _say_behind(made)
    if quiet:
        click.echo(made.key)
        return
    before = f"works until {clock(made.old_until_s)}" if overlap_s else "has ended"
    note = click.style(f"shown this once; the one before {before}", dim=True)
    show(made, output, lambda: f"{click.style(made.key, bold=True)}\n{note}")


@command.command(cls=Command, example="stoker keys revoke a1b2c3d4")
@click.argument("key_id")
@click.pass_obj
def revoke(session: Session, key_id: str) -> None:
    """End a key by its id. Gateways stop accepting it within a second."""
    session.control().revoke_key(key_id)
    click.echo(f"key {key_id} revoked")
