"""What `/metrics` says is what Prometheus' own parser reads."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from stoker.telemetry import reference
from stoker.telemetry.catalogue import BY_NAME, METRICS
from stoker.telemetry.exposition import OPENMETRICS, TEXT, answer
from stoker.telemetry.histogram import Exemplar
from stoker.telemetry.metrics import Registry
from stoker.telemetry.prometheus import expose, expose_openmetrics
from stoker.telemetry.views import VLLM

# What Prometheus 3 sends.
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
DOCS = Path(__file__).parents[2] / "docs"
SOURCE = Path(reference.__file__).parents[1]


def read(registry: Registry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(expose(registry.snapshot()))
        for sample in family.samples
    }


@given(st.text(max_size=50), st.integers(0, 2**60))
def test_any_label_and_count_comes_back_as_it_was(action: str, count: int) -> None:
    registry = Registry()
    registry.counter("stoker_decisions_total", action=action).add(count)
    assert read(registry) == {("stoker_decisions_total", frozenset({("action", action)})): float(count)}


@given(st.lists(st.floats(0, 5000), max_size=50))
def test_histograms_are_cumulative_and_exact_at_their_bounds(values: list[float]) -> None:
    registry = Registry()
    histogram = registry.histogram("stoker_loop_seconds")
    for value in values:
        histogram.observe(value)
    samples = read(registry)
    buckets = {
        float(dict(labels)["le"]): value for (name, labels), value in samples.items() if name.endswith("_bucket")
    }
    for bound, count in buckets.items():
        assert count == sum(value <= bound for value in values)
    assert buckets[float("inf")] == samples[("stoker_loop_seconds_count", frozenset())] == len(values)
    assert len(buckets) < 30


def test_every_kind_says_what_it_is_and_means() -> None:
    registry = Registry("gateway-0")
    registry.gauge("stoker_gateway_connections", process="gateway-0").set(12.5)
    registry.counter("stoker_loop_errors_total").add(2)
    registry.histogram("stoker_batch_rows", project="p", endpoint="e", revision="r").observe(3)
    families = {family.name: family for family in text_string_to_metric_families(expose(registry.snapshot()))}
    assert {name: family.type for name, family in families.items()} == {
        "stoker_gateway_connections": "gauge",
        "stoker_loop_errors": "counter",
        "stoker_batch_rows": "histogram",
    }
    assert families["stoker_gateway_connections"].documentation == BY_NAME["stoker_gateway_connections"].meaning
    assert families["stoker_gateway_connections"].samples[0].value == 12.5


def test_an_empty_registry_is_an_empty_page() -> None:
    assert list(text_string_to_metric_families(expose(Registry().snapshot()))) == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5000), st.integers(0, 2**128 - 1), st.booleans()), max_size=30))
def test_openmetrics_is_what_its_parser_reads_with_the_traces_of_requests(seen: list[tuple[float, int, bool]]) -> None:
    registry = Registry()
    took = registry.histogram("stoker_request_duration_seconds", project="p", endpoint="e", revision="r", method="chat")
    traced = {}
    for number, (value, trace, is_kept) in enumerate(seen):
        took.observe(value)
        if is_kept:
            took.show(Exemplar(value, f"{trace:032x}", f"{number:016x}", 1e9 + number))
            traced[f"{trace:032x}", f"{number:016x}"] = (value, 1e9 + number)
    families = {family.name: family for family in read_openmetrics(expose_openmetrics(registry.snapshot(), VLLM))}
    assert set(families) == {"stoker_request_duration_seconds", "vllm:e2e_request_latency_seconds"}
    family = families["stoker_request_duration_seconds"]
    assert (family.type, family.unit) == ("histogram", "seconds")
    low = float("-inf")
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            high = float(sample.labels["le"])
            if sample.exemplar is not None:
                assert low < sample.exemplar.value <= high
                labels = sample.exemplar.labels
                assert traced[labels["trace_id"], labels["span_id"]] == (
                    sample.exemplar.value,
                    float(sample.exemplar.timestamp),
                )
            low = high
        elif sample.name.endswith("_count"):
            assert sample.value == len(seen)
    shown = any(value > 2**-20 for value, _ in traced.values())
    assert shown == any(sample.exemplar is not None for sample in family.samples)


def test_openmetrics_takes_every_metric_of_the_catalogue_and_every_alias() -> None:
    registry = Registry("gateway-0")
    for metric in METRICS:
        made = getattr(registry, metric.kind)(metric.name, **dict.fromkeys(metric.labels, "chat"))
        made.observe(3) if metric.kind == "histogram" else made.add(3)
    snapshot = registry.snapshot()
    new = {family.name: family for family in read_openmetrics(expose_openmetrics(snapshot, VLLM))}
    old = {family.name: family for family in text_string_to_metric_families(expose(snapshot, VLLM))}
    assert new.keys() == old.keys()
    assert len(new) >= len(METRICS) + len(VLLM) - 10
    for name, family in new.items():
        assert [sample.value for sample in family.samples] == [sample.value for sample in old[name].samples], name


@pytest.mark.parametrize(
    ("accept", "is_new"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        (PROMETHEUS_3, True),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=much", False),
        ("," * 5000, False),
    ],
)
def test_who_likes_openmetrics_gets_it(accept: str, *, is_new: bool) -> None:
    kind, pieces = answer(Registry().snapshot(), accept)
    text = b"".join(pieces)
    assert kind == (OPENMETRICS if is_new else TEXT)
    assert text.endswith(b"# EOF\n") == is_new


def test_every_metric_of_the_catalogue_is_measured_somewhere() -> None:
    code = "".join(path.read_text() for path in SOURCE.rglob("*.py") if "catalogue" not in path.parts)
    assert [name for name in BY_NAME if f'"{name}"' not in code] == []


def test_the_reference_page_is_the_catalogue() -> None:
    assert (DOCS / "reference" / "metrics.md").read_text() == reference.page(), (
        "run: python -m stoker.telemetry.reference > docs/reference/metrics.md"
    )
