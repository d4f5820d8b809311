"""What goes out as protobuf is what Google's own decoder reads; its native histograms are ours, bucket for bucket."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from stoker.telemetry.catalogue import METRICS
from stoker.telemetry.exposition import OPENMETRICS, PROTOBUF, TEXT, answer, chosen
from stoker.telemetry.histogram import Exemplar, Histogram
from stoker.telemetry.metrics import Registry
from stoker.telemetry.prometheus import expose
from stoker.telemetry.prometheus_protobuf import pieces
from stoker.telemetry.snapshot import Snapshot
from stoker.telemetry.views import VLLM

# What Prometheus 3 sends with native histograms on.
PROMETHEUS_NATIVE: Final = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
# io/prometheus/client/metrics.proto, as far as it is used: number, type, name; `*` repeats.
MESSAGES: Final = {
    "LabelPair": "1 string name, 2 string value",
    "Gauge": "1 double value",
    "Counter": "1 double value",
    "Bucket": "1 uint64 cumulative_count, 2 double upper_bound",
    "BucketSpan": "1 sint32 offset, 2 uint32 length",
    "Timestamp": "1 int64 seconds, 2 int32 nanos",
    "Exemplar": "1 LabelPair label*, 2 double value, 3 Timestamp timestamp",
    "Histogram": "1 uint64 sample_count, 2 double sample_sum, 3 Bucket bucket*, 5 sint32 schema, "
    "6 double zero_threshold, 7 uint64 zero_count, 12 BucketSpan positive_span*, 13 sint64 positive_delta*, "
    "16 Exemplar exemplars*",
    "Metric": "1 LabelPair label*, 2 Gauge gauge, 3 Counter counter, 7 Histogram histogram",
    "MetricFamily": "1 string name, 2 string help, 3 int32 type, 4 Metric metric*",
}


def family_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="p", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            number, kind, called = field.split()
            label = kinds.LABEL_REPEATED if called.endswith("*") else kinds.LABEL_OPTIONAL
            made = message.field.add(name=called.rstrip("*"), number=int(number), label=label)
            if kind in MESSAGES:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".p.{kind}"
            else:
                made.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("p.MetricFamily"))


FAMILY: Final = family_class()


def read(snapshot: Snapshot, *views: Any) -> Iterator[Any]:
    """Yield the families, as Google's library decodes them."""
    data = b"".join(pieces(snapshot, *views))
    while data:
        length = shift = 0
        while True:
            byte, data = data[0], data[1:]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        family = FAMILY.FromString(data[:length])
        yield family
        data = data[length:]


def native(histogram: Any) -> dict[int, int]:
    """Return the count of each bucket, by its index."""
    found, index, count, deltas = {}, 0, 0, iter(histogram.positive_delta)
    for span in histogram.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            found[index] = count
            index += 1
    assert next(deltas, None) is None
    return found


values = st.one_of(st.floats(0, 2**20), st.floats(1e-9, 1e-3), st.just(0.0), st.sampled_from([0.5, 1.0, 2.0**-20, 8.0]))


@settings(deadline=None)
@given(st.lists(values, max_size=80))
def test_native_buckets_are_ours_and_classic_ones_those_of_the_text(seen: list[float]) -> None:
    registry = Registry()
    histogram = registry.histogram("stoker_loop_seconds")
    for value in seen:
        histogram.observe(value)
    (family,) = read(registry.snapshot())
    assert (family.name, family.type) == ("stoker_loop_seconds", 4)
    found, ours = family.metric[0].histogram, histogram.read()
    assert (found.sample_count, found.sample_sum, found.schema) == (len(seen), ours.sum, 3)
    assert found.zero_threshold == 2.0**-20
    assert found.zero_count == sum(value <= 2.0**-20 for value in seen)
    buckets = native(found)
    for index, count in buckets.items():
        low, high = 2 ** ((index - 1) / 8), 2 ** (index / 8)
        assert count == sum(low < value <= high for value in seen if value > 2.0**-20)
    assert found.zero_count + sum(buckets.values()) == len(seen)
    (text,) = text_string_to_metric_families(expose(registry.snapshot()))
    classic = [(float(each.labels["le"]), each.value) for each in text.samples if each.name.endswith("_bucket")]
    assert [(each.upper_bound, each.cumulative_count) for each in found.bucket] == classic


def test_what_is_over_the_highest_bucket_lies_in_the_one_above_two_to_the_twentieth() -> None:
    registry = Registry()
    registry.histogram("stoker_loop_seconds").observe(1e9)
    (family,) = read(registry.snapshot())
    assert native(family.metric[0].histogram) == {161: 1}


@given(st.text(max_size=50), st.integers(0, 2**60))
def test_any_label_and_count_comes_back_as_it_was(action: str, count: int) -> None:
    registry = Registry()
    registry.counter("stoker_decisions_total", action=action).add(count)
    (family,) = read(registry.snapshot())
    (metric,) = family.metric
    assert [(pair.name, pair.value) for pair in metric.label] == [("action", action)]
    assert (family.type, metric.counter.value) == (0, float(count))


def test_native_buckets_carry_the_traces_that_were_kept() -> None:
    registry = Registry()
    took = registry.histogram("stoker_request_duration_seconds", project="p", endpoint="e", revision="r", method="m")
    took.observe(0.25)
    took.show(Exemplar(0.25, "ab" * 16, "cd" * 8, 1_790_000_000.123))
    (family,) = read(registry.snapshot())
    (example,) = family.metric[0].histogram.exemplars
    assert {pair.name: pair.value for pair in example.label} == {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    assert (example.value, example.timestamp.seconds, example.timestamp.nanos) == (0.25, 1_790_000_000, 123_000_000)


def test_every_metric_and_alias_is_what_the_text_says() -> None:
    registry = Registry("gateway-0")
    for metric in METRICS:
        made = getattr(registry, metric.kind)(metric.name, **dict.fromkeys(metric.labels, "chat"))
        made.observe(3) if isinstance(made, Histogram) else made.add(3)
    snapshot = registry.snapshot()
    found = {family.name.removesuffix("_total"): family for family in read(snapshot, VLLM)}
    old = {family.name: family for family in text_string_to_metric_families(expose(snapshot, VLLM))}
    assert found.keys() == old.keys()
    kinds = {0: "counter", 1: "gauge", 4: "histogram"}
    for name, family in found.items():
        assert (kinds[family.type], family.help) == (old[name].type, old[name].documentation)
        assert {(pair.name, pair.value) for pair in family.metric[0].label} == {
            item for item in old[name].samples[0].labels.items() if item[0] != "le"
        }


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (PROMETHEUS_NATIVE, PROTOBUF),
        (PROMETHEUS_NATIVE.replace("q=0.6", "q=0.4"), OPENMETRICS),
        ("application/vnd.google.protobuf", TEXT),  # of what, and how
        (PROMETHEUS_NATIVE.replace("encoding=delimited", "encoding=text").replace("q=0.5", "q=0"), TEXT),
        ("application/vnd.google.protobuf;proto=a.B;encoding=delimited", TEXT),
    ],
)
def test_who_likes_protobuf_best_gets_it_and_nobody_else(accept: str, form: str) -> None:
    assert chosen(accept) == form
    assert answer(Registry().snapshot(), accept)[0] == form
