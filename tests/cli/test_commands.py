"""The commands against a real control: what they do, how they print it, and how they end."""

import json
import pickle
from pathlib import Path

import msgspec
import pytest
import yaml

from stoker.cli.exits import Exit
from stoker.client import endpoints
from stoker.client.control import ControlClient
from stoker.client.registration import Registration
from stoker.client.upload import push
from stoker.protocol import manifest
from stoker.types.errors import Conflict, NotFound, StokerError
from stoker.types.resources import Endpoint
from tests.cli.conftest import Run
from tests.cli.run import stoker
from tests.client.peer import answering
from tests.control.rig import until

CHAIN = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: front}
spec: {task: predict, backends: [{endpoint: scores}]}
"""
ENDPOINT = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: scores}
spec:
  model: scores@1
  resources: {cpu: 2}
"""


@pytest.fixture(autouse=True, scope="module")
def _model(home: Path, digits_model: str) -> None:
    done = stoker("push", "scores", digits_model, home=home)
    assert done.returncode == 0, done.stderr


def test_push_says_what_was_found_and_the_same_content_is_the_same_version(run: Run, digits_model: str) -> None:
    done = run("push", "twice", digits_model, "--alias", "prod", "--alias", "canary")
    assert done.returncode == 0, done.stderr
    for words in ("twice@1 registered", "onnx", "predict", "pixels FP32[-1, 64]", "canary, prod", "sha256:"):
        assert words in done.stdout
    again = run("push", "twice", digits_model)
    assert "twice@1 was there already" in again.stdout
    assert json.loads(run("models", "twice", "-o", "json").stdout)["items"][0]["aliases"] == ["canary", "prod"]


