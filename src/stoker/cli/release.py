"""`stoker release`: what a revision had to pass before it took traffic, shown, waited for, checked and exported."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from stoker.cli import release_junit
from stoker.cli.output import age, clock, columns, fields, items, show
from stoker.cli.progress import Progress
from stoker.cli.session import (
    Command,
    Session,
    checked_name,
    complete_endpoint,
    output_option,
    project_option,
    timeout_option,
    write_example,
)
from stoker.cli.signing import read_key
from stoker.cli.values import file_bytes
from stoker.cli.waiting import TAKEN_BACK, condition, patiently
from stoker.client.control import ControlClient
from stoker.client.releases import ReleaseClient
from stoker.client.views import EndpointDetail
from stoker.types.errors import Conflict, DeadlineExceeded, InvalidInput, NotFound, NotReachable
from stoker.types.releases import GateResult, ReleaseView
from stoker.types.statuses import Condition

_EXAMPLE: Final = """
stoker release show digits
stoker release wait digits --timeout 600 --junit gates.xml
stoker release show digits@7 --export digits-7.json
stoker release verify digits-7.json
"""
POLL_S: Final = 0.3
WAIT_S: Final = 600.0
EXPORT_BYTES_MAX: Final = 4 << 20
_MARKS: Final = {"passed": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("–", "yellow"), "pending": ("…", "cyan")}
_STATES: Final = {"complete": "green", "refused": "red", "pending": "cyan"}


class ReleaseGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


def _reference(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int | None]:
    """Return ENDPOINT[@REVISION] as a name and a number."""
    name, at, number = value.partition("@")
    checked_name(ctx, parameter, name)
    if not at:
        return name, None
    if not (number.isascii() and number.isdigit()):
        raise click.BadParameter(f"{number!r} is not the number of a revision, as in {name}@7")
    return name, int(number)


_ENDPOINT: Final = click.argument(
    "reference", metavar="ENDPOINT[@REVISION]", callback=_reference, shell_complete=complete_endpoint
)
_JUNIT: Final = click.option(
    "--junit", "junit_file", type=click.Path(path_type=Path, dir_okay=False), help="Also write a JUnit report here."
)


@click.group(cls=ReleaseGroup)
def command() -> None:
    """Show what a revision must pass before it takes traffic, and whether it did.

    Commands end with 0 when it is released, 4 when it is refused, 6 when that took too long to know.
    """


@command.command("show", cls=Command, example="stoker release show digits@7")
@_ENDPOINT
@_JUNIT
@click.option(
    "--export",
    "export_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the signed statements here, for `stoker release verify`.",
)
@output_option
@project_option
@click.pass_obj
def show_(
    session: Session,
    reference: tuple[str, int | None],
    junit_file: Path | None,
    export_file: Path | None,
    output: str,
    project: str,
) -> None:
    """Show the dossier of a revision: every gate with what was measured. By default of the newest."""
    client = ReleaseClient(session.control().connection)
    view = client.get(project, *reference)
    _write(junit_file, lambda: release_junit.report(view))
    if export_file is not None:
        if not view.statements:
            raise Conflict(f"the dossier of {view.dossier.revision} is {view.dossier.state}; it is signed once decided")
        key = client.key()
        raw = [msgspec.Raw(each.encode()) for each in view.statements]
        exported = {"public_key": key.public_key, "statements": raw}
        _write(export_file, lambda: msgspec.json.encode(exported))
    show(view, output, lambda: described(view))


@command.command("list", cls=Command, example="stoker release list digits")
@click.argument("endpoint", callback=checked_name, shell_complete=complete_endpoint)
@output_option
@project_option
@click.pass_obj
def list_(session: Session, endpoint: str, output: str, project: str) -> None:
    """List the dossiers of an endpoint, the newest first."""
    found = ReleaseClient(session.control().connection).all(project, endpoint)
    show(items(found), output, lambda: _table(found))


@command.command(cls=Command, example="stoker release wait digits --timeout 600 --junit gates.xml")
@_ENDPOINT
@_JUNIT
@timeout_option(WAIT_S, "Seconds to wait.")
@output_option
@project_option
@click.pass_obj
def wait(
    session: Session,
    reference: tuple[str, int | None],
    junit_file: Path | None,
    timeout_s: float,
    output: str,
    project: str,
) -> None:
    """Wait until a revision is released or refused.

    Ends with 0 when it is released (also where it serves and had no gates to pass), 4 when it is refused, 6 when that
    was not known after --timeout (it may still be decided), 3 when there is no such endpoint.
    """
    view = wait_decided(session.control(), project, reference, timeout_s)
    if view is None:
        click.echo(f"{reference[0]} serves what it asks for, which had no gates to pass")
        return
    decided = view
    _write(junit_file, lambda: release_junit.report(decided))
    show(view, output, lambda: described(decided))
    if view.dossier.state == "refused":
        raise Conflict(f"{view.dossier.revision} is refused: {view.dossier.because}")


@command.command(cls=Command, example="stoker release verify digits-7.json --key platform.pub")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The platform's public key (PEM); by default it is asked for.",
)
@click.pass_obj
def verify(session: Session, file: Path, key: Path | None) -> None:
    """Hold exported statements to the platform's key. Ends with 4 unless all of them are signed by it."""
    from stoker.protocol import dossier as wire
    from stoker.protocol import signing
    from stoker.protocol.bundle import BadBundle

    pem = read_key(key) if key is not None else ReleaseClient(session.control().connection).key().public_key
    public = signing.public_key(pem)
    for number, text in enumerate(_statements(file), 1):
        try:
            said = wire.verify(text, public)
        except BadBundle as bad:
            raise InvalidInput(f"statement {number} of {file} does not hold: {bad}") from bad
        about = said["predicate"]
        what = "its gates" if said["predicateType"] == wire.GATES else "its rollout"
        verdict = about.get("state") or about.get("verdict", "")
        click.echo(
            f"{click.style('✓', fg='green')} {about['revision']} ({said['subject'][0]['name']}): {what}: "
            f"{verdict}, signed by the key {signing.fingerprint(public)[:16]}"
        )


