"""Who may speak to whom between nodes; and that one authority follows another without a gap."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import certificates as rules
from stoker.core.certificates import AGENT_DOOR, CONTROL_DOOR, REPLICA_DOOR, SKEW_S, SPREAD_S, Authority, Door
from stoker.types.peers import Peer

ME = Peer("p", "local", "gateway", "1", "ca-1", 100.0)
WHO = {
    "control": Peer("p", "local", "control", "1", "ca-1", 100.0),
    "gateway": ME,
    "agent of b": Peer("p", "b", "agent", "2", "ca-1", 100.0),
    "replica of b": Peer("p", "b", "replica", "2", "ca-1", 100.0),
}
DOORS = {
    "a replica": REPLICA_DOOR,
    "an agent": AGENT_DOOR,
    "control": CONTROL_DOOR,
    "the replica expected on b": Door(("replica",), "b"),
    "the replica expected on c": Door(("replica",), "c"),
}
OPENS = {
    ("control", "a replica"),
    ("gateway", "a replica"),
    ("control", "an agent"),
    ("agent of b", "control"),
    ("replica of b", "the replica expected on b"),
}
LIFE_S = 100.0


def refused(peer: Peer | None, door: Door = REPLICA_DOOR, now_s: float = 50.0) -> str:
    return rules.refusal(peer, ME, door, {"ca-1"}, {"gone"}, now_s)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("who", WHO)
def test_a_role_opens_what_it_is_for_and_nothing_else(who: str, door: str) -> None:
    assert (refused(WHO[who], DOORS[door]) == "") == ((who, door) in OPENS)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"platform": "q"}, "another platform"),
        ({"authority": "ca-0"}, "trusted no more"),
        ({"life": "gone"}, "was removed"),
        ({"until_s": 49.0}, "has ended"),
        ({"role": "owner"}, "does not open"),
    ],
)
def test_what_makes_a_good_peer_a_stranger(change: dict[str, object], why: str) -> None:
    assert why in refused(msgspec.structs.replace(ME, **change))


def test_who_shows_nothing_is_nobody() -> None:
    assert refused(None)


@given(st.text(max_size=60))
def test_only_whole_identities_are_read(text: str) -> None:
    found = rules.named(rules.SCHEME + text)
    assert found is None or rules.identity(*found) == rules.SCHEME + text


def test_renewal_is_at_half_of_a_life_and_when_the_clock_was_wrong() -> None:
    assert [rules.is_due(1000.0, 1100.0, at) for at in (1000.0, 1049.0, 1050.0, 1200.0)] == [False, False, True, True]
    assert rules.is_due(1000.0, 1100.0, 1000.0 - SKEW_S - 1)


Steps = st.lists(st.tuples(st.floats(0.5, 60.0), st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(Steps)
def test_every_certificate_is_trusted_until_it_ends_and_signed_by_who_was_told_of(
    steps: list[tuple[float, bool, bool]],
) -> None:
    """Steps: seconds that go by, whether the one node has all authorities by then, whether somebody rotates."""
    now_s, authorities, knows = 0.0, (Authority("ca-0", 0.0, 1e-9),), {"ca-0"}
    issued: list[tuple[str, float]] = []
    for seconds, hears, rotates in steps:
        now_s += seconds
        if rotates and len(authorities) < rules.AUTHORITIES_MAX:
            authorities = (*authorities, Authority(f"ca-{len(issued) + 1}-{now_s}", now_s))
        names = {each.name for each in authorities}
        knows = names if hears else knows
        before = rules.signing(authorities).name
        authorities = rules.turn(authorities, {"b": knows >= names}, LIFE_S, now_s)
        signer = rules.signing(authorities)
        if signer.name != before:
            assert signer.name in knows or now_s - signer.made_at_s >= LIFE_S + SKEW_S
            assert now_s - signer.made_at_s >= SPREAD_S
        issued.append((signer.name, now_s + LIFE_S))
        trusted = {each.name for each in authorities}
        assert {name for name, until_s in issued if now_s <= until_s} <= trusted
        assert 1 <= len(authorities) <= rules.AUTHORITIES_MAX


def test_an_authority_that_is_followed_goes_when_its_last_certificate_has_ended() -> None:
    both = (Authority("old", 0.0, 1.0), Authority("new", 1000.0))
    assert rules.turn(both, {"b": True}, LIFE_S, 1000.0 + SPREAD_S - 1) == both
    assert rules.turn(both, {"b": True, "c": False}, LIFE_S, 1200.0) == both
    signs = rules.turn(both, {"b": True, "c": True}, LIFE_S, 1200.0)
    assert rules.signing(signs).name == "new"
    ends_s = 1200.0 + LIFE_S + SKEW_S
    assert len(rules.turn(signs, {}, LIFE_S, ends_s - 1)) == 2
    assert [each.name for each in rules.turn(signs, {}, LIFE_S, ends_s)] == ["new"]
