"""Other names for the same numbers: what vLLM's boards and OpenTelemetry's receivers read is what was counted."""

import pytest

from stoker.gateway.meters import Meters
from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.metrics import Registry, merge
from stoker.telemetry.views import GEN_AI, VLLM, View, seen_as
from stoker.types.replica import Usage

REVISION = {"project": "default", "endpoint": "smol", "revision": "smol-1"}


@pytest.mark.parametrize("view", [*VLLM, *GEN_AI], ids=lambda view: view.name)
def test_a_view_is_of_a_metric_and_of_labels_that_there_are(view: View) -> None:
    source = BY_NAME[view.source]
    assert {*view.where, *view.labels.values()} <= set(source.labels)
    if view.name.startswith("vllm:"):
        assert view.name.endswith("_total") == (source.kind == "counter")


def test_vllms_names_count_what_was_counted_over_revisions() -> None:
    registry = Registry()
    for number in (1, 2):
        labels = {**REVISION, "revision": f"smol-{number}"}
        registry.counter("stoker_tokens_total", kind="input", **labels).add(10 * number)
        registry.counter("stoker_tokens_total", kind="cached", **labels).add(number)
        registry.histogram("stoker_time_to_first_token_seconds", method="chat", **labels).observe(0.1 * number)
        registry.gauge("stoker_kv_cache_usage_ratio", replica=f"r{number}", **labels).set(0.2 * number)
    seen = seen_as(registry.snapshot(), VLLM)
    assert seen.total("vllm:prompt_tokens_total", model_name="smol", project="default") == 30
    assert seen.total("vllm:prefix_cache_hits_total", model_name="smol") == 3
    assert seen.total("vllm:kv_cache_usage_perc", model_name="smol") == 0.4
    first = seen.distribution("vllm:time_to_first_token_seconds", model_name="smol")
    assert (first.count, round(first.sum, 6)) == (2, 0.3)
    assert len(seen.matching("vllm:time_to_first_token_seconds")) == 1


def test_a_view_keeps_only_what_it_is_of() -> None:
    registry = Registry()
    for method, seconds in (("chat", 1.0), ("infer", 2.0), ("completions", 4.0), ("embeddings", 8.0)):
        registry.histogram("stoker_request_duration_seconds", method=method, **REVISION).observe(seconds)
    vllm = seen_as(registry.snapshot(), VLLM).distribution("vllm:e2e_request_latency_seconds")
    assert vllm.sum == 5.0
    gen_ai = seen_as(registry.snapshot(), GEN_AI)
    name, asked = "gen_ai.server.request.duration", {"gen_ai.request.model": "smol", "gen_ai.provider.name": "stoker"}
    assert gen_ai.distribution(name, **asked, **{"gen_ai.operation.name": "text_completion"}).sum == 4.0
    assert gen_ai.distribution(name, **asked).sum == 13.0


def test_two_gateways_that_see_one_replica_see_one_cache_under_every_name() -> None:
    parts = []
    for name in ("gateway-0", "gateway-1"):
        registry = Registry(name)
        registry.gauge("stoker_kv_cache_usage_ratio", replica="r0", **REVISION).set(0.5)
        parts.append(registry.snapshot())
    merged = merge(parts)
    assert merged.total("stoker_kv_cache_usage_ratio") == 0.5
    assert seen_as(merged, VLLM).total("vllm:kv_cache_usage_perc") == 0.5


def test_what_was_not_counted_is_not_shown() -> None:
    assert seen_as(Registry().snapshot(), (*VLLM, *GEN_AI)).metrics == ()


@pytest.mark.parametrize(
    ("method", "operation"),
    [("chat", "chat"), ("completions", "text_completion"), ("embeddings", "embeddings"), ("infer", None)],
)
def test_what_language_models_do_goes_by_the_operation_that_the_conventions_know(
    method: str, operation: str | None
) -> None:
    registry = Registry()
    revision = Meters(registry, "default", "smol").revision("smol-1", method)
    revision.duration.observe(1.0)
    revision.text.first_token.observe(0.1)
    revision.text.per_token.observe(0.01)
    revision.tokens([Usage(10, 5)])
    seen = seen_as(registry.snapshot(), GEN_AI)
    expected = [operation] if operation else []
    for view in GEN_AI:
        assert seen.values_of(view.name, "gen_ai.operation.name") == expected, view.name
    if operation:
        used = seen.distribution("gen_ai.client.token.usage", **{"gen_ai.token.type": "input"})
        assert used.sum == 10
