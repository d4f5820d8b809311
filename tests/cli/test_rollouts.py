"""`stoker rollouts`, and `stoker deploy --wait` through a rollout, against a real platform."""

import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from xml.etree import ElementTree

import click
import msgspec
import pytest
from rich.console import Console

from stoker.cli import rollout_page
from stoker.cli.exits import Exit
from stoker.cli.following import outcome
from stoker.cli.frames import Frame, changes
from stoker.cli.live import render
from stoker.cli.rollouts import follow
from stoker.client.rollouts import LineView, RolloutClient, RolloutDetail
from stoker.client.views import EndpointStats, Stats
from stoker.core.rollout.state import Entry
from stoker.core.rollout.table import PHASES
from stoker.core.verdict.odds import Tally
from tests.cli.run import STOKER, stoker_here
from tests.control.rig import Rig, endpoint, python_model, until

HELD = {"strategy": "canary", "steps": [5, 50], "dwell": "0s", "requests_min": 1_000_000}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An endpoint with two versions, of which the first serves."""
    rig = Rig(tmp_path_factory.mktemp("rollouts") / "h")
    try:
        rig.start_agent()
        folder = tmp_path_factory.mktemp("models")
        rig.push("m", python_model(folder / "a"), tasks=("predict",))
        rig.push("m", python_model(folder / "b", scale=2), tasks=("predict",))
        rig.request("POST", "/api/v1/apply", endpoint(model="m@1", rollout=HELD))
        until(lambda: rig.client.endpoint("default", "a").status.serving, "the first revision serves")
        yield rig
    finally:
        rig.close()


def waiting(rig: Rig, *words: str) -> subprocess.Popen[str]:
    """Run the command in a process of its own, so that something can happen while it waits."""
    home = {"STOKER_HOME": str(rig.home.root), "PATH": os.environ["PATH"]}
    return subprocess.Popen([str(STOKER), *words], env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def newest(rig: Rig) -> RolloutDetail:
    return RolloutClient(rig.client.connection).newest("default", "a")


def test_a_release_from_its_first_step_to_its_end_as_somebody_at_a_terminal_sees_it(rig: Rig, tmp_path: Path) -> None:
    def run(*words: str) -> CompletedProcess[str]:
        return stoker_here(*words, home=rig.home.root)

    assert "no rollouts; the next change" in run("rollouts").stdout
    refused = run("rollouts", "show", "a")
    assert (refused.returncode, "had no rollout yet" in refused.stderr) == (Exit.NOT_FOUND, True)

    late = run("deploy", "a", "--model", "m@2", "--strategy", "canary", "--steps", "5,25", "--wait", "--timeout", "1")
    assert late.returncode == Exit.TIMED_OUT, late.stderr
    assert "it goes on by itself" in late.stderr
    until(lambda: newest(rig).phase == "stepping", "the canary has its share", 40)
    shown = run("rollouts", "show", "a").stdout
    for words in ("1 of default/a, canary", "step 1 of 2", "5 %  default.a-2  m@2", "0 of 1000000 requests", "ready"):
        assert words in shown
    assert run("rollouts", "show", "1").stdout.splitlines()[0] == shown.splitlines()[0]
    everything = json.loads(run("rollouts", "show", "a", "-o", "json").stdout)
    assert everything["spec"]["steps"] == [5, 25]
    assert [each["event"] for each in everything["timeline"]][:3] == ["began", "released", "ready"]
    for command in (("status",), ("describe", "a"), ("rollouts",)):
        assert "canary" in run(*command).stdout, command
    assert "m@1 → m@2" in run("rollouts", "--endpoint", "a").stdout

    wrong = run("rollouts", "resume", "a")
    assert (wrong.returncode, "it can be told to pause" in wrong.stderr) == (Exit.REFUSED, True)
    assert "waits: paused" in run("rollouts", "pause", "a").stdout
    waits = run("deploy", "a", "--wait")
    assert (waits.returncode, "`stoker rollouts resume a` goes on" in waits.stdout) == (Exit.PAUSED, True)

    assert "aborted" in run("rollouts", "abort", "a").stdout
    until(lambda: newest(rig).phase == "rolled-back", "the traffic went back")
    report = tmp_path / "report.xml"
    back = run("deploy", "a", "--model", "m@2", "--wait", "--junit", str(report))
    assert (back.returncode, "was rolled back: asked to abort; default.a-1 serves" in back.stdout) == (
        Exit.ROLLED_BACK,
        True,
    )
    suite = ElementTree.parse(report).getroot()
    assert (suite.get("failures"), suite[0][0].get("message")) == ("1", "asked to abort")
    assert "`stoker rollouts retry a` tries it again" in back.stdout
    assert "default.a-2 was rolled back: asked to abort;" in run("describe", "a").stdout
    agreed = run("rollback", "a")  # it was taken back before; there is nothing to abort
    assert "endpoint default/a: it asks for m@1 again, which default.a-1 serves" in agreed.stdout, agreed.stderr
    assert run("deploy", "a", "--model", "m@2").returncode == Exit.OK

    assert "is tried again" in run("rollouts", "retry", "a").stdout
    until(lambda: newest(rig).phase in ("scaling", "stepping"), "it is under way")
    assert "is promoted" in run("rollouts", "promote", "a").stdout
    done = run("deploy", "a", "--wait")
    assert done.returncode == Exit.OK, done.stderr
    until(lambda: newest(rig).is_ended, "it is over")
    assert newest(rig).phase == "promoted"
    assert run("rollouts", "show", "a", "--watch").stdout.count("default.a-2 serves") == 1

    said = run("rollback", "a", "--wait")
    assert "default.a-1 (m@1) serves; it was default.a-2" in said.stdout
    assert len(json.loads(run("rollouts", "-o", "json").stdout)["items"]) == 3


def test_junit_without_wait_and_steps_that_are_none_are_wrong_usage(rig: Rig) -> None:
    for words in (("--junit", "x.xml"), ("--steps", "5;25"), ("--strategy", "hope")):
        assert stoker_here("deploy", "a", *words, home=rig.home.root).returncode == Exit.USAGE
    down = stoker_here("deploy", "a", "--steps", "50,5", home=rig.home.root)
    assert (down.returncode, "each step takes more" in down.stderr) == (Exit.REFUSED, True)


def detail(phase: str, **fields: object) -> RolloutDetail:
    base = RolloutDetail(7, "default", "digits", "canary", "stepping", "why", "d-1", "d-2", "m@1", "m@2", (10, 50))
    lines = (
        LineView("error", "", 812.0, 1.42, "error: 4 of 16", Tally(4, 16), Tally(0, 194)),
        LineView("error", "tenant=acme", 30.0, 0.2, "error of acme", Tally(2, 9), Tally(0, 90)),
        LineView("later than 90%", "", 0.2, 0.00002, "latency", None, None),
        LineView("disagreement", "", 1.0, 0.001, "copies", Tally(1, 5), None),
    )
    timeline = tuple(Entry(1e9 + at, "look", "stepping", f"look {at}", 10) for at in range(40))
    given = {"phase": phase, "lines": lines, "part": 1.6, "timeline": timeline, "weight": 10, **fields}
    return msgspec.structs.replace(base, **given)


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_a_page_a_line_and_an_outcome(phase: str) -> None:
    one = detail(phase)
    page = rollout_page.page(one, 5)
    assert "35 earlier" in page
    assert "look 39" in page
    assert "4 of 16 (25.00%)" in page
    assert "tenant=acme" in page
    assert phase in page
    assert phase in rollout_page.table([one])
    assert rollout_page.brief(one)
    assert "7" in outcome(one)


def test_a_rollout_that_is_watched_tells_each_entry_once_and_ends_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    ends = Entry(2e9, "kept", "promoted", "d-2 serves", 100)
    looks = [detail("stepping"), detail("stepping"), detail("promoted", timeline=(*detail("x").timeline, ends))]
    follow(lambda: looks.pop(0), 0, live=False)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 41
    assert "d-2 serves" in said[-1]


def test_each_word_below_rollouts_has_help_with_an_example() -> None:
    for word in ("show", "pause", "resume", "promote", "abort", "retry"):
        assert f"stoker rollouts {word} " in stoker_here("rollouts", word, "--help").stdout


def test_the_live_view_and_its_log_say_how_far_a_rollout_is() -> None:
    rolling = msgspec.structs.replace(detail("stepping"), baseline="default.d-1", canary="default.d-2", weight=10)
    before = Frame(Stats((EndpointStats("default", "d", ready=True, serving="default.d-1"),)), 2.0, 1.0, "http://x")
    now = Frame(Stats((msgspec.structs.replace(before.stats.endpoints[0], rollout=rolling),)), 3.0, 1.0, "http://x")
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(render(now, 140, 30))
    assert "ready  #1 → #2 10 %" in console.export_text()
    assert changes(before, now) == ["d: ready, 0/0 replicas, revision #1, canary 10 %, step 1 of 2 to #2"]


def test_screens_say_what_a_revision_waits_for_before_it_takes_traffic() -> None:
    gating = msgspec.structs.replace(detail("gating"), baseline="default.d-1", canary="default.d-2", weight=0)
    waits = "#2 waits for its gates (golden: runs)"
    one = EndpointStats("default", "d", ready=True, serving="default.d-1")
    before = Frame(Stats((one,)), 2.0, 1.0, "http://x")
    now = Frame(Stats((msgspec.structs.replace(one, rollout=gating, newer=waits),)), 3.0, 1.0, "http://x")
    console = Console(width=128, file=io.StringIO(), record=True)
    console.print(render(now, 128, 30))
    text = console.export_text()
    assert "ready  #1 → #2 gates" in text
    assert f"d  {waits}" in text
    assert changes(before, now) == [f"d: ready, 0/0 replicas, revision #1; {waits}"]
    page = click.unstyle(rollout_page.page(gating, 10))
    assert "gating  its gates run; `stoker release show digits` says which" in page
    assert rollout_page.brief(gating) == "canary, its gates run"


def test_a_report_tells_of_what_no_rollout_told_of(rig: Rig, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"

    def deployed(*words: str) -> tuple[int, ElementTree.Element]:
        done = stoker_here("deploy", *words, "--wait", "--junit", str(report), home=rig.home.root)
        return done.returncode, ElementTree.parse(report).getroot()[0]

    code, case = deployed("a")
    assert (code, case.get("name"), len(case.findall("failure"))) == (Exit.OK, "serving", 0)
    code, case = deployed("late", "--model", "m@1", "--timeout", "0")
    assert (code, case.get("name"), case[0].get("type")) == (Exit.TIMED_OUT, "not serving", "deadline_exceeded")
    code, case = deployed("late", "--model", "m@1")
    assert (code, case.get("name"), len(case.findall("failure"))) == (Exit.OK, "serving", 0)


def test_who_is_overtaken_by_another_change_does_not_take_its_end_for_his_own(rig: Rig, tmp_path: Path) -> None:
    asked = endpoint("overtaken", "m@1", rollout=HELD)
    rig.request("POST", "/api/v1/apply", asked)
    until(lambda: rig.client.endpoint("default", "overtaken").status.serving, "the first revision serves")
    report = tmp_path / "report.xml"
    words = ("deploy", "overtaken", "--model", "m@2", "--wait", "--junit", str(report))
    with waiting(rig, *words) as deploy:
        assert deploy.stderr is not None
        deploy.stderr.readline()  # it waits
        rig.request("POST", "/api/v1/apply", asked)
        said, _ = deploy.communicate()
    assert deploy.returncode == Exit.FAILED, said
    assert "another change took its place: overtaken asks for m@1 now" in said
    assert ElementTree.parse(report).getroot().get("failures") == "1"
    assert stoker_here("delete", "endpoint", "overtaken", home=rig.home.root).returncode == Exit.OK


def test_who_stops_waiting_hears_that_the_rollout_goes_on(rig: Rig, tmp_path: Path) -> None:
    rig.push("slow", python_model(tmp_path / "slow", load="__import__('time').sleep(600)"), tasks=("predict",))
    words = ("deploy", "stopped", "--model", "slow@1", "--cpu", "0.1", "--wait")
    with waiting(rig, *words) as deploy:
        assert deploy.stderr is not None
        deploy.stderr.readline()  # it waits
        deploy.send_signal(signal.SIGINT)
        _, said = deploy.communicate()
    assert deploy.returncode == Exit.INTERRUPTED, said
    assert "it goes on: `stoker describe stopped` shows it, `stoker delete endpoint stopped` ends it" in said
    assert stoker_here("delete", "endpoint", "stopped", home=rig.home.root).returncode == Exit.OK
