"""`stoker models inspect` and `bom`: what a version is made of, who signed it, where it came from."""

import click
import msgspec

from stoker import __version__
from stoker.cli.output import age, columns, fields, show
from stoker.cli.session import Command, Session, output_option, project_option
from stoker.cli.signing import signatures_table, wanted
from stoker.cli.tables import signature_lines
from stoker.client.views import SignatureView
from stoker.types.models import ModelVersion
from stoker.types.signing import Finding
from stoker.types.units import format_bytes


class Inspected(msgspec.Struct, frozen=True):
    """A version with its signatures, as `-o json` prints it."""

    version: ModelVersion
    signatures: tuple[SignatureView, ...]


@click.command(
    cls=Command,
    example="""
    stoker models inspect digits@3
    stoker models inspect digits@prod -o json
    """,
)
@click.argument("version", metavar="NAME[@VERSION]")
@output_option
@project_option
@click.pass_obj
def inspect(session: Session, version: str, output: str, project: str) -> None:
    """Show a version's files, signatures and lineage."""
    found = wanted(session, version)
    made = Inspected(found, session.control().signatures(found.name, str(found.number), project))
    show(made, output, lambda: _described(made))


@click.command(cls=Command, example="stoker models bom digits@3 > digits.cdx.json")
@click.argument("version", metavar="NAME[@VERSION]")
@project_option
@click.pass_obj
def bom(session: Session, version: str, project: str) -> None:
    """Print a version's bill of materials: CycloneDX 1.6, with a model card."""
    from stoker.protocol.bom import bill

    found = wanted(session, version)
    views = session.control().signatures(found.name, str(found.number), project)
    signatures = [Finding(view.state, view.signer, view.fingerprint, view.why) for view in views]
    click.echo(msgspec.json.format(msgspec.json.encode(bill(found, signatures, __version__)), indent=2).decode())


def _described(made: Inspected) -> str:
    version, manifest, lineage = made.version, made.version.manifest, made.version.manifest.lineage
    head = fields(
        [
            ("format", manifest.format),
            ("tasks", ", ".join(manifest.tasks)),
            *signature_lines(manifest.signature),
            ("aliases", ", ".join(version.aliases)),
            ("age", age(version.created_at_s)),
            ("digest", version.digest),
            ("source", lineage.source),
            ("pushed by", lineage.pushed_by),
            ("pushed from", lineage.pushed_from),
            ("parent", lineage.parent),
            ("run", lineage.run),
            ("data", ", ".join(lineage.data)),
            ("code", lineage.code),
        ]
    )
    rows = [
        (entry.path, format_bytes(entry.size_bytes), entry.digest.removeprefix("sha256:")[:16])
        for entry in manifest.files
    ]
    files = columns(("FILE", "SIZE", "SHA-256"), rows, empty="no files")
    return f"{click.style(version.ref, bold=True)}\n{head}\n\n{files}\n\n{signatures_table(made.signatures)}"
