"""What is noted of requests and counted many at a time is what counting each would give."""

import asyncio
from typing import Any, NamedTuple, cast

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import admit, attempts
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.lane import Lane
from stoker.gateway.layers.meter import observe
from stoker.gateway.meters import GONE_KEPT_S, Meters
from stoker.gateway.phases import DETAILS_PER_S, EVERY_MAX
from stoker.gateway.protocols.oip_http import OipShapes
from stoker.gateway.relay import Relay
from stoker.gateway.router import Route
from stoker.gateway.tally import TALLY_MAX
from stoker.gateway.tenants import ATTEMPTS, DURATION, FIRST_TOKEN, PER_TOKEN, TENANTS_MAX
from stoker.protocol.frames import EndHead, RequestHead
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.types.ids import EndpointName, KeyId, ProjectName, ReplicaId
from stoker.types.keys import PRIORITIES
from stoker.types.replica import EngineCalls, Timings, Usage
from stoker.types.routes import EndpointRoute, KeyRoute, ReplicaRoute
from tests.gateway.test_usage_record import Wire, never

LABELS = {"project": "p", "endpoint": "e"}
PROMISES = {"b": (DURATION, FIRST_TOKEN, PER_TOKEN)}


class Asked(NamedTuple):
    """One request, and what became of it."""

    revision: str = "r1"
    status: int = 200
    code: str = ""
    tenant: str = ""
    is_repeat: bool = False
    sheds: bool = False
    band: int = 1
    took_s: float = 0.001
    first_s: float = 0.0  # of a stream
    usage: Usage | None = Usage(rows=1)  # None: no replica answered
    batch_rows: int = 1
    calls: EngineCalls | None = None


seconds = st.sampled_from([0.0, 1e-9, 2.0**-20, 0.00123, 0.00124, 0.5, 3.0, 2.0**20, 1e9]) | st.floats(0, 100)
requests = st.builds(
    Asked, st.sampled_from(["r1", "r2"]), st.sampled_from([200, 200, 404, 429, 500]),
    st.sampled_from(["", "queue_full"]), st.sampled_from(["", "a", "b"]), st.sampled_from([False, False, True]),
    st.sampled_from([False, False, True]), st.integers(0, len(PRIORITIES) - 1), seconds,
    st.sampled_from([0.0, 0.0, 0.25]),
    st.none() | st.builds(Usage, rows=st.integers(0, 3)) | st.builds(
        Usage, input_tokens=st.integers(0, 3), output_tokens=st.integers(0, 3), cached_tokens=st.integers(0, 2),
        rows=st.just(0), guessed_tokens=st.integers(0, 4), accepted_tokens=st.integers(0, 4), loops=st.integers(0, 2),
    ),
    st.sampled_from([0, 1, 8]), st.none() | st.just(EngineCalls({"queue": 2}, values=10, padding=3)),
)  # fmt: skip
tries = st.tuples(st.sampled_from(["one", "two"]), st.sampled_from([200, 499]), seconds)


class Listener:
    """A client that is told nothing."""

    on_writable: Any = None


def lane_of(meters: Meters, *, sheds: bool = False) -> Lane:
    """Return a lane whose route promises what `meters` was told is promised."""
    known = meters.promised
    told = {"promised_to": tuple(known._attempts), "timed_for": dict(known._timed_for), "sheds": sheds}
    route = EndpointRoute(ProjectName("p"), EndpointName("e"), "predict", 0.0, (), **told)  # type: ignore[arg-type]
    return Lane(route, meters, lambda *_: None)


async def link_to(lane: Lane) -> tuple[Replica, Wire]:
    """Return a replica that is gone by now, and the way to it."""
    replica, wire = Replica(ReplicaRoute(ReplicaId("r0"), "unix:/r0"), "p.e-1", "1", lane), Wire()
    await replica.close()
    return replica, wire


