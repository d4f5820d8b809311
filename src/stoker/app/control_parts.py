"""The parts that the control plane is made of, and how they are joined. Composition only."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.app.home import FarHome, Home
from stoker.app.settings import Settings
from stoker.blob.folder import FolderBlobs
from stoker.control import allowances
from stoker.control.ahead import AheadWatch
from stoker.control.allowances import Samples
from stoker.control.apply import Effects, StartFacts
from stoker.control.around import Around
from stoker.control.audit.auditor import Auditor
from stoker.control.audit.copies import copy_to
from stoker.control.boundary import BoundaryWatch, Sources
from stoker.control.budgets import Budgets, settle
from stoker.control.costs.book import CostBook
from stoker.control.costs.closing import charge as note_work
from stoker.control.costs.watch import CostWatch
from stoker.control.drift.files import Learning
from stoker.control.drift.watch import DriftWatch
from stoker.control.feedback import FeedbackWatch
from stoker.control.fleet import Fleet
from stoker.control.gauges import Gauges
from stoker.control.hooks import HookPost
from stoker.control.identity.signing_in import SignIn
from stoker.control.identity.watch import Providers, Reading
from stoker.control.loop import Loop
from stoker.control.models import ModelRegistry
from stoker.control.nodes import FarSite, Nodes
from stoker.control.numbers import Numbers
from stoker.control.observe import Observer
from stoker.control.plane import ControlPlane
from stoker.control.policies import Admission
from stoker.control.quiet import Quiet
from stoker.control.quotas import Kept, QuotaWatch
from stoker.control.releases import ask, gates, policies
from stoker.control.releases.keys import Signer
from stoker.control.releases.runner import Releases
from stoker.control.remedies import Remedies
from stoker.control.replay import Replayer
from stoker.control.rollouts import RolloutWatch
from stoker.control.routes import RoutePublisher
from stoker.control.scaling.gather import Gatherer
from stoker.control.scaling.watch import ScalingWatch
from stoker.control.secrets import SecretWatch
from stoker.control.shapes import ShapeWatch
from stoker.control.starts import StartWatch
from stoker.control.stats import StatsReader
from stoker.control.traces import Traces
from stoker.control.usage import UsageBook
from stoker.control.used import KeyUse
from stoker.core.drift import Apart
from stoker.core.secrets import Rules
from stoker.core.shapes import to_warm
from stoker.core.shares import Teller
from stoker.core.snapshot import Revision
from stoker.core.watched import Seen
from stoker.observe.feedback.quality import Estimated
from stoker.observe.feedback.store import FeedbackStore
from stoker.observe.history.collect import Collector, Own, Remote
from stoker.observe.history.history import History
from stoker.observe.incidents.evidence import Recorded
from stoker.observe.incidents.incidents import Incidents
from stoker.observe.notify.post import Post
from stoker.observe.objectives.watch import Watch
from stoker.observe.samples import SampleStore
from stoker.placement.local import LocalDriver
from stoker.placement.port import Driver
from stoker.registry import layout
from stoker.store import shapes, signing, usage_records
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.telemetry.sealing import KeyRing
from stoker.types.drift import Answer, Drawn, Reference
from stoker.types.identity import Jwk, ProviderRoute
from stoker.types.models import VersionManifest
from stoker.types.nodes import NodeRow
from stoker.types.usage import UsageRecord

if TYPE_CHECKING:
    from stoker.protocol.tokens import Keyring


def compose(name: str, home: Home, chosen: Settings, database: Database, blobs: FolderBlobs) -> ControlPlane:
    """Return the control plane of concrete parts. name: its process' in metrics."""
    metrics, routes = Registry(name), RoutePublisher()
    nodes, driver = _nodes(home, chosen, database, metrics)
    observer, history = Observer(driver), History(home.metrics, bytes_max=chosen.metrics_max_bytes)
    loop = _loop(database, driver, observer, blobs, routes, home, metrics, nodes)
    secrets = _secrets(name, home, chosen, database, loop, metrics)
    post, gauges = _post(chosen, metrics, secrets), Gauges(metrics, observer, routes, history)
    collector = _collector(home, chosen, history, Own(metrics, gauges.refresh), Around(driver, observer, metrics))
    numbers = _numbers(metrics, driver, observer, gauges, collector, chosen.otlp_interval_s)
    watch, incidents, remedies = _watch(database, history, post, observer, metrics, loop, collector)
    samples, admission = _samples(home, chosen), Admission(database, blobs, observer, metrics)
    reach, signer = ask.Fleet(lambda: observer.statuses, nodes.address), Signer(home.platform_key)
    models, judges = _models(database, blobs, home, admission, reach, samples)
    quiet = Quiet(database, blobs, samples, reach, lambda: loop.lease is not None, loop.wake)
    scaling = _scaling(database, Gatherer(nodes.address, chosen.gateways, observer, history), loop, metrics)
    return ControlPlane(
        database=database,
        secrets=secrets,
        driver=driver,
        observer=observer,
        models=models,
        admission=admission,
        routes=routes,
        loop=loop,
        history=history,
        collector=collector,
        stats=StatsReader(database, observer, routes, collector, chosen.gateways),
        gauges=gauges,
        watch=watch,
        post=post,
        incidents=incidents,
        remedies=remedies,
        rollouts=_rollouts(RolloutWatch(nodes.address, chosen.gateways, routes, history, loop.wake), loop, quiet),
        quiet=quiet,
        replayer=Replayer(database, samples, reach),
        shares=Teller(chosen.gateways, time.monotonic()),
        budgets=_budgets(database, chosen, metrics, watch, _limits(models, loop, samples)),
        metrics=metrics,
        samples=samples,
        numbers=numbers,
        drift=DriftWatch(database, blobs, home.drift, nodes.address, metrics, _learn, _compare, secrets.value),
        traces=Traces(home.address, chosen.gateways, metrics),
        used=KeyUse(database, home.address, chosen.gateways),
        feedback=_feedback(home, nodes.address, database, loop, metrics),
        hooks=HookPost(database, home.root / "hooks", lambda: loop.lease, metrics, secrets.value),
        boundary=BoundaryWatch(database, _seeing(observer, watch, scaling, history, chosen), lambda: loop.lease),
        releases=_releases(signer, database, judges, loop, metrics),
        scaling=scaling,
        starts=_starts(database, observer, home, loop, numbers),
        usage=UsageBook(database, metrics, partial(_charge, keeps=chosen.usage_records_max_bytes > 0)),
        costs=_costs(database, observer, loop, watch, metrics),
        shapes=ShapeWatch(database, observer, lambda: loop.state, lambda: loop.lease),
        ahead=_ahead(database, observer, driver, partial(_laid, blobs, home), loop),
        audit=_audit(home, chosen, database, signer, metrics),
        sign_in=_sign_in(database, chosen, loop, metrics, secrets),
        usual=chosen.tuning,
        nodes=nodes,
        process=name,
    )


