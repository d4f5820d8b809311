"""A registry hands out bounded, catalogued metrics; snapshots travel, merge and subtract."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.telemetry.catalogue import METRICS
from stoker.telemetry.metrics import (
    LABEL_VALUE_MAX,
    OTHER,
    SERIES_MAX,
    Registry,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    merge,
    subtract,
)

REQUESTS = {"project": "default", "endpoint": "digits", "revision": "digits-1", "method": "infer", "code": "200"}


def a_process(name: str, requests: float, waits: list[float]) -> Snapshot:
    registry = Registry(name)
    registry.counter("stoker_requests_total", **REQUESTS).add(requests)
    registry.gauge("stoker_queue_depth", project="default", endpoint="digits").set(requests)
    waited = registry.histogram("stoker_queue_wait_seconds", project="default", endpoint="digits")
    for wait in waits:
        waited.observe(wait)
    return registry.snapshot()


processes = st.builds(
    a_process,
    st.sampled_from(["gateway-0", "gateway-1"]),
    st.integers(0, 10**9).map(float),
    st.lists(st.floats(0, 10).map(lambda value: round(value * 1024) / 1024), max_size=20),
)


def test_the_same_labels_in_any_order_are_the_same_handle() -> None:
    registry = Registry()
    one = registry.counter("stoker_requests_total", **REQUESTS)
    assert registry.counter("stoker_requests_total", **dict(reversed(REQUESTS.items()))) is one


@pytest.mark.parametrize(
    ("kind", "name", "labels"),
    [
        ("counter", "stoker_unheard_of_total", {}),
        ("gauge", "stoker_requests_total", REQUESTS),
        ("counter", "stoker_requests_total", {"project": "default"}),
        ("counter", "stoker_requests_total", {**REQUESTS, "more": "x"}),
    ],
)
def test_what_the_catalogue_does_not_know_cannot_be_created(kind: str, name: str, labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=name):
        getattr(Registry(), kind)(name, **labels)


def test_every_metric_of_the_catalogue_can_be_created_and_names_say_their_kind() -> None:
    registry = Registry()
    for metric in METRICS:
        getattr(registry, metric.kind)(metric.name, **dict.fromkeys(metric.labels, "x"))
        assert metric.name.startswith(("stoker_", "process_"))
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert metric.unit in ("", "tokens", "rows") or metric.unit in metric.name, metric.name
        assert metric.meaning.endswith("."), metric.name
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_too_many_label_values_share_one_series_and_none_is_lost() -> None:
    registry = Registry()
    for number in range(SERIES_MAX + 50):
        registry.counter("stoker_decisions_total", action=f"a{number}").add()
    snapshot = registry.snapshot()
    assert len(snapshot.matching("stoker_decisions_total")) == SERIES_MAX + 1
    assert snapshot.total("stoker_decisions_total", action=OTHER) == 50
    assert snapshot.total("stoker_decisions_total") == SERIES_MAX + 50


def test_a_long_label_value_is_cut() -> None:
    registry = Registry()
    registry.counter("stoker_decisions_total", action="x" * 10_000).add()
    assert registry.snapshot().values_of("stoker_decisions_total", "action") == ["x" * LABEL_VALUE_MAX]


def test_what_is_gone_is_forgotten_in_every_metric_that_names_it() -> None:
    registry = Registry()
    for revision in ("digits-1", "digits-2"):
        registry.counter("stoker_requests_total", **{**REQUESTS, "revision": revision}).add()
        registry.histogram("stoker_batch_rows", project="default", endpoint="digits", revision=revision).observe(1)
    registry.gauge("stoker_queue_depth", project="default", endpoint="digits").set(3)
    registry.forget(endpoint="digits", revision="digits-1")
    snapshot = registry.snapshot()
    assert snapshot.values_of("stoker_requests_total", "revision") == ["digits-2"]
    assert snapshot.values_of("stoker_batch_rows", "revision") == ["digits-2"]
    assert snapshot.total("stoker_queue_depth") == 3
    with pytest.raises(ValueError, match="label"):
        registry.forget()


def test_a_series_forgotten_and_asked_again_counts_anew() -> None:
    registry = Registry()
    registry.counter("stoker_decisions_total", action="start").add(5)
    registry.forget(action="start")
    registry.counter("stoker_decisions_total", action="start").add(1)
    assert registry.snapshot().total("stoker_decisions_total") == 1


@given(processes)
def test_a_snapshot_survives_the_wire(snapshot: Snapshot) -> None:
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot


@pytest.mark.parametrize("data", [b"", b"\x00", b"{}", b"\x83\xa7process"])
def test_bytes_that_are_no_snapshot_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a snapshot"):
        decode_snapshot(data)


@given(st.lists(processes, min_size=3, max_size=3))
def test_merging_snapshots_is_associative_and_loses_nothing(parts: list[Snapshot]) -> None:
    left = merge([merge(parts[:2]), parts[2]])
    right = merge([parts[0], merge(parts[1:])])
    assert left == right
    assert left.total("stoker_requests_total") == sum(part.total("stoker_requests_total") for part in parts)
    assert left.distribution("stoker_queue_wait_seconds").count == sum(
        part.distribution("stoker_queue_wait_seconds").count for part in parts
    )


@given(processes, processes)
def test_the_difference_of_two_snapshots_is_what_happened_between(before: Snapshot, change: Snapshot) -> None:
    after = merge([before, change])
    between = subtract(after, before)
    assert between.total("stoker_requests_total") == change.total("stoker_requests_total")
    assert (
        between.distribution("stoker_queue_wait_seconds").buckets
        == change.distribution("stoker_queue_wait_seconds").buckets
    )
    assert between.total("stoker_queue_depth") == after.total("stoker_queue_depth")


def test_a_process_that_started_again_counts_from_zero() -> None:
    between = subtract(a_process("g", 3, [0.5]), a_process("g", 100, [0.5, 0.5, 2.0]))
    assert between.total("stoker_requests_total") == 3
    assert between.distribution("stoker_queue_wait_seconds").count == 1


def test_a_snapshot_answers_for_some_labels_and_knows_what_it_does_not_have() -> None:
    snapshot = a_process("gateway-0", 7, [0.1])
    assert snapshot.total("stoker_requests_total", endpoint="digits") == 7
    assert snapshot.total("stoker_requests_total", endpoint="other") == 0
    assert snapshot.total("stoker_requests_total", unheard="x") == 0
    assert snapshot.total("stoker_unheard_of_total") == 0
    assert snapshot.values_of("stoker_requests_total", "code") == ["200"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=4))
def test_a_gauge_of_several_processes_is_what_its_rule_says(values: list[int]) -> None:
    parts = []
    for at, value in enumerate(values):
        registry = Registry(f"p{at}")
        registry.gauge("stoker_queue_depth", project="p", endpoint="e").set(value)
        registry.gauge("stoker_replicas_ready", project="p", endpoint="e").set(value)
        registry.gauge("stoker_node_cores", node="n").set(value)
        parts.append(Snapshot(registry.process, float(-at), registry.snapshot().metrics))
    merged = merge(parts)
    assert merged.total("stoker_queue_depth") == sum(values)
    assert merged.total("stoker_replicas_ready") == max(values)
    assert merged.total("stoker_node_cores") == values[0]  # the newest, wherever it stands
    assert merge([merged, merged]).total("stoker_replicas_ready") == max(values)
