"""When an endpoint counts as broken, who probes it, and when it counts as whole again."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.circuit import IN_A_ROW, OPEN_MAX_S, PROBES, Circuit
from stoker.types.routes import BreakerRoute

POLICY = BreakerRoute(failure_ratio=0.5, requests_min=10, window_s=30.0, open_s=5.0)


def send(circuit: Circuit, outcomes: str, now_s: float = 0.0) -> None:
    """Send a request for each of `outcomes`: "+" succeeds, "-" fails, "?" says nothing."""
    for outcome in outcomes:
        circuit.leave(circuit.enter(now_s), {"+": True, "-": False, "?": None}[outcome], now_s)


def test_half_of_enough_requests_opens() -> None:
    circuit = Circuit(POLICY, 0.0)
    send(circuit, "+-+-+-+-+")
    assert circuit.state(0.0) == "closed"
    send(circuit, "-")
    assert circuit.state(0.0) == "open"
    assert circuit.enter(4.9) == "open"


def test_a_few_in_a_row_open_however_rare_they_are() -> None:
    circuit = Circuit(POLICY, 0.0)
    for number in range(IN_A_ROW):
        assert circuit.state(number * 600.0) == "closed"
        send(circuit, "-", number * 600.0)
    assert circuit.state(number * 600.0) == "open"


def test_old_failures_are_forgotten() -> None:
    circuit = Circuit(POLICY, 0.0)
    send(circuit, "---+---+--+", 0.0)  # would open with one more request in the window
    other = Circuit(POLICY, 0.0)
    send(other, "---+---+", 0.0)
    send(other, "+" * 8 + "--", 31.0)
    assert (circuit.state(0.0), other.state(31.0)) == ("open", "closed")


def test_what_says_nothing_neither_opens_nor_closes() -> None:
    circuit = Circuit(POLICY, 0.0)
    send(circuit, "?" * 100 + "-" * (IN_A_ROW - 1) + "?" * 100)
    assert circuit.state(0.0) == "closed"
    send(circuit, "-")
    send(circuit, "?" * 10, 6.0)
    assert circuit.state(6.0) == "half-open"


def test_one_request_at_a_time_probes_and_enough_of_them_close() -> None:
    circuit = Circuit(POLICY, 0.0)
    send(circuit, "-" * IN_A_ROW)
    for _ in range(PROBES):
        assert circuit.state(5.0) == "half-open"
        assert circuit.admits(5.0)
        assert [circuit.enter(5.0) for _ in range(4)] == ["probe", "open", "open", "open"]
        assert not circuit.admits(5.0)
        circuit.leave("open", True, 5.0)
        circuit.leave("probe", True, 5.0)
    assert circuit.state(5.0) == "closed"
    send(circuit, "-" * (IN_A_ROW - 1), 5.0)
    assert circuit.state(5.0) == "closed", "it remembers what it was opened for"


def test_a_failed_probe_waits_twice_as_long_up_to_a_maximum() -> None:
    circuit, now_s = Circuit(POLICY, 0.0), 0.0
    send(circuit, "-" * IN_A_ROW)
    waits = []
    for _ in range(8):
        waits.append(circuit.left_s(now_s))
        now_s += circuit.left_s(now_s)
        send(circuit, "-", now_s)
    assert waits == [5, 10, 20, 40, OPEN_MAX_S, OPEN_MAX_S, OPEN_MAX_S, OPEN_MAX_S]


def test_a_probe_whose_client_left_makes_room_for_the_next() -> None:
    circuit = Circuit(POLICY, 0.0)
    send(circuit, "-" * IN_A_ROW)
    circuit.leave(circuit.enter(5.0), None, 5.0)
    assert circuit.enter(5.0) == "probe"


def test_answers_from_before_it_opened_do_not_close_it() -> None:
    circuit = Circuit(POLICY, 0.0)
    early = [circuit.enter(0.0) for _ in range(10)]
    send(circuit, "-" * IN_A_ROW)
    for entered in early:
        circuit.leave(entered, True, 5.0)
    assert circuit.state(4.0) == "open"


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from("+-?")), max_size=120))
def test_whatever_happens_it_recovers_by_itself_once_the_endpoint_answers(events: list[tuple[float, str]]) -> None:
    circuit, now_s = Circuit(POLICY, 0.0), 0.0
    for passed_s, outcome in events:
        now_s += passed_s
        send(circuit, outcome, now_s)
        assert circuit.is_open == (circuit.state(now_s) != "closed")
    now_s += OPEN_MAX_S
    send(circuit, "+" * PROBES, now_s)
    assert circuit.state(now_s) == "closed"


@given(st.lists(st.sampled_from(["enter", "leave"]), max_size=60), st.floats(0, 100))
def test_there_is_never_more_than_one_probe(steps: list[str], now_s: float) -> None:
    circuit = Circuit(POLICY, 0.0)
    send(circuit, "-" * IN_A_ROW)
    now_s += POLICY.open_s
    probing = 0
    for step in steps:
        if step == "enter":
            probing += circuit.enter(now_s) == "probe"
        elif probing:
            circuit.leave("probe", None, now_s)
            probing -= 1
        assert probing <= 1


@given(st.text("+-", max_size=200))
def test_it_never_opens_while_most_requests_succeed_and_none_fail_in_a_row(outcomes: str) -> None:
    circuit = Circuit(POLICY, 0.0)
    for outcome in outcomes:
        send(circuit, outcome + "+" * 2)
    assert circuit.state(0.0) == "closed"
