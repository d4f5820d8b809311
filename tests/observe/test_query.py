"""The query language against an oracle that knows every event, and against whatever people type."""

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.observe.history.reading import Index
from stoker.observe.port import Chart, select
from stoker.observe.query.expressions import FUNCTIONS, QueryError
from stoker.observe.query.parse import parse
from stoker.telemetry.histogram import RELATIVE_ERROR
from stoker.types.errors import InvalidInput
from tests.observe.rig import START_S, Counting, Rig

CODES = ("200", "404", "500", "503")


class World:
    """A rig that has counted for three hours, and every event of it: (tick's end, code, seconds)."""

    def __init__(self, path: Path) -> None:
        self.rig = Rig(path)
        chance = random.Random(3)
        process = Counting()
        self.rig.tick(process)
        self.events: list[tuple[int, str, float]] = []
        self.depths: list[tuple[int, float]] = []
        for _ in range(3 * 60 * 4):  # four samples a minute
            at = int(self.rig.clock.now_s) + 15
            for _ in range(chance.randrange(3)):
                code, took = chance.choice(CODES), chance.uniform(0.01, 2.0)
                self.events.append((at, code, took))
                process.request(code=code)
                process.latency(took)
            self.depths.append((at, float(chance.randrange(9))))
            process.queue(self.depths[-1][1])
            self.rig.tick(process, seconds=15)

    def ask(self, text: str, **when: float) -> Chart:
        return self.rig.run(self.rig.history.query(text, **when))

    def inside(self, at: float, window_s: float, holds: Callable[[str], bool] = lambda _: True) -> list[float]:
        return [took for end, code, took in self.events if at - window_s < end <= at and holds(code)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world") / "metrics.db")
    yield made
    made.rig.close()


def only(chart: Chart) -> list[float | None]:
    (line,) = chart.lines
    return line.values


@pytest.mark.parametrize(("window", "window_s"), [("1m", 60), ("5m", 300), ("1h", 3600), ("1h30m", 5400)])
@pytest.mark.parametrize("step_s", [60.0, 300.0])
def test_rates_and_increases_are_those_of_the_oracle(world: World, window: str, window_s: int, step_s: float) -> None:
    errors = f'stoker_requests_total{{endpoint="a", code=~"5..", method!="x"}}[{window}]'
    chart = world.ask(f"increase by () ({errors})", since_s=7200, step_s=step_s)
    assert chart.times == [float(at) for at in range(int(chart.times[0]), int(chart.times[-1]) + 1, int(step_s))]
    expected = [len(world.inside(at, window_s, lambda code: code.startswith("5"))) for at in chart.times]
    assert only(chart) == expected
    rates = only(world.ask(f"sum(rate({errors}))", since_s=7200, step_s=step_s))
    assert rates == pytest.approx([each / window_s for each in expected])


@pytest.mark.parametrize("window_s", [60, 300, 3600])
def test_quantiles_counts_and_means_of_histograms_are_those_of_the_oracle(world: World, window_s: int) -> None:
    histogram = f'stoker_request_duration_seconds{{endpoint="a"}}[{window_s}s]'
    whole = world.ask(f"quantile by (endpoint) (0.9, {histogram})", since_s=3600, step_s=60)
    assert whole.lines[0].labels == {"endpoint": "a"}
    means = only(world.ask(f"avg({histogram})", since_s=3600, step_s=60))
    counts = only(world.ask(f"increase({histogram})", since_s=3600, step_s=60))
    for at, found, mean, count in zip(whole.times, only(whole), means, counts, strict=True):
        seen = sorted(world.inside(at, window_s))
        assert (count or 0) == len(seen)
        if not seen:
            assert found is mean is None
            continue
        true = seen[max(math.ceil(0.9 * len(seen)) - 1, 0)]
        assert found == pytest.approx(true, rel=2 * RELATIVE_ERROR)
        assert mean == pytest.approx(sum(seen) / len(seen))


def test_gauges_are_read_over_time_and_as_they_stand(world: World) -> None:
    for name, of in (("min", min), ("max", max), ("avg", lambda held: sum(held) / len(held))):
        chart = world.ask(f'{name}(stoker_queue_depth{{endpoint="a"}}[5m])', since_s=3600, step_s=300)
        expected = [of([depth for end, depth in world.depths if at - 300 < end <= at]) for at in chart.times]
        assert only(chart) == pytest.approx(expected)
    assert only(world.ask("stoker_queue_depth")) == [world.depths[-1][1]]


def test_a_part_that_is_not_there_is_none_of_the_whole(world: World) -> None:
    whole = "rate by (endpoint) (stoker_requests_total[1h])"
    assert only(world.ask(f'ratio(rate by (endpoint) (stoker_requests_total{{code="418"}}[1h]), {whole})')) == [0.0]
    part = 'rate by (endpoint) (stoker_requests_total{code="500"}[1h])'
    now = world.rig.clock.now_s
    expected = len(world.inside(now, 3600, lambda code: code == "500")) / len(world.inside(now, 3600))
    assert only(world.ask(f"ratio({part}, {whole})")) == pytest.approx([expected])
    assert only(world.ask(f"100 * {part} / {whole}")) == pytest.approx([100 * expected])
    assert only(world.ask(f"(1 - ratio({part}, {whole})) * -1 + 2")) == pytest.approx([1 + expected])
    assert world.ask(f"{part} / 0").lines == []


def test_topk_shows_the_highest_and_by_keeps_the_labels_that_were_named(world: World) -> None:
    counts = {
        code: len(world.inside(world.rig.clock.now_s, 3600, lambda found, code=code: found == code)) for code in CODES
    }
    best = world.ask("topk(2, increase by (code) (stoker_requests_total[1h]))")
    ranked = sorted(counts, key=lambda code: (-counts[code], code))[:2]
    assert {line.labels["code"]: line.values[0] for line in best.lines} == {code: counts[code] for code in ranked}
    assert only(world.ask("max(increase by (code) (stoker_requests_total[1h]))")) == [max(counts.values())]


def test_a_key_of_another_project_sees_nothing(world: World) -> None:
    history = world.rig.history
    text = "sum(rate(stoker_requests_total[1h]))"
    assert world.rig.run(history.query(text, project="default")).lines
    assert world.rig.run(history.query(text, project="other")).lines == []
    mine = 'sum(rate(stoker_requests_total{project="default"}[1h]))'
    hostile = f'{mine} + sum(rate(stoker_requests_total{{project!="other"}}[1h]))'
    assert world.rig.run(history.query(hostile, project="other")).lines == []


def test_a_line_for_each_value_of_a_label_without_writing_text(world: World) -> None:
    history, run = world.rig.history, world.rig.run
    chart = run(history.series(select("stoker_requests_total"), since_s=600, step_s=60, by=("code",)))
    text = world.ask("increase by (code) (stoker_requests_total[1m])", since_s=600, step_s=60)
    assert chart == text
    depth = run(history.series(select("stoker_queue_depth"), since_s=600, step_s=60, by=("endpoint",)))
    assert [line.labels for line in depth.lines] == [{"endpoint": "a"}]
    fast = run(history.series(select("stoker_request_duration_seconds", at_most=1.0), since_s=0, step_s=3600))
    assert fast == world.ask("under by () (1, stoker_request_duration_seconds[1h])")


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("", 0, "expected a metric, a function, a number or (, found the end"),
        ("rate(stoker_reqests_total[5m])", 5, "did you mean stoker_requests_total?"),
        ("rat(stoker_requests_total[5m])", 0, "did you mean rate?"),
        ("rate(stoker_requests_total[5])", 27, "expected a duration such as 30s, 5m"),
        ("rate(stoker_requests_total[1s])", 27, "a window of 1s; 5 s to 400 days are kept"),
        ("rate(stoker_requests_total[5m]", 30, "expected ',' or ')', found the end"),
        ("rate(stoker_requests_total)", 5, "write rate(stoker_requests_total[5m])"),
        ("rate(stoker_queue_depth[5m])", 5, "stoker_queue_depth is a gauge"),
        ("quantile(0.9, stoker_requests_total[5m])", 14, "takes a histogram. Of a counter: rate("),
        ("sum(stoker_requests_total[5m])", 4, "Of a counter: rate("),
        ("stoker_requests_total[5m]", 0, "no value yet"),
        ("stoker_requests_total[5m] * 2", 0, "no value yet; write rate("),
        ('rate(stoker_requests_total{cod="1"}[5m])', 27, "did you mean code?"),
        ("rate(stoker_requests_total{code=200}[5m])", 32, "expected a value in quotes"),
        ('rate(stoker_requests_total{code=~"(a)"}[5m])', 33, "is not known"),
        ("topk(rate(stoker_requests_total[5m]))", 0, "topk takes 2 arguments"),
        ("sum by code (stoker_in_flight)", 7, "expected '('"),
        ("1 + ", 4, "found the end"),
        ("stoker_in_flight $", 17, "means nothing here"),
    ],
)
def test_an_error_says_what_was_expected_and_shows_where(text: str, at: int, words: str) -> None:
    index = Index()
    with pytest.raises(QueryError) as refused:
        parse(text, index.known, index.names)
    assert words in refused.value.message
    assert refused.value.at == at
    assert refused.value.message.splitlines()[-1] == " " * (at + 2) + "^"


