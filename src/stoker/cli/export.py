"""`stoker export`: what other tools are told of stoker, on standard output."""

import os
from typing import Any, Final

import click
import msgspec

from stoker.cli.session import Command, Session, write_example
from stoker.telemetry.export import grafana as boards
from stoker.telemetry.export import rules, scrape

_EXAMPLE: Final = """
stoker export grafana > stoker-board.json
stoker export prometheus-rules > stoker-rules.yml
stoker export scrape-config >> prometheus.yml
"""


class ExportGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=ExportGroup)
def command() -> None:
    """Print what Prometheus and Grafana need to know."""


@command.command(cls=Command, example="stoker export grafana > stoker-board.json")
def grafana() -> None:
    """Print a Grafana board of every metric, to be imported."""
    click.echo(msgspec.json.format(msgspec.json.encode(boards.board()), indent=2).decode())


@command.command("prometheus-rules", cls=Command, example="stoker export prometheus-rules > stoker-rules.yml")
def prometheus_rules() -> None:
    """Print Prometheus rules: what is computed once, and alerts."""
    _yaml(rules.groups())


@command.command(
    "scrape-config",
    cls=Command,
    example="""
    stoker export scrape-config > prometheus.yml
    stoker export scrape-config --host models.example.com --ca /etc/prometheus/stoker-ca.pem
    """,
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where Prometheus reaches the gateways.")
@click.option("--ca", default="", metavar="FILE", help="Who signed their certificate, as Prometheus finds it.")
@click.option("--key-file", default="", metavar="FILE", help="The key it shows, where it runs on another machine.")
@click.pass_obj
def scrape_config(session: Session, host: str, ca: str, key_file: str) -> None:
    """Print where Prometheus scrapes, by the settings of the environment."""
    from stoker.app import settings

    chosen = settings.load(os.environ, home=session.home)
    _yaml(
        scrape.config(
            f"{host}:{chosen.port}",
            f"127.0.0.1:{chosen.api_port}",
            is_secure=bool(chosen.tls_cert),
            ca_file=ca,
            key_file=key_file,
        )
    )


def _yaml(value: Any) -> None:
    from stoker.protocol import yamltree  # PyYAML takes longer to import than most commands to run

    click.echo(yamltree.to_text([value]), nl=False)
