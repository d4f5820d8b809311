"""Arrivals come by seed, at the rates that were asked for; traces are read in both of their formats."""

from pathlib import Path

import numpy as np
import pytest

from stoker.sim import arrivals, traces
from stoker.sim.calendar import said
from stoker.sim.service import ByTokens, Drawn, seconds
from stoker.types.errors import InvalidInput, NotFound


@pytest.mark.parametrize("load", arrivals.LOADS)
def test_a_load_is_the_same_for_the_same_seed_and_another_for_another(load: str) -> None:
    one, same, other = (arrivals.make(load, seed, 900.0) for seed in (1, 1, 2))
    assert np.array_equal(one.at_s, same.at_s)
    assert not np.array_equal(one.at_s[:50], other.at_s[:50])
    assert np.all(np.diff(one.at_s) >= 0.0)
    assert one.at_s[-1] < one.duration_s == 900.0


@pytest.mark.parametrize(
    ("load", "mean_per_s"), [("step", 34.0), ("spike", 9.6), ("sine", 25.0), ("gamma", 30.0), ("edge", 10.6)]
)
def test_the_first_loads_have_their_rates(load: str, mean_per_s: float) -> None:
    found = np.mean([len(arrivals.make(load, seed)) for seed in range(4)]) / arrivals.HOUR_S
    assert found == pytest.approx(mean_per_s, rel=0.06)


def test_a_step_is_where_it_was_said() -> None:
    found = arrivals.make("step", 3)
    assert np.sum(found.at_s < 600) == pytest.approx(2_400, rel=0.1)
    assert np.sum(found.at_s >= 600) == pytest.approx(120_000, rel=0.02)


def test_gaps_of_bursts_vary_as_said() -> None:
    found = arrivals.gamma(50.0, 4.0, 4_000.0, np.random.default_rng(5))
    gaps_s = np.diff(found.at_s)
    assert np.mean(gaps_s) == pytest.approx(0.02, rel=0.05)
    assert np.std(gaps_s) / np.mean(gaps_s) == pytest.approx(4.0, rel=0.05)


def test_a_load_at_several_times_its_rate_keeps_its_shape() -> None:
    plain, more = arrivals.make("spike", 7), arrivals.make("spike", 7, times=2.5)
    assert len(more) == pytest.approx(2.5 * len(plain), rel=0.05)
    one, other = (np.histogram(each.at_s % 600, bins=10)[0] for each in (plain, more))
    assert other == pytest.approx(2.5 * one, rel=0.15)


CSV = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:05.9799600,100,2
"""
JSONL = """{"timestamp": 0, "input_length": 40, "output_length": 6, "hash_ids": [0, 1]}

{"timestamp": 2500, "input_length": 30, "output_length": 4, "hash_ids": []}
"""


def test_a_csv_trace_begins_at_its_first_request_in_order(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(CSV)
    found = traces.read(file)
    assert found.at_s == pytest.approx([0.0, 0.052, 2.0], abs=1e-6)
    assert found.began_s is not None
    assert said(found.began_s) == "Thu 2023-11-16 18:17 UTC"
    assert found.input_tokens.tolist() == [4808, 3180, 100]
    assert found.output_tokens.tolist() == [10, 8, 2]
    assert found.duration_s > 2.0


def test_a_jsonl_trace_counts_milliseconds(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(JSONL)
    found = traces.read(file)
    assert found.at_s.tolist() == [0.0, 2.5]
    assert found.began_s is None, "it counts from its beginning"
    assert found.blocks == ((0, 1), ())
    assert seconds(ByTokens(1.0, 0.1, 1.0), found, 0).tolist() == [11.0, 8.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column TIMESTAMP"),
        (CSV + "2023-11-16 18:17:03.9,many,1\n", "line 5"),
        (JSONL + "{nothing\n", "line 4"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no request"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nsoon,1,1\n", "line 2 .* 'soon' is no time, such as 2023"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nnan,1,1\n", "line 2 .* nan is no time"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n1,1,99999999999999999999\n", "line 2 .* tokens"),
        ('{"timestamp": 1, "input_length": -5}\n', "line 1 .* -5 tokens"),
        ('{"timestamp": 0}\n{"timestamp": 1e12}\n', "spans 11,574 days, more than 92; .* unit"),
    ],
)
def test_a_trace_that_cannot_be_read_says_where(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=words):
        traces.read(file)


def test_a_trace_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no trace"):
        traces.read(tmp_path / "missing.csv")


def test_a_trace_begun_elsewhere_has_the_same_requests(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(CSV)
    found = traces.read(file)
    turned = arrivals.rotated(found, 4)
    assert arrivals.rotated(found, 0) is found
    assert sorted(turned.input_tokens.tolist()) == sorted(found.input_tokens.tolist())
    assert turned.at_s.tolist() != found.at_s.tolist()
    assert np.all(np.diff(turned.at_s) >= 0.0)


def test_drawn_service_has_the_mean_and_variation_that_were_asked_for() -> None:
    found = seconds(Drawn(0.4, 2.0), arrivals.make("poisson", 1), 1)
    assert np.mean(found) == pytest.approx(0.4, rel=0.03)
    assert np.std(found) / np.mean(found) == pytest.approx(2.0, rel=0.03)
    assert set(seconds(Drawn(0.4, 0.0), arrivals.make("edge", 1, 60.0), 1).tolist()) == {0.4}
