"""Which cut streams may go on elsewhere."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.failover import PROVEN_S, Asked, is_proven, obstacle, tokens_left

asked = st.builds(
    Asked,
    choices=st.integers(0, 3),
    has_tools=st.booleans(),
    is_constrained=st.booleans(),
    has_logprobs=st.booleans(),
    has_echo=st.booleans(),
    is_greedy=st.booleans(),
    has_seed=st.booleans(),
)


@pytest.mark.parametrize(
    ("request_", "exact", "best_effort"),
    [
        (Asked(is_greedy=True), "", ""),
        (Asked(has_seed=True), "", ""),
        (Asked(), "sampled", ""),
        (Asked(is_greedy=True, choices=2), "choices", "choices"),
        (Asked(is_greedy=True, choices=0), "choices", "choices"),
        (Asked(is_greedy=True, has_tools=True), "tools", "tools"),
        (Asked(is_greedy=True, is_constrained=True), "constrained", "constrained"),
        (Asked(is_greedy=True, has_logprobs=True), "logprobs", "logprobs"),
        (Asked(is_greedy=True, has_echo=True), "echo", "echo"),
    ],
)
def test_what_an_operator_would_ask(request_: Asked, exact: str, best_effort: str) -> None:
    assert obstacle(request_, "exact") == exact
    assert obstacle(request_, "best_effort") == best_effort
    assert obstacle(request_, "never") == "never"


@given(asked)
def test_best_effort_allows_chance_and_nothing_else(request: Asked) -> None:
    exact, best_effort = obstacle(request, "exact"), obstacle(request, "best_effort")
    assert best_effort == ("" if exact == "sampled" else exact)


@given(asked)
def test_whatever_goes_on_under_exact_is_one_choice_of_plain_text_that_is_decided(request: Asked) -> None:
    if not obstacle(request, "exact"):
        assert request.choices == 1
        assert request.is_greedy or request.has_seed
        assert not any((request.has_tools, request.is_constrained, request.has_logprobs, request.has_echo))


@given(st.integers(1, 10_000), st.lists(st.integers(0, 10_000), max_size=4))
def test_the_parts_of_an_answer_never_exceed_what_was_allowed(limit: int, parts: list[int]) -> None:
    made = 0
    for part in parts:
        left = tokens_left(limit, made)
        assert left is not None
        made += min(part, left)
    assert made <= limit
    assert tokens_left(None, made) is None


def test_a_stream_is_proven_after_the_time_a_trial_takes() -> None:
    assert [is_proven(second) for second in (0.0, PROVEN_S / 2, PROVEN_S, 60.0)] == [False, False, True, True]
    assert all(not a or b for a, b in itertools.pairwise(is_proven(n / 10) for n in range(20)))