def _nodes(home: Home, chosen: Settings, database: Database, metrics: Registry) -> tuple[Nodes, Driver]:
    own, authority = LocalDriver(str(home.run / "agent.sock")), None
    if not chosen.nodes:
        return Nodes(database, authority, home, "", metrics, _site), own
    from stoker.control.authority import CertificateAuthority  # what one machine alone need not pay
    from stoker.placement.joined import JoinedDriver

    authority = CertificateAuthority(home.authority, home.tls, chosen.node_certificate_s)
    nodes = Nodes(database, authority, home, chosen.nodes, metrics, _site)
    nodes.open()
    return nodes, JoinedDriver(own, nodes.agents, nodes.address)


def _site(row: NodeRow) -> FarSite:
    far = FarHome(Path(row.home), Path(row.run))
    return FarSite(far, row.python, row.host, str(far.tls / "replica"))


def _loop(
    database: Database,
    driver: Driver,
    observer: Observer,
    blobs: FolderBlobs,
    routes: RoutePublisher,
    home: Home,
    metrics: Registry,
    nodes: Nodes,
) -> Loop:
    effects = Effects(driver, observer, blobs, home, time.time, partial(_start_facts, database, observer))
    loop = Loop(database, observer, effects, routes, home, _holder(), metrics)
    effects.site, loop.located = nodes.site, nodes.located

    def removed(node: str) -> None:
        observer.forget(node)
        loop.wake()

    nodes.on_removed = removed
    nodes.answering = lambda: [each.node for each in observer.statuses]
    return loop


