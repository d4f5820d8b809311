"""Policies from the command line: the starter set, tests of policies without a platform, and what is shown."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from stoker.cli.apply import result_lines
from stoker.client.views import ApplyResult, FieldChange
from stoker.protocol.starter import STARTER
from tests.cli.conftest import Run
from tests.cli.run import stoker_here
from tests.control.rig import python_model

CASES = (Path(__file__).parents[1] / "protocol" / "starter_cases.yaml").read_text()
PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "policies.md").read_text()
WRONG = """---
kind: PolicyTest
cases:
  - name: <wrong> & "odd"
    expect: allow
    resource: {}
    version: {ref: m@1, files: [{path: a.pkl}]}
"""


def file(folder: Path, *texts: str) -> str:
    path = folder / "policies.yaml"
    path.write_text("\n---\n".join(texts))
    return str(path)


def test_the_cases_of_a_file_are_run_without_a_platform(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = stoker_here("policy", "test", file(tmp_path, STARTER, CASES), "--junit", str(report), home=tmp_path / "none")
    assert (done.returncode, done.stderr) == (0, "")
    assert "22 cases, all as expected" in done.stdout
    suite = ElementTree.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("22", "0")


def test_a_case_that_goes_otherwise_ends_with_1_and_says_what_was_broken(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    name = file(tmp_path, STARTER, CASES + WRONG)
    done = stoker_here("policy", "test", name, "--junit", str(report))
    assert done.returncode == 1
    assert '<wrong> & "odd": expected allow, got deny' in done.stdout
    assert "no-pickle/none: m@1 has a pickle, a.pkl; save the model as" in done.stdout
    assert "23 cases, 1 failed" in done.stdout
    (failure,) = ElementTree.parse(report).getroot().findall("testcase/failure")
    assert "no-pickle/none" in (failure.text or "")
    found = json.loads(stoker_here("policy", "test", name, "-o", "json").stdout)["results"]
    assert [one["name"] for one in found if not one["ok"]] == ['<wrong> & "odd"']


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("kind: PolicyTest\ncases: [{name: a, expect: pass}]\n", 4, "line 2: cases[0].expect: expected allow or"),
        (
            STARTER.replace("slos.size()", "slo.size()"),
            4,
            "production-promises: spec.rules[0].expression: unknown name",
        ),
        (STARTER, 4, "has no case; add a document of kind PolicyTest"),
        ("", 4, "no policy in it"),
    ],
)
def test_a_file_that_says_nothing_or_nonsense_is_refused(tmp_path: Path, text: str, code: int, words: str) -> None:
    done = stoker_here("policy", "test", file(tmp_path, text))
    assert done.returncode == code
    assert words in done.stderr
    assert stoker_here("policy", "test", str(tmp_path / "none.yaml")).returncode == 3


def test_the_starter_set_is_printed_as_it_can_be_applied(run: Run, tmp_path: Path) -> None:
    done = run("policy", "starter")
    assert done.stdout.strip() == STARTER.strip()
    one = run("policy", "starter", "no-pickle").stdout
    assert one in STARTER
    assert run("policy", "starter", "nothing").returncode == 3
    applied = run("apply", "-f", "-", stdin=one.replace("name: no-pickle", "name: mine"))
    assert applied.stdout == "+ policy default/mine created\n"
    assert run("diff", "-f", "-", stdin=run("get", "policy", "mine", "-o", "manifest").stdout).stdout == (
        "nothing would change\n"
    )
    assert run("delete", "policy", "mine").returncode == 0
    both = run("apply", "-f", file(tmp_path, one.replace("name: no-pickle", "name: tested"), CASES), "--dry-run")
    assert both.stdout == "+ policy default/tested created\n", "the tests beside it are passed over"


def test_a_policy_is_enabled_seen_warns_denies_and_is_disabled(run: Run, tmp_path: Path) -> None:
    assert run("push", "w", str(python_model(tmp_path / "m", scale=5)), "--task", "predict").returncode == 0
    assert "runbook (warn)" in run("policy", "enable", "owner-and-runbook", "--enforcement", "warn").stdout
    done = run("deploy", "w", "--model", "w")
    assert done.returncode == 0
    assert "  warning: policy owner-and-runbook, rule owner: nobody owns it" in done.stdout

    done = run("policy", "enable", "owner-and-runbook", "--enforcement", "deny")
    assert done.stdout == "policy default/owner-and-runbook is enabled in its project: owner (deny), runbook (deny)\n"
    done = run("deploy", "w", "--replicas", "0")
    assert done.returncode == 4
    assert "error: 2 rules of policies deny it; nothing was applied" in done.stderr
    assert (
        "  --label owner=… (not given): endpoint default/w: policy owner-and-runbook, rule owner: nobody" in done.stderr
    )
    shown = run("describe", "policy", "owner-and-runbook").stdout
    for words in ("default/owner-and-runbook", "its project", "owner (deny)", "has(variables.labels.owner)"):
        assert words in shown
    assert "owner (deny), runbook (deny)" in run("get", "policies").stdout
    live = run("policy", "test", file(tmp_path, STARTER), "--against-live")
    assert live.returncode == 1
    assert re.search(r"deny +endpoint default/w +owner-and-runbook/owner +nobody owns it", live.stdout)

    labels = ("--label", "owner=ml", "--label", "runbook=https://runbooks.example.com/w")
    assert run("deploy", "w", *labels).returncode == 0
    done = run("deploy", "w", "--replicas", "0")
    assert (done.returncode, done.stderr) == (0, ""), "labels stay where nothing is said of them"
    assert "is disabled" in run("policy", "disable", "owner-and-runbook").stdout
    assert run("policy", "disable", "nothing").returncode == 3
    assert "disabled" in run("policy", "list").stdout
    assert run("delete", "endpoint", "w").returncode == 0


def test_colours_say_what_a_warning_is() -> None:
    warned = ApplyResult("Endpoint", "e", "created", "p", warnings=("policy a, rule b: c",))
    assert "\x1b[33mwarning\x1b[0m: policy a, rule b: c" in result_lines([warned], with_diff=True)


def test_what_the_page_shows_of_tests_is_what_is_printed(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    test = next(block for block in blocks if "PolicyTest" in block)
    done = stoker_here("policy", "test", file(tmp_path, test))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout in PAGE
    for block in blocks:
        if "kind: Policy\n" in block and block is not test:
            again = stoker_here("policy", "test", file(tmp_path, block + WRONG))
            assert again.returncode in (0, 1), again.stderr


def test_a_change_of_a_list_reads_as_it_is_written_in_a_manifest() -> None:
    new = [{"begin": "07:45", "days": ["mon"], "min": 4, "max": None, "on": True, "zone": ""}]
    changed = ApplyResult("Endpoint", "a", "updated", "p", (FieldChange("spec.scaling.schedules", None, new),))
    last = click.unstyle(result_lines([changed], with_diff=True)).splitlines()[-1]
    assert last == "    spec.scaling.schedules: nothing → [{begin: 07:45, days: [mon], min: 4, on: true}]"
