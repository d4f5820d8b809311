"""Drift of texts and vectors on a real platform: learned from what passes, told when something else comes."""

import json
import random
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stoker.client.views import DriftView
from tests.runtime.models import minilm
from tests.whole.rig import Platform, until

WATCH = "{every: 1s, window: 20s, rows_min: 60}"
MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: NAME}
spec:
  model: MODEL
  drift: WATCH
  replicas: {min: 1, max: 1}
  resources: {cpu: 0.05, memory: 512Mi}
"""
TALKER = """
class Model:
    async def generate(self, request):
        yield "You said: "
        yield request.messages[-1].content
"""
ANIMALS = (
    "a cat that sleeps",
    "the dog in the garden",
    "birds on a wire",
    "a fish in clear water",
    "a horse that runs",
)
MONEY = ("die Bank hebt die Zinsen", "Aktien fielen am Mittag", "die Rechnung ist fällig", "Steuern auf Einkommen")


def call(platform: Platform, path: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{platform.url}/v1/{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {platform.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
        answer.read()


def text(kinds: tuple[str, ...]) -> str:
    return f"{random.choice(kinds)}, {random.choice(kinds)}"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with an embedder and a language model that repeats what it is told."""
    folder = tmp_path_factory.mktemp("drift")
    found = Platform(folder / "home")
    (folder / "talker").mkdir()
    (folder / "talker" / "model.py").write_text(TALKER)
    try:
        found.up()
        found.cli("push", "talker", str(folder / "talker"), "--task", "chat")
        found.cli("push", "minilm", str(minilm(folder / "minilm")), "--task", "embed")
        yield found
    finally:
        found.kill_everything()


def serve(platform: Platform, name: str, model: str) -> None:
    platform.client.apply(MANIFEST.replace("NAME", name).replace("MODEL", model).replace("WATCH", WATCH).encode())
    until(lambda: platform.client.endpoint("default", name).status.replicas_ready == 1, 60, f"{name} is ready")


def drifts(platform: Platform, name: str, good: Callable[[], None], other: Callable[[], None]) -> DriftView:
    """Learn from what is good, be calm about it, and return what is said of the other."""

    def sent(what: Callable[[], None], claim: Callable[[DriftView], bool], timeout_s: float, about: str) -> DriftView:
        def once() -> DriftView | None:
            for _ in range(5):
                what()
            view = platform.client.drift("default", name)
            return view if claim(view) else None

        found: DriftView = until(once, timeout_s, f"{about}: {platform.client.drift('default', name).because}")
        return found

    window_s = 4.0

    def is_learned(view: DriftView) -> bool:
        """Learn again, for longer, when too few rows passed: how many do says how busy the machine is."""
        nonlocal window_s
        if not view.is_watched and not view.learning_until_s:
            window_s *= 2
            platform.client.learn_drift("default", name, window_s)
        return view.is_watched

    sent(good, is_learned, 90, "a reference is learned")
    calm = sent(good, lambda view: bool(view.features), 60, "there are rows enough")
    assert not calm.is_drifted, calm.because
    found = sent(other, lambda view: view.is_drifted, 90, "the shift is told")

    def reasons() -> list[str]:
        conditions = platform.client.endpoint("default", name).status.conditions
        return [one.reason for one in conditions if one.type == "Drifted"]

    until(lambda: reasons() == ["FeaturesDrifted"], 10, "the condition says so too")
    return found


def levels(view: DriftView) -> dict[str, str]:
    return {one.shift.feature: one.shift.level for one in view.features}


def test_an_embed_endpoint_drifts_when_texts_are_of_another_topic_and_language(
    platform: Platform,
) -> None:
    serve(platform, "topics", "minilm")
    view = drifts(
        platform,
        "topics",
        lambda: call(platform, "embeddings", {"model": "topics", "input": text(ANIMALS)}),
        lambda: call(platform, "embeddings", {"model": "topics", "input": text(MONEY)}),
    )
    found = next(one.shift for one in view.features if one.shift.feature == "embedding")
    assert found.level == "drifted"
    assert found.mean_shift > 0.5  # the AUC is that of a window of both, as soon as enough are of the other
    shown = platform.cli("drift", "topics")
    assert "AUC (BY CHANCE)" in shown
    assert "→ embedding" in shown


def test_a_chat_endpoint_drifts_when_prompts_are_of_another_language(
    platform: Platform,
) -> None:
    serve(platform, "talks", "talker")

    def says(kinds: tuple[str, ...]) -> None:
        call(platform, "chat/completions", {"model": "talks", "messages": [{"role": "user", "content": text(kinds)}]})

    view = drifts(platform, "talks", lambda: says(ANIMALS), lambda: says(MONEY))
    assert {levels(view)["prompt.wording"], levels(view)["answer.wording"]} == {"drifted"}
    assert levels(view)["answer.finish"] == "steady"
    assert "wording" in platform.cli("drift", "talks")
