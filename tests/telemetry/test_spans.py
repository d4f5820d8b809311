"""A trace as spans: a tree whose times lie in each other, whatever the stamps say; and in OTLP's words."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stoker.telemetry import otlp_traces
from stoker.telemetry.spans import spans
from stoker.types.replica import Timings, Usage
from stoker.types.traces import Trace, Try
from tests.telemetry.otlp_shape import ExportTraceServiceRequest

SECONDS = st.floats(0, 20)
TRIES = st.builds(
    lambda number, kind, begin_s, took_s, outcome: Try(number, kind, "smol", begin_s, begin_s + took_s, outcome, "r0"),
    st.integers(0, 70),
    st.sampled_from(["first", "retry", "hedge", "migration", "fallback"]),
    SECONDS,
    SECONDS,
    st.sampled_from(["ok", "lost", "cancelled", "replica_lost"]),
)
TRACES = st.builds(
    Trace,
    id=st.just("4bf92f3577b34da6a3ce929d0e0e4736"),
    span=st.sampled_from(["00f067aa0ba902b7", "ffffffffffffffff"]),
    request=st.just("req-1"),
    because=st.just("error"),
    gateway=st.just("gateway-0"),
    endpoint=st.just("smol"),
    method=st.sampled_from(["chat", "completions", "embeddings", "infer"]),
    status=st.sampled_from([200, 499, 503]),
    began_at_s=st.just(1.8e9),
    seconds=st.floats(0, 60),
    arrived_s=SECONDS,
    known_s=SECONDS,
    admitted_s=SECONDS,
    waited_s=SECONDS,
    first_byte_s=SECONDS,
    tries=st.lists(TRIES, max_size=4, unique_by=lambda each: each.number).map(tuple),
    timings=st.none() | st.builds(Timings, queue_s=SECONDS, compute_s=SECONDS, prefill_s=SECONDS, decode_s=SECONDS),
    usage=st.none() | st.just(Usage(input_tokens=3, output_tokens=5)),
)


@given(TRACES)
def test_spans_are_a_tree_and_none_ends_before_it_begins(trace: Trace) -> None:
    made = spans(trace)
    by_id = {span.id: span for span in made}
    assert len(by_id) == len(made), "no two spans have one id"
    assert [span for span in made if span.depth == 0] == made[:1]
    for span in made[1:]:
        assert made.index(by_id[span.parent]) < made.index(span)
        assert span.begin_s <= span.end_s
        if span.name.startswith("replica."):
            assert by_id[span.parent].begin_s <= span.begin_s
            assert span.end_s <= by_id[span.parent].end_s


@given(st.lists(TRACES, max_size=3))
def test_what_is_sent_has_the_receivers_shape(traces: list[Trace]) -> None:
    body = otlp_traces.encode(traces, "1.2.3", "host-1")
    sent = msgspec.json.decode(body, type=ExportTraceServiceRequest)
    count = sum(len(scope.spans) for resource in sent.resource_spans for scope in resource.scope_spans)
    assert count == sum(len(spans(trace)) for trace in traces)


def chat() -> Trace:
    return Trace(
        id="4bf92f3577b34da6a3ce929d0e0e4736",
        span="00f067aa0ba902b7",
        parent="b7ad6b7169203331",
        state="vendor=abc",
        request="req-1",
        because="retried",
        project="default",
        endpoint="smol",
        method="chat",
        status=200,
        is_stream=True,
        max_tokens=64,
        began_at_s=1_800_000_000.25,
        seconds=1.0,
        arrived_s=0.0001,
        known_s=0.001,
        admitted_s=0.002,
        waited_s=0.1,
        first_byte_s=0.55,
        tries=(
            Try(1, "first", "smol", 0.002, 0.05, "replica_lost", "r0"),
            Try(2, "retry", "smol", 0.2, 1.0, "ok", "r1"),
        ),
        timings=Timings(queue_s=0.1, prefill_s=0.2, decode_s=0.4),
        usage=Usage(input_tokens=7, output_tokens=10, cached_tokens=4),
    )


def test_a_chat_is_told_in_the_words_of_the_genai_conventions() -> None:
    root = spans(chat())[0]
    assert (root.name, root.kind, root.parent) == ("chat smol", "server", "b7ad6b7169203331")
    said = {name: value for name, value in root.attributes.items() if name.startswith("gen_ai.")}
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "stoker",
        "gen_ai.request.model": "smol",
        "gen_ai.response.model": "smol",
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.55,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4,
    }


def test_each_try_and_its_phases_lie_where_they_were() -> None:
    found = {span.name: (round(span.begin_s, 6), round(span.end_s, 6), span.error) for span in spans(chat())[1:]}
    assert found == {
        "auth": (0.0001, 0.001, ""),
        "admit": (0.001, 0.002, ""),
        "queue": (0.1, 0.2, ""),
        "first r0": (0.002, 0.05, "replica_lost"),
        "retry r1": (0.2, 1.0, ""),
        "replica.queue": (0.25, 0.35, ""),
        "replica.prefill": (0.35, 0.55, ""),
        "replica.decode": (0.55, 0.95, ""),
    }
    assert [span.id for span in spans(chat()) if span.kind == "client"] == ["00f067aa0ba902b8", "00f067aa0ba902b9"]


def test_the_callers_span_and_state_go_out_with_the_root() -> None:
    sent: Any = msgspec.json.decode(otlp_traces.encode([chat()], "1.2.3", "host-1"))
    root, *rest = sent["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (root["parentSpanId"], root["traceState"], root["flags"]) == ("b7ad6b7169203331", "vendor=abc", 0x301)
    assert root["startTimeUnixNano"] == "1800000000250000000"
    assert all(each["parentSpanId"] and each["flags"] == 0x101 for each in rest)
    assert [each["status"] for each in rest if "status" in each] == [{"code": 2, "message": "replica_lost"}]


def test_without_a_stream_the_way_there_and_back_is_taken_as_equally_long() -> None:
    own = Try(1, "first", "digits", 0.1, 0.9, "ok", "r0")
    timings = Timings(queue_s=0.2, batch_wait_s=0.1, compute_s=0.3)
    made = msgspec.structs.replace(
        chat(), method="infer", first_byte_s=0.0, waited_s=0.0, tries=(own,), timings=timings
    )
    found = {span.name: (round(span.begin_s, 6), round(span.end_s, 6)) for span in spans(made) if span.depth == 2}
    assert found == {"replica.queue": (0.2, 0.4), "replica.batch_wait": (0.4, 0.5), "replica.compute": (0.5, 0.8)}