NOWHERE = lane_of(Meters(Registry("t"), **LABELS))
REPLICA, WIRE = asyncio.run(link_to(NOWHERE))


def exchange_of(asked: Asked) -> Exchange:
    """Return the exchange as it is when it has ended."""
    request, route = HttpRequest(b"POST", b"/", {}, 0.0), Route(OipShapes(), never, "infer")
    made = Exchange(cast(Any, Listener()), request, route, "e", "")
    made.key = KeyRoute("", KeyId(asked.tenant), ProjectName("p")) if asked.tenant else None
    made.arrived_s = made.known_s = 0.0
    made.revision, made.band, made.first_byte_s = asked.revision, asked.band, asked.first_s
    if asked.usage is not None:
        made.usage = asked.usage
        made.lane = NOWHERE
        relay = Relay(made, REPLICA, WIRE, RequestHead(method="infer"), b"")
        relay.end = EndHead(usage=asked.usage, timings=Timings(batch_rows=asked.batch_rows, calls=asked.calls))
    return made


ENDED = exchange_of(Asked())


def end(meters: Meters, asked: Asked) -> None:
    """Have the layer count a request as ended."""
    lane = lane_of(meters, sheds=asked.sheds)
    observe(exchange_of(asked), lane, asked.status, asked.took_s, asked.code, asked.is_repeat)


def numbers(snapshot: Snapshot) -> Any:
    """Return all series with something in them; sums are rounded, because floats are added in another order."""
    found = {}
    for metric in snapshot.metrics:
        for series in metric.series:
            held = series.distribution
            if held.count:
                found[metric.name, series.labels] = (held.buckets, float(f"{held.sum:.9g}"))
            elif series.value:
                found[metric.name, series.labels] = series.value
    return found


def without_phases(found: Any) -> Any:
    return {key: value for key, value in found.items() if key[0] != "stoker_request_phase_seconds"}


@given(st.lists(requests | tries | st.none(), max_size=60), st.integers(1, 5))
def test_many_at_a_time_is_each_alone(happened: list[Any], times: int) -> None:
    many, each, plain = Registry("t"), Registry("t"), Registry("t")
    all_meters = [Meters(registry, **LABELS) for registry in (many, each)]
    Meters(plain, **LABELS).gauges(waiting=0, in_flight=0, ready=0)
    for meters in all_meters:
        meters.promise(PROMISES, PROMISES)
    for one in happened * times:
        for meters in all_meters:
            if one is None:
                meters.turn(0.0)
            elif isinstance(one, Asked):
                end(meters, one)
            else:
                name, status, took_s = one
                meters.replica("r1", name).ended(status, took_s)
        all_meters[1].count()
        if isinstance(one, Asked):
            count_request(plain, one)
        elif one is not None:
            name, status, took_s = one
            labels = {**LABELS, "revision": "r1", "replica": name}
            plain.counter("stoker_replica_requests_total", code=str(status), **labels).add()
            plain.histogram("stoker_replica_request_duration_seconds", **labels).observe(took_s)
    for meters in all_meters:
        meters.gauges(waiting=0, in_flight=0, ready=0)
    assert numbers(many.snapshot()) == numbers(each.snapshot())
    assert without_phases(numbers(many.snapshot())) == numbers(plain.snapshot())


