"""Drift of texts and vectors against known truth, and what looking at them costs a request.

Vectors lie about topics in 384 dimensions, as an encoder's do; texts are words of a topic among words of a language.
"""

import json
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.figures import Figure
from stoker.control.drift.files import Learning
from stoker.control.drift.learning import learned
from stoker.core.drift import DriftMemory, Judgement, Policy, judge
from stoker.core.reference import bind
from stoker.core.watched import BUCKETS, CHAT, EMBED, PROMPT, WORDING, Seen
from stoker.observe.drift.reference import build
from stoker.observe.drift.space import compared, spaces_of
from stoker.protocol.openai import decode_chat
from stoker.runtime.drift_texts import ROWS_A_SECOND, ChatWatch, EmbedWatch, Share
from stoker.telemetry.profile import profile
from stoker.telemetry.slots import Counter
from stoker.telemetry.vectors import Drawer
from stoker.types.drift import SAMPLE_MAX, Drawn, Plane, Question, Reference
from stoker.types.generation import Delta
from stoker.types.replica import Usage

POLICY: Final = Policy(rows_min=100)
WINDOWS_EACH: Final = 10  # of one reference
SIZES: Final = ((100, 200), (600, 200), (600, 1_000))  # rows of the reference, of a window
WIDTH: Final = 384
RATE: Final = 200  # requests a second of one replica
TOPICS: Final = 6
WORDS: Final = {
    "english": "the a and of to in is it that for on with as was be this are by from or at an if can how what do",
    "german": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an was wie",
    "cooking": "oven flour butter recipe onion garlic pan boil slice sugar dough salt taste roast soup spoon",
    "money": "bank loan interest invoice tax share market credit account payment profit budget price fund",
}
Texts = list[str]


def topics(rng: np.random.Generator, rows: int, shares: tuple[float, ...] | None = None) -> NDArray[np.float32]:
    """Return vectors about TOPICS centres, that lie and scatter mostly in some directions: float32 [rows, WIDTH]."""
    world = np.random.default_rng(5)
    scale = np.linspace(1.0, 0.05, WIDTH)
    centres = world.normal(size=(TOPICS, WIDTH)) * scale
    found = centres[rng.choice(TOPICS, rows, p=shares)] + rng.normal(size=(rows, WIDTH)) * scale
    return found.astype(np.float32)


def written(rng: np.random.Generator, rows: int, language: str = "english", topic: str = "cooking") -> Texts:
    """Return texts of 8 to 60 words, a third of them of the topic."""
    usual, special = (np.array(WORDS[which].split()) for which in (language, topic))
    sizes = rng.integers(8, 60, rows)
    many = int(sizes.sum())
    words = np.where(rng.random(many) < 1 / 3, rng.choice(special, many), rng.choice(usual, many))
    return [" ".join(part) for part in np.split(words, sizes.cumsum()[:-1])]


def vectors(references: int) -> tuple[list[list[str]], list[Figure]]:
    """Return false alarms over vectors, and how often another mix of the same topics was found."""
    plane = Plane("embedding", "output", WIDTH)

    def reference(rng: np.random.Generator, rows: int) -> Reference:
        return Reference(spaces=spaces_of({"embedding": topics(rng, rows)}, [plane], "bench"))

    def verdict(of: Reference, found: NDArray[np.float32]) -> Judgement:
        return judge(of, (), len(found), POLICY, DriftMemory(), compared(of, [_drawn(found)]))

    one_topic = (1.0, *[0.0] * (TOPICS - 1))
    mostly = (1 / 2, *[1 / 10] * (TOPICS - 1))
    return _told(
        "vectors",
        references,
        reference,
        lambda of, rng, rows: verdict(of, topics(rng, rows)),
        {
            "one topic of six": lambda of, rng, rows: verdict(of, topics(rng, rows, one_topic)),
            "one topic half of the time": lambda of, rng, rows: verdict(of, topics(rng, rows, mostly)),
        },
    )


def texts(references: int) -> tuple[list[list[str]], list[Figure]]:
    """Return false alarms over texts, and how often another topic and another language were found."""
    plane = Plane(f"{PROMPT}.{WORDING}", "input", BUCKETS)

    def reference(rng: np.random.Generator, rows: int) -> Reference:
        found = profile(PROMPT, written(rng, rows))
        spaces = spaces_of({plane.name: found.pop(plane.name)}, [plane], "bench")
        columns = {name: values[:, 0] for name, values in found.items()}
        bound = bind(build(columns, source="bench", made_at_s=0.0, spaces=spaces), CHAT.signature, CHAT.planes)
        assert isinstance(bound, Reference), bound
        return bound

    def verdict(of: Reference, found: Texts) -> Judgement:
        columns = profile(PROMPT, found)
        counter = Counter(of)
        counter.add(columns, {}, len(found))
        apart = compared(of, [_drawn(columns[plane.name])])
        return judge(of, counter.slots(), counter.rows, POLICY, DriftMemory(), apart)

    return _told(
        "texts",
        references,
        reference,
        lambda of, rng, rows: verdict(of, written(rng, rows)),
        {
            "another topic": lambda of, rng, rows: verdict(of, written(rng, rows, topic="money")),
            "another language": lambda of, rng, rows: verdict(of, written(rng, rows, "german")),
        },
    )


