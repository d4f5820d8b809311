"""The transition table itself: nothing is left without a way out, and nothing is there that cannot be reached."""

import pytest

from stoker.core.rollout.table import ENDED, EVENTS, ORDERS, PHASES, TABLE, Event, Phase, after

BACK = ("worse", "crashed", "stalled", "abort")
# decide.turn goes from `released` to clearing where the old replicas go first, and pauses a step by itself.
BY_COURSE: dict[Phase, tuple[Phase, ...]] = {"gating": ("clearing",)}


def reached(start: Phase) -> set[Phase]:
    found, left = {start}, [start]
    while left:
        phase = left.pop()
        following = [to for (at, _), to in TABLE.items() if at == phase] + list(BY_COURSE.get(phase, ()))
        left += [each for each in following if each not in found]
        found.update(following)
    return found


def test_every_phase_can_come_and_every_event_means_something() -> None:
    assert reached("gating") == set(PHASES)
    assert {event for _, event in TABLE} == set(EVENTS)


@pytest.mark.parametrize("phase", [each for each in PHASES if each not in ENDED])
def test_every_phase_that_is_no_end_has_a_way_to_an_end_and_makes_room_for_another_rollout(phase: Phase) -> None:
    assert reached(phase) & ENDED
    assert after(phase, "superseded") == "superseded"


@pytest.mark.parametrize("phase", sorted(ENDED))
@pytest.mark.parametrize("event", EVENTS)
def test_an_end_is_an_end(phase: Phase, event: Event) -> None:
    assert after(phase, event) is None


@pytest.mark.parametrize("event", BACK)
@pytest.mark.parametrize("phase", [each for each in PHASES if each not in ENDED and each != "returning"])
def test_whatever_is_worse_leads_back_from_everywhere(phase: Phase, event: Event) -> None:
    assert after(phase, event) == "returning"


def test_there_is_no_way_from_returning_to_the_canary() -> None:
    assert reached("returning") == {"returning", "rolled-back", "superseded"}


def test_people_say_nothing_that_the_table_does_not_know() -> None:
    assert set(ORDERS) <= set(EVENTS)