def count_request(plain: Registry, asked: Asked) -> None:
    """Count one request by itself, with what it takes to say so."""
    labels, usage, tenant = {**LABELS, "revision": asked.revision}, asked.usage, asked.tenant
    plain.counter("stoker_requests_total", code=str(asked.status), method="infer", **labels).add()
    plain.histogram("stoker_request_duration_seconds", method="infer", **labels).observe(asked.took_s)
    is_promised = not (asked.sheds and admit.is_sheddable(asked.band))
    outcome = attempts.outcome(asked.status, asked.code, is_repeat=asked.is_repeat, is_promised=is_promised)
    if outcome is not None:
        plain.counter("stoker_first_attempts_total", outcome=outcome, **labels).add()
        if tenant in PROMISES:
            plain.counter(ATTEMPTS, tenant=tenant, outcome=outcome, **LABELS).add()
    if tenant in PROMISES:
        plain.histogram(DURATION, tenant=tenant, **LABELS).observe(asked.took_s)
    if tenant:
        plain.counter("stoker_tenant_requests_total", code=str(asked.status), tenant=tenant, **LABELS).add()
    if usage is None:
        return
    plain.counter("stoker_rows_total", **labels).add(usage.rows)
    if asked.batch_rows:
        plain.histogram("stoker_batch_rows", **labels).observe(asked.batch_rows)
    if asked.first_s:
        count_stream(plain, asked, labels)
    if asked.calls is not None:
        plain.counter("stoker_engine_calls_total", because="queue", **labels).add(2)
        plain.counter("stoker_padded_values_total", kind="input", **labels).add(7)
        plain.counter("stoker_padded_values_total", kind="padding", **labels).add(3)
    if usage.input_tokens or usage.output_tokens:
        count_tokens(plain, usage, labels, tenant)


def count_stream(plain: Registry, asked: Asked, labels: dict[str, str]) -> None:
    """Count the times of one stream by themselves."""
    assert asked.usage is not None
    times = [("stoker_time_to_first_token_seconds", FIRST_TOKEN, asked.first_s)]
    if asked.usage.output_tokens > 1:
        each_s = (asked.took_s - asked.first_s) / (asked.usage.output_tokens - 1)
        times.append(("stoker_time_per_output_token_seconds", PER_TOKEN, each_s))
    for name, own, value_s in times:
        plain.histogram(name, method="infer", **labels).observe(value_s)
        if asked.tenant in PROMISES:
            plain.histogram(own, tenant=asked.tenant, **LABELS).observe(value_s)


def count_tokens(plain: Registry, usage: Usage, labels: dict[str, str], tenant: str) -> None:
    """Count one answer's tokens by themselves."""
    for kind in ("input", "output", "cached"):
        count = getattr(usage, f"{kind}_tokens")
        plain.counter("stoker_tokens_total", kind=kind, **labels).add(count)
        if tenant:
            plain.counter("stoker_tenant_tokens_total", kind=kind, tenant=tenant, **LABELS).add(count)
    plain.histogram("stoker_prompt_tokens", method="infer", **labels).observe(usage.input_tokens)
    if usage.output_tokens:
        plain.histogram("stoker_output_tokens", method="infer", **labels).observe(usage.output_tokens)
    if usage.output_tokens <= 1:
        plain.counter("stoker_empty_outputs_total", **labels).add()
    if usage.loops:
        plain.counter("stoker_repeating_outputs_total", **labels).add()
    if usage.guessed_tokens:
        held = min(usage.accepted_tokens, usage.guessed_tokens)
        for outcome, count in (("accepted", held), ("rejected", usage.guessed_tokens - held)):
            plain.counter("stoker_speculative_tokens_total", outcome=outcome, **labels).add(count)


def test_what_is_noted_is_bounded_and_counted_by_itself() -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    replica = meters.replica("r1", "one")
    for at in range(1, 10 * TALLY_MAX):
        replica.ended(200, 0.001)
        end(meters, Asked(tenant="a"))
        read = numbers(registry.snapshot())
        assert at - read.get(("stoker_rows_total", ("p", "e", "r1")), 0) < TALLY_MAX + EVERY_MAX
        assert at - read.get(("stoker_replica_requests_total", ("p", "e", "r1", "one", "200")), 0) < TALLY_MAX
    assert meters.served("infer")[0] == at