@command.command("key", cls=Command, example="stoker release key > platform.pub")
@click.pass_obj
def key_(session: Session) -> None:
    """Print the public key that signs dossiers (PEM)."""
    click.echo(ReleaseClient(session.control().connection).key().public_key, nl=False)


def asked_revision(revision: str) -> int | None:
    """Return the number of the revision that an endpoint's status names, None before there is one."""
    number = revision.rpartition("-")[2]
    return int(number) if number.isdigit() else None


def wait_decided(
    control: ControlClient, project: str, reference: tuple[str, int | None], timeout_s: float
) -> ReleaseView | None:
    """Return the dossier of a revision once it is decided, showing its gates. Raises DeadlineExceeded, NotFound.

    Without a number: of the revision that the endpoint asks for, by the gates that it has now; None where that serves
    and had no gates to pass.
    """
    name, number = reference
    client = ReleaseClient(control.connection)
    end_s = time.monotonic() + timeout_s
    note = "waiting for control"
    with Progress(f"Releasing {name}") as progress:
        while True:
            detail = patiently(lambda: control.endpoint(project, name))
            which = number if number is not None else asked_revision(detail.status.revision)
            found = patiently(partial(_find, client, project, name, which)) if which is not None else None
            if found is not None and (number is not None or _is_meant(found, detail)):
                if found.dossier.state != "pending":
                    return found
                note = gates_line(found)
            elif found is None and number is None and _serves(detail):
                return None
            over = _taken_back(detail) if found is not None and number is None else None
            if over is not None:  # nobody judges it by the gates of now
                raise Conflict(over.message)
            if time.monotonic() > end_s:
                raise DeadlineExceeded(f"{name} is not decided after {timeout_s:g} s: {click.unstyle(note)}")
            progress.step(click.unstyle(note))
            time.sleep(POLL_S)


def _is_meant(view: ReleaseView, detail: EndpointDetail) -> bool:
    """Return whether control has seen the newest spec, and the dossier is by its gates or of what serves."""
    is_seen = detail.status.observed_generation >= detail.generation
    return is_seen and (view.dossier.gates == detail.resource.spec.gates or _serves(detail))


def _taken_back(detail: EndpointDetail) -> Condition | None:
    """Return the condition that says what became of the revision that is asked for, where that was taken back."""
    is_seen = detail.status.observed_generation >= detail.generation
    found = condition(detail.status.conditions, "Progressing")
    return found if is_seen and found is not None and found.reason in TAKEN_BACK else None


