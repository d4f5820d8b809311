"""Which arm a request belongs to, and what a try says of its arm: what must hold whatever comes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import arms
from stoker.types.rollouts import BAD_EVENTS, COHORT_NAME_MAX

numbers = st.integers(0, 2**63)
values = st.binary(max_size=60)
shares = st.floats(0, 1)
seconds = st.floats(0, 1e6)


@given(numbers, values, shares, shares)
def test_whoever_is_in_the_canary_stays_there_when_its_share_grows(
    number: int, value: bytes, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    if arms.is_canary(number, value, small):
        assert arms.is_canary(number, value, large)


@given(numbers, values)
def test_a_share_of_nothing_has_nobody_and_of_all_has_everybody(number: int, value: bytes) -> None:
    assert not arms.is_canary(number, value, arms.share(0, 100))
    assert arms.is_canary(number, value, arms.share(100, 0))
    assert not arms.is_canary(number, value, arms.share(0, 0))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_canary_has_its_share_of_those_who_ask_and_others_in_each_rollout(share: float) -> None:
    people = [f"user-{n}".encode() for n in range(20_000)]
    first = {each for each in people if arms.is_canary(1, each, share)}
    second = {each for each in people if arms.is_canary(2, each, share)}
    margin = 5 * (share * (1 - share) / len(people)) ** 0.5
    assert abs(len(first) / len(people) - share) < margin
    assert abs(len(first & second) / len(people) - share * share) < margin, "being first once says nothing of the next"


def test_the_arm_of_somebody_is_the_same_in_every_version_of_this_program() -> None:
    drawn = "".join(str(int(arms.is_canary(7, f"user-{n}".encode(), 0.3))) for n in range(40))
    assert drawn == "0111000000100001000001000101101010100100"


@given(seconds, seconds, st.booleans(), seconds, st.booleans())
def test_a_bad_event_is_told_once_and_slow_only_beside_what_is_later_than_allowed(
    took_s: float, slow_s: float, is_one: bool, patience_s: float, is_begun: bool
) -> None:
    told = (
        arms.answered(took_s, slow_s, is_invalid=is_one),
        arms.failed(took_s, slow_s, is_late=is_one),
        arms.left(took_s, slow_s, patience_s, is_begun=is_begun),
    )
    for events in told:
        if events is not None:
            assert set(events) <= set(BAD_EVENTS)
            assert max(Counter(events).values(), default=0) <= 1
            assert ("slow" in events) == (slow_s > 0 and took_s > slow_s)
    assert ("invalid" in told[0]) == is_one
    assert ("timeout" in told[1]) == is_one != ("error" in told[1])
    if is_begun and told[2] is not None:
        assert told[2] == ("slow",), "to read no further is no timeout"


def test_who_leaves_in_good_time_says_nothing_of_the_arm() -> None:
    assert arms.left(0.5, 1.0, 2.0, is_begun=False) is None
    assert arms.left(0.5, 0.0, 0.0, is_begun=False) is None, "nothing is known"
    assert arms.left(2.5, 0.0, 2.0, is_begun=False) == ("timeout",)
    assert arms.left(1.5, 1.0, 2.0, is_begun=False) == ("timeout", "slow")
    assert arms.left(9.0, 0.0, 2.0, is_begun=True) is None


@given(st.integers(0, 2**40))
def test_steps_of_sizes_are_four_times_as_wide_each_and_hold_what_they_say(size: int) -> None:
    step = arms.size_step(size)
    assert (4 ** (step - 1) <= size < 4**step) if size else step == 0
    assert len(arms.cohort("size", arms.size_name(step))) <= COHORT_NAME_MAX


def test_sizes_are_called_by_both_ends() -> None:
    assert [arms.size_name(arms.size_step(size)) for size in (0, 1, 5, 1023, 1024, 5000, 3 << 20)] == [
        "0B",
        "1B-4B",
        "4B-16B",
        "256B-1KiB",
        "1KiB-4KiB",
        "4KiB-16KiB",
        "1MiB-4MiB",
    ]


@given(st.text(max_size=200))
def test_names_of_cohorts_are_bounded_and_plain(value: str) -> None:
    name = arms.cohort("header:x-region", value)
    assert name.startswith("header:x-region=")
    assert len(name) <= COHORT_NAME_MAX
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("<>\"'&\\{}, ")