def test_phases_stand_for_all_requests_and_no_burst_is_looked_at_whole() -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    phases = meters.revision("r1", "infer").phases
    total = looked = 0
    for second, rate in enumerate((20_000, 20_000, 100, 0, 50_000)):
        before = looked
        for _ in range(rate):
            total += 1
            phases.left -= 1
            if phases.left <= 0:
                looked += 1
                phases.observe(ENDED, Timings(), 0.0)
        meters.turn(float(second))
        assert looked - before < 10 * DETAILS_PER_S
        seen = registry.snapshot().distribution("stoker_request_phase_seconds", phase="auth")
        assert 0 <= total - seen.count < EVERY_MAX


def test_series_of_what_left_the_table_do_not_come_back() -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    replica = meters.replica("r1", "one")
    replica.ended(200, 0.001)
    end(meters, Asked())
    meters.forget_replica("one")
    replica.ended(200, 0.001)  # a try that was on its way
    meters.keep(set(), 0.0)
    end(meters, Asked())  # it ended a moment later
    meters.turn(GONE_KEPT_S)
    meters.gauges(waiting=0, in_flight=0, ready=0)
    assert not [key for key in numbers(registry.snapshot()) if "r1" in key[1]]


@given(
    st.lists(st.sampled_from([200, 200, 499, 503, 504]), max_size=6),
    st.lists(
        st.sampled_from([(200, 1), (200, TALLY_MAX), (200, 3 * TALLY_MAX), (499, 1), (503, 1), (0, 1)]), max_size=6
    ),
    st.booleans(),
)
def test_what_ends_at_a_replica_after_it_left_makes_no_series(
    before: list[int], after: list[tuple[int, int]], is_revision_gone: bool
) -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    replica = meters.replica("r1", "one")
    for status in before:
        replica.ended(status, 0.001)
    if is_revision_gone:
        meters.revision("r1", "infer")
        meters.keep(set(), 0.0)
        meters.turn(GONE_KEPT_S)
    else:
        meters.forget_replica("one")
    for status, count in after:
        for _ in range(count):
            replica.ended(status, 0.001) if status else replica.stalled(0.25)
    meters.gauges(waiting=0, in_flight=0, ready=0)
    assert not [key for key in numbers(registry.snapshot()) if "one" in key[1]]
    again = meters.replica("r1", "one")
    again.ended(503, 0.001)
    assert registry.snapshot().total("stoker_replica_requests_total", replica="one") == 1, "it may come back"


@given(st.lists(requests, max_size=4), st.lists(requests, min_size=1, max_size=8))
def test_what_ends_after_its_endpoint_was_deleted_makes_no_series(before: list[Asked], after: list[Asked]) -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    meters.promise(PROMISES, PROMISES)
    replica = meters.replica("r1", "one")
    for one in before:
        end(meters, one)
    meters.let_go()
    registry.forget(**LABELS)
    for one in after:
        end(meters, one)
        replica.ended(one.status, one.took_s)
        meters.waited(one.tenant, 0.1)
        meters.retry("late")
    meters.turn(2 * GONE_KEPT_S)
    meters.gauges(waiting=1, in_flight=0, ready=0)
    assert not [key for key in numbers(registry.snapshot()) if "e" in key[1]]


def test_a_tenant_is_promised_something_from_then_on() -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    end(meters, Asked(tenant="b"))
    meters.promise(PROMISES, PROMISES)
    end(meters, Asked(tenant="b"))
    meters.gauges(waiting=0, in_flight=0, ready=0)
    seen = registry.snapshot()
    assert (seen.total("stoker_first_attempts_total"), seen.total(ATTEMPTS)) == (2, 1)
    assert seen.distribution(DURATION).count == 1


def test_a_tenant_that_comes_often_at_once_has_a_name_and_the_others_are_one() -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    for number in range(TENANTS_MAX + 8):
        for _ in range(3):
            end(meters, Asked(tenant=f"tenant-{number}"))
    meters.turn(0.0)
    found = {key[1]: value for key, value in numbers(registry.snapshot()).items() if "tenant" in key[0]}
    assert sum(found.values()) == 3 * (TENANTS_MAX + 8)
    assert len(found) == TENANTS_MAX + 1
