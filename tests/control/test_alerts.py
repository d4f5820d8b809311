"""A whole platform whose replica dies: the objective burns, somebody is told, and told again when it is over.

Run as a program it waits for the end too, and prints how long each took (a minute or two).
"""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.cli.exits import Exit
from stoker.client import alerts
from stoker.client.connection import ManifestRefused
from stoker.types.errors import StokerError
from tests.cli.run import stoker
from tests.control.rig import Rig, endpoint, infer, is_served, python_model, until
from tests.observe.receivers import Webhook

MOVES = ("freeze-rollouts", "scale-up", "shed-sheddable")
# Its replica cannot load while the file is there.
LOAD = 'import os; assert not os.path.exists({!r}), "the weights are gone"'


class Callers:
    """Call the endpoint without pause, whatever it answers."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(8)]

    def _run(self) -> None:
        while not self._stop.wait(0.25):
            try:
                infer(self._rig)
            except (AssertionError, OSError, StokerError):
                continue

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def prepare(rig: Rig, folder: Path, url: str) -> Path:
    """Serve an endpoint that promises 99.9 % over an hour; return the file that keeps its replica from loading."""
    gone = folder / "gone"
    rig.start_agent()
    rig.push("m", python_model(folder / "model", load=LOAD.format(str(gone))))
    promise: dict[str, Any] = {"name": "answers", "target": 0.999, "window": "1h", "runbook": "https://wiki/a"}
    promise["policy"] = [{"do": move} for move in MOVES]
    rig.client.apply(json(endpoint(slos=[promise], limits={"timeout": "1s"}, replicas={"max": 2})))
    rig.client.apply(
        json(
            {
                "apiVersion": "stoker/v1",
                "kind": "Notifier",
                "metadata": {"name": "phone"},
                "spec": {"type": "webhook", "url": url},
            }
        )
    )
    until(lambda: rig.client.endpoint("default", "a").status.replicas_ready, "the endpoint is ready")
    until(lambda: is_served(rig), "the gateway knows it")
    until(lambda: rig.client.slos("a"), "the endpoint is watched")
    return gone


def break_it(rig: Rig, gone: Path) -> float:
    """Kill the replica for good and return when."""
    gone.touch()
    (pid,) = [pid for name, pid in rig.processes().items() if name.startswith("default.")]
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def statuses(webhook: Webhook) -> list[str]:
    return [post.json["status"] for post in webhook.posts]


def burns(webhook: Webhook) -> list[dict[str, Any]]:
    """Return what was told of objectives. A machine that is too busy may have alarms beside them."""
    told = [each for post in list(webhook.posts) if post.json["status"] == "firing" for each in post.json["alerts"]]
    return [each for each in told if each["labels"]["alertname"] == "SloBurn"]


def moves(rig: Rig) -> list[str]:
    return [each.move for each in rig.client.endpoint("default", "a").status.moves]


def refusal(rig: Rig, priority: str) -> str:
    """Return what the endpoint, whose replica is gone, says to a request of that priority."""
    with pytest.raises(AssertionError) as said:
        infer(rig, **{"x-stoker-priority": priority})
    return str(said.value)


def test_a_replica_that_dies_for_good_is_told_in_seconds_and_the_policy_of_the_budget_acts(
    rig: Rig, tmp_path: Path
) -> None:
    webhook = Webhook()
    try:
        gone = prepare(rig, tmp_path, webhook.url)
        alerts.try_notifier(rig.client, "default", "phone")
        assert "StokerTest" in [post.json["alerts"][0]["labels"]["alertname"] for post in webhook.posts]
        with Callers(rig):
            until(lambda: rig.client.slos("a")[0].attained is not None, "answers are counted")
            break_it(rig, gone)
            until(lambda: burns(webhook), "the receiver hears", 30.0)
        told, *_ = burns(webhook)
        assert told["labels"]["endpoint"] == "a"
        assert told["labels"]["severity"] == "page"
        assert told["annotations"]["runbook_url"] == "https://wiki/a"
        # Beside it there is the alarm of an endpoint that is down, which waits a minute.
        (alert,) = [each for each in alerts.everything(rig.client).items if each.labels["alertname"] == "SloBurn"]
        assert alert.state == "firing"
        assert alerts.take(rig.client, alert.id, "ada").acknowledged_by == "ada"
        with pytest.raises(ManifestRefused) as refused:
            rig.client.apply(json(endpoint(env={"NEW": "1"})))
        assert "rollouts are frozen: objective 'answers'" in refused.value.details[0].message
        assert rig.client.apply(json(endpoint(limits={"timeout": "3s"})), dry_run=True)[0].action == "updated"
        until(lambda: moves(rig) == list(MOVES), "the policy is in force")
        until(lambda: "error budget" in refusal(rig, "sheddable"), "gateways shed")
        assert "error budget" not in refusal(rig, "standard")
        until(lambda: rig.client.endpoint("default", "a").status.replicas_wanted == 2, "one more is wanted")
        refused_too = stoker("deploy", "a", "--env", "NEW=1", home=rig.home.root)
        assert refused_too.returncode == Exit.REFUSED
        assert "insist with --over-budget" in refused_too.stderr
        insisted = stoker("deploy", "a", "--env", "NEW=1", "--over-budget", home=rig.home.root)
        assert "updated" in insisted.stdout, insisted.stderr
        promoted = stoker("rollouts", "promote", "a", home=rig.home.root)
        assert "rollouts are frozen: objective 'answers'" in promoted.stderr
        (written, *_) = [each for each in rig.client.journal(endpoint="a") if each.action == "ApplyEndpoint"]
        assert "changed: spec.env.NEW; over the freeze of rollouts: objective 'answers'" in written.because
        unpromised = json(endpoint(env={"NEW": "1"}, limits={"timeout": "1s"}, replicas={"max": 2}))
        assert rig.client.apply(unpromised)[0].action == "updated"
        until(lambda: moves(rig) == ["scale-up"], "a promise that is no more asks for nothing; a replica stays a while")
        until(lambda: "error budget" not in refusal(rig, "sheddable"), "gateways shed nothing more")
        told_of = {entry.action: entry.because for entry in rig.client.journal(endpoint="a")}
        assert any(action.startswith("AlertFiring") for action in told_of)
        assert all(
            "objective 'answers': 0% of the error budget is left" in told_of[f"BeginMove {each}"] for each in MOVES
        )
        assert "EndMove shed-sheddable" in told_of
    finally:
        webhook.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rig, webhook = Rig(Path(folder) / "h"), Webhook()
        try:
            gone = prepare(rig, Path(folder), webhook.url)

            def after(claim: Callable[[], bool], since_s: float) -> float:
                until(claim, "", 300.0)
                return time.monotonic() - since_s

            with Callers(rig):
                time.sleep(30)
                since_s = break_it(rig, gone)
                print(f"told after {after(lambda: 'firing' in statuses(webhook), since_s):.1f} s")
                time.sleep(20)
                gone.unlink()
                until(lambda: rig.client.endpoint("default", "a").status.replicas_ready, "it is back", 60.0)
                since_s = time.monotonic()
                print(f"its end told after {after(lambda: 'resolved' in statuses(webhook), since_s):.1f} s")
            print(rig.client.slos("a")[0])
            print(alerts.everything(rig.client))
        finally:
            rig.close()
            webhook.close()


if __name__ == "__main__":
    sys.exit(main())
