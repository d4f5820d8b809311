"""`stoker trust`: whose signatures of models a project believes, and whether it demands them."""

from pathlib import Path
from typing import Final

import click

from stoker.cli.output import age, columns, show
from stoker.cli.session import Command, Session, checked_name, output_option, project_option, write_example
from stoker.cli.signing import read_key
from stoker.cli.values import file_bytes
from stoker.types.errors import InvalidInput
from stoker.types.signing import TRUSTED_ROOT_BYTES_MAX, Keyless, ProjectTrust, SignaturePolicy, TrustRoot

_EXAMPLE: Final = """
stoker trust add ml-team team.pub
stoker trust add ci trusted_root.json --identity 'https://github.com/acme/models/*' --issuer https://token.actions.githubusercontent.com
stoker trust policy required
stoker trust list
stoker trust remove ml-team
"""


class TrustGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=TrustGroup)
def command() -> None:
    """Say whose signatures of models count, and whether they are demanded."""


@command.command(
    cls=Command,
    example="""
    stoker trust add ml-team team.pub -p shop
    stoker trust add ann trusted_root.json --identity ann@acme.example --issuer https://accounts.google.com
    """,
)
@click.argument("name", callback=checked_name)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--identity", default="", help="Who signs without a key: a mail address or a workflow's URL; * for any.")
@click.option("--issuer", default="", help="Who says that it is them: the URL of the OpenID Connect issuer.")
@output_option
@project_option
@click.pass_obj
def add(session: Session, name: str, file: Path, identity: str, issuer: str, output: str, project: str) -> None:
    """Trust the public key in FILE (PEM) under NAME.

    With --identity and --issuer: whoever signs keyless under that name; FILE is Sigstore's trusted root then (JSON).
    """
    if bool(identity) != bool(issuer):
        raise click.UsageError("--identity and --issuer go together: a name is worth what its issuer is")
    who = Keyless(identity, issuer, _root(file)) if identity else None
    root = session.control().trust_key(project, name, "" if who is not None else read_key(file), who)
    show(root, output, lambda: f"{click.style(name, bold=True)} is trusted in {project}: {_whom(root)}")


@command.command("list", cls=Command, example="stoker trust list -o json")
@output_option
@project_option
@click.pass_obj
def list_keys(session: Session, output: str, project: str) -> None:
    """Show whom a project trusts, and what it demands."""
    trust = session.control().trust(project)
    show(trust, output, lambda: described(project, trust))


@command.command(cls=Command, example="stoker trust remove ml-team")
@click.argument("name")
@project_option
@click.pass_obj
def remove(session: Session, name: str, project: str) -> None:
    """Trust a key no longer. What runs goes on; what starts from now on is held to it."""
    session.control().distrust(project, name)
    click.echo(f"{name} is trusted no longer in {project}")


@command.command(cls=Command, example="stoker trust policy required -p shop")
@click.argument("policy", type=click.Choice(["off", "warn", "required"]))
@output_option
@project_option
@click.pass_obj
def policy(session: Session, policy: SignaturePolicy, output: str, project: str) -> None:
    """Say what a project demands: nothing, a warning, or that a version is signed before it serves."""
    trust = session.control().set_policy(project, policy)
    show(trust, output, lambda: described(project, trust))


def described(project: str, trust: ProjectTrust) -> str:
    """Return the policy and the keys, for people."""
    rows = [(root.name, _whom(root), age(root.created_at_s)) for root in trust.roots]
    table = columns(("NAME", "TRUSTED", "AGE"), rows, empty="no key is trusted; add one with `stoker trust add`")
    return f"signatures in {project}: {click.style(trust.policy, bold=True)}\n{table}"


def _whom(root: TrustRoot) -> str:
    """Return who is trusted, in words."""
    if root.keyless is None:
        return f"key {root.fingerprint[:16]}"
    return f"{root.keyless.identity} ({root.keyless.issuer})"


def _root(file: Path) -> str:
    """Return the text of a trusted root. Raises NotFound, InvalidInput."""
    try:
        text = file_bytes(file, TRUSTED_ROOT_BYTES_MAX + 1).decode()
    except UnicodeDecodeError as odd:
        raise InvalidInput(f"{file} is no trusted root: {odd}") from odd
    if len(text) > TRUSTED_ROOT_BYTES_MAX:
        raise InvalidInput(f"{file} is larger than {TRUSTED_ROOT_BYTES_MAX} bytes, so it is no trusted root")
    return text
