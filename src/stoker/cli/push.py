"""`stoker push`: a model from a file, a folder, a hub or a URL becomes a version in the registry."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec

from stoker.cli.golden import read_golden
from stoker.cli.lineage import code_of, said
from stoker.cli.output import fields, show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, checked_name, output_option, pairs, project_option
from stoker.cli.signing import signer
from stoker.cli.tables import counted, signature_lines
from stoker.cli.values import typed
from stoker.client.control import ControlClient
from stoker.client.registration import Registration
from stoker.client.upload import LocalFile, Signer, Stage, find_files, push
from stoker.client.views import PushedVersion
from stoker.types.drift import REFERENCE_FILE
from stoker.types.errors import RefusedArtifact
from stoker.types.releases import GOLDEN_FILE
from stoker.types.units import format_bytes

OnFile = Callable[[str, int, int], None]  # hears of a file how many bytes of how many are here
_STAGES: dict[Stage, str] = {"hash": "reading", "upload": "uploading", "register": "scanning, reading the signature"}


class Beside(NamedTuple):
    """What goes with the files of a push: other files, and what signs them all."""

    files: tuple[LocalFile, ...] = ()
    signer: Signer | None = None


ALONE: Final = Beside()


@click.command(
    cls=Command,
    example="""
    stoker push digits model.onnx
    stoker push churn ./model-folder --alias prod --task predict --reference good-rows.csv --golden examples.jsonl
    stoker push smol hf:HuggingFaceTB/SmolLM2-135M-Instruct-GGUF/smollm2-135m-instruct-q8_0.gguf
    stoker push digits model.onnx --sign-key team.pem --parent digits@2 --data s3://lake/digits/2026-11
    stoker push gpt --format remote --task chat --option url=https://api.example.com/v1
    """,
)
@click.argument("name", callback=checked_name)
@click.argument("source", required=False, metavar="PATH|hf:REPO[/FILE]|mlflow:RUN|URL")
@click.option("--alias", "aliases", multiple=True, help="Also point this alias at the version.")
@click.option("--task", "tasks", multiple=True, type=click.Choice(["predict", "embed", "chat"]), help="What it is for.")
@click.option("--option", "options", multiple=True, callback=pairs, metavar="KEY=VALUE", help="Default engine option.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["onnx", "skops", "python", "gguf", "remote"]),
    help="By default found in the files.",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="ROWS",
    help="Good rows (.csv, .json, .jsonl, .npz); what the endpoint sees is compared with them.",
)
@click.option(
    "--golden",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="EXAMPLES",
    help="Examples with known answers (.jsonl); they are held against it before it gets traffic.",
)
@click.option(
    "--trained-at",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]),
    help="When it was trained (local time without an offset); else it is as old as its push.",
)
@click.option("--entry", help="The file that the engine opens, where there are several.")
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Sign it with this private key (PEM); the key stays here.",
)
@click.option("--parent", metavar="NAME@VERSION", help="The version that it was made from.")
@click.option("--run", help="The training run.  [default: MLFLOW_RUN_ID, WANDB_RUN_ID]")
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    help="mlflow: the folder of this disk below which a tracking server's files may be read past its proxy.",
)
@click.option("--data", multiple=True, help="What it was trained on: a name, a path or an address.")
@click.option("--code", help="The commit that made it.  [default: the one that is checked out around it]")
@output_option
@project_option
@click.pass_obj
def command(
    session: Session,
    /,
    name: str,
    source: str | None,
    aliases: tuple[str, ...],
    output: str,
    project: str,
    **given: Any,
) -> None:
    """Register a model from a file, a folder, a hub or a URL.

    mlflow:FOLDER and mlflow:RUN_ID[/ARTIFACT] are models that MLflow keeps on this disk; where MLFLOW_TRACKING_URI is a
    server's address, mlflow:RUN_ID[/ARTIFACT] and mlflow:models:/NAME/VERSION (or @ALIAS) come from there.

    The files are read and scanned, here and by the registry, and inputs and outputs found in the model itself; what is
    not safe to load is refused. The same content again is the same version. A model.sig beside the files is kept as
    their signature.
    """
    control = session.control()
    local = Path(source) if source is not None and ":" not in source else None
    what = Registration(
        files=(),
        format=given["format_"],
        entry=given["entry"],
        tasks=given["tasks"] or None,
        options={key: typed(text) for key, text in given["options"].items()} or None,
        lineage={**said(given, source or "", local), **_trained(given["trained_at"])},
        project=project,
    )
    if source is None:
        if what.format != "remote":
            raise click.UsageError("say what to push: PATH, hf:REPO, hf:REPO/FILE, mlflow:FOLDER, mlflow:RUN or a URL")
        pushed = control.register(name, what)
    else:
        golden = () if given["golden"] is None else (golden_file(given["golden"]),)
        with _reference(given["reference"], given["tasks"]) as statistics:
            beside = (*statistics, *golden)
            own = signer(name, given["sign_key"]) if given["sign_key"] is not None else None
            try:
                pushed = push_source(session, name, source, what, Beside(beside, own), given["artifacts"])
            except RefusedArtifact as refused:
                raise _by_its_name(refused, given["golden"]) from refused
    for alias in aliases:
        control.set_alias(name, alias, pushed.version.number)
    if aliases:
        pushed = PushedVersion(control.version(name, str(pushed.version.number)), pushed.is_new)
    show(pushed.version, output, lambda: described(pushed))


def _by_its_name(refused: RefusedArtifact, golden: Path | None) -> RefusedArtifact:
    """Return a refusal in which examples are called as whoever pushes calls them."""
    place, colon, rest = refused.message.partition(":")
    if golden is None or place != GOLDEN_FILE:
        return refused
    return RefusedArtifact(f"{golden}{colon}{rest}", field=refused.field)


def _trained(at: datetime | None) -> dict[str, float]:
    return {} if at is None else {"trained_at_s": at.timestamp()}


@contextmanager
def _reference(rows: Path | None, tasks: Sequence[str]) -> Iterator[tuple[LocalFile, ...]]:
    """Yield the file of statistics of `rows` that goes with a version, if there are any."""
    if rows is None:
        yield ()
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # many small matrices: more threads only wait for each other
    from stoker.observe.drift.pushed import reference_of  # numpy, for those who need it

    with tempfile.TemporaryDirectory() as folder, Progress("Reading the reference") as progress:
        progress.step(rows.name)
        made = msgspec.json.encode(reference_of(rows, tasks))
        file = Path(folder) / REFERENCE_FILE
        file.write_bytes(made)
        yield (LocalFile(file, REFERENCE_FILE, len(made)),)


def golden_file(path: Path) -> LocalFile:
    """Return the examples as a file of a version. Raises InvalidInput with the lines that are wrong."""
    read_golden(path)
    return LocalFile(path, GOLDEN_FILE, path.stat().st_size)


def push_source(
    session: Session,
    name: str,
    source: str,
    what: Registration,
    beside: Beside = ALONE,
    artifacts: Path | None = None,
) -> PushedVersion:
    """Fetch what is elsewhere, upload what control does not have, and register it; with progress.

    artifacts: below which folder of this disk a tracking server may say that its files lie.
    """
    from stoker.registry import mlflow, pull, tracking  # not needed for what lies here

    known = what.lineage or {}
    if source.startswith(mlflow.PREFIX) and tracking.is_on_server(source, os.environ, Path.cwd()):
        server = tracking.settings_from(os.environ)

        def tracked(folder: Path, on_file: OnFile) -> tuple[Registration, Path]:
            got = tracking.fetch(source, folder, on_file, server, artifacts)
            lineage = {**known, "run": known.get("run") or got.run, "source": got.origin}
            return replace(what, entry=what.entry or got.entry, lineage=lineage), got.folder

        return _push_fetched(session, name, source, tracked, beside)
    if source.startswith(mlflow.PREFIX):
        found = mlflow.resolve(source, os.environ, Path.cwd())
        lineage = {**known, "run": known.get("run") or found.run, "code": known.get("code") or code_of(found.folder)}
        what = replace(what, entry=what.entry or found.entry, lineage=lineage)
        return push_files(session.control(), name, found.folder, what, beside)
    if not pull.is_remote(source):
        return push_files(session.control(), name, Path(source), what, beside)
    settings = pull.settings_from(os.environ)

    def pulled(folder: Path, on_file: OnFile) -> tuple[Registration, Path]:
        fetched = pull.resolve(source, settings)
        pull.run(fetched, folder, on_file, settings)
        return replace(what, lineage={**known, "source": fetched.origin}), folder

    return _push_fetched(session, name, source, pulled, beside)


def _push_fetched(
    session: Session,
    name: str,
    source: str,
    fetch: Callable[[Path, OnFile], tuple[Registration, Path]],
    beside: Beside,
) -> PushedVersion:
    """Push what `fetch` brings into a folder, the same for the same source: what was cut goes on where it stopped.

    `fetch` says where it lies in the end: there, or in a folder of this disk, which stays as it is.
    """
    folder = session.home / "pulls" / hashlib.sha256(source.encode()).hexdigest()[:16]
    with Progress(f"Pulling {name}", is_bytes=True) as progress:
        progress.step("asking what there is")

        def on_file(path: str, done: int, total: int) -> None:
            progress.step(path)
            progress.update(done, total)

        what, there = fetch(folder, on_file)
    try:
        pushed = push_files(session.control(), name, there, what, beside)
    except RefusedArtifact:
        shutil.rmtree(folder, ignore_errors=True)  # what is hostile stays nowhere
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return pushed


def push_files(
    control: ControlClient, name: str, path: Path, what: Registration, beside: Beside = ALONE
) -> PushedVersion:
    """Look through a file or a folder, upload it and register it, with progress. Raises RefusedArtifact."""
    from stoker.registry.precheck import check_local

    with Progress(f"Pushing {name}", is_bytes=True) as progress:

        def on_progress(stage: Stage, done: int, total: int) -> None:
            progress.step(_STAGES[stage])
            progress.update(done, total)

        progress.step("looking for what is not safe")
        check_local((*find_files(path), *beside.files), what.format, what.entry)
        return push(control, name, path, what, on_progress, beside.files, beside.signer)


def described(pushed: PushedVersion) -> str:
    """Return what was found in the model, for people."""
    version = pushed.version
    manifest = version.manifest
    head = f"{click.style(version.ref, bold=True)} {'registered' if pushed.is_new else 'was there already'}"
    return "\n".join(
        [
            head,
            fields(
                [
                    ("  format", manifest.format),
                    ("  tasks", ", ".join(manifest.tasks)),
                    *((f"  {side}", text) for side, text in signature_lines(manifest.signature)),
                    ("  size", f"{format_bytes(version.size_bytes)} in {counted(len(manifest.files), 'file')}"),
                    ("  aliases", ", ".join(version.aliases)),
                    ("  digest", version.digest),
                ]
            ),
            click.style(f"  serve it: stoker deploy {version.name} --model {version.ref} --wait", dim=True),
        ]
    )
