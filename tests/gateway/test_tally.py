"""What is noted of requests and counted many at a time is what counting each would give."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stoker.gateway.meters import GONE_KEPT_S, Meters
from stoker.gateway.tally import TALLY_MAX
from stoker.gateway.tenants import TENANTS_MAX
from stoker.telemetry.metrics import Registry, Snapshot
from stoker.types.replica import Usage

LABELS = {"project": "p", "endpoint": "e"}
seconds = st.sampled_from([0.0, 1e-9, 2.0**-20, 0.00123, 0.00124, 0.5, 3.0, 2.0**20, 1e9]) | st.floats(0, 100)
requests = st.tuples(
    st.sampled_from(["r1", "r2"]), st.sampled_from([200, 204, 404]), st.sampled_from(["", "a", "b"]),
    st.integers(0, 3), st.sampled_from([0, 1, 8]), seconds,
    st.none() | st.builds(
        Usage, input_tokens=st.integers(0, 3), output_tokens=st.integers(0, 3), cached_tokens=st.integers(0, 2),
        rows=st.just(0), guessed_tokens=st.integers(0, 4), accepted_tokens=st.integers(0, 4), loops=st.integers(0, 2),
    ),
)  # fmt: skip
tries = st.tuples(st.sampled_from(["one", "two"]), st.sampled_from([200, 499]), seconds)


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


@given(st.lists(requests | tries | st.none(), max_size=60), st.integers(1, 5))
def test_many_at_a_time_is_each_alone(happened: list[Any], times: int) -> None:
    counted, plain = Registry("t"), Registry("t")
    meters = Meters(counted, **LABELS)
    Meters(plain, **LABELS).gauges(waiting=0, in_flight=0, ready=0)
    replicas = {name: meters.replica("r1", name) for name in ("one", "two")}
    for one in happened * times:
        if one is None:
            meters.turn(0.0)
        elif len(one) == 3:
            name, status, took_s = one
            replicas[name].ended(status, took_s)
            labels = {**LABELS, "revision": "r1", "replica": name}
            plain.counter("stoker_replica_requests_total", code=str(status), **labels).add()
            plain.histogram("stoker_replica_request_duration_seconds", **labels).observe(took_s)
        else:
            revision, status, tenant, rows, batch_rows, took_s, usage = one
            kind = (meters.revision(revision, "infer"), status, tenant, rows, batch_rows)
            meters.tally.request(kind, took_s, usage)
            labels = {**LABELS, "revision": revision}
            plain.counter("stoker_requests_total", code=str(status), method="infer", **labels).add()
            plain.counter("stoker_rows_total", **labels).add(rows)
            plain.histogram("stoker_request_duration_seconds", method="infer", **labels).observe(took_s)
            if batch_rows:
                plain.histogram("stoker_batch_rows", **labels).observe(batch_rows)
            if tenant:
                plain.counter("stoker_tenant_requests_total", code=str(status), tenant=tenant, **LABELS).add()
            if usage is not None:
                count_tokens(plain, usage, labels, tenant)
    meters.gauges(waiting=0, in_flight=0, ready=0)
    assert numbers(counted.snapshot()) == numbers(plain.snapshot())


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
    for at in range(1, 3 * TALLY_MAX):
        replica.ended(200, 0.001)
        meters.tally.request((meters.revision("r1", "infer"), 200, "a", 1, 1), 0.001)
        read = registry.snapshot()
        assert at - numbers(read).get(("stoker_rows_total", ("p", "e", "r1")), 0) < TALLY_MAX
    assert meters.served("infer")[0] == at


def test_series_of_what_left_the_table_do_not_come_back() -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    replica = meters.replica("r1", "one")
    replica.ended(200, 0.001)
    meters.tally.request((meters.revision("r1", "infer"), 200, "", 1, 1), 0.001)
    meters.forget_replica("one")
    meters.keep(set(), 0.0)
    meters.tally.request((meters.revision("r1", "infer"), 200, "", 1, 1), 0.001)  # it ended a moment later
    meters.turn(GONE_KEPT_S)
    meters.gauges(waiting=0, in_flight=0, ready=0)
    assert not [key for key in numbers(registry.snapshot()) if "r1" in key[1]]


def test_a_tenant_that_comes_often_at_once_has_a_name_and_the_others_are_one() -> None:
    registry = Registry("t")
    meters = Meters(registry, **LABELS)
    for number in range(TENANTS_MAX + 8):
        for _ in range(3):
            meters.tally.request((meters.revision("r1", "infer"), 200, f"tenant-{number}", 1, 1), 0.001)
    meters.turn(0.0)
    found = {key[1]: value for key, value in numbers(registry.snapshot()).items() if "tenant" in key[0]}
    assert sum(found.values()) == 3 * (TENANTS_MAX + 8)
    assert len(found) == TENANTS_MAX + 1
