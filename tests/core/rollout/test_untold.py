"""What is said of hooks that cannot be told."""

import pytest

from stoker.core.rollout.untold import RECEIVERS_SHOWN, Failing, condition, line


def failing(receiver: str = "https://user:pw@ci.example:8443/secret?token=x", **more: object) -> Failing:
    given = {"receiver": receiver, "event": "verdict", "rollout": 7, "reason": "it answered 500", **more}
    return Failing(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tries", "outcome", "said"),
    [
        (1, "delivered", None),
        (3, "delivered", ("told", "ci.example:8443 was told of verdict at try 3")),
        (
            1,
            "later",
            ("untold", "ci.example:8443 is not told of verdict yet: it answered 500; it is tried for an hour"),
        ),
        (1, "lost", ("lost", "ci.example:8443 is never told of verdict, tried once: it answered 500")),
        (9, "lost", ("lost", "ci.example:8443 is never told of verdict, tried 9 times: it answered 500")),
    ],
)
def test_a_timeline_says_the_first_failure_and_the_end(tries: int, outcome: str, said: tuple[str, str] | None) -> None:
    assert line(failing(tries=tries), outcome) == said


def test_a_condition_names_each_receiver_once_by_what_is_no_secret() -> None:
    named = [failing("vault:hooks#ci"), failing(), failing(event="promoted")]
    said = condition(named, 5.0)
    assert said is not None
    assert (said.status, said.reason, said.since_s) == (False, "ReceiverFails", 5.0)
    assert said.message.count("is not told of") == 2
    assert "vault:hooks#ci is not told" in said.message
    assert "secret" not in said.message
    assert "pw" not in said.message
    assert condition([], 5.0) is None


def test_a_condition_says_how_many_more_there_are_and_whose_fault_it_is() -> None:
    many = [failing(f"https://{at}.example/", is_ours=at == 5) for at in range(RECEIVERS_SHOWN + 3)]
    said = condition(many, 5.0)
    assert said is not None
    assert said.reason == "SecretMissing"
    assert "; and 3 more; it is tried" in said.message