def _sign_in(database: Database, chosen: Settings, loop: Loop, metrics: Registry, secrets: SecretWatch) -> SignIn:
    watch = Providers(database, metrics, loop.wake, Reading(_keys_of, _keyring))
    return SignIn(database, watch, f"http://127.0.0.1:{chosen.api_port}", secrets.platforms)


def _keyring(routes: tuple[ProviderRoute, ...]) -> "Keyring":
    from stoker.protocol.tokens import Keyring  # and what verifies signatures, which most starts need not

    return Keyring(routes)


def _keys_of(document: bytes) -> tuple[Jwk, ...]:
    from stoker.protocol.tokens import keys_of

    return keys_of(document)


def _ahead(
    database: Database, observer: Observer, driver: Driver, laid: Callable[[VersionManifest], Path], loop: Loop
) -> AheadWatch:
    return AheadWatch(database, observer, driver, laid, lambda: loop.state, lambda: loop.lease)


def _laid(blobs: FolderBlobs, home: Home, manifest: VersionManifest) -> Path:
    """Return the folder of a version; one that is there is checked by whoever opens it."""
    folder = layout.folder_of(manifest, home.models)
    return folder if folder.is_dir() else layout.lay_out(manifest, blobs, home.models)


def _audit(home: Home, chosen: Settings, database: Database, signer: Signer, metrics: Registry) -> Auditor:
    copy = copy_to(chosen.audit_copy, database)
    return Auditor(database, signer, home.checkpoints, copy, chosen.audit_days, metrics)


def _post(chosen: Settings, metrics: Registry, secrets: SecretWatch) -> Post:
    return Post(metrics, f"http://127.0.0.1:{chosen.api_port}", secrets.value)


def _samples(home: Home, chosen: Settings) -> SampleStore:
    return SampleStore(home.samples, KeyRing(home.samples, chosen.samples_key), chosen.samples_max_bytes)


def _secrets(name: str, home: Home, chosen: Settings, database: Database, loop: Loop, metrics: Registry) -> SecretWatch:
    loop.rules = Rules(str(home.secrets), chosen.vault_area if chosen.vault_addr else "")
    own = chosen.secrets(home.secrets, name, os.environ)
    addresses = {each: home.address(each) for each in (f"gateway-{index}" for index in range(chosen.gateways))}
    return SecretWatch(database, own, loop.rules, addresses, lambda: loop.lease, lambda: loop.state, metrics)


