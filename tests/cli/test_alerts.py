"""`stoker slo` and `stoker alerts` against a real control."""

import json
from pathlib import Path

import click
import msgspec
import pytest

from stoker.cli.alerts import alerts_text
from stoker.cli.exits import Exit
from stoker.client.connection import Connection
from stoker.client.control import ControlClient
from stoker.client.credentials import read_credentials
from stoker.client.registration import Registration
from stoker.client.upload import push
from stoker.client.views import Alerts, AlertView
from tests.cli.conftest import Run
from tests.control.rig import python_model, until
from tests.observe.receivers import Webhook

PROMISE = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: promised}
spec:
  model: scores@1
  slos:
    - {name: answers, target: 0.999, policy: [{do: freeze-rollouts}]}
    - {name: same, sli: drift, at_most: 0.2, target: 0.9}
"""


def test_an_alert_says_what_it_is_about_also_where_no_column_does() -> None:
    burns = AlertView("1", {"project": "shop", "endpoint": "e", "slo": "fast"}, "page", "firing", "e is slow", "9 s")
    spent = AlertView(
        "2", {"project": "shop", "budget": "tiny"}, "page", "firing", "100% of budget shop/tiny is spent", "$2"
    )
    lines = click.unstyle(alerts_text(Alerts((burns, spent)))).splitlines()[1:]
    assert [line.split()[3:6] for line in lines] == [["-", "fast", "shop/e"], ["-", "shop", "tiny"]]
    assert [line.rpartition("  ")[2] for line in lines] == ["9 s", "100% of budget shop/tiny is spent: $2"]


@pytest.fixture(scope="module")
def promised(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Serve an endpoint with promises."""
    credentials = read_credentials(home / "credentials.json")
    control = ControlClient(Connection(credentials.control_base(), credentials.key))
    model = python_model(tmp_path_factory.mktemp("model"))
    push(control, "scores", model, Registration(files=(), tasks=("predict",)), lambda *_: None)
    control.apply(PROMISE.encode())
    until(lambda: [one for one in control.slos() if one.endpoint == "promised"], "the watch has looked")


def test_objectives_are_a_table_and_one_endpoint_shows_its_rules(promised: None, run: Run) -> None:
    table = run("slo").stdout
    assert "99.9 %" in table
    learn = "`stoker drift learn promised` makes one of what passes"
    assert f"promised same: no data: what it serves has no reference to compare with; {learn}" in table
    assert "promised answers: no data: nobody asked" in table
    one = run("slo", "promised").stdout
    for words in ("outage", "10s/5s", "leak", "3d/6h"):
        assert words in one
    (answers, same) = json.loads(run("slo", "promised", "-o", "json").stdout)["items"]
    assert (answers["state"], same["state"], answers["budget_left"]) == ("ok", "ok", 1.0)
    assert "Objectives" in run("describe", "promised").stdout


def test_objectives_go_out_as_openslo_and_rules_and_come_back(promised: None, run: Run, tmp_path: Path) -> None:
    documents = run("slo", "export", "promised").stdout
    assert "openslo/v1" in documents
    assert "StokerSloBurn" in run("slo", "export", "promised", "--format", "prometheus-rules").stdout
    file = tmp_path / "slo.yaml"
    file.write_text(documents)
    assert "unchanged" in run("apply", "-f", str(file)).stdout
    file.write_text(documents.replace("target: 0.999", "target: 0.99"))
    changed = run("apply", "-f", str(file))
    assert "updated" in changed.stdout, changed.stderr
    kept = run("get", "endpoint", "promised", "-o", "manifest").stdout
    assert "freeze-rollouts" in kept
    assert "drift" in kept
    file.write_text(documents.replace("Occurrences", "Timeslices"))
    refused = run("apply", "-f", str(file))
    assert refused.returncode == Exit.REFUSED
    assert "timeSliceTarget is a share" in refused.stderr
    file.write_text(documents + "---\n" + PROMISE)
    assert "cannot be mixed" in run("apply", "-f", str(file)).stderr


