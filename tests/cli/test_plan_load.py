"""The load of `stoker plan --validate`: how fast, of which sizes, and what of it is compared."""

import math

import numpy as np
import pytest

from stoker.cli.plan_load import RATE_MAX, sized, summed, usual
from stoker.cli.plan_platform import Known
from stoker.cli.plan_validate import text
from stoker.client.data import Tokens
from stoker.client.openloop import Seen
from stoker.client.prompts import USUAL
from stoker.sim.arrivals import Arrivals
from stoker.sim.platform import plan
from stoker.sim.sizing.validation import Checked, Validation
from stoker.types.resources import EndpointSpec


def known(per_s: float, tokens: tuple[int, ...] = ()) -> Known:
    at_s = np.arange(0.0, 120.0, 1.0 / per_s)
    sizes = np.resize(np.array(tokens, dtype=np.int64), len(at_s) if tokens else 0)
    return Known(EndpointSpec(), Arrivals(at_s, 120.0, sizes, sizes + 1), plan.Batching(), (), None, (), {})


def test_the_rate_is_what_was_said_or_the_busiest_minutes_up_to_what_one_client_can() -> None:
    assert usual(3.0, known(7.0)) == 3.0
    assert usual(None, known(5.0)) == pytest.approx(5.0, rel=0.02)
    assert usual(None, known(400.0)) == RATE_MAX
    assert usual(None, None) is None


def test_chats_are_as_large_as_those_of_the_day_without_what_is_no_word() -> None:
    made = sized(known(1.0, (100, 300)), 30, 40, 0)
    assert {(each.words, each.tokens_max) for each in made} == {(70, 101), (270, 301)}
    assert made == sized(known(1.0, (100, 300)), 30, 40, 0)
    assert sized(None, 30, 2, 0) == sized(known(1.0), 30, 2, 0) == [USUAL, USUAL]
    assert {each.words for each in sized(known(1.0, (10,)), 30, 5, 0)} == {1}


def test_what_was_sent_is_simulated_until_its_last_answer_with_its_own_tokens() -> None:
    lost = Seen(2.0, math.inf, math.inf, problem="unavailable: full")
    seen = [Seen(0.5, 0.1, 0.4, Tokens(10, 4)), Seen(1.0, 0.2, 3.0, Tokens(30, 8)), lost]
    arrivals, measured = summed(seen, "chat")
    assert arrivals.at_s.tolist() == [0.5, 1.0, 2.0]
    assert 4.0 < arrivals.duration_s < 4.01
    assert arrivals.input_tokens.tolist() == [10, 30, 20]
    assert arrivals.output_tokens.tolist() == [4, 8, 6]
    assert measured["ttft p50"] == 0.2
    assert measured["latency p95"] == math.inf, "who had no answer waits for ever, as in the simulation"
    rows, _ = summed(seen, "predict")
    assert not len(rows.input_tokens)


def test_the_page_says_whose_clock_and_what_the_engine_rests_on() -> None:
    lines = (Checked("latency p50", 0.002, 0.0021, 0.15),)
    found = Validation(900, 60.0, lines, "load", 3, 2, 0.0004, "as fitted to this load itself")
    said = text(found)
    assert "900 requests in 60 s sent by this command; 3 without an answer; 2 left out" in said
    assert "the engine as fitted to this load itself; 0.4 ms of each request: the client" in said
    assert "of the last day, as the platform measured them" in text(Validation(900, 60.0, lines))
