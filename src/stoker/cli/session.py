"""Which platform a command talks to, with which key, and the options that commands share."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stoker.app.home import Home
from stoker.client.connection import ANSWER_TIMEOUT_S, Connection
from stoker.client.credentials import Credentials, read_credentials
from stoker.client.trust import Trust
from stoker.types.errors import Forbidden, StokerError
from stoker.types.ids import DEFAULT_PROJECT, is_name

if TYPE_CHECKING:  # each reads in a hundred types that --help and completion need none of
    from stoker.client.control import ControlClient
    from stoker.client.data import DataClient
    from stoker.client.rollouts import RolloutClient

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Session:
    """The options of `stoker` itself. Nothing is read or opened before a command asks."""

    home: Path
    api: str | None = None
    gateway: str | None = None
    key: str | None = None
    ca: str = ""
    cert: str = ""

    @property
    def folder(self) -> Home:
        """The state folder."""
        return Home(self.home)

    @property
    def signed_path(self) -> Path:
        """Where the session of `stoker login` is kept."""
        return self.home / "session.json"

    def addresses(self) -> tuple[str, str]:
        """Return where control and the gateway answer, whoever asks."""
        if self.api:
            return self.api, self.gateway or ""
        found = read_credentials(self.folder.credentials)
        return found.api, self.gateway or found.gateway

    def credentials(self) -> Credentials:
        """Return the addresses and the key: what was said on the command line first, then the session of who is signed
        in, then the state folder's."""
        if self.api and self.key:
            return Credentials(api=self.api, gateway=self.gateway or "", key=self.key)
        if not self.key and self.signed_path.exists():
            from stoker.client import signed_in

            signed = signed_in.current(self.signed_path, Trust(ca=self.ca, own=self.cert))
            if signed is not None and self.api in (None, "", signed.api):
                pinned = self._pinned() if not self.gateway else ""
                return Credentials(signed.api, self.gateway or signed.gateway, signed.token, gateway_cert=pinned)
        found = read_credentials(self.folder.credentials)
        return Credentials(
            api=self.api or found.api,
            gateway=self.gateway or found.gateway,
            key=self.key or found.key,
            api_socket="" if self.api else found.api_socket,
            key_id="" if self.key else found.key_id,
            gateway_cert="" if self.gateway else found.gateway_cert,
        )

    def _pinned(self) -> str:
        try:
            return read_credentials(self.folder.credentials).gateway_cert
        except StokerError:
            return ""

    def control(self, timeout_s: float = ANSWER_TIMEOUT_S) -> "ControlClient":
        """Return the client of the control API. timeout_s: the longest that an answer may take."""
        from stoker.client.control import ControlClient

        credentials = self.credentials()
        trust = Trust(ca=self.ca, own=self.cert)
        return ControlClient(Connection(credentials.control_base(), credentials.key, trust=trust, timeout_s=timeout_s))

    def know(self, project: str, name: str) -> None:
        """Raise NotFound if there is no such endpoint; whose key may not look at it is told nothing."""
        with contextlib.suppress(Forbidden):
            self.control().endpoint(project, name)

    def rollouts(self) -> "RolloutClient":
        """Return the client of the control API for rollouts."""
        from stoker.client.rollouts import RolloutClient

        return RolloutClient(self.control().connection)

    def data(self, project: str) -> "DataClient":
        """Return the client of the data plane."""
        from stoker.client.data import DataClient

        if self.gateway and self.key:
            found = Credentials(api="", gateway=self.gateway, key=self.key)
        else:
            found = self.credentials()
        trust = Trust(ca=self.ca, pinned=found.gateway_cert, own=self.cert)
        return DataClient(Connection(found.gateway, found.key, trust=trust), project)


class Command(click.Command):
    """A command whose help ends with examples that work."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, a line each, as they are typed."""
        write_example(formatter, self.example)


def write_example(formatter: click.HelpFormatter, example: str) -> None:
    """Write the section with examples into a help page."""
    with formatter.section("Example"):
        for line in example.strip().splitlines():
            formatter.write(f"  {line.strip()}\n")


def output_option(function: _Function) -> _Function:
    """Add `-o table|json|yaml`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        help="How to print: for people, or for programs.",
    )(function)


def project_option(function: _Function) -> _Function:
    """Add `-p PROJECT`."""
    return click.option(
        "-p",
        "--project",
        envvar="STOKER_PROJECT",
        default=str(DEFAULT_PROJECT),
        callback=checked_name,
        help="The project that is meant.  [env STOKER_PROJECT; default: default]",
    )(function)


def timeout_option(default_s: float, what: str = "Seconds --wait waits.") -> Callable[[_Function], _Function]:
    """Add `--timeout SECONDS`, given as `timeout_s`."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0),
        default=default_s,
        help=f"{what}  [default: {default_s:g}]",
    )


def checked_name(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return a name that can be one; a wrong one is wrong usage, before anything is asked."""
    if value is not None and not is_name(value):
        raise click.BadParameter(f"{value!r} is not a name: use lower-case letters, digits and dashes, 1 to 63 long")
    return value


def pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Return repeated `KEY=VALUE` as a dict."""
    found: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        found[key] = text
    return found


def complete_endpoint(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the endpoints that a shell may complete to; a platform that does not answer has none."""
    root = ctx.find_root()
    session = Session(
        home=Path(root.params.get("home") or os.environ.get("STOKER_HOME") or Path.home() / ".stoker"),
        api=root.params.get("api"),
        key=root.params.get("key"),
    )
    try:
        views = session.control().endpoints(ctx.params.get("project"))
    except StokerError:
        return []
    return [view.name for view in views if view.name.startswith(incomplete)]
