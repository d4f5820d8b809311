"""`stoker backup` and `stoker restore`: a platform as one sealed file, and back."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stoker.cli.output import clock
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session
from stoker.types.errors import InvalidInput
from stoker.types.units import format_bytes

if TYPE_CHECKING:
    from stoker.app.backup import Contents
    from stoker.protocol.sealed import Secret

VARIABLE: Final = "STOKER_BACKUP_PASSPHRASE"
KEY_BYTES_MAX: Final = 1 << 20
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_KEY: Final = click.option(
    "--key-file",
    type=_FILE,
    help=f"Open or seal it with this file in the place of a passphrase (asked for, or {VARIABLE}).",
)


@click.command(
    cls=Command,
    example="""
    stoker backup /mnt/backups/monday.stoker
    stoker backup /mnt/backups/monday.stoker --key-file backup.key
    stoker backup /mnt/backups/monday.stoker --verify
    """,
)
@click.argument("path", type=_FILE)
@_KEY
@click.option("--verify", "only_verify", is_flag=True, help="Write nothing: say whether this backup could be restored.")
@click.option("--overwrite", is_flag=True, help="Write it though a file of that name is there.")
@click.pass_obj
def command(session: Session, path: Path, key_file: Path | None, only_verify: bool, overwrite: bool) -> None:
    """Write the platform to one sealed file, while it runs. It is read back, and nothing waits for it."""
    from stoker.app import backup, restore

    if not only_verify and path.exists() and not overwrite:
        raise InvalidInput(f"{path} is there already; take another name, or say --overwrite")
    secret = _secret(key_file, is_new=not only_verify)
    began_s = time.monotonic()
    with Progress(f"backup {path.name}", is_bytes=True) as progress:
        told = _telling(progress)
        try:
            if not only_verify:
                backup.take(session.folder, path, secret, told)
            contents = restore.verify(path, secret, told)
        except OSError as refused:
            verb = "read" if only_verify else "written"
            raise InvalidInput(f"{path} cannot be {verb}: {refused.strerror or refused}") from refused
        if not only_verify:
            session.folder.backed_up.touch(mode=0o600)
    state = "good" if only_verify else "written and verified"
    click.echo(f"{click.style(path, bold=True)} {state}: {_said(contents)}, {time.monotonic() - began_s:.1f} s")


@click.command(
    cls=Command,
    example="""
    stoker restore /mnt/backups/monday.stoker && stoker up
    stoker --home /srv/stoker restore monday.stoker --replace
    """,
)
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_KEY
@click.option("--replace", is_flag=True, help="Also where something is there: that is kept under another name.")
@click.pass_obj
def restore_command(session: Session, path: Path, key_file: Path | None, replace: bool) -> None:
    """Make the platform that a backup holds. It is whole before it gets its name, or nothing is changed."""
    from stoker.app import restore

    secret = _secret(key_file, is_new=False)
    with Progress(f"restore {path.name}", is_bytes=True) as progress:
        contents, before = restore.restore(path, session.folder, secret, _telling(progress), replace=replace)
    click.echo(f"{click.style(session.home, bold=True)} restored: {_said(contents)}")
    if before is not None:
        click.echo(f"what was there is in {before}")
    click.echo("start it with: stoker up")


def _secret(key_file: Path | None, *, is_new: bool) -> "Secret":
    """Return what opens the backup: a file's bytes, the environment's words, or a person's. Raises InvalidInput."""
    from stoker.protocol import sealed

    if key_file is not None:
        try:
            with key_file.open("rb") as opened:
                return sealed.key_file(opened.read(KEY_BYTES_MAX))
        except OSError as refused:
            raise InvalidInput(f"the key file {key_file} cannot be read: {refused}") from refused
    words = os.environ.get(VARIABLE)
    if words is None and (sys.stdin is None or not sys.stdin.isatty()):
        raise InvalidInput(f"nobody is there to type a passphrase: name a --key-file, or set {VARIABLE}")
    if words is None:
        words = str(click.prompt("passphrase", hide_input=True, confirmation_prompt=is_new, err=True))
    return sealed.passphrase(words)


def _telling(progress: Progress) -> Any:
    def told(step: str, done: int, total: int) -> None:
        progress.step(step)
        progress.update(done, total)

    return told


def _said(contents: "Contents") -> str:
    size = sum(each.size_bytes for each in contents.files)
    return (
        f"{len(contents.files)} files, {format_bytes(size)}, schema {contents.schema}, "
        f"of {clock(contents.made_at_s)} by stoker {contents.stoker}"
    )
