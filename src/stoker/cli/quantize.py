"""`stoker quantize`: the next version of a model, in fewer bits."""

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from stoker.cli.lineage import pushed_by, pushed_from
from stoker.cli.output import show
from stoker.cli.progress import Progress
from stoker.cli.push import described
from stoker.cli.session import Command, Session, checked_name, output_option, project_option
from stoker.cli.signing import signer, wanted
from stoker.client import works
from stoker.client.registration import Registration
from stoker.client.views import PushedVersion
from stoker.types.errors import NotReachable, SignatureRefused
from stoker.types.models import ModelVersion
from stoker.types.quantization import Quantization, Quantized
from stoker.types.units import format_bytes
from stoker.types.work import Step


@click.command(
    cls=Command,
    example="""
    stoker quantize smol@1 --to q4_k_m
    stoker quantize smol@prod --to q8_0 --as smol-small --sign-key team.pem
    stoker quantize digits --to int8
    """,
)
@click.argument("version", metavar="NAME[@VERSION]")
@click.option("--to", required=True, type=click.Choice(get_args(Quantization)), help="int8 for ONNX, else for GGUF.")
@click.option("--as", "as_", metavar="NAME", callback=checked_name, help="Register it under this name instead.")
@click.option("--alias", "aliases", multiple=True, help="Also point this alias at the new version.")
@click.option(
    "--requantize", is_flag=True, help="Also a model that is quantized already; it loses more than its original would."
)
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Sign the new version with this private key (PEM); the key stays here.",
)
@output_option
@project_option
@click.pass_obj
def command(
    session: Session,
    /,
    version: str,
    to: str,
    output: str,
    **given: Any,
) -> None:
    """Make a version of a model in fewer bits, with the quantizer of its engine.

    It becomes the next version of the same model, with this one as its parent, and is scanned as any push. A GGUF goes
    through llama.cpp's quantizer (q8_0 is near the original, q4_k_m the usual bargain, q2_k the last resort), an ONNX
    model through ONNX Runtime's (int8: weights in eight bits). How much worse it is, `stoker models compare` tells.
    """
    found = wanted(session, version)
    # Before the work, so that a wrong key or password is told at once.
    own = signer(given["as_"] or found.name, given["sign_key"]) if given["sign_key"] is not None else None
    control = session.control()
    if own is None and control.trust(given["project"]).policy == "required":
        raise SignatureRefused(
            f"the project {given['project']} demands a signature of every version; give --sign-key FILE"
        )
    with Progress(f"Quantizing {found.ref} to {to}", is_bytes=True) as progress:
        made = _made(session, found, to, given, progress)
        progress.step("scanning, reading the signature")
        name = given["as_"] or found.name
        what = Registration(
            files=made.files,
            format=made.format,
            entry=made.entry,
            tasks=made.tasks,
            options=made.options,
            metadata=made.metadata,
            lineage={
                **msgspec.structs.asdict(made.lineage),
                "pushed_by": pushed_by(os.environ),
                "pushed_from": pushed_from(os.environ),
            },
            signatures=(own(made.files),) if own is not None else None,
            project=given["project"],
        )
        pushed = control.register(name, what)
    for alias in given["aliases"]:
        control.set_alias(name, alias, pushed.version.number)
    if given["aliases"]:
        pushed = PushedVersion(control.version(name, str(pushed.version.number)), pushed.is_new)
    show(pushed.version, output, lambda: _shown(found, pushed, made))


def _made(session: Session, found: ModelVersion, to: str, given: Mapping[str, Any], progress: Progress) -> Quantized:
    which = (found.name, str(found.number))
    steps = works.quantize(
        session.control().connection, *which, to, requantize=given["requantize"], project=given["project"]
    )
    with closing(steps):
        for said in steps:
            if isinstance(said, Step):
                progress.step(said.stage)
                progress.update(said.done, said.total)
            else:
                return said
    raise NotReachable("control broke off in the middle of its work; nothing was made")


def _shown(found: ModelVersion, pushed: PushedVersion, made: Quantized) -> str:
    before, after = made.size_before_bytes, made.size_bytes
    sizes = f"{format_bytes(before)} → {format_bytes(after)} ({1 - after / before:.0%} smaller)"
    lines = [described(pushed), f"  {click.style(sizes, fg='green')}, made from {found.ref}"]
    if pushed.version.manifest.format == "gguf":
        hint = f"  how much worse it is: stoker models compare {found.ref} {pushed.version.ref}"
        lines.append(click.style(hint, dim=True))
    return "\n".join(lines)
