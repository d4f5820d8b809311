"""The demo endpoints from the command line: make, push and deploy what is missing, wait until it serves."""

import shlex
import shutil
import time
from collections.abc import Callable
from typing import Final

import click

from stoker.cli.output import duration
from stoker.cli.progress import Progress
from stoker.cli.push import push_files
from stoker.cli.session import Session
from stoker.cli.waiting import wait_ready
from stoker.client.control import ControlClient
from stoker.client.registration import Registration
from stoker.types.errors import StokerError
from stoker.types.ids import DEFAULT_PROJECT

NAMES: Final = ("digits", "minilm", "smol")
WAIT_S: Final = 180.0
# A seven of load_digits, as 8 rows of 8 pixels from 0 to 16.
_SEVEN: Final = (
    "0,0,7,8,13,16,15,1,0,0,7,7,4,11,12,0,0,0,0,0,8,13,1,0,0,4,8,8,15,15,6,0,"
    "0,2,11,15,15,4,0,0,0,0,0,16,5,0,0,0,0,0,9,15,1,0,0,0,0,0,13,5,0,0,0,0"
)


def deploy_demo(session: Session) -> list[str]:
    """Make sure that the demo endpoints are there and serve; return the names of those that do.

    What is there already is left as it is, whatever somebody made of it. One that fails does not hide the others.
    """
    control = session.control()
    there = {view.name for view in control.endpoints(DEFAULT_PROJECT)}
    began_s = {name: time.monotonic() for name in NAMES}
    failed: dict[str, StokerError] = {}
    for name in NAMES:
        if name not in there:
            began_s[name] = time.monotonic()
            try:
                _create(session, control, name)
            except StokerError as problem:
                failed[name] = problem
    serving: list[str] = []
    for name in NAMES:
        if name not in failed:
            try:
                _wait(control, name)
            except StokerError as problem:
                failed[name] = problem
        if name in failed:
            click.echo(f" {click.style('✗', fg='red')} {name:<10} {failed[name].message}")
        else:
            serving.append(name)
            done(name, "serving" if name in there else "made, pushed, serving", began_s[name])
    return serving


def _create(session: Session, control: ControlClient, name: str) -> None:
    from stoker.app import demo  # scikit-learn is loaded when it trains, not before

    folder = session.folder.tmp / "demo"
    with Progress(f"Making {name}") as progress:
        progress.step("training a classifier" if name == "digits" else "taking the weights from their package")
        model = demo.prepare(name, folder)
    what = Registration(files=(), lineage={"source": "demo", "pushed_by": "stoker up --demo"})
    push_files(control, name, model.folder, what)
    control.apply(model.manifest.encode())
    shutil.rmtree(model.folder, ignore_errors=True)


def _wait(control: ControlClient, name: str) -> None:
    with Progress(f"Loading {name}") as progress:
        generation = control.endpoint(DEFAULT_PROJECT, name).generation
        wait_ready(control, DEFAULT_PROJECT, name, generation=generation, timeout_s=WAIT_S, progress=progress)


def done(title: str, note: str, began_s: float) -> None:
    """Print a line for something that is done, with how long it took."""
    took = duration(time.monotonic() - began_s)
    click.echo(f" {click.style('✓', fg='green')} {title:<10} {note}  {click.style(took, dim=True)}")


def curl_lines(name: str, gateway: str, tls_cert: str = "") -> str:
    """Return a command that calls a demo endpoint and works as it stands, given the key in $KEY."""
    return _CURLS[name](cacert(tls_cert) + gateway)


def cacert(tls_cert: str) -> str:
    """Return the option with which curl believes the gateways' certificate."""
    return f"--cacert {shlex.quote(tls_cert)} " if tls_cert else ""


def _curl(path: str, body: str) -> Callable[[str], str]:
    return lambda gateway: f"curl -sN {gateway}{path} -H \"Authorization: Bearer $KEY\" -d '{body}'"


_CURLS: Final[dict[str, Callable[[str], str]]] = {
    "digits": _curl(
        "/v2/models/digits/infer",
        f'{{"inputs":[{{"name":"pixels","shape":[1,64],"datatype":"FP32","data":[{_SEVEN}]}}]}}',
    ),
    "minilm": _curl("/v1/embeddings", '{"model":"minilm","input":["a cat","a kitten"]}'),
    "smol": _curl(
        "/v1/chat/completions",
        '{"model":"smol","stream":true,"messages":[{"role":"user","content":"Name three colours."}]}',
    ),
}