def test_push_takes_a_folder_and_options(run: Run, digits_model: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(Path(digits_model).read_bytes())
    (tmp_path / "notes.txt").write_text("trained on a Tuesday")
    done = run("push", "folder", str(tmp_path), "--task", "predict", "--option", "threads=2", "-o", "json")
    made = json.loads(done.stdout)["manifest"]
    assert [file["path"] for file in made["files"]] == ["model.onnx", "notes.txt"]
    assert made["options"]["threads"] == 2
    assert made["lineage"]["source"] == str(tmp_path)


def test_push_takes_the_time_of_the_training_and_none_of_the_future(run: Run, digits_model: str) -> None:
    done = run("push", "trained", digits_model, "--trained-at", "2026-01-02T03:04:05Z", "-o", "json")
    assert json.loads(done.stdout)["manifest"]["lineage"]["trained_at_s"] == 1767323045
    assert "trained" in run("describe", "model", "trained@1").stdout
    refused = run("push", "trained", digits_model, "--trained-at", "2999-01-02T03:04:05Z")
    assert refused.returncode == Exit.REFUSED
    assert "in the future" in refused.stderr


def test_push_of_a_pickle_is_refused_with_the_reason_and_nothing_stays(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    done = run("push", "pickled", str(tmp_path / "model.pkl"))
    assert done.returncode == Exit.REFUSED
    assert "pickle" in done.stderr
    assert run("models", "pickled").returncode == Exit.NOT_FOUND


def test_push_pulls_from_a_url_and_remembers_where_from(run: Run, digits_model: str) -> None:
    content = Path(digits_model).read_bytes()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode()
    with answering(head + content) as peer:
        done = run("push", "pulled", f"{peer.base}/files/model.onnx", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["manifest"]["lineage"]["source"] == f"{peer.base}/files/model.onnx"


def test_push_without_a_source_is_for_remote_models(run: Run) -> None:
    done = run("push", "remote", "--format", "remote", "--option", "base_url=http://127.0.0.1:9/v1", "--task", "chat")
    assert done.returncode == 0, done.stderr
    assert run("push", "remote").returncode == Exit.USAGE


def test_aliases_move_and_go(run: Run) -> None:
    assert "scores@best is now scores@1" in run("alias", "scores@1", "best").stdout
    assert json.loads(run("models", "scores@best", "-o", "json").stdout)["items"][0]["number"] == 1
    assert run("alias", "scores@9", "best").returncode == Exit.NOT_FOUND
    assert run("alias", "scores", "best", "--remove").returncode == 0
    assert run("models", "scores@best").returncode == Exit.NOT_FOUND


def test_apply_diff_get_and_delete_go_round(run: Run) -> None:
    assert "+ endpoint default/scores created" in run("diff", "-f", "-", stdin=ENDPOINT).stdout
    assert run("get", "endpoint", "scores").returncode == Exit.NOT_FOUND  # a diff changes nothing
    assert "+ endpoint default/scores created" in run("apply", "-f", "-", stdin=ENDPOINT).stdout
    assert "= endpoint default/scores unchanged" in run("apply", "-f", "-", stdin=ENDPOINT).stdout
    assert run("diff", "-f", "-", "--exit-code", stdin=ENDPOINT).stdout == "nothing would change\n"
    changed = ENDPOINT.replace("cpu: 2", "cpu: 3")
    different = run("diff", "-f", "-", "--exit-code", stdin=changed)
    assert different.returncode == Exit.DIFFERENT
    assert "spec.resources.cpu: 2.0 → 3.0" in different.stdout
    assert json.loads(run("apply", "-f", "-", "-o", "json", stdin=changed).stdout)["results"][0]["action"] == "updated"
    assert "scores is being deleted" in run("delete", "endpoint", "scores").stdout


def test_no_load_is_sent_where_nobody_would_answer_it(run: Run) -> None:
    run("apply", "-f", "-", stdin=ENDPOINT)
    asleep = run("plan", "scores", "--validate")
    assert asleep.returncode == Exit.BUSY
    assert "no replica of default/scores is ready" in asleep.stderr
    run("apply", "-f", "-", stdin=CHAIN)
    assert "is served by others (scores)" in run("plan", "front", "--validate").stderr
    assert run("delete", "endpoint", "front").returncode == Exit.OK


def test_a_manifest_that_get_prints_can_be_applied_again(run: Run) -> None:
    assert run("deploy", "again", "--model", "scores@1", "--cpu", "0.5", "--option", "threads=2").returncode == 0
    printed = run("get", "endpoint", "again", "-o", "manifest").stdout
    assert yaml.safe_load(printed)["spec"] == {
        "model": "scores@1",
        "options": {"threads": 2},
        "resources": {"cpu": 0.5},
    }
    assert "unchanged" in run("apply", "-f", "-", stdin=printed).stdout


def test_deploy_keeps_what_is_not_named(run: Run) -> None:
    run("deploy", "kept", "--model", "scores@1", "--memory", "256Mi", "--env", "A=1")
    run("deploy", "kept", "--replicas", "2", "--env", "B=2")
    spec = json.loads(run("get", "endpoint", "kept", "-o", "json").stdout)["resource"]["spec"]
    assert (spec["model"], spec["resources"]["memory"], spec["env"]) == ("scores@1", "256Mi", {"A": "1", "B": "2"})
    assert spec["replicas"] == {"min": 2, "max": 2}


def test_deploy_of_an_unknown_model_or_without_one_says_so(run: Run) -> None:
    unknown = run("deploy", "nothing", "--model", "nobody@3")
    assert unknown.returncode == Exit.REFUSED
    assert "nobody" in unknown.stderr
    assert run("deploy", "nothing").returncode == Exit.USAGE


def test_how_to_watch_a_new_endpoint_is_said_with_its_project(run: Run) -> None:
    assert run("projects", "create", "elsewhere").returncode == 0
    made = run("deploy", "watched", "--model", "scores@1", "-p", "elsewhere").stdout
    assert "watch it with `stoker describe watched -p elsewhere`" in made
    assert run("describe", "watched", "-p", "elsewhere").returncode == 0


def test_waiting_for_what_has_no_place_ends_with_the_platform_s_reason(run: Run) -> None:
    run("deploy", "waits", "--model", "scores@1")
    until(lambda: "NoCapacity" in run("describe", "waits").stdout, "control has looked at it")
    done = run("deploy", "waits", "--wait", "--timeout", "1")
    assert done.returncode == Exit.TIMED_OUT
    assert "no node reports" in done.stderr


def test_everything_prints_as_json_and_yaml_with_the_same_values(run: Run) -> None:
    for words in (
        ["get", "endpoints"],
        ["get", "models"],
        ["get", "projects"],
        ["get", "keys"],
        ["models"],
        ["projects"],
    ):
        as_json = json.loads(run(*words, "-o", "json").stdout)
        assert isinstance(as_json["items"], list)
        assert yaml.safe_load(run(*words, "-o", "yaml").stdout) == as_json
    assert json.loads(run("status", "-o", "json").stdout)["endpoints"] is not None


def test_tables_are_plain_aligned_text(run: Run) -> None:
    lines = run("get", "models").stdout.splitlines()
    assert lines[0].split()[:3] == ["MODEL", "FORMAT", "TASKS"]
    assert all(line[lines[0].index("FORMAT") :].startswith(("FORMAT", "onnx", "remote")) for line in lines)
    assert "\x1b" not in "".join(lines)


def test_describe_shows_reasons_revisions_and_decisions(run: Run) -> None:
    run("deploy", "told", "--model", "scores@1")
    until(lambda: "NoCapacity" in run("describe", "told").stdout, "control has looked at it")
    text = run("describe", "told").stdout
    for words in ("default/told", "NoCapacity", "Conditions", "Replicas", "Journal", "ApplyEndpoint"):
        assert words in text
    model = run("describe", "model", "scores").stdout
    assert "scores@1" in model
    assert "pixels FP32[-1, 64]" in model


def test_projects_come_and_go_when_they_are_empty(run: Run) -> None:
    assert run("projects", "create", "search", "--description", "Search team").returncode == 0
    assert "Search team" in run("projects").stdout
    assert run("deploy", "inside", "-p", "search", "--model", "scores@1").returncode == 0
    assert run("projects", "delete", "search").returncode == Exit.REFUSED
    assert "inside" in run("get", "-p", "search").stdout
    assert "inside" not in run("get").stdout
    assert "inside" in run("get", "-A").stdout


def test_keys_say_where_they_hold_and_what_became_of_the_secret_before(run: Run) -> None:
    assert (
        "for every project; shown this once" in run("keys", "create", "desk", "--role", "viewer", "--everywhere").stdout
    )
    made = run("keys", "create", "turned").stdout
    assert "for project default; shown this once" in made
    turned = made.splitlines()[1].split()[0]
    assert "the one before works until 20" in run("keys", "rotate", turned).stdout
    assert "the one before has ended" in run("keys", "rotate", turned, "--overlap", "0").stdout


def test_what_no_pattern_fits_is_refused_in_words(run: Run) -> None:
    who = run("keys", "create", "whose", "--subject", "bob").stderr
    assert "not as it must be: who: user:alice@example.org, service:ci" in who
    which = run("keys", "create", "which", "--endpoint", "a b").stderr
    assert "not as it must be: an endpoint's name; * stands for any part, ? for one (at access.endpoints[0])" in which
    assert "regex" not in who + which


def test_keys_are_shown_once_work_and_end(run: Run) -> None:
    key = run("keys", "create", "laptop", "--expires", "30d", "-q").stdout.strip()
    assert key.startswith("stk_")
    listed = json.loads(run("keys", "list", "-o", "json").stdout)["items"]
    (mine,) = [one for one in listed if one["name"] == "laptop"]
    assert key not in json.dumps(listed)
    refused = run("get", "endpoints", STOKER_KEY=key)
    assert refused.returncode == Exit.NOT_ALLOWED
    assert "admin" in refused.stderr
    assert run("keys", "revoke", mine["id"]).returncode == 0
    assert run("get", "endpoints", STOKER_KEY=key).returncode == Exit.NOT_ALLOWED
    assert run("keys", "revoke", mine["id"]).returncode == Exit.NOT_FOUND


def test_every_error_of_a_manifest_is_shown_with_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(ENDPOINT.replace("model:", "modle:") + "  replicas: {min: -1}\n")
    done = run("apply", "-f", str(tmp_path / "bad.yaml"))
    assert done.returncode == Exit.REFUSED
    assert f"{tmp_path}/bad.yaml:6: spec.modle: unknown field" in done.stderr
    assert "spec.replicas.min" in done.stderr


def test_completion_knows_the_endpoints(run: Run, home: Path) -> None:
    run("deploy", "completed", "--model", "scores@1")
    environment = {"_STOKER_COMPLETE": "bash_complete", "COMP_WORDS": "stoker describe compl", "COMP_CWORD": "2"}
    assert "plain,completed" in stoker(home=home, **environment).stdout


def test_the_typed_client_uploads_only_what_is_missing(
    control: ControlClient, digits_model: str, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(Path(digits_model).read_bytes())
    (tmp_path / "new.txt").write_text("never seen before")
    sent: list[int] = []
    pushed = push(
        control,
        "typed",
        tmp_path,
        Registration(files=()),
        lambda stage, done, total: sent.append(total) if stage == "upload" else None,
    )
    assert pushed.is_new
    assert set(sent) == {len("never seen before")}
    assert control.version("typed", "1") == pushed.version
    assert control.version("typed", pushed.version.digest).number == 1
    control.delete_version("typed", 1)
    with pytest.raises(NotFound):
        control.version("typed", "1")


def test_the_typed_client_raises_what_control_answers(control: ControlClient) -> None:
    (resource,) = manifest.load(ENDPOINT.replace("scores}", "uses}"))
    assert isinstance(resource, Endpoint)
    endpoints.put(
        control, "default", "uses", msgspec.json.encode(resource)
    )  # answers when its revision is made, which then uses the version
    with pytest.raises(Conflict):
        control.delete_version("scores", 1)
    with pytest.raises(StokerError):
        control.put_blob("sha256:" + "0" * 64, 5, [b"hello"])
    assert not control.has_blob("sha256:" + "0" * 64)
