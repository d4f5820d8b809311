"""What `/metrics` says is what Prometheus' own parser reads."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from stoker.telemetry import reference
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.metrics import Registry
from stoker.telemetry.prometheus import expose

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


def test_every_metric_of_the_catalogue_is_measured_somewhere() -> None:
    code = "".join(path.read_text() for path in SOURCE.rglob("*.py") if path.name != "catalogue.py")
    assert [name for name in BY_NAME if f'"{name}"' not in code] == []


def test_the_reference_page_is_the_catalogue() -> None:
    assert (DOCS / "reference" / "metrics.md").read_text() == reference.page(), (
        "run: python -m stoker.telemetry.reference > docs/reference/metrics.md"
    )
