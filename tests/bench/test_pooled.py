"""What counts as thrash, and that plain LRU has it where the live rule has none."""

from bench.pooled import Arrival, Pool, Start, again, by_value, lru, thrash


def test_a_load_within_a_start_of_the_one_before_is_thrash_and_another_model_s_is_not() -> None:
    starts = [Start(0, 0.0, 4.0), Start(0, 7.0, 11.0), Start(1, 7.5, 9.5), Start(0, 15.0, 19.0)]
    assert sorted(again(starts)) == [0.75, 1.0]
    assert thrash(starts) == 1
    assert thrash([Start(0, 0.0, float("inf")), Start(0, 9.0, 13.0)]) == 1, "it went before it was ready"


def test_three_models_in_turn_where_two_fit_make_lru_thrash_and_nobody_is_left_without_an_answer() -> None:
    arrivals = [Arrival(float(at), at % 3) for at in range(60)]
    found = {rule: Pool([4.0] * 3, 2, 0.4).run(arrivals, rule) for rule in (lru, by_value)}
    assert all(len(each.waits_s) == len(arrivals) for each in found.values())
    assert thrash(found[lru].starts) > 0
    assert thrash(found[by_value].starts) == 0
