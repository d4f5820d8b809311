"""A turn of control's real loop can be measured: what it is called with is what there is."""

from bench.turn import turn_ms


def test_a_turn_of_a_small_platform_is_measured() -> None:
    assert 0.0 < turn_ms(3, 2) < 1_000.0
