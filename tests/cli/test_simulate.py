"""`stoker simulate` compares policies, reads traces and plans, and says what is wrong with them."""

import json
from pathlib import Path

import pytest

from stoker.cli import simulate
from stoker.protocol import yamltree
from stoker.sim import arrivals
from stoker.sim.document import read
from tests.cli.run import stoker_here

PLAN = """
seed: 2
gateways: 2
duration: 4m
nodes: {count: 3, cores: 4, memory: 16Gi}
endpoints:
  - name: digits
    load: edge
    engine: {batches: {base: 4ms, row: 0.5ms}}
    cold_start: 5s
    deadline: 2s
  - name: chat
    load: edge
    times: 0.1
    engine: {language: {slots: 8}}
    tenants:
      - {name: people, priority: critical}
      - {name: nightly, share: 2, priority: sheddable}
faults:
  - {at: 60s, node: node-0, lasts: 1m}
  - {at: 150s, replica: chat}
rollouts:
  - endpoint: digits
    at: 10s
    rollout: {strategy: canary, steps: [50], dwell: 30s, requests_min: 20}
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "trace.jsonl"
    file.write_text(
        "\n".join(f'{{"timestamp": {at * 500}, "input_length": 400, "output_length": 20}}' for at in range(200))
    )
    return file


def test_the_loads_of_the_option_are_those_there_are() -> None:
    assert tuple(arrivals.LOADS) == simulate.LOADS


def test_policies_are_compared_on_a_trace(tmp_path: Path, trace: Path) -> None:
    chart = tmp_path / "chart.html"
    done = stoker_here("simulate", "--trace", str(trace), "--seeds", "2", "--chart", str(chart), home=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["POLICY", "stoker", "kpa", "ray", "hpa"]
    assert "trace.jsonl: 2 runs of 200 requests, 40 s from order to ready" in lines[5]
    assert chart.read_text().startswith("<!doctype html>")


def test_the_same_seed_prints_the_same_json(tmp_path: Path, trace: Path) -> None:
    asked = ("simulate", "--trace", str(trace), "--policy", "stoker,fixed-2", "--seeds", "1", "-o", "json")
    one, same = (stoker_here(*asked, home=tmp_path) for _ in range(2))
    assert one.stdout == same.stdout
    found = json.loads(one.stdout)
    assert [row["policy"] for row in found["rows"]] == ["stoker", "fixed-2"]
    assert set(found["verdicts"]) == {"fixed-2"}
    assert found["rows"][0]["requests"]["mean"] == 200


def test_a_whole_platform_is_simulated_from_a_plan(tmp_path: Path) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text(PLAN)
    done = stoker_here("simulate", "--plan", str(file), "-o", "json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    digits, chat = json.loads(done.stdout)["items"]
    assert digits["ends"]["ok"] == digits["requests"]
    assert digits["rollout"][-1]["phase"] == "promoted"
    assert chat["requests"] == sum(chat["ends"].values())
    shown = stoker_here("simulate", "--plan", str(file), home=tmp_path).stdout
    assert "digits-2 serves" in shown


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ("slots: 8", "slotz: 8", "unknown field; did you mean slots?"),
        ("load: edge", "load: edgy", "'edgy' is no load; there are step"),
        ("node: node-0", "node: node-9", "a fault names 'node-9'; there are node-0, node-1, node-2"),
        ("cold_start: 5s", "cold_start: soon", "soon"),
        ("replica: chat", "replica: chats", "a fault names 'chats'"),
        ("gateways: 2", "gateways: 2\nbegins: soon", "'soon' is no moment"),
        ("deadline: 2s", 'schedules: [{begin: "08:00", end: "09:00"}]', "a schedule has min, max or both"),
    ],
)
def test_a_plan_that_is_wrong_says_what(tmp_path: Path, was: str, becomes: str, words: str) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text(PLAN.replace(was, becomes))
    done = stoker_here("simulate", "--plan", str(file), home=tmp_path)
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--load", "spike", "--trace", "x.csv"), "only one of"),
        (("--policy", "stoker,keda"), "'keda' is no policy"),
        (("--trace", "missing.csv"), "there is no trace missing.csv"),
        (("--min", "5", "--max", "2"), "--min 5 is more than --max 2"),
    ],
)
def test_what_cannot_be_simulated_is_refused(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = stoker_here("simulate", *arguments, home=tmp_path)
    assert done.returncode != 0
    assert words in done.stderr


def test_the_plan_on_the_page_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "simulate.md").read_text()
    plan = page.partition("```yml\n")[2].partition("```")[0]
    (tree,), faults = yamltree.parse(plan)
    assert not faults
    assert [each.name for each in read(yamltree.plain(tree), Path()).endpoints] == ["digits", "chat"]
