"""`stoker samples`: requests that were kept, to be looked at, taken along and sent again."""

import time
from collections.abc import Iterable
from typing import Any, Final

import click
import msgspec

from stoker.cli.output import clock, columns, duration, fields, items, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option, write_example
from stoker.client import kept, works
from stoker.client.replay import Target, run
from stoker.core.replay import obstacle, summary
from stoker.types.errors import NotFound
from stoker.types.replay import Outcome, Summary
from stoker.types.samples import SampleRecord
from stoker.types.units import format_bytes, parse_seconds

LIMIT_MAX: Final = 1_000
DIFFER_MAX: Final = 20  # that are shown of those that differ
_EXAMPLE: Final = """
stoker samples digits --errors --since 1h
stoker samples digits req-5f0c1a
stoker samples export digits > digits.jsonl
stoker samples replay digits --to digits-next
stoker samples replay chat --revision 4
stoker samples delete digits
stoker samples forget --project team-a
"""
_SHOWN: Final = "list"  # the command of `stoker samples ENDPOINT`


class SamplesGroup(click.Group):
    """The group: what is none of its commands is an endpoint whose samples are listed."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        if args and args[0] not in self.commands:
            args = [_SHOWN, *args]
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=SamplesGroup, no_args_is_help=True)
def command() -> None:
    """Look at sampled requests, export and replay them. `stoker samples ENDPOINT` lists those of an endpoint."""


def _since(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return time.time() - parse_seconds(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from wrong


def chosen(function: Any) -> Any:
    """Add the options that say which samples are meant."""
    options = (
        click.option("--errors", is_flag=True, help="Those kept because they failed."),
        click.option("--slow", is_flag=True, help="Those kept because they were slow."),
        click.option("--flagged", is_flag=True, help="Those whose caller flagged them, or with an empty answer."),
        click.option("--since", callback=_since, metavar="TIME", help="Those of the last 30m, 1h, 2d."),
        click.option("--tenant", help="Those of one tenant."),
        click.option("--key", "key_id", help="Those of one key, by its id."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _wanted(chosen: dict[str, Any]) -> dict[str, Any]:
    asked = (("error", chosen["errors"]), ("slow", chosen["slow"]), ("flagged", chosen["flagged"]))
    reasons = [reason for reason, is_meant in asked if is_meant]
    return {
        "reason": ",".join(reasons) or None,
        "since": chosen["since"],
        "tenant": chosen["tenant"],
        "key": chosen["key_id"],
    }


def _found(session: Session, project: str, name: str, **wanted: Any) -> tuple[SampleRecord, ...]:
    """Return samples; where there are none, a name that no endpoint has is an error."""
    found = session.control().samples(project, name, **wanted)
    if not found:
        session.know(project, name)
    return found


@command.command(
    _SHOWN,
    cls=Command,
    example="""
    stoker samples digits --errors --since 1h
    stoker samples list digits req-5f0c1a
    """,
)
@click.argument("name", shell_complete=complete_endpoint)
@click.argument("request_id", required=False)
@chosen
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=20, help="How many at most.")
@output_option
@project_option
@click.pass_obj
def list_samples(
    session: Session, /, name: str, request_id: str | None, limit: int, output: str, project: str, **chosen: Any
) -> None:
    """List samples of the endpoint NAME, newest first, or show the one whose id begins with REQUEST_ID."""
    found = _found(session, project, name, limit=limit, id=request_id, **_wanted(chosen))
    if request_id is None:
        how = "that fit" if any(chosen.values()) else "of it; an endpoint keeps some when its manifest has `samples:`"
        empty = f"no samples {how} ({name} in project {project})"
        show(items(found), output, lambda: _table(found, empty))
        return
    if not found:
        raise NotFound(f"no sample of {name} has an id that begins with {request_id!r}")
    show(found[0], output, lambda: _detail(found[0]))


@command.command(cls=Command, example="stoker samples export digits --since 1d > digits.jsonl")
@click.argument("name", shell_complete=complete_endpoint)
@chosen
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT_MAX, help="How many at most.")
@project_option
@click.pass_obj
def export(session: Session, /, name: str, limit: int, project: str, **chosen: Any) -> None:
    """Print samples as JSON, one a line, newest first."""
    for record in _found(session, project, name, limit=limit, **_wanted(chosen)):
        click.echo(msgspec.json.encode(record).decode())


@command.command(
    cls=Command,
    example="""
    stoker samples replay chat --revision 4
    stoker samples replay chat --revision 4 --against 2 --since 1h
    stoker samples replay digits --to digits-next --limit 200
    stoker samples replay digits --version 3
    """,
)
@click.argument("name", shell_complete=complete_endpoint)
@click.option("--to", help="The endpoint that is compared with NAME, of the same project.")
@click.option("--version", default="", help="Or a model version of NAME that is up beside the serving one (predict).")
@click.option(
    "--revision", default="", help="Or a revision of NAME that is up, by number: past gateways, for any task."
)
@click.option("--against", default="", help="With --revision: who is compared with it; else the serving revision.")
@chosen
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=100, help="How many at most.")
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="Samples a second; 0: as fast as they answer.")
@output_option
@project_option
@click.pass_obj
def replay(
    session: Session,
    /,
    name: str,
    limit: int,
    rate: float,
    output: str,
    project: str,
    **chosen: Any,
) -> None:
    """Send sampled requests to NAME and to another endpoint, version or revision, and compare what both say."""
    to, version, revision, against = (chosen[each] for each in ("to", "version", "revision", "against"))
    if sum(map(bool, (to, version, revision))) != 1:
        raise click.UsageError("say who is compared: --to ENDPOINT, --version N or --revision N")
    if against and not revision:
        raise click.UsageError("--against goes with --revision")
    wanted = _wanted(chosen)
    if revision:
        asked = {"after": revision, "before": against, "rate": rate, "limit": limit, **_filters(wanted)}
        said = list(works.replay(session.control().connection, project, name, asked))
    else:
        records = _found(session, project, name, limit=limit, **wanted)
        if to:
            session.know(project, to)
        said = _through_gateways(session, project, records, (Target(name), Target(to or name, version)), rate)
    outcomes = [each for each in said if isinstance(each, Outcome)]
    numbers = next(each for each in reversed(said) if isinstance(each, Summary))
    show({"summary": numbers, "outcomes": outcomes}, output, lambda: _comparison(numbers, outcomes))


def _filters(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return which samples are meant as a body says it; a query says the same in texts."""
    chosen = {name: wanted[name] for name in ("since", "tenant", "key") if wanted[name]}
    return {**chosen, "reasons": wanted["reason"].split(",")} if wanted["reason"] else chosen


