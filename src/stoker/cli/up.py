"""`stoker up`: start the platform, with `--demo` fill it, show it live until Ctrl-C drains and stops it."""

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

import click

from stoker.cli.demo import cacert, curl_lines, deploy_demo, done
from stoker.cli.down import end
from stoker.cli.output import is_live
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session
from stoker.client.credentials import read_credentials
from stoker.types.errors import StokerError

if TYPE_CHECKING:
    from stoker.app.up import Running

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@click.command(
    cls=Command,
    example="""
    stoker up --demo
    stoker up --detach --port 9000 --gateways 2
    """,
)
@click.option("--detach", is_flag=True, help="Return when it is ready; `stoker down` ends it.")
@click.option(
    "--demo", is_flag=True, help="Also deploy digits (classifier), minilm (embedder) and smol (language model)."
)
@click.option(
    "--gateways",
    type=click.IntRange(1, 64),
    help="Gateway processes on the port; about one fills a core.  [default: one a core, 1 to 4]",
)
@click.option("--tls-cert", type=click.Path(), help="Certificate (PEM) for HTTPS on the port.  [env STOKER_TLS_CERT]")
@click.option("--tls-key", type=click.Path(), help="The certificate's key (PEM).  [env STOKER_TLS_KEY]")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the data plane; control takes the next.  [env PORT]"
)
@click.pass_obj
def command(
    session: Session,
    detach: bool,
    demo: bool,
    gateways: int | None,
    port: int | None,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    """Start the platform and show it live. Ctrl-C drains and stops everything; again, it hurries."""
    from stoker.app import settings
    from stoker.app.up import up

    chosen = settings.load(
        os.environ, home=session.home, gateways=gateways, port=port, tls_cert=tls_cert, tls_key=tls_key
    )
    for number in _ENDING:  # a closed terminal or a supervisor's stop is a Ctrl-C
        signal.signal(number, _interrupt)
    began_s = time.monotonic()
    local = Session(home=session.home)
    is_ours = not detach
    try:
        with Progress("Starting") as progress:
            progress.step("the platform")
            running = up(chosen, progress=progress.step)
        is_ours = is_ours and not running.is_attached
        done("platform", "was running" if running.is_attached else "ready", began_s)
        serving = deploy_demo(local) if demo else []
        _introduce(local, running, serving)
        if detach:
            return
        _watch(local, running)
    except KeyboardInterrupt:
        if not is_ours:
            raise
    except StokerError:
        if is_ours:
            end(local.folder, 0.0)
        raise
    if is_ours:
        _stop(local, chosen.drain_s)


def _introduce(session: Session, running: "Running", serving: list[str]) -> None:
    """Print where everything is, and lines to copy that work."""
    key = read_credentials(session.folder.credentials).key

    def line(name: str, value: str, note: str) -> None:
        click.echo(
            f" {click.style(f'{name:<8}', dim=True)} {click.style(value, fg='cyan')}  {click.style(note, dim=True)}"
        )

    click.echo()
    line("gateway", running.gateway_url, "OpenAI at /v1, Open Inference Protocol at /v2")
    if running.grpc_target:
        line("grpc", running.grpc_target, "Open Inference Protocol over gRPC")
    line("control", running.api_url, "described at /api/v1/openapi.json")
    line("state", str(session.home), "")
    click.echo(f"\n {click.style('Try it from another terminal:', bold=True)}\n")
    click.echo(f"export KEY={key}")
    for name in serving:
        click.echo(curl_lines(name, running.gateway_url, running.tls_cert))
    if not serving:
        trust = cacert(running.tls_cert)
        click.echo(f'curl -s {trust}{running.gateway_url}/v1/models -H "Authorization: Bearer $KEY"')
    click.echo()


def _watch(session: Session, running: "Running") -> None:
    """Show the platform until Ctrl-C, or until somebody else ends it."""
    from stoker.app.keeper_main import WANTED
    from stoker.cli.frames import Watch
    from stoker.cli.live import watch

    stop = threading.Event()
    wanted = session.folder.run / WANTED

    def is_over() -> bool:
        return stop.is_set() or not wanted.exists()

    previous = signal.signal(signal.SIGINT, lambda *_: stop.set())
    for number in _ENDING:
        signal.signal(number, lambda *_: stop.set())
    footer = (
        "Ctrl-C ends the view; the platform goes on" if running.is_attached else "Ctrl-C drains and stops everything"
    )
    watched = Watch(session.control(), running.gateway_url, time.time())
    watch(watched, stop, is_over, live=is_live(), full_screen=False, footer=footer)
    signal.signal(signal.SIGINT, previous)
    for number in _ENDING:
        signal.signal(number, _interrupt)


def _stop(session: Session, drain_s: float) -> None:
    began_s = time.monotonic()
    was_running = end(session.folder, drain_s)
    done("stopped", "" if was_running else "it was stopped from elsewhere", began_s)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
