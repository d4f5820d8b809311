"""Whether a running process must go."""

from hypothesis import given
from hypothesis import strategies as some

from stoker.core.liveness import FAILED_S, SILENT_S, STEP_MAX_S, Limits, Liveness, Seen, judge
from stoker.types.replica import ReplicaStats

LIMITS = Limits(start_timeout_s=20, stall_s=60, memory_bytes=0)
READY = ReplicaStats(state="ready")


def first_fault(looks: list[Seen], limits: Limits = LIMITS, step_s: float = 1.0) -> tuple[int, str]:
    """Return the look at which the process is found at fault, and why; (-1, "") for never."""
    memory = Liveness()
    for number, seen in enumerate(looks):
        judgement = judge(memory, seen, limits, step_s=step_s)
        memory = judgement.memory
        if judgement.fault:
            return number, judgement.fault
    return -1, ""


def test_an_idle_ready_process_is_left_alone_for_ever() -> None:
    assert first_fault([Seen(True, READY)] * 1000) == (-1, "")


def test_a_process_that_never_answers_has_until_its_start_timeout() -> None:
    number, fault = first_fault([Seen(False, None)] * 100)
    assert number == 19
    assert fault == "was not ready and made no progress for 20 s"


def test_a_slow_load_that_moves_on_is_left_alone_and_one_that_stands_still_is_not() -> None:
    moving = [Seen(True, ReplicaStats(stage="weights", fraction=n / 1000)) for n in range(1000)]
    assert first_fault(moving) == (-1, "")
    number, fault = first_fault([Seen(True, ReplicaStats(stage="weights", fraction=0.4))] * 100)
    assert number == 20
    assert fault.endswith("for 20 s, at weights 40%")


def test_silence_while_loading_is_no_death() -> None:
    loading = ReplicaStats(stage="weights", fraction=0.4)
    assert first_fault([Seen(True, loading), *[Seen(False, loading)] * 500], Limits(start_timeout_s=600)) == (-1, "")


def test_a_ready_process_that_answers_no_ping_goes() -> None:
    number, fault = first_fault([Seen(True, READY), *[Seen(False, READY)] * 100])
    assert number == SILENT_S
    assert fault == "answered no PING for 30 s"
    assert first_fault([Seen(True, READY), *[Seen(False, READY)] * 100], Limits(silent_s=10))[0] == 10


def test_work_that_stands_still_is_a_stall_and_work_that_moves_is_not() -> None:
    stuck = [Seen(True, ReplicaStats(state="ready", running=3, finished=7))] * 200
    number, fault = first_fault(stuck)
    assert number == 60
    assert fault == "finished nothing for 60 s with 3 requests running"
    tokens = [Seen(True, ReplicaStats(state="ready", running=3, tokens=n // 50)) for n in range(1000)]
    assert first_fault(tokens) == (-1, "")


def test_memory_over_the_limit_is_said_in_sizes() -> None:
    limits = Limits(memory_bytes=2**30)
    assert first_fault([Seen(True, READY, rss_bytes=2**30)], limits) == (-1, "")
    _, fault = first_fault([Seen(True, READY, rss_bytes=int(1.2 * 2**30))], limits)
    assert fault == "used 1.2 GiB of 1.0 GiB allowed"


def test_a_process_that_says_it_failed_and_stays_goes_with_its_own_words() -> None:
    number, fault = first_fault([Seen(True, ReplicaStats(state="failed", error="bad weights"))] * 20)
    assert (number, fault) == (FAILED_S - 1, "bad weights")


states = some.sampled_from(["loading", "ready", "draining"])
stats = some.builds(
    ReplicaStats,
    state=states,
    running=some.integers(0, 3),
    finished=some.integers(0, 3),
    fraction=some.floats(0, 1),
)
looks = some.lists(some.builds(Seen, some.booleans(), some.none() | stats), max_size=60)


@given(looks, some.floats(0, 10_000))
def test_an_observer_that_was_stopped_itself_blames_nobody(seen: list[Seen], gap_s: float) -> None:
    """However long one step took, it counts for at most STEP_MAX_S."""
    few = seen[: int(min(LIMITS.start_timeout_s, SILENT_S) / STEP_MAX_S) - 1]
    assert first_fault(few, step_s=gap_s) == (-1, "")


@given(looks)
def test_a_process_that_answers_and_finishes_something_at_every_look_is_never_killed(seen: list[Seen]) -> None:
    busy = [
        Seen(True, ReplicaStats(state="ready", running=5, finished=number), rss_bytes=1) for number in range(len(seen))
    ]
    assert first_fault(busy, Limits(start_timeout_s=3, stall_s=1)) == (-1, "")