def _through_gateways(
    session: Session, project: str, records: Iterable[SampleRecord], both: tuple[Target, Target], rate: float
) -> list[Outcome | Summary]:
    skipped: dict[str, int] = {}
    sendable = []
    for record in records:
        if why := obstacle(record):
            skipped[why] = skipped.get(why, 0) + 1
        else:
            sendable.append(record)
    outcomes = list(run(session.data(project), sendable, *both, rate=rate))
    before, after = (f"{each.endpoint}{f' version {each.version}' if each.version else ''}" for each in both)
    return [*outcomes, summary(outcomes, skipped, before, after)]


@command.command(cls=Command, example="stoker samples delete digits")
@click.argument("name", shell_complete=complete_endpoint)
@project_option
@click.pass_obj
def delete(session: Session, /, name: str, project: str) -> None:
    """Delete every sample of the endpoint NAME."""
    session.control().delete_samples(project, name)
    click.echo(f"samples of {project}/{name} deleted")


@command.command(cls=Command, example="stoker samples forget --project team-a --yes")
@click.option("--project", required=True, help="Whose samples.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget(session: Session, project: str, yes: bool) -> None:
    """Destroy the keys of all samples of a project: nobody can read them any more, in no copy, and they are deleted.

    Backups of before hold the keys still: after a restore of one, forget them again.
    """
    if not yes:
        click.confirm(f"destroy all samples of project {project}, for good?", abort=True)
    kept.forget(session.control().connection, project)
    click.echo(f"samples of {project} forgotten")


@command.command(
    "rotate-keys", cls=Command, example="stoker samples rotate-keys\nstoker samples rotate-keys --project team-a"
)
@click.option("--project", default="", help="Of this project alone; else of all, and the master key.")
@output_option
@click.pass_obj
def rotate_keys(session: Session, project: str, output: str) -> None:
    """Seal samples with new keys from now on. Those that were kept stay readable."""
    found = kept.rotate(session.control().connection, project)

    def told() -> str:
        lines = [f"new keys for {', '.join(found.rotated) or 'no project: none keeps samples'}"]
        if found.broken:
            lines.append(f"cannot be opened, and was left: {', '.join(found.broken)}")
        return "\n".join(lines)

    show(found, output, told)


def _table(records: tuple[SampleRecord, ...], empty: str) -> str:
    header = ("AT", "ID", "STATUS", "TOOK", "WHY", "KEY", "IN", "OUT", "HIDDEN")
    rows = [
        (
            clock(each.at_s),
            each.id,
            f"{each.status} {each.code}".strip(),
            duration(each.took_s),
            " ".join(each.reasons),
            each.tenant or each.key,
            format_bytes(each.request_bytes),
            format_bytes(each.response_bytes) if each.response_bytes else "-",
            str(sum(each.hidden.values()) or "-"),
        )
        for each in records
    ]
    return columns(header, rows, empty=empty)


def _detail(one: SampleRecord) -> str:
    about = fields(
        [
            ("id", one.id),
            ("at", clock(one.at_s)),
            ("endpoint", f"{one.project}/{one.endpoint}"),
            ("revision", one.revision),
            ("served by", one.served_by),
            ("status", f"{one.status} {one.code} {one.message}".strip()),
            ("kept for", " ".join(one.reasons)),
            ("flagged for", one.flag),
            ("took", duration(one.took_s)),
            ("first token", duration(one.first_token_s) if one.first_token_s else ""),
            ("tokens", f"{one.input_tokens} in, {one.output_tokens} out" if one.input_tokens else ""),
            ("key", f"{one.key} {one.tenant}".strip()),
            ("hidden", ", ".join(f"{count} {kind}" for kind, count in sorted(one.hidden.items()))),
        ]
    )
    parts = [about]
    for title, body in (("request", one.request), ("response", one.response)):
        if body is not None:
            text = msgspec.json.format(msgspec.json.encode(body), indent=2).decode()
            parts.append(f"{click.style(title, dim=True)}\n{text}")
    return "\n\n".join(parts)


def _comparison(numbers: Summary, outcomes: list[Outcome]) -> str:
    cosine = ""
    if numbers.cosine_min is not None and numbers.cosine_mean is not None:
        cosine = f"mean {numbers.cosine_mean:.6f}, least {numbers.cosine_min:.6f}"
    tokens = ""
    if any(numbers.output_tokens):
        (read, read_too), (wrote, wrote_too) = numbers.input_tokens, numbers.output_tokens
        tokens = f"{read} → {read_too} read, {wrote} → {wrote_too} written"
    about = fields(
        [
            ("sent", f"{numbers.sent} samples to {numbers.before} and {numbers.after}"),
            ("skipped", ", ".join(f"{count}: {why}" for why, count in numbers.skipped.items())),
            ("status", ", ".join(f"{change}: {count}" for change, count in numbers.statuses.items())),
            ("p50", f"{duration(numbers.p50_s[0])} → {duration(numbers.p50_s[1])}" if numbers.sent else ""),
            ("p99", f"{duration(numbers.p99_s[0])} → {duration(numbers.p99_s[1])}" if numbers.sent else ""),
            ("tokens", tokens),
            ("answers", f"{numbers.equal} of {numbers.answered} equal" if numbers.answered else ""),
            ("cosine", cosine),
        ]
    )
    differ = [each for each in outcomes if each.before.status != each.after.status or _differs(each)]
    rows = [
        (
            each.id,
            f"{each.before.status} → {each.after.status}",
            f"{duration(each.before.took_s)} → {duration(each.after.took_s)}",
            _tokens(each),
            "-" if each.agreement is None or each.agreement.cosine is None else f"{each.agreement.cosine:.6f}",
            str(each.hidden or "-"),
            _where(each),
        )
        for each in differ[:DIFFER_MAX]
    ]
    table = columns(("DIFFERS", "STATUS", "TOOK", "TOKENS", "COSINE", "HIDDEN", "WHERE"), rows)
    more = f"and {len(differ) - DIFFER_MAX} more; `--output json` has all" if len(differ) > DIFFER_MAX else ""
    return "\n\n".join(filter(None, (about, table, more)))


def _differs(outcome: Outcome) -> bool:
    return outcome.agreement is not None and not outcome.agreement.equal


def _tokens(outcome: Outcome) -> str:
    before, after = outcome.before.output_tokens, outcome.after.output_tokens
    return f"{before} → {after}" if before or after else "-"


def _where(outcome: Outcome) -> str:
    if outcome.agreement is not None:
        return outcome.agreement.where
    return " → ".join(reply.problem or "answered" for reply in (outcome.before, outcome.after))
