"""Who tries keys waits longer and longer; who has a good one never does."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core import guesses
from stoker.core.guesses import FORGET_S, FREE, SOURCES_MAX, TRIED_MAX, WAIT_S_MAX, Guesses, source


def test_the_first_failures_are_free_then_the_wait_doubles_to_a_minute() -> None:
    made, now_s = Guesses(), 0.0
    waits = []
    for _ in range(FREE + 9):
        waits.append(made.failed("a", now_s))
        now_s += made.wait_s("a", now_s)
    assert waits == [0.0] * FREE + [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_one_address_does_not_make_another_wait() -> None:
    made = Guesses()
    for _ in range(50):
        made.failed("10.0.0.1", 1.0)
    assert made.wait_s("10.0.0.1", 1.0) > 0
    assert made.wait_s("10.0.0.2", 1.0) == 0


def test_who_tries_on_while_it_waits_waits_no_longer_for_it() -> None:
    made = Guesses()
    for _ in range(FREE + 1):
        made.failed("a", 0.0)
    assert [made.failed("a", 0.5) for _ in range(100)] == [0.5] * 100


def test_quiet_is_forgotten() -> None:
    made = Guesses()
    for _ in range(FREE + 5):
        made.failed("a", 0.0)
    assert made.failed("a", FORGET_S) == 0


@given(st.lists(st.tuples(st.integers(0, 3 * SOURCES_MAX), st.floats(0, 5)), max_size=300))
def test_no_wait_is_longer_than_the_maximum(steps: list[tuple[int, float]]) -> None:
    made, now_s = Guesses(), 0.0
    for number, later_s in steps:
        now_s += later_s
        assert 0 <= made.failed(f"10.0.{number % 3}", now_s) <= WAIT_S_MAX


def test_both_tables_are_bounded_and_forget_the_oldest() -> None:
    made = Guesses()
    for number in range(SOURCES_MAX + 100):
        made.failed(str(number), 0.0)
    for number in range(guesses.GOOD_MAX + 1):
        made.succeeded(str(number))
    assert len(made) == SOURCES_MAX
    assert not made.knows("0")
    assert made.knows("1")


def test_a_key_that_turns_out_to_be_good_was_no_guess() -> None:
    made = Guesses()
    for _ in range(FREE + 10):
        made.failed("a", 0.0, "new")
    assert made.wait_s("a", 0.0) > 0
    made.forgive({"new"}.__contains__)
    assert made.wait_s("a", 0.0) == 0
    assert len(made) == 0


@given(st.lists(st.sampled_from(["good", "bad", "worse"]), max_size=40))
def test_what_else_was_tried_still_counts_as_if_the_good_key_had_never_been_there(tried: list[str]) -> None:
    forgiven, plain, now_s = Guesses(), Guesses(), 0.0
    for digest in tried:
        now_s += max(forgiven.wait_s("a", now_s), plain.wait_s("a", now_s))  # each counts
        forgiven.failed("a", now_s, digest)
        if digest != "good":
            plain.failed("a", now_s, digest)
    forgiven.forgive({"good"}.__contains__)
    later_s = now_s + WAIT_S_MAX
    assert forgiven.failed("a", later_s) == plain.failed("a", later_s)


def test_only_the_last_few_digests_of_a_source_are_remembered() -> None:
    made = Guesses()
    for number in range(TRIED_MAX + 1):
        made.failed("a", 0.0, str(number))
    made.forgive({"0"}.__contains__)  # forgotten, so it counts on
    assert sum(made.failed("a", 0.0) == 0 for _ in range(FREE)) == FREE - TRIED_MAX - 1


def test_addresses_of_one_customer_are_one_source() -> None:
    assert source("2001:db8:1:2::1") == source("2001:db8:1:2:ffff::9") != source("2001:db8:1:3::1")
    assert source("::ffff:10.0.0.1") == "10.0.0.1"
    assert source("10.0.0.1") == "10.0.0.1"
    assert source("fe80::1%eth0") == "fe80::"
    assert source("") == ""
