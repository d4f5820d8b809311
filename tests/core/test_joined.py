"""What is said of a node that joined."""

import pytest

from stoker.core.joined import conditions, left_ratio
from stoker.types.nodes import NodeRow

ROW = NodeRow("b", "default", "1", "10.0.0.2", 7442, 17000, 17000, "/h", "/h/run", "python", 0.0, 1000.0)


def said(answers: bool, now_s: float) -> list[tuple[str, bool, str]]:
    return [(one.type, one.status, one.reason) for one in conditions(ROW, 1000.0, (answers, 5.0), now_s)]


@pytest.mark.parametrize(
    ("now_s", "status", "reason"), [(10.0, False, "Renewed"), (760.0, True, "NotRenewed"), (1000.0, True, "Ended")]
)
def test_a_certificate_that_is_not_renewed_is_told_before_it_ends(now_s: float, status: bool, reason: str) -> None:
    assert said(True, now_s) == [("NodeReady", True, "Answers"), ("CertificateExpiresSoon", status, reason)]


def test_a_node_that_does_not_answer_is_not_ready() -> None:
    assert said(False, 10.0)[0] == ("NodeReady", False, "NoAnswer")


def test_what_is_left_of_a_life_is_a_share_of_it() -> None:
    assert [left_ratio(1000.0, 1000.0, at) for at in (-50.0, 0.0, 500.0, 2000.0)] == [1.0, 1.0, 0.5, 0.0]