def test_a_receiver_is_applied_listed_tried_and_deleted(run: Run, tmp_path: Path) -> None:
    webhook = Webhook()
    file = tmp_path / "phone.yaml"
    spec = f"{{type: webhook, url: '{webhook.url}/hook', min_severity: page}}"
    file.write_text(f"apiVersion: stoker/v1\nkind: Notifier\nmetadata: {{name: phone}}\nspec: {spec}\n")
    try:
        assert "notifier default/phone created" in run("apply", "-f", str(file)).stdout
        assert "phone" in run("get", "notifiers").stdout
        assert "took it" in run("alerts", "test", "phone").stdout
        assert webhook.posts[0].json["alerts"][0]["labels"]["alertname"] == "StokerTest"
        webhook.answers = [404]
        refused = run("alerts", "test", "phone")
        assert refused.returncode != 0
        assert "it answered 404" in refused.stderr
        webhook.answers = [503]
        silent = run("alerts", "test", "phone")
        assert silent.returncode == Exit.BUSY
        assert "default/phone does not hear: it answered 503" in silent.stderr
        assert "stoker up" not in silent.stderr
        assert run("delete", "notifier", "phone").returncode == 0
        assert run("alerts", "test", "phone").returncode == Exit.NOT_FOUND
    finally:
        webhook.close()


def test_silences_come_and_go_and_what_is_not_there_is_said(promised: None, run: Run) -> None:
    assert "firing" not in run("alerts").stdout  # that no node reports is an alarm, and waits
    done = run("alerts", "silence", "endpoint=promised", "--for", "1h", "--why", "moving it")
    which = done.stdout.split()[1]
    odd = run("alerts", "silence", "endpoimt=promised")
    assert "no alert of now has these labels" in odd.stderr
    assert run("alerts", "unsilence", odd.stdout.split()[1]).returncode == 0
    listed = run("alerts").stdout
    assert "moving it" in listed
    assert which in listed
    assert run("alerts", "unsilence", which).returncode == 0
    assert run("alerts", "unsilence", which).returncode == Exit.NOT_FOUND
    assert run("alerts", "ack", "nothing").returncode == Exit.NOT_FOUND
    assert run("alerts", "silence", "endpoint=*").returncode == Exit.REFUSED
    assert run("alerts", "silence", "endpoint=a", "--for", "soon").returncode == Exit.USAGE
    too_long = run("alerts", "silence", "endpoint=a", "--for", "91d")
    assert too_long.returncode == Exit.USAGE
    assert "up to 90d" in too_long.stderr


def test_an_endpoint_that_is_not_there_is_not_one_without_objectives(run: Run) -> None:
    for words in (("slo", "nobody"), ("traces", "nobody"), ("samples", "nobody"), ("samples", "export", "nobody")):
        done = run(*words)
        assert (done.returncode, done.stdout) == (Exit.NOT_FOUND, ""), words
        assert "no endpoint 'nobody'" in done.stderr


def test_the_list_names_the_alarm_whose_it_is_and_who_has_yet_to_hear() -> None:
    told = {"default/phone": 10.0, "default/chat": 10.0}
    fails = AlertView(
        "fbf739d1aa", {"alertname": "EndpointFails", "project": "default", "endpoint": "digits"}, "page", "firing",
        summary="digits answers 25.1% of requests with an error of ours", because="`stoker why digits`", runbook="",
        began_s=0.0, since_s=0.0, told=told,
    )  # fmt: skip
    burns = msgspec.structs.replace(fails, labels={**fails.labels, "alertname": "SloBurn", "slo": "answers"})
    node = msgspec.structs.replace(fails, labels={"alertname": "NodeGone", "node": "n2"}, told={})
    text = alerts_text(Alerts((fails, burns, node), (), {"default/chat": 1}))
    lines = click.unstyle(text).splitlines()
    assert "  EndpointFails    default/digits  " in lines[1]
    assert "default/phone, default/chat (not yet)" in lines[1]
    assert lines[1].endswith("  digits answers 25.1% of requests with an error of ours: `stoker why digits`")
    assert "  SloBurn answers  default/digits  " in lines[2]
    assert lines[2].endswith("  `stoker why digits`")
    assert "  NodeGone         n2  " in lines[3]
    assert lines[4] == "default/chat has yet to hear 1 notice; see control's log"
