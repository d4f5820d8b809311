"""Few lines for many names: the busiest have one, nobody busy is overlooked, memory is bounded."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.leaders import Leaders

names = st.lists(st.sampled_from([f"t{number}" for number in range(20)]), max_size=300)


def test_a_noisy_late_comer_gets_a_line_and_the_quietest_gives_its_up() -> None:
    leaders = Leaders(2)
    for name, count in (("steady", 40), ("quiet", 3)):
        for _ in range(count):
            assert leaders.see(name)
    for _ in range(30):
        assert not leaders.see("noisy")
    assert leaders.turn() == ["quiet"]
    assert leaders.see("noisy")
    assert leaders.see("steady")
    assert not leaders.see("quiet")


def test_who_is_only_a_little_busier_takes_no_line() -> None:
    leaders = Leaders(1)
    for name in ("a", "a", "b", "b", "b"):
        leaders.see(name)
    assert leaders.turn() == []
    assert leaders.see("a")


def test_the_past_fades_so_that_a_line_goes_to_who_is_busy_now() -> None:
    leaders = Leaders(1)
    for _ in range(1000):
        leaders.see("then")
    lost = []
    for _ in range(12):
        for _ in range(20):
            leaders.see("now")
        lost += leaders.turn()
    assert lost == ["then"]


def test_one_busy_name_among_thousands_of_strangers_is_found() -> None:
    leaders = Leaders(4)
    for number in range(40):
        leaders.see(f"first{number % 4}")
    for number in range(3000):
        leaders.see(f"stranger{number}")
        if number % 3 == 0:
            leaders.see("busy")
    assert len(leaders.turn()) <= 4
    assert leaders.see("busy")


@settings(deadline=None)
@given(names, st.integers(1, 5))
def test_never_more_lines_than_there_are_and_every_seen_name_is_told_the_truth(seen: list[str], most: int) -> None:
    leaders = Leaders(most)
    leading: set[str] = set()
    for at, name in enumerate(seen):
        if leaders.see(name):
            leading.add(name)
        else:
            assert name not in leading
            assert len(leading) == most
        if at % 50 == 49:
            leading -= set(leaders.turn())
        assert len(leading) <= most