WORDS = st.sampled_from(
    [*FUNCTIONS, "by", "stoker_requests_total", "stoker_queue_depth", "stoker_loop_seconds", "code", "(", ")", "{", "}",
     "[5m]", "[", ",", "=", '"a"', "5", "0.9", "+", "-", "*", "/", "5m", "=~"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(WORDS, max_size=14).map(" ".join), st.text(max_size=60)))
def test_whatever_is_typed_is_an_expression_or_an_error_with_its_place(text: str) -> None:
    index = Index()
    found: object = None
    try:
        found = parse(text, index.known, index.names)
    except QueryError as refused:
        found = refused.at if 0 <= refused.at <= len(text) else None
    assert found is not None


@pytest.mark.parametrize(
    ("text", "when", "words"),
    [
        (
            "stoker_in_flight",
            {"since_s": 86_400.0, "step_s": 5.0},
            "at most 2,000 are computed: ask for a step of 44 s",
        ),
        ("stoker_in_flight", {"since_s": 1e12}, "between 0 and 400 days"),
        ("stoker_in_flight", {"since_s": 60.0, "step_s": 0.0}, "longer than nothing"),
        ("topk(0, stoker_in_flight)", {}, "topk takes between 1 and 100"),
        ("quantile(99, stoker_loop_seconds[5m])", {}, "the 99th percentile is 0.99"),
        ("(" * 60 + "1" + ")" * 60, {}, "more than 30 things inside one another"),
        ("-" * 60 + "1", {}, "more than 30 things inside one another"),
        ("+".join(["stoker_in_flight"] * 30), {}, "more than 20 metrics"),
        ("1" * 5000, {}, "at most 4000"),
    ],
)
def test_what_would_take_too_much_is_refused(world: World, text: str, when: dict[str, float], words: str) -> None:
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(")):
        world.ask(text, **when)


def test_rates_over_a_week_come_from_longer_cells_and_sum_to_the_same(world: World) -> None:
    total = only(world.ask("increase by () (stoker_requests_total[7d])"))[0]
    assert total == len(world.events)
    hours = only(world.ask("increase by () (stoker_requests_total[1h])", since_s=6 * 86_400, step_s=3600))
    after = world.rig.clock.now_s // 3600 * 3600
    assert sum(each or 0 for each in hours) == len([end for end, *_ in world.events if START_S < end <= after])
