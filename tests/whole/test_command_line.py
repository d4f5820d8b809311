"""The command line against the platform of `make up`: what a newcomer types."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from stoker.cli.demo import NAMES, curl_lines
from stoker.confine import landlock
from tests.whole.rig import STOKER, WAIT_S, Platform, until

DIGITS = load_digits()


def stoker(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(STOKER), *arguments], env=platform.environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )


def read_until(run: "subprocess.Popen[str]", words: str) -> str:
    """Return what a running command printed up to the first line with `words`; ends it when they never come."""
    assert run.stdout is not None
    said = ""
    for line in run.stdout:
        said += line
        if words in line:
            return said
    run.kill()
    raise AssertionError(f"{words!r} never came:\n{said}")


def test_a_second_start_finds_all_there_and_is_quick(demo: Platform) -> None:
    def times() -> float:
        """Return how many times as long as a question it takes."""
        began = time.monotonic()
        demo.cli("status")
        asked = time.monotonic()
        text = demo.cli("up", "--detach", "--demo", "--gateways", "2")
        took_s = time.monotonic() - asked
        assert "was running" in text
        assert all(f"{name:<10} serving" in text for name in NAMES)
        return took_s / (asked - began)

    # Whatever else the machine does in a moment: it never takes less than it takes.
    assert any(times() < 4 for _ in range(10)), "it asks what there is, and a few things more"


@pytest.mark.skipif(landlock.abi() < landlock.SCOPES_ABI, reason="the kernel has not all of Landlock")
@pytest.mark.parametrize("name", NAMES)
def test_what_replicas_are_kept_from_is_a_condition_and_a_duty(name: str, demo: Platform) -> None:
    said = {each["type"]: each for each in demo.json("describe", name)["status"]["conditions"]}
    assert said["Sandboxed"]["status"], said["Sandboxed"]
    assert "no network" in said["Sandboxed"]["message"]
    duties = {each["name"]: each for each in demo.json("boundary", name)["duties"]}
    assert duties["isolation"]["standing"] == "holds"


def test_every_printed_curl_line_works_as_it_stands(demo: Platform) -> None:
    answers = {}
    for name in NAMES:
        line = curl_lines(name, demo.url)
        done = subprocess.run(
            ["sh", "-ec", f"export KEY={demo.key}; {line}"], capture_output=True, text=True, timeout=WAIT_S, check=True
        )
        answers[name] = done.stdout
    assert json.loads(answers["digits"])["outputs"][0]["data"] == [7]
    assert len(json.loads(answers["minilm"])["data"]) == 2
    assert answers["smol"].rstrip().endswith("data: [DONE]")


def test_predict_takes_rows_files_requests_and_texts(demo: Platform, tmp_path: Path) -> None:
    np.save(tmp_path / "ten.npy", DIGITS.data[:10])  # float64: made to fit
    found = demo.json("predict", "digits", "--input", f"@{tmp_path}/ten.npy")
    assert found["outputs"][0]["data"][:5] == [0, 1, 2, 3, 4]
    row = json.dumps(DIGITS.data[3].tolist())
    assert "label INT64[1]\n[3]" in demo.cli("predict", "digits", "--input", f"pixels={row}")
    request = {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": DIGITS.data[4].tolist()}]}
    piped = json.loads(demo.cli("predict", "digits", "-o", "json", stdin=json.dumps(request)))
    assert piped["outputs"][0]["data"] == [4]
    by_name = demo.json("predict", "digits", "--json", json.dumps({"pixels": DIGITS.data[:2].tolist()}))
    assert by_name["outputs"][0]["data"] == [0, 1]
    assert "like the first" in demo.cli("predict", "minilm", "--text", "a cat", "--text", "a kitten")


def test_predict_says_what_was_expected(demo: Platform) -> None:
    for arguments, words, code in (
        (["predict", "digits", "--input", "[1, 2, 3]"], "[-1, 64]", 4),
        (["predict", "digits", "--input", "pixel=[1]"], "pixels FP32[-1, 64]", 4),
        (["predict", "digits", "--input", '["a"]'], "pixels takes FP32", 4),
        (["predict", "nobody", "--text", "x"], "nobody", 3),
    ):
        done = stoker(demo, *arguments)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_chat_answers_a_question_a_pipe_and_a_program(demo: Platform) -> None:
    assert demo.cli("chat", "smol", "Name three colours.", "--temperature", "0", "--max-tokens", "20").strip()
    assert demo.cli("chat", "smol", "--max-tokens", "8", stdin="Say something.").strip()
    said = demo.json("chat", "smol", "Count to ten.", "--temperature", "0", "--max-tokens", "5")
    assert said["usage"]["completion_tokens"] == 5
    assert said["finish_reason"] == "length"


def test_deploy_waits_for_readiness_and_rollback_returns(demo: Platform, tmp_path: Path) -> None:
    demo.cli("deploy", "other", "--model", "digits@1", "--cpu", "0.1", "--wait")
    demo.cli("deploy", "other", "--env", "MARK=2", "--wait")
    detail = demo.json("describe", "other")
    assert [one["number"] for one in detail["revisions"] if one["serving"]] == [2]
    until(lambda: "thread" in demo.json("describe", "other")["replicas"][0]["engine"], what="the engine is described")
    demo.cli("rollback", "other", "--wait")
    detail = demo.json("describe", "other")
    assert [one["number"] for one in detail["revisions"] if one["serving"]] == [1]
    assert detail["status"]["replicas_ready"] == 1
    assert "is gone" in demo.cli("delete", "endpoint", "other", "--wait")


def test_a_deployment_that_cannot_load_ends_with_the_engine_s_words(demo: Platform, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        'class Model:\n    def load(self, folder):\n        raise RuntimeError("the shelf is empty")\n'
        "    def predict(self, inputs):\n        return inputs\n"
    )
    demo.cli("push", "broken", str(tmp_path))
    done = stoker(demo, "deploy", "broken", "--model", "broken", "--cpu", "0.1", "--wait", "--timeout", "60")
    assert done.returncode == 1, done.stderr
    assert "the shelf is empty" in done.stderr
    assert "stoker logs broken" in done.stderr
    assert "the shelf is empty" in demo.cli("logs", "broken")
    demo.cli("delete", "endpoint", "broken", "--wait")


def test_status_shows_what_was_called(demo: Platform) -> None:
    def seen() -> bool:
        demo.cli("predict", "minilm", "--text", "hello")  # what is shown is what came in the last seconds
        rates = {one["endpoint"]: one for one in demo.json("status")["endpoints"]}
        return bool(rates["minilm"]["requests_per_s"] > 0 and rates["minilm"]["p50_s"] > 0)

    until(seen, "the request shows in the rates")
    assert "minilm" in demo.cli("status")


def test_top_without_a_terminal_prints_lines_and_ends_on_a_signal(demo: Platform) -> None:
    with subprocess.Popen([str(STOKER), "top"], env=demo.environment, stdout=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None
        first = top.stdout.readline()
        top.terminate()
        assert top.wait(WAIT_S) == 0
    assert "1/1 replicas" in first


def test_logs_of_a_process_of_the_platform(demo: Platform) -> None:
    assert '"process":"gateway-0"' in demo.cli("logs", "--process", "gateway-0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_in_the_foreground_stops_everything_when_it_is_ended(
    fresh: Callable[..., Platform], number: signal.Signals
) -> None:
    platform = fresh()
    with subprocess.Popen([str(STOKER), "up"], env=platform.environment, stdout=subprocess.PIPE, text=True) as up:
        said = read_until(up, "curl")
        assert f"export KEY={platform.key}" in said
        assert platform.processes()
        up.send_signal(number)
        rest, _ = up.communicate(timeout=WAIT_S)
        assert up.returncode == 0
    assert "stopped" in rest
    assert platform.processes() == []


def test_up_in_the_foreground_ends_when_somebody_else_stops_the_platform(fresh: Callable[..., Platform]) -> None:
    platform = fresh()
    with subprocess.Popen([str(STOKER), "up"], env=platform.environment, stdout=subprocess.PIPE, text=True) as up:
        read_until(up, "curl")
        watcher = subprocess.Popen([str(STOKER), "up"], env=platform.environment, stdout=subprocess.PIPE, text=True)
        assert "was running" in read_until(watcher, "curl")
        watcher.send_signal(signal.SIGINT)  # who only watches stops nothing
        watcher.communicate(timeout=WAIT_S)
        assert platform.processes()
        platform.down()
        up.communicate(timeout=WAIT_S)
        assert up.returncode == 0


def test_a_taken_port_is_an_error_that_names_the_setting_and_leaves_nothing(fresh: Callable[..., Platform]) -> None:
    platform = fresh()
    with socket.create_server(("127.0.0.1", platform.port)):
        done = stoker(platform, "up", "--detach")
    assert done.returncode == 4
    assert f"port {platform.port} is taken" in done.stderr
    assert "PORT" in done.stderr
    assert platform.processes() == []
