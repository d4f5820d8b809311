"""`stoker status`: what runs and how it does, in one screen."""

import click

from stoker.cli import tables
from stoker.cli.output import fields, show
from stoker.cli.session import Command, Session, output_option
from stoker.client.views import Stats
from stoker.types.process import NodeStatus
from stoker.types.units import format_bytes


@click.command(
    cls=Command,
    example="""
    stoker status
    stoker status -o json
    """,
)
@output_option
@click.pass_obj
def command(session: Session, output: str) -> None:
    """Show what runs and how it does. Ends with 5 when nothing answers."""
    credentials = session.credentials()
    control = session.control()
    stats = control.stats()
    nodes = control.nodes()
    value = {
        "gateway": credentials.gateway,
        "api": credentials.api,
        "home": str(session.home),
        "nodes": nodes,
        "gateways": stats.gateways,
        "endpoints": stats.endpoints,
    }
    head = [
        ("gateway", f"{credentials.gateway}  {_gateways(stats)}"),
        ("control", credentials.api),
        ("home", str(session.home)),
        *(("node", _node(node)) for node in nodes),
    ]
    show(value, output, lambda: f"{fields(head)}\n\n{tables.stats_table(stats.endpoints)}")


def _gateways(stats: Stats) -> str:
    count = len(stats.gateways)
    builds = sorted({gateway.build for gateway in stats.gateways if gateway.build})
    return click.style(", ".join([f"{count} process{'' if count == 1 else 'es'}", *builds]), dim=True)


def _node(node: NodeStatus) -> str:
    free = f"{format_bytes(node.memory_free_bytes)} of {format_bytes(node.memory_bytes)} free"
    not_ready = [one.name for one in node.processes if one.phase != "ready"]
    state = f"; {', '.join(not_ready)} not ready" if not_ready else ""
    return (
        f"{node.node}  {click.style(f'{node.cores:g} cores, {free}, {len(node.processes)} processes{state}', dim=True)}"
    )