def _serves(detail: EndpointDetail) -> bool:
    is_seen = detail.status.observed_generation >= detail.generation
    return is_seen and bool(detail.status.serving) and detail.status.serving == detail.status.revision


def gates_line(view: ReleaseView) -> str:
    """Return the gates in one line: `schema ✓  golden … runs`."""
    return (
        "  ".join(
            f"{_named(each)} {click.style(*_mark(each))}" + (f" {each.because}" if each.state == "pending" else "")
            for each in view.dossier.results
        )
        or view.dossier.because
    )


def described(view: ReleaseView) -> str:
    """Return a dossier for people."""
    dossier = view.dossier
    head = (
        f"{click.style(dossier.revision, bold=True)} {click.style(dossier.state, fg=_STATES[dossier.state])}: "
        f"{dossier.because}"
    )
    facts = fields(
        [
            ("  model", dossier.model),
            (
                "  compared with",
                f"{dossier.parent} ({dossier.parent_model})" if dossier.parent else "nothing served",
            ),
            ("  decided", f"{clock(dossier.decided_at_s)}" if dossier.decided_at_s else ""),
            ("  signed", f"by the platform's key {view.fingerprint[:16]}" if view.statements else ""),
            ("  rollout", view.verdict),
        ]
    )
    return "\n".join([head, facts, "", *(_gate(each) for each in dossier.results)])


class Passing:
    """Says each gate of an endpoint's new revision once, when it is decided; to be asked again and again."""

    def __init__(self, client: ReleaseClient, project: str, name: str) -> None:
        self._client = client
        self._whose = (project, name)
        self._said: set[tuple[str, int]] = set()

    def look(self, revision: str) -> None:
        """Say what was decided of `revision` since the last look; nothing while control does not answer."""
        try:
            view = self._client.get(*self._whose, asked_revision(revision))
        except (NotFound, NotReachable):
            return
        for at, each in enumerate(view.dossier.results):
            if each.state in ("passed", "failed") and (revision, at) not in self._said:
                self._said.add((revision, at))
                click.echo(_gate(each, is_short=True), err=True)


def _gate(result: GateResult, *, is_short: bool = False) -> str:
    mark = click.style(_mark(result)[0], fg=_mark(result)[1])
    took = f" ({result.seconds:.1f} s)" if result.seconds >= 0.05 else ""
    line = f"  {mark} {_named(result).ljust(18)} {result.because}{took}"
    if is_short or not result.numbers:
        return line
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in result.numbers.items())
    return f"{line}\n{' ' * 23}{click.style(numbers, dim=True)}"


def _mark(result: GateResult) -> tuple[str, str]:
    return _MARKS[result.state]


def _named(result: GateResult) -> str:
    return f"{result.kind} ({result.about})" if result.about else result.kind


def _table(found: tuple[ReleaseView, ...]) -> str:
    rows = [
        (
            each.dossier.revision,
            each.dossier.model,
            click.style(each.dossier.state, fg=_STATES[each.dossier.state]),
            " ".join(_mark(result)[0] for result in each.dossier.results),
            age(each.dossier.decided_at_s),
            each.dossier.because,
        )
        for each in found
    ]
    return columns(("REVISION", "MODEL", "STATE", "GATES", "AGE", "BECAUSE"), rows, empty="no dossiers yet")


def _find(client: ReleaseClient, project: str, name: str, number: int | None) -> ReleaseView | None:
    try:
        return client.get(project, name, number)
    except NotFound:
        return None


def _statements(file: Path) -> list[bytes]:
    data = file_bytes(file, EXPORT_BYTES_MAX + 1)
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        statements = [bytes(each) for each in msgspec.json.decode(found["statements"], type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as odd:
        raise InvalidInput(f"{file} is no export of `stoker release show --export`: {odd}") from odd
    if not statements:
        raise InvalidInput(f"{file} has no statements in it")
    return statements


def _write(file: Path | None, made: Callable[[], bytes]) -> None:
    if file is None:
        return
    try:
        file.write_bytes(made())
    except OSError as refused:
        raise InvalidInput(f"{file} cannot be written: {refused.strerror}") from refused
