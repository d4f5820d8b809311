"""`stoker models sign` and `verify`, and what `stoker push --sign-key` needs: keys from files, and signatures shown."""

from collections.abc import Sequence
from pathlib import Path

import click

from stoker.cli.kinds import split_reference
from stoker.cli.output import columns, items, show
from stoker.cli.session import Command, Session, output_option, project_option
from stoker.cli.values import file_bytes
from stoker.client.upload import Signer
from stoker.client.views import SignatureView
from stoker.types.errors import InvalidInput, SignatureRefused
from stoker.types.models import ModelVersion

KEY_BYTES_MAX = 64 * 2**10
_KEY = click.Path(path_type=Path, dir_okay=False)
_COLOURS = {"verified": "green", "unknown": "yellow", "bad": "red", "unsigned": "yellow"}


def read_key(file: Path) -> str:
    """Return the text of a key file. Raises NotFound, InvalidInput."""
    try:
        return file_bytes(file, KEY_BYTES_MAX).decode()
    except UnicodeDecodeError as odd:
        raise InvalidInput(f"{file} is no key in PEM: {odd}") from odd


def signer(name: str, file: Path) -> Signer:
    """Return what signs files as the model `name` with the private key in `file`; asks for its password if it has one.

    Raises InvalidInput.
    """
    from stoker.protocol import signing  # cryptography, for those who need it

    pem = read_key(file).encode()
    try:
        key = signing.private_key(pem)
    except signing.NeedsPassword:
        password = click.prompt(f"password of {file}", hide_input=True, err=True)
        key = signing.private_key(pem, password.encode())
    return lambda files: signing.sign(name, files, key)


def wanted(session: Session, reference: str) -> ModelVersion:
    """Return the version that NAME or NAME@VERSION means now. Raises NotFound."""
    model, which = split_reference(reference)
    if which is not None:
        return session.control().version(model, which)
    return session.control().versions(model)[-1]


@click.command(
    cls=Command,
    example="""
    stoker models sign digits@3 --key team.pem
    stoker models sign digits@prod --key team.pem --out model.sig
    """,
)
@click.argument("version", metavar="NAME[@VERSION]")
@click.option("--key", required=True, type=_KEY, help="Private key in PEM: EC (P-256, P-384, P-521) or Ed25519.")
@click.option("--out", type=_KEY, help="Also write the signature here, for other tools.")
@click.pass_obj
def sign(session: Session, version: str, key: Path, out: Path | None) -> None:
    """Sign a version with a key of yours. The key stays here; the registry gets the signature."""
    found = wanted(session, version)
    bundle = signer(found.name, key)(found.manifest.files)
    session.control().sign(found.name, str(found.number), bundle)
    if out is not None:
        out.write_text(bundle)
    click.echo(f"{click.style(found.ref, bold=True)} signed")


@click.command(
    cls=Command,
    example="""
    stoker models verify digits@3
    stoker models verify digits@3 --key team.pub
    """,
)
@click.argument("version", metavar="NAME[@VERSION]")
@click.option("--key", type=_KEY, help="Public key in PEM to hold it to, in the place of the project's trust.")
@output_option
@project_option
@click.pass_obj
def verify(session: Session, version: str, key: Path | None, output: str, project: str) -> None:
    """Hold a version to its signatures. Ends with 4 unless one of them is by a key that is trusted."""
    from stoker.core.trust import standing
    from stoker.protocol import signing
    from stoker.types.signing import Finding, TrustRoot

    found = wanted(session, version)
    views = session.control().signatures(found.name, str(found.number), project)
    if key is not None:
        root = TrustRoot("key", signing.public_pem(signing.public_key(read_key(key))))
        views = tuple(
            SignatureView(made.state, key.name if made.signer else "", made.fingerprint, made.why, view.bundle)
            for view in views
            for made in [signing.examine(view.bundle, found.manifest.files, (root,))]
        )
    show(items(views), output, lambda: signatures_table(views))
    best = standing([Finding(view.state, view.signer, view.fingerprint, view.why) for view in views])
    if best.state != "verified":
        raise SignatureRefused(f"{found.ref} is not signed by a trusted key: {best.why}")


def signatures_table(views: Sequence[SignatureView]) -> str:
    """Return signatures with what they are worth."""
    rows = [
        (click.style(one.state, fg=_COLOURS[one.state]), one.signer or "-", one.fingerprint[:16] or "-", one.why or "-")
        for one in views
    ]
    return columns(("SIGNATURE", "SIGNER", "KEY", "WHY"), rows, empty="not signed")
