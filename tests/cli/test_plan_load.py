"""The load of `stoker plan --validate`: how fast, of which sizes, and what of it is compared."""

import math

import click
import numpy as np
import pytest

from stoker.cli.plan_load import RATE_MAX, Wanted, arranged, came, measured, remembered, sized, usual
from stoker.cli.plan_platform import Known
from stoker.cli.plan_traces import MOST, PER_S, Marked
from stoker.cli.plan_validate import text
from stoker.client.data import Tokens
from stoker.client.load import Ask
from stoker.client.openloop import Seen
from stoker.client.prompts import USUAL
from stoker.client.scaling import ScalingView
from stoker.core.scale.record import Record
from stoker.core.scale.sight import Sight
from stoker.protocol.tracecontext import read
from stoker.sim.arrivals import Arrivals
from stoker.sim.platform import plan
from stoker.sim.sizing.traced import Traced
from stoker.sim.sizing.validation import Checked, Validation
from stoker.types.errors import Unavailable
from stoker.types.resources import EndpointSpec, Replicas


def known(per_s: float, tokens: tuple[int, ...] = ()) -> Known:
    at_s = np.arange(0.0, 120.0, 1.0 / per_s)
    sizes = np.resize(np.array(tokens, dtype=np.int64), len(at_s) if tokens else 0)
    return Known(EndpointSpec(), Arrivals(at_s, 120.0, sizes, sizes + 1), plan.Batching(), (), None, (), {})


def wanted(rate: float | None, trace: Arrivals | None = None) -> Wanted:
    return Wanted("default", "a", 60.0, rate, 0, True, trace)


def test_the_rate_is_what_was_said_or_the_busiest_minutes_up_to_what_one_client_can() -> None:
    assert usual(wanted(3.0), known(7.0)) == 3.0
    assert usual(wanted(None), known(5.0)) == pytest.approx(5.0, rel=0.02)
    assert usual(wanted(None), known(400.0)) == RATE_MAX
    assert usual(wanted(None), None) is None
    assert usual(wanted(None, known(2.0).recorded), None) == pytest.approx(2.0), "a trace has its own"


