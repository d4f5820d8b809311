"""`stoker plan` finds a range from a trace or a manifest, writes it as a page, and says what it needs."""

import json
import re
import shlex
import xml.dom.minidom
from pathlib import Path

import pytest
from msgspec.structs import replace

from stoker.cli import plan_change, plan_files
from stoker.sim import document
from stoker.sim.compare import Figure
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.change import Change, Line, Side
from tests.cli.run import stoker_here

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "size-an-endpoint.md"
MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: chat}
spec:
  model: chat
  replicas: {min: 0, max: 4}
  resources: {cpu: 4}
  slos:
    - {name: fast, sli: latency, target: 0.9, under: 2s}
---
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: other}
spec: {model: other}
"""
SCHEDULE = (
    'scaling.schedules=[{days: [mon, tue, wed, thu, fri], begin: "07:01", end: "07:02", zone: UTC, min: 4, max: 6}]'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = (f'{{"timestamp": {at * 1500}, "input_length": 0, "output_length": 0}}' for at in range(100))
    (tmp_path / "trace.jsonl").write_text("\n".join(lines))
    (tmp_path / "endpoints.yaml").write_text(MANIFEST)
    (tmp_path / "prices.yaml").write_text("pools: [{name: cpu, core_hour: 0.25}]")
    (tmp_path / "engine.yaml").write_text("places: {places: 1, service: 500ms, variation: 0}")
    return tmp_path


def test_the_engines_of_the_option_are_those_there_are() -> None:
    assert document.Engine.__struct_fields__ == plan_files.ENGINES


def test_an_endpoint_is_sized_by_its_manifest(folder: Path) -> None:
    files = [f"--{name}={folder / file}" for name, file in (
        ("trace", "trace.jsonl"), ("manifest", "endpoints.yaml"), ("prices", "prices.yaml"), ("engine", "engine.yaml")
    )]  # fmt: skip
    page = folder / "plan.html"
    asked = ("plan", "chat", *files, "--cold-start", "1s", "-o", "json")
    one, same = (stoker_here(*asked, "--html", str(page), home=folder) for _ in range(2))
    assert one.returncode == 0, one.stderr
    assert one.stdout == same.stdout
    found = json.loads(one.stdout)
    assert found["slos"] == [{"measure": "latency", "target": 0.9, "limit_s": 2.0}]
    always = next(each for each in found["tried"] if each["range"] == {"min": 1, "max": 1, "utilization": None})
    assert always["figures"]["usd_per_hour"] == pytest.approx(4 * 0.25)
    assert min(each["range"]["min"] for each in found["tried"]) == 0, "replicas.min: 0 lets it sleep"
    assert page.read_text().startswith("<!doctype html>")


def test_a_change_is_compared_before_it_is_applied(folder: Path) -> None:
    files = [f"--{name}={folder / file}" for name, file in (
        ("trace", "trace.jsonl"), ("manifest", "endpoints.yaml"), ("prices", "prices.yaml"), ("engine", "engine.yaml")
    )]  # fmt: skip
    asked = (
        "plan",
        "chat",
        *files,
        "--cold-start",
        "1s",
        "--set",
        "replicas.min=2",
        "--set",
        "scaling.utilization=0.5",
    )
    done = stoker_here(*asked, "-o", "json", home=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["now"]["range"] == {"min": 0, "max": 4, "utilization": None}
    assert found["then"]["range"] == {"min": 2, "max": 4, "utilization": 0.5}
    cost = next(each for each in found["lines"] if each["name"] == "cost an hour")
    assert cost["then"] >= 2 * 4 * 0.25
    assert cost["difference"]["mean"] == pytest.approx(cost["then"] - cost["now"])
    assert "THEN: 2 to 4 at 50 %" in stoker_here(*asked, home=folder).stdout


def test_a_schedule_is_compared_before_it_is_applied(folder: Path) -> None:
    files = [f"--{name}={folder / file}" for name, file in (
        ("trace", "trace.jsonl"), ("manifest", "endpoints.yaml"), ("engine", "engine.yaml")
    )]  # fmt: skip
    asked = ("plan", "chat", *files, "--cold-start", "1s", "--set", "replicas.min=1", "--set", SCHEDULE)
    done = stoker_here(*asked, "--begins", "mon 08:00 Europe/Berlin", "-o", "json", home=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["now"]["schedules"] == []
    (schedule,) = found["then"]["schedules"]
    assert schedule["on_ratio"] == pytest.approx(1 / 3), "from 07:01 UTC, of the minutes from 07:00 to 07:03"
    replicas = next(each for each in found["lines"] if each["name"] == "replicas")
    assert replicas["then"] > replicas["now"] + 0.5
    said = stoker_here(*asked, "--begins", "sat 08:00", home=folder).stdout
    assert "THEN: 1 to 4, 1 schedule" in said
    assert "then: mon-fri 07:01 to 07:02 UTC: min 4, max 6; on for 0 % of the time" in said
    assert "what came begins on Sat 2024-01-06 08:00 UTC" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what comes: an ENDPOINT of a platform that runs, --trace FILE"),
        (("--load", "step"), "say what is promised: --slo ttft_p95=500ms"),
        (("--load", "step", "--slo", "p95=1s"), "write latency_pN=TIME or ttft_pN=TIME"),
        (("--trace", "{}/trace.jsonl", "--times", "2", "--slo", "ttft_p95=1s"), "a trace is as it was recorded"),
        (("--load", "step", "--slo", "ttft_p95=1s", "--engine", "vllm"), "there are places, batches, language"),
        (("--load", "step", "--slo", "ttft_p95=1s", "--engine", "{}/missing.yaml"), "there is no file"),
        (("--load", "step", "--slo", "ttft_p95=1s", "--engine", "{}/prices.yaml"), "pools: unknown field"),
        (("--load", "step", "--slo", "ttft_p95=1s", "--prices", "{}/engine.yaml"), "unknown field"),
        (
            ("--load", "step", "--slo", "ttft_p95=1s", "--set", "replicas.max"),
            "write PATH=VALUE of replicas., scaling.",
        ),
        (("--load", "step", "--slo", "ttft_p95=1s", "--set", "scaling.signals=[kv]"), "but not scaling.signals"),
        (
            ("--load", "step", "--slo", "ttft_p95=1s", "--set", SCHEDULE),
            "schedules need to know when what comes began: say --begins 'mon 08:00'",
        ),
        (
            ("--load", "step", "--slo", "ttft_p95=1s", "--set", SCHEDULE, "--begins", "soon"),
            "'soon' is no moment; write one as 'mon 08:00'",
        ),
        (
            ("--load", "step", "--slo", "ttft_p95=1s", "--set", SCHEDULE.replace("UTC", "Mars")),
            "scaling.schedules[0].zone: 'Mars' is no time zone",
        ),
        (("--load", "step", "--slo", "ttft_p95=1s", "--begins", "mon 08:00"), "--begins is of --set"),
        (("--load", "step", "--slo", "ttft_p95=1s", "--set", "replicas.most=4"), "there is no replicas.most"),
        (
            ("--load", "step", "--slo", "ttft_p95=1s", "--set", "replicas.max=-4"),
            "replicas.max=-4: Expected `int` >= 0",
        ),
        (("--load", "step", "--slo", "ttft_p95=1s", "--set", "replicas.min=4"), "4 is more than replicas.max 1"),
        (("--validate",), "is for an ENDPOINT of a platform that runs, as it is"),
        (("chat", "--validate", "--load", "step"), "is for an ENDPOINT of a platform that runs, as it is"),
        (("chat", "--validate", "--for", "1h"), "a load lasts up to 600s"),
        (("chat", "--recorded", "--load", "step"), "--recorded and --rate are of --validate"),
        (("--load", "step", "--manifest", "{}/endpoints.yaml"), "has 2 endpoints; say which one (chat, other)"),
        (("cat", "--load", "step", "--manifest", "{}/endpoints.yaml"), "has no endpoint cat; it has chat, other"),
    ],
)
def test_what_cannot_be_planned_says_what_to_do(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = stoker_here("plan", *(each.replace("{}", str(folder)) for each in arguments), home=folder)
    assert done.returncode != 0
    assert words in " ".join(done.stderr.split())


def test_the_command_of_the_page_makes_its_table_and_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, _, rest = PAGE.read_text().partition("$ stoker plan ")[2].partition("\n")
    table = rest.partition("```")[0]
    monkeypatch.chdir(ROOT / "docs" / "examples" / "sizing")
    asked = shlex.split(command.replace("../../images/plan.svg", str(tmp_path / "plan.svg")))
    done = stoker_here("plan", *asked, home=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines() if not line.startswith("picture")]
    assert said == [line.split() for line in table.splitlines() if not line.startswith("picture")]
    made = (tmp_path / "plan.svg").read_text()
    xml.dom.minidom.parseString(made)
    assert made == (ROOT / "docs" / "images" / "plan.svg").read_text(), "run the command of the page"


def test_a_line_says_what_a_schedule_closes_out_and_only_where_one_does() -> None:
    none = Figure(0.0, 0.0, 0.0)
    lines = (Line("answered", 0.9, 0.9, none), Line("closed", 0.0, 0.25, Figure(0.25, 0.2, 0.3)))
    change = Change(Side(Range(1, 2), ()), Side(Range(0, 2), ()), lines)
    said = plan_change.text(change, (), is_priced=False)
    assert re.search(r"^closed +0\.00 % +25\.00 % +.*\+25\.00 % ± 5\.00", said, re.MULTILINE), said
    assert plan_change.CLOSED in said
    usual = replace(change, lines=(lines[0], Line("closed", 0.0, 0.0, none)))
    assert "closed" not in plan_change.text(usual, (), is_priced=False)