def _holder() -> str:
    """Return a name for this process in leases."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def _limits(models: ModelRegistry, loop: Loop, samples: SampleStore) -> Samples:
    models.samples, loop.spent = Kept(samples.sizes), allowances.spent
    return models.samples


def _budgets(database: Database, chosen: Settings, metrics: Registry, watch: Watch, samples: Samples) -> Budgets:
    budgets, quotas = Budgets(database, chosen.gateways, metrics), QuotaWatch(metrics, samples)
    watch.spending = lambda connection, now_s: [
        *budgets.signals(connection, now_s), *quotas.signals(connection, now_s)
    ]  # fmt: skip
    return budgets


def _collector(home: Home, chosen: Settings, history: History, own: Own, around: Around) -> Collector:
    gateways = [Remote(each, home.address(each)) for each in (f"gateway-{n}" for n in range(chosen.gateways))]
    return Collector(history, (own, *gateways), around.due)


def _models(
    database: Database, blobs: FolderBlobs, home: Home, admission: Admission, reach: ask.Fleet, samples: SampleStore
) -> tuple[ModelRegistry, gates.Gates]:
    models = ModelRegistry(database, blobs, home.models, home.tmp, admission)
    return models, gates.Gates(blobs, reach, models.comparer, samples, home.gates, policies.Asked(admission))


def _watch(
    database: Database,
    history: History,
    post: Post,
    observer: Observer,
    metrics: Registry,
    loop: Loop,
    collector: Collector,
) -> tuple[Watch, Incidents, Remedies]:
    watch = Watch(database, history, post, lambda: loop.lease, metrics, collector.sampled)
    evidence = Recorded(database, history)
    incidents = Incidents(database, evidence, evidence.quarantined, lambda: loop.lease, watch.alerted)
    remedies = Remedies(database, incidents, lambda: observer.statuses, metrics, loop.wake)
    loop.asked, loop.acts = watch.asked, remedies.in_force
    return watch, incidents, remedies


def _seeing(observer: Observer, watch: Watch, scaling: ScalingWatch, history: History, chosen: Settings) -> Sources:
    def backed_up_s() -> float | None:
        try:
            return Home(chosen.home).backed_up.stat().st_mtime
        except OSError:  # none was made yet
            return None

    standings, written_s = (lambda: watch.standings), (lambda: history.written_s)
    return Sources(observer, standings, scaling.newest, written_s, backed_up_s, chosen.gateways)


def _starts(database: Database, observer: Observer, home: Home, loop: Loop, numbers: Numbers) -> StartWatch:
    starts = StartWatch(database, observer, home, lambda: loop.state, lambda: loop.lease)
    loop.starts = starts.usual
    observer.on_change = partial(_changed, numbers, starts, loop)
    return starts


def _costs(database: Database, observer: Observer, loop: Loop, watch: Watch, metrics: Registry) -> CostBook:
    spending = CostWatch(database, observer, lambda: loop.state, lambda: loop.lease, metrics)
    watch.alarms.costly = lambda: spending.unusual
    return CostBook(database, spending, lambda: loop.state)


def _changed(numbers: Numbers, starts: StartWatch, loop: Loop) -> None:
    numbers.look()
    starts.look()
    loop.wake()


def _feedback(
    home: Home, address: Callable[[str], str], database: Database, loop: Loop, metrics: Registry
) -> FeedbackWatch:
    feedback = FeedbackWatch(database, FeedbackStore(home.feedback), address, metrics, _expect)
    feedback.judged = loop.wake
    return feedback


def _rollouts(watch: RolloutWatch, loop: Loop, quiet: Quiet) -> RolloutWatch:
    watch.replayed = quiet.readings
    loop.readings, loop.rates = watch.readings, watch.rates
    return watch


def _scaling(database: Database, gatherer: Gatherer, loop: Loop, metrics: Registry) -> ScalingWatch:
    watch = ScalingWatch(database, gatherer, lambda: loop.state, lambda: loop.lease, metrics, loop.wake)
    loop.scaled, loop.rests = watch.scaled, watch.rests
    return watch


def _releases(signer: Signer, database: Database, judges: gates.Gates, loop: Loop, metrics: Registry) -> Releases:
    releases = Releases(database, judges, signer, lambda: loop.lease, metrics, loop.wake)
    loop.decided = releases.wake
    return releases


def _charge(connection: Connection, records: Sequence[UsageRecord], *, keeps: bool) -> None:
    if keeps:
        usage_records.keep(connection, records)
    settle(connection, (charge for record in records for charge in record.charges), time.time())
    note_work(connection, records)


def _numbers(
    metrics: Registry, driver: Driver, observer: Observer, gauges: Gauges, collector: Collector, age_max_s: float
) -> Numbers:
    counted = partial(_counted, collector, metrics.process, age_max_s)
    return Numbers(metrics, driver, observer, Fleet(metrics), gauges.refresh, counted)


async def _counted(collector: Collector, process: str, age_max_s: float) -> list[Snapshot]:
    """Return what the gateways counted, as the history was told it last."""
    sample = await collector.newest(age_max_s)
    return [answer.snapshot for name, answer in sample.answers.items() if name != process]


async def _start_facts(database: Database, observer: Observer, revision: Revision) -> StartFacts:
    def read(connection: Connection) -> StartFacts:
        config = revision.config
        costs = shapes.of_endpoint(connection, revision.project, revision.endpoint)
        return StartFacts(
            signing.signed(connection, revision.project, config.model, config.number),
            to_warm(costs, is_awaited=not observer.serves(revision.project, revision.endpoint)),
        )

    return await database.reading(read)


def _learn(learning: Learning, answers: Mapping[str, Answer], seen: Seen, now_s: float) -> Reference | str:
    from stoker.control.drift.learning import learned  # numpy: 0.1 s that most starts need not pay

    return learned(learning, answers, seen, now_s)


def _compare(reference: Reference, drawn: Sequence[Drawn]) -> tuple[Apart, ...]:
    from stoker.observe.drift.space import compared

    return compared(reference, drawn)


def _expect(known: Sequence[tuple[float, bool]], waiting: Sequence[float]) -> Estimated:
    from stoker.observe.feedback.expected import expected  # as with drift: numpy, which most starts need not pay

    return expected(known, waiting)
