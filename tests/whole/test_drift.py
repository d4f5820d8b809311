"""Drift of texts and vectors on a real platform: learned from what passes, told when something else comes."""

import itertools
import json
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from stoker.client.views import DriftView
from tests.runtime.models import minilm
from tests.whole.rig import WAIT_S, Platform, until

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
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        assert answer.status == 200
        answer.read()


def texts(kinds: tuple[str, ...]) -> Iterator[str]:
    """Yield all pairs again and again: what comes in one stretch is what came in another, and no chance in it."""
    return (", ".join(pair) for pair in itertools.cycle(itertools.product(kinds, repeat=2)))


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
    until(lambda: platform.client.endpoint("default", name).status.replicas_ready == 1, f"{name} is ready")


def drifts(
    platform: Platform,
    name: str,
    good: Callable[[], None],
    other: Callable[[], None],
    is_told: Callable[[DriftView], bool],
) -> DriftView:
    """Learn from what is good, be calm about it, and return what is said of the other once it `is_told`."""

    def sent(what: Callable[[], None], claim: Callable[[DriftView], bool], about: str) -> DriftView:
        def once() -> DriftView | None:
            for _ in range(5):
                what()
            view = platform.client.drift("default", name)
            return view if claim(view) else None

        found: DriftView = until(once, lambda: f"{about}: {platform.client.drift('default', name).because}")
        return found

    window_s = 4.0

    def is_learned(view: DriftView) -> bool:
        """Learn again, for longer, when too few rows passed: how many do says how busy the machine is."""
        nonlocal window_s
        if not view.is_watched and not view.learning_until_s:
            window_s *= 2
            platform.client.learn_drift("default", name, window_s)
        return view.is_watched

    def is_a_condition(_: DriftView) -> bool:
        conditions = platform.client.endpoint("default", name).status.conditions
        return [one.reason for one in conditions if one.type == "Drifted"] == ["FeaturesDrifted"]

    sent(good, is_learned, "a reference is learned")
    calm = sent(good, lambda view: bool(view.features), "there are rows enough")
    assert not calm.is_drifted, calm.because
    found = sent(other, lambda view: view.is_drifted and is_told(view), "the shift is told")
    sent(other, is_a_condition, "the condition says so too")
    return found


def level(view: DriftView, feature: str) -> str:
    return next(one.shift.level for one in view.features if one.shift.feature == feature)


def embeds(platform: Platform) -> DriftView:
    """Return what is said of an embedder that texts of another topic and language come to."""
    serve(platform, "topics", "minilm")
    good, other = texts(ANIMALS), texts(MONEY)
    return drifts(
        platform,
        "topics",
        lambda: call(platform, "embeddings", {"model": "topics", "input": next(good)}),
        lambda: call(platform, "embeddings", {"model": "topics", "input": next(other)}),
        lambda view: level(view, "embedding") == "drifted",
    )


def chats(platform: Platform) -> DriftView:
    """Return what is said of a language model that prompts of another language come to."""
    serve(platform, "talks", "talker")
    good, other = texts(ANIMALS), texts(MONEY)

    def says(content: str) -> None:
        call(platform, "chat/completions", {"model": "talks", "messages": [{"role": "user", "content": content}]})

    return drifts(
        platform,
        "talks",
        lambda: says(next(good)),
        lambda: says(next(other)),
        lambda view: {level(view, "prompt.wording"), level(view, "answer.wording")} == {"drifted"},
    )


@pytest.fixture(scope="module")
def seen(platform: Platform) -> Iterator[tuple[Future[DriftView], Future[DriftView]]]:
    """Both at once: what takes long is that windows of time pass."""
    with ThreadPoolExecutor(2) as both:
        yield both.submit(embeds, platform), both.submit(chats, platform)


def test_an_embed_endpoint_drifts_when_texts_are_of_another_topic_and_language(
    platform: Platform, seen: tuple[Future[DriftView], Future[DriftView]]
) -> None:
    found = next(one.shift for one in seen[0].result().features if one.shift.feature == "embedding")
    assert found.level == "drifted"
    assert found.mean_shift > 0.5  # the AUC is that of a window of both, as soon as enough are of the other
    shown = platform.cli("drift", "topics")
    assert "AUC (BY CHANCE)" in shown
    assert "→ embedding" in shown


def test_a_chat_endpoint_drifts_when_prompts_are_of_another_language(
    platform: Platform, seen: tuple[Future[DriftView], Future[DriftView]]
) -> None:
    view = seen[1].result()
    assert {level(view, "prompt.wording"), level(view, "answer.wording")} == {"drifted"}
    assert level(view, "answer.finish") == "steady"
    assert "wording" in platform.cli("drift", "talks")