Ask = Callable[[Reference, np.random.Generator, int], Judgement]


def _told(
    what: str,
    references: int,
    reference: Callable[[np.random.Generator, int], Reference],
    calm: Ask,
    moved: dict[str, Ask],
) -> tuple[list[list[str]], list[Figure]]:
    rows = [["reference rows", "window rows", "windows", "moved", "drifted", *moved]]
    levels: list[set[str]] = []
    power: dict[str, list[bool]] = {name: [] for name in moved}
    for reference_rows, window_rows in SIZES:
        here: list[set[str]] = []
        found: dict[str, list[bool]] = {name: [] for name in moved}
        for seed in range(references):
            rng = np.random.default_rng(seed)
            of = reference(rng, reference_rows)
            here += [{one.level for one in calm(of, rng, window_rows).shifts} for _ in range(WINDOWS_EACH)]
            for name, ask in moved.items():
                found[name].append(any(one.level == "drifted" for one in ask(of, rng, window_rows).shifts))
        shown = [f"{np.mean([one != {'steady'} for one in here]) * 100:.1f} %"]
        shown += [f"{np.mean(['drifted' in one for one in here]) * 100:.1f} %"]
        shown += [f"{np.mean(each):.2f}" for each in found.values()]
        rows.append([str(reference_rows), str(window_rows), str(len(here)), *shown])
        levels += here
        for name, each in found.items():
            power[name] += each
    false = float(np.mean(["drifted" in one for one in levels])) * 100
    note = f"{len(levels)} windows, references drawn anew"
    figures = [Figure(f"{what} without drift called drifted", false, "%", 1.0, "at most", note)]
    figures += [
        Figure(f"power, {what}: {name}", float(np.mean(each)), "", 0.9, "at least") for name, each in power.items()
    ]
    return rows, figures


def looking() -> tuple[list[list[str]], list[Figure]]:
    """Return what texts and vectors cost a request, drawn or not, and at a rate where a share of them is drawn."""
    rows = [["request", "characters answered", "µs a request looked at", "µs a request not looked at"]]
    for length in (40, 2_000):
        chat_us, unwatched_us = _chat_us(length, is_on=True), _chat_us(length, is_on=False)
        rows.append(["chat", str(length), f"{chat_us:.1f}", f"{unwatched_us:.2f}"])
    embed_us, unwatched_us = _embed_us(is_on=True), _embed_us(is_on=False)
    rows.append(["embed", "", f"{embed_us:.1f}", f"{unwatched_us:.2f}"])
    share = Share()
    drawing_us = _cost_us(lambda: share.draws(time.monotonic()))
    figures = []
    for name, looked_us in (("chat", chat_us), ("embed", embed_us)):
        busy_us = drawing_us + looked_us * ROWS_A_SECOND / RATE
        figures.append(Figure(f"looking at {name} requests, {RATE} a second", busy_us, "µs/request", 5.0, "at most"))
    return rows, figures


def _chat_us(length: int, *, is_on: bool) -> float:
    request = decode_chat(json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 400}]}).encode())
    answer = [Delta(text="word ") for _ in range(length // 5)]
    watch = ChatWatch()

    def once() -> None:
        said = watch.begin(request)
        if said is not None:
            hears = True
            for each in answer:
                if hears:
                    hears = said.hear(each)
            said.finish = "stop"
            watch.end(said, Usage(input_tokens=400, output_tokens=length // 5))

    if is_on:
        _watched(watch, once, CHAT)
    return _cost_us(once)


def _embed_us(*, is_on: bool) -> float:
    vector = np.random.default_rng(0).normal(size=(1, WIDTH)).astype(np.float32)
    watch = EmbedWatch(WIDTH)

    def once() -> None:
        watch.take(["word " * 60], [60], vector)

    if is_on:
        _watched(watch, once, EMBED)
    return _cost_us(once)


def _watched(watch: ChatWatch | EmbedWatch, once: Callable[[], None], seen: Seen) -> None:
    """Have every request counted, against a reference learned of the same."""
    watch._share = Always()
    watch.answer(Question(gather=1_000, seed="s"))
    for _ in range(100):
        once()
    made = learned(Learning(0.0, 1.0, "m@1", "s"), {"r": watch.answer(Question(take=True))}, seen, 0.0)
    assert isinstance(made, Reference), made
    bound = bind(made, seen.signature, seen.planes)
    assert isinstance(bound, Reference), bound
    assert watch.answer(Question("r", bound)).counts is not None


class Always(Share):
    """Draws every request."""

    def draws(self, now_s: float) -> bool:
        return True


def _cost_us(what: Callable[[], Any], calls: int = 3_000) -> float:
    for _ in range(100):
        what()
    start_s = time.process_time()
    for _ in range(calls):
        what()
    return (time.process_time() - start_s) / calls * 1e6


def _drawn(found: NDArray[np.float32]) -> Drawn:
    drawer = Drawer(found.shape[1], "bench", SAMPLE_MAX)
    drawer.add(found)
    return drawer.take()
