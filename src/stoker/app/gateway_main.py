"""One gateway process: composition of the data plane. The rooms are in `stoker/gateway/`.

python -m stoker.app.gateway_main --home H --host A --port P --index i --gateways N
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stoker import __version__
from stoker.app import process_main
from stoker.app.home import Home
from stoker.app.settings import Settings, check_grpc, load
from stoker.core.wallet import Wallet
from stoker.gateway.access import AccessLog
from stoker.gateway.answers import Answers
from stoker.gateway.budgets import Budgets
from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.quarantine import Quarantine
from stoker.gateway.fleet.suspicion import shape
from stoker.gateway.fleet.trial import Trials
from stoker.gateway.http.connection import Connection, Limits
from stoker.gateway.http.secured import Door
from stoker.gateway.http.server import Server
from stoker.gateway.http.tls import Certificates
from stoker.gateway.lane import Convicted, Lane
from stoker.gateway.layers.coalesce import Flights
from stoker.gateway.layers.deadline import Deadlines
from stoker.gateway.layers.shadow import Shadows
from stoker.gateway.layers.trace import Ids
from stoker.gateway.plane import Plane
from stoker.gateway.process import Process
from stoker.gateway.pulse import Pulse
from stoker.gateway.quotas import Quotas
from stoker.gateway.rekeys import Rekeys
from stoker.gateway.remote.keys import Keys
from stoker.gateway.reverts import Reverts
from stoker.gateway.samples import Samples
from stoker.gateway.shares import Asker
from stoker.gateway.siblings import Conviction, Siblings
from stoker.gateway.stack import Stack
from stoker.gateway.telling import Telling
from stoker.gateway.tokens import Tokens
from stoker.gateway.tracer import Tracer
from stoker.gateway.tuning import Tuned
from stoker.gateway.usage.journal import Journal
from stoker.gateway.usage.shipping import Shipper
from stoker.gateway.wakes import Wakes
from stoker.gateway.watch import Watch
from stoker.protocol.link import serve
from stoker.telemetry.build import build
from stoker.telemetry.metrics import Registry
from stoker.telemetry.sealing import KeyRing
from stoker.types.identity import ProviderRoute
from stoker.types.routes import RouteTable
from stoker.types.tuning import Tuning

if TYPE_CHECKING:
    from stoker.gateway.rpc.server import RpcServer
    from stoker.protocol.tokens import Keyring

# A gateway allocates a few hundred objects a request and frees them by count; the collector only looks for cycles.
GC_THRESHOLD: Final = 50_000
_log: Final = logging.getLogger(__name__)


async def run(home: Home, arguments: argparse.Namespace, settings: Settings, asked: asyncio.Event) -> None:
    """Serve until `asked` or drained."""
    check_grpc(settings)
    name = f"gateway-{arguments.index}"
    home.make()
    registry, siblings = Registry(name), _siblings(home, arguments)
    control = home.run / "control-api.sock"
    reverts, wakes, rekeys = Reverts(home.gateway / f"reverts-{name}.json"), Wakes(control), Rekeys(control)
    tokens, telling = Tokens(registry, _keyring, rekeys.ask), Telling(name, siblings)
    convicting, tell = _convicting(siblings, Quarantine(home.quarantine)), telling.begin if siblings else None
    directory = Directory(registry, convicting, arguments.gateways, reverts, wakes.ask, tokens, tell)
    quotas, answers = Quotas(arguments.gateways, arguments.index), Answers(settings.cache_max_bytes)
    samples = Samples(home.samples, KeyRing(home.samples, settings.samples_key), settings.samples_max_bytes, name)
    access = AccessLog(home.logs / "access" / f"{name}.jsonl", registry)
    tracer = Tracer(registry, settings.trace_ratio, settings.trace_slow_s)
    connections, trials, journal = set[Connection](), Trials(home.gateway), _journal(home, settings, registry)
    budgets = Budgets(Wallet(journal.incarnation), control)
    stack = Stack(
        directory, Deadlines(), trials, Ids(), tracer, quotas, answers, Flights(), samples, Shadows(), journal, budgets
    )
    pulse = Pulse(directory, answers, quotas, connections, registry)
    plane = Plane(stack, lambda: siblings.merged(pulse.snapshot()))
    certificates = Certificates(settings.tls_files, registry) if settings.tls_files is not None else None
    secure = Door(certificates, registry) if certificates is not None else None
    server = Server(plane, Limits(per_address_max=settings.connections_per_address), connections, secure)
    keys = Keys(directory, settings.secrets(home.secrets, name, os.environ))
    process = Process(name, directory, pulse.snapshot, tracer.ring, keys)
    tuned = Tuned(settings.tuning, tracer, access, answers, samples, server)
    tuned.tune(Tuning())
    watch = Watch(control, home.gateway / "routes.json", _following(tuned, stack, keys), name)
    ships = Shipper(journal, control, registry)
    works = [watch.run, pulse.run, wakes.run, rekeys.run, keys.run, ships.run, budgets.run, access.run]
    works += [Asker(control, quotas, arguments.index).run, telling.run] if arguments.gateways > 1 else []
    works += [certificates.watch] if certificates is not None else []

    frames = await serve(home.address(name), process)
    try:
        await watch.start()
        rpc = await _start_rpc(stack, server, (arguments.host, settings.grpc_port), certificates)
        await server.start(arguments.host, arguments.port)
        process.serves = True
        _tell_build(registry, arguments.port)
        _calm_collector()
        tasks = [asyncio.create_task(work()) for work in works]
        await _first(asked, process.stopping)
        process.stopping.set()
        await asyncio.gather(*(each.drain(settings.drain_s) for each in (server, rpc) if each is not None))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    finally:
        await samples.close()
        await frames.close()
        await directory.close()


def _keyring(routes: tuple[ProviderRoute, ...]) -> "Keyring":
    from stoker.protocol.tokens import Keyring  # and what verifies signatures, which most gateways need not

    return Keyring(routes)


def _siblings(home: Home, arguments: argparse.Namespace) -> Siblings:
    others = (index for index in range(arguments.gateways) if index != arguments.index)
    return Siblings([home.address(f"gateway-{index}") for index in others])


def _following(tuned: Tuned, stack: Stack, keys: Keys) -> Callable[[RouteTable], bool]:
    """Return what takes a route table, and says whether it was newer."""

    def follow(table: RouteTable) -> bool:
        tuned.tune(table.tuning)
        stack.quotas.apply(table)
        stack.budgets.wallet.follow(table.budgets)
        is_new = stack.directory.apply(table)
        if is_new:
            keys.follow()
        return is_new

    return follow


def _journal(home: Home, settings: Settings, registry: Registry) -> Journal:
    """Return this process' usage journal, begun."""
    journal = Journal(home.usage, registry.process, registry, settings.usage_journal_max_bytes)
    journal.tend()
    return journal


