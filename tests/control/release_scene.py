"""An endpoint whose releases are watched, on a platform that several tests share: each has a name of its own."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from stoker.client.registration import Registration
from stoker.client.releases import ReleaseClient
from stoker.client.rollouts import RolloutClient
from stoker.client.upload import LocalFile, push
from stoker.types.errors import NotFound
from stoker.types.releases import GOLDEN_FILE, GateResult, ReleaseView
from tests.control.rig import WAIT_S, Rig, conditions, endpoint, python_model, until

PACE_S = 0.005  # of an answer
PACED = f"time.sleep({PACE_S})"
ONES = [1.0, 1.0, 1.0, 1.0]
TENSOR = {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}
DIGIT = json.dumps({"inputs": [TENSOR]}).encode()


def pushed(rig: Rig, name: str, source: Path, golden: Path | None = None) -> None:
    beside = () if golden is None else (LocalFile(golden, GOLDEN_FILE, golden.stat().st_size),)
    push(rig.client, name, source, Registration(files=()), lambda *_: None, beside)


def held_model(folder: Path, *, gate: Path, after: int, scale: int = 2) -> Path:
    """Make a model that gives no answer while the file `gate` is there, once it was asked more often than `after`.

    Its replica asks it a few times while it is warmed up; 40 examples or more come, then the requests that are timed.
    """
    asked = "self.asked = getattr(self, 'asked', 0) + 1"
    held = f"while self.asked > {after} and __import__('os').path.exists({str(gate)!r}):"
    return python_model(folder, work=f"{asked}\n        {PACED}\n        {held} time.sleep(0.01)", scale=scale)


def examples(path: Path, *rows: tuple[list[float], Any]) -> Path:
    path.write_text("\n".join(json.dumps({"input": row, "expected": expected}) for row, expected in rows))
    return path


class Case:
    """An endpoint and the models of the same name."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        self.name = name

    def push(self, source: Path, golden: Path | None = None) -> None:
        pushed(self.rig, self.name, source, golden)

    def apply(self, number: int, **spec: Any) -> None:
        """Ask for a version."""
        asked = endpoint(self.name, f"{self.name}@{number}", **spec)
        status, answer, _ = self.rig.request("POST", "/api/v1/apply", asked)
        assert status == 200, answer

    def revision(self, number: int) -> str:
        return f"default.{self.name}-{number}"

    @property
    def releases(self) -> ReleaseClient:
        return ReleaseClient(self.rig.client.connection)

    @property
    def rollouts(self) -> RolloutClient:
        return RolloutClient(self.rig.client.connection)

    def release(self, number: int) -> ReleaseView:
        return self.releases.get("default", self.name, number)

    def find(self, number: int) -> ReleaseView | None:
        try:
            return self.release(number)
        except NotFound:
            return None

    def decided(self, number: int) -> ReleaseView:
        """Wait until the dossier of a revision is decided, whether or not control answers meanwhile."""

        def found() -> ReleaseView | None:
            view = self.find(number)
            return view if view is not None and view.dossier.state != "pending" else None

        view: ReleaseView = until(found, f"dossier of revision {number}")
        return view

    @property
    def serving(self) -> str:
        return str(self.rig.client.endpoint("default", self.name).status.serving)

    def serves(self, number: int, what: str = "it serves") -> None:
        until(lambda: self.serving == self.revision(number), f"{what}: {self.revision(number)}")

    def phase(self, canary: int) -> tuple[int, str]:
        """Return the number and the phase of the newest rollout, if it is of that revision."""
        try:
            found = self.rollouts.newest("default", self.name)
        except NotFound:
            return 0, ""
        return (found.number, found.phase) if found.canary == self.revision(canary) else (0, "")

    def goes(self, canary: int, phase: str, what: str) -> None:
        until(lambda: self.phase(canary)[1] == phase, lambda: f"{what}: it is {self.phase(canary)[1]}, not {phase}")

    def condition(self, kind: str, reason: str, what: str = "the condition says so") -> str:
        """Wait for a condition's reason and return its message."""
        until(lambda: conditions(self.rig, self.name)[kind].reason == reason, what)
        return str(conditions(self.rig, self.name)[kind].message)

    def is_at(self, number: int, moment: str) -> bool:
        """Return whether its gates are that far; "" is the beginning."""
        view = self.find(number)
        assert view is None or view.dossier.state == "pending", "it was decided before it could be seen"
        return view is not None and moment in view.dossier.because

    def leave(self) -> None:
        """Give its room to the next test's."""
        self.rig.request("DELETE", f"/api/v1/projects/default/endpoints/{self.name}")

    @contextmanager
    def traffic(self, body: bytes) -> Iterator[list[str]]:
        """Ask it without a pause; the list has the version that answered each time, or what went wrong."""
        said: list[str] = []
        over = threading.Event()

        def ask() -> None:
            headers = {"Authorization": f"Bearer {self.rig.key}", "Content-Type": "application/json"}
            while not over.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", self.rig.port, timeout=WAIT_S)
                connection.request("POST", f"/v2/models/{self.name}/infer", body, headers)
                answer = connection.getresponse()
                raw = answer.read()
                said.append(json.loads(raw)["model_version"] if answer.status == 200 else raw.decode())
                connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield said
        finally:
            over.set()
            thread.join(WAIT_S)


def result(view: ReleaseView, kind: str) -> GateResult:
    return next(each for each in view.dossier.results if each.kind == kind)


def digits(folder: Path) -> Path:
    """Make a classifier, one that was trained on shuffled labels, one of other inputs, and examples."""
    data, labels = load_digits(return_X_y=True)
    data, chance = data.astype(np.float32), np.random.default_rng(1)
    shuffled = chance.permutation(labels[:1000])
    for name, rows, wanted in (
        ("good", data[:1000] / 16, labels[:1000]),
        ("bad", data[:1000] / 16, shuffled),
        ("narrow", data[:1000, :32] / 16, labels[:1000]),
    ):
        model = LogisticRegression(max_iter=1000).fit(rows, wanted)
        made = to_onnx(model, rows[:1], options={"zipmap": False}).SerializeToString()
        (folder / f"{name}.onnx").write_bytes(made)
    chosen = [((data[at] / 16).tolist(), int(labels[at])) for at in range(1000, 1200)]
    examples(folder / "golden.jsonl", *chosen)
    return folder
