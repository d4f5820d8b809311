"""The stopwatch of a start: nothing is lost between its phases, and an engine cannot make it grow without end."""

import time

from hypothesis import given
from hypothesis import strategies as st

from stoker.runtime.stopwatch import Stopwatch, begun
from stoker.types.starts import FIRST_ANSWER, IMPORTS, PHASE_CHARS_MAX, PHASES_MAX, PROCESS, SPAWNED


def test_the_phases_of_a_start_add_up_to_the_time_since_its_spawn() -> None:
    began_s = time.monotonic()
    watch = Stopwatch(began_s, began_s - 0.25)
    for phase in ("verify", "imports", "engine", "weights", "warm-up", ""):
        watch.enter(phase)
    ended_s = time.monotonic()
    assert list(watch.taken) == [PROCESS, IMPORTS, "verify", "engine", "weights", "warm-up"]
    assert watch.taken[PROCESS] == 0.25
    assert 0.25 <= sum(watch.taken.values()) <= ended_s - began_s + 0.25 + 1e-9


def test_a_first_answer_is_the_first() -> None:
    watch = Stopwatch(time.monotonic())
    watch.answered(0.5)
    watch.answered(0.1)
    assert watch.taken[FIRST_ANSWER] == 0.5


def test_when_it_was_spawned_leaves_the_environment() -> None:
    now_s = time.monotonic()
    environment = {SPAWNED: f"{now_s - 1.0:.6f}", "PATH": "/bin"}
    assert 0.99 < begun(now_s, environment=environment).taken[PROCESS] < 1.01
    assert environment == {"PATH": "/bin"}
    for odd in ("", "soon", "nan", f"{now_s + 60.0}", "-1"):  # started by hand, or by another machine's clock
        assert begun(now_s, environment={SPAWNED: odd}).taken == {}


@given(st.lists(st.text(max_size=2 * PHASE_CHARS_MAX), max_size=3 * PHASES_MAX))
def test_an_engine_that_names_many_stages_is_bounded(stages: list[str]) -> None:
    watch = Stopwatch(time.monotonic(), time.monotonic() - 1.0)
    for stage in stages:
        watch.enter(stage)
    watch.enter("")
    watch.answered(1.0)
    assert len(watch.taken) <= PHASES_MAX
    assert all(len(name) <= PHASE_CHARS_MAX for name in watch.taken)
