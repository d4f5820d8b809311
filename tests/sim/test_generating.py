"""A simulated language model takes what the same steps take one by one, whoever comes when."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.sim.arrivals import Arrivals
from stoker.sim.endpoint import Terms
from stoker.sim.platform.plan import EndpointPlan, Generating, PlatformPlan
from stoker.sim.platform.world import World
from stoker.sim.policy import Fixed

CAME = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 400), st.integers(1, 60)), min_size=1, max_size=12)


def lived(engine: Generating, came: list[tuple[float, int, int]]) -> tuple[list[float], list[float]]:
    """Return when the first and the last token of each request was there, on one replica."""
    at_s, read, written = (np.array(each) for each in zip(*sorted(came), strict=True))
    kind = EndpointPlan("one", Arrivals(at_s, 4.0, read, written), engine, Terms(initial=1), lambda _: Fixed(1))
    world = World(PlatformPlan((kind,)))
    world.run()
    ledger = world.sites["one"].ledger
    _, first_s, latency_s, _ = ledger.columns()
    arrived_s = ledger.arrived_s()
    return sorted((arrived_s + first_s).tolist()), sorted((arrived_s + latency_s).tolist())


def stepped(engine: Generating, came: list[tuple[float, int, int]]) -> tuple[list[float], list[float]]:
    """Return the same by going through every step."""
    coming, now_s = sorted(came), 0.0
    prompts: list[list[int]] = []  # left to read, to write
    writing: list[int] = []  # left to write
    first_s, ended_s = [], []
    while coming or prompts or writing:
        if not prompts and not writing:
            now_s = max(now_s, coming[0][0])
        while coming and coming[0][0] <= now_s:
            prompts.append(list(coming.pop(0)[1:]))
        room = max(engine.chunk_tokens - len(writing), 1)
        read = 0
        for prompt in prompts:
            tokens = min(prompt[0], room - read)
            prompt[0] -= tokens
            read += tokens
        now_s += engine.pace_s(len(writing)) + engine.read_token_s * read
        writing = [each - 1 for each in writing]
        begun = [each for each in prompts if not each[0]]
        first_s += [now_s] * len(begun)
        writing += [each[1] - 1 for each in begun]
        ended_s += [now_s] * writing.count(0)
        writing = [each for each in writing if each]
        prompts = [each for each in prompts if each[0]]
    return first_s, ended_s


@given(came=CAME, step_s=st.floats(0.001, 0.03), sequence_s=st.floats(0.0, 0.01), chunk=st.integers(13, 256))
def test_many_steps_at_once_take_what_they_take_one_by_one(
    came: list[tuple[float, int, int]], step_s: float, sequence_s: float, chunk: int
) -> None:
    # With moments between the steps' ends, so that rounding decides nothing.
    engine = Generating(12, step_s, sequence_s, 0.0007, chunk)
    (first_s, ended_s), (first_too_s, ended_too_s) = lived(engine, came), stepped(engine, came)
    most_s = 2 * (engine.pace_s(12) + chunk * engine.read_token_s)  # where a moment falls on a step's end
    assert ended_s == pytest.approx(ended_too_s, abs=most_s)
    assert first_s == pytest.approx(first_too_s, abs=most_s)
    assert len(first_s) == len(came)


def test_prompts_are_read_together_and_what_finds_no_room_in_the_next_step() -> None:
    engine = Generating(8, 0.01, 0.0, 0.001, 100)
    first_s, _ = lived(engine, [(1.0, 60, 1), (1.0, 60, 1)])
    assert first_s == pytest.approx([1.11, 1.11 + 0.03])