def test_chats_are_as_large_as_those_of_the_day_without_what_is_no_word() -> None:
    day, planned = known(1.0, (100, 300)).recorded, known(0.5).recorded
    made = sized(day, 30, planned, 0)
    assert len(made) == len(planned)
    assert {(each.words, each.tokens_max) for each in made} == {(70, 101), (270, 301)}
    assert made == sized(day, 30, planned, 0)
    assert set(sized(None, 30, planned, 0)) == set(sized(known(1.0).recorded, 30, planned, 0)) == {USUAL}
    assert {each.words for each in sized(known(1.0, (10,)).recorded, 30, planned, 0)} == {1}
    own = [(each.words, each.tokens_max) for each in sized(day, 30, day, 0)]
    assert own == [(70, 101), (270, 301)] * (len(day) // 2), "a trace is sent as it is"


def test_what_was_sent_is_simulated_until_its_last_answer_with_what_was_read_of_its_prompts() -> None:
    lost = Seen(5, 2.0, math.inf, math.inf, problem="unavailable: full")
    seen = [Seen(0, 0.5, 0.1, 0.4, Tokens(30, 4)), Seen(2, 1.0, 0.2, 3.0, Tokens(50, 8)), lost]
    traces = arranged(seen, [Traced(0, read_tokens=10, latency_s=0.4), Traced(5, latency_s=9.0), Traced(9)])
    assert [(each.number, each.latency_s) for each in traces] == [(0, 0.4), (2, math.inf)], "as its client saw it"
    arrivals = came(seen, "chat", traces)
    assert arrivals.at_s.tolist() == [0.5, 1.0, 2.0]
    assert 4.0 < arrivals.duration_s < 4.01
    assert arrivals.input_tokens.tolist() == [10, 30, 20], "twenty of each prompt were known"
    assert arrivals.output_tokens.tolist() == [4, 8, 6]
    assert came(seen, "chat", ()).input_tokens.tolist() == [30, 50, 40]
    assert not len(came(seen, "predict", traces).input_tokens)


def test_what_left_a_trace_is_compared_and_a_chat_by_its_first_token_too() -> None:
    traces = [Traced(at, ttft_s=0.1, latency_s=at / 100.0) for at in range(0, 120, 2)]
    found = measured(traces, "chat", 0.5)
    assert list(found.numbers) == list(range(0, 120, 2))
    assert found.taken_s == {"latency": [at / 100.0 for at in found.numbers], "ttft": [0.1] * 60}
    assert found.replica_hours == 0.5
    assert set(measured(traces, "predict", 0.0).taken_s) == {"latency"}
    with pytest.raises(Unavailable, match="kept the traces of 3 requests, too few to compare"):
        measured(traces[:3], "predict", 0.0)


def test_a_load_asks_for_as_many_traces_as_gateways_keep_of_one_caller() -> None:
    ask = Ask("/plain", b"{}", {"a": "b"})
    assert all("traceparent" in Marked(9, 2.0, 0).mark(at, ask).headers for at in range(9))
    some = Marked(3000, 60.0, 0)
    asked = [some.mark(at, ask) for at in range(3000)]
    parents = [each.headers["traceparent"] for each in asked if each is not ask]
    assert len(parents) == pytest.approx(PER_S / 60.0 * 3000, rel=0.1)
    assert len(set(parents)) == len(parents)
    assert all(read(each.encode()) is not None for each in parents)
    assert sum(Marked(3000, 20.0, 0).mark(at, ask) is not ask for at in range(3000)) == pytest.approx(MOST, rel=0.1)


def test_the_page_says_whose_clock_and_what_the_engine_rests_on() -> None:
    lines = (Checked("latency p50", 0.002, 0.0021, 0.15),)
    found = Validation(
        900, 60.0, lines, "load", 3, 2, 240, 0.0024, "fitted to this load",
        (Checked("latency p50", 0.002, 0.0024, 0.15),),
    )  # fmt: skip
    said = text(found)
    assert "900 requests in 60 s sent by this command; 3 without an answer; 2 left out" in said
    assert "its own clock saw 2.4 ms at P50" in said
    assert "240 of them traced and compared; the engine fitted to this load" in said
    assert "as the day before this load knew it: latency p50 +20 %" in said
    assert "of the last day, as the platform measured them" in text(Validation(900, 60.0, lines))


def test_the_page_says_what_so_many_requests_can_tell() -> None:
    lines = (
        Checked("latency p50", 1.0, 1.05, 0.15, 0.97, 1.04),
        Checked("latency p95", 3.0, 2.1, 0.25, 2.5, math.inf),
        Checked("replica-hours", 0.2, 0.21, 0.1),
    )
    said = click.unstyle(text(Validation(44, 96.0, lines, "load", judged=44)))
    assert "970 ms to 1.04 s  within" in said
    assert "2.5 s or more     cannot be told" in said
    assert "44 requests cannot tell how far off the simulation is of latency p95: " in said
    assert "TRUTH" not in text(Validation(44, 96.0, (lines[2],)))


def test_scaling_begins_as_it_is_when_it_has_seen_the_probes() -> None:
    def view(at_s: float | None, *, is_scaled: bool = True) -> ScalingView:
        now = Record(at_s, 1, 1, "", "", (), Sight(at_s=at_s)) if at_s is not None else None
        return ScalingView("default", "a", Replicas(1, 2), is_scaled, (), now)

    looks = iter([None, 7.0, 7.0, 9.0])
    assert remembered(lambda: view(next(looks))) == view(7.0), "the first that there is"
    assert remembered(lambda: view(next(looks))) == view(9.0)
    assert remembered(lambda: view(None, is_scaled=False)).now is None, "what does not scale is not looked at"
    assert remembered(lambda: view(7.0), patience_s=0.0) == view(7.0), "nor is a control that is away waited for"