def _calm_collector() -> None:
    """Leave what there is by now out of every later collection, and collect seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def _tell_build(registry: Registry, port: int) -> None:
    """Say in log and numbers which build serves."""
    made = build()
    registry.gauge("stoker_gateway_build_info", process=registry.process, version=__version__, build=made).set(1.0)
    _log.info("serving", extra={"port": port, "version": __version__, "build": made})


def _convicting(siblings: Siblings, quarantine: Quarantine) -> Convicted:
    def convicted(lane: Lane, exchange: Exchange, replica: str) -> None:
        siblings.convict(Conviction(lane.route.project, lane.route.endpoint, shape(exchange)))
        quarantine.take(lane, exchange, replica)

    return convicted


async def _start_rpc(
    stack: Stack, server: Server, where: tuple[str, int], certificates: Certificates | None
) -> "RpcServer | None":
    if not where[1]:
        return None
    from stoker.gateway.rpc.server import RpcServer  # an extra, and memory that a gateway without it does not need

    rpc = RpcServer(stack, server)
    await rpc.start(*where, certificates)
    return rpc


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await wait


def main() -> None:
    """Read the arguments and run; exit code 0 after a drain."""
    parser = argparse.ArgumentParser(prog="stoker.app.gateway_main")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--gateways", type=int, default=1)
    arguments = parser.parse_args()
    settings = load(os.environ, home=arguments.home)
    home = Home(settings.home)
    sys.exit(
        process_main.run(
            f"gateway-{arguments.index}",
            settings.log_level,
            lambda asked: run(home, arguments, settings, asked),
        )
    )


if __name__ == "__main__":
    main()
